//! The settings that every session of ours says first, so that no server-wide default changes what is read or written.

use super::conn::Flavour;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Reads at a source. Every date that a table may hold can be compared with, zero dates and 30 February included.
    Source,
    /// Writes at a target: what does not fit is an error, a 0 in an AUTO_INCREMENT column stays 0, zero dates can be
    /// stored (a MySQL source may have them).
    Target,
    /// The same for rows that a MySQL or MariaDB source stored: 30 February, too, if it had it.
    TargetOfSameEngine,
}

impl Preset {
    /// `sql_mode`. Nowhere ANSI_QUOTES, NO_BACKSLASH_ESCAPES or PAD_CHAR_TO_FULL_LENGTH: quoting and reading rely on it.
    pub fn sql_mode(self) -> &'static str {
        match self {
            Preset::Source => "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION",
            Preset::Target => {
                "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
            }
            Preset::TargetOfSameEngine => {
                "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
            }
        }
    }
}

/// The statements that set everything up. Time limits are those of one statement, of an idle transaction (a snapshot's
/// session waits for others) and of a peer that does not read or write for a while. Isolation is what a consistent
/// snapshot needs: under any other the server takes none, and only warns. Messages are in English, because values are taken
/// out of them by their wording.
pub fn settings(preset: Preset, flavour: Flavour) -> String {
    let unlimited = match flavour {
        Flavour::Mysql => "max_execution_time = 0",
        Flavour::Mariadb => {
            "max_statement_time = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, \
             idle_write_transaction_timeout = 0"
        }
    };
    format!(
        "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '{}', autocommit = 1, completion_type = 'NO_CHAIN', \
         sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0, sql_auto_is_null = 0, \
         sql_quote_show_create = 1, lc_messages = 'en_US', {unlimited}, \
         net_read_timeout = {FOREVER}, net_write_timeout = {FOREVER}, wait_timeout = {FOREVER}; \
         SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        preset.sql_mode()
    )
}

/// A year, the most that `wait_timeout` takes. We stop reading and writing for as long as the other side of the pipe
/// needs, and a snapshot's session waits for all others; a dead connection is found by TCP's keepalive.
const FOREVER: u32 = 31_536_000;
