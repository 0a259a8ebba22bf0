//! Looks for everything that would make a migration into this server fail, and says what to do about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::adopt::Settings;
use super::catalog::{self, Described};
use super::forms::{Form, form};
use super::grants;
use super::session::Session;
use crate::definition::DataType;
use crate::error::Result;
use crate::exchange::SourceFacts;
use crate::finding::{Finding, Severity};
use crate::mywire::quote::{literal, qualified, quoted};
use crate::mywire::server::{Flavour, Server};
use crate::schema::{Column, Table, TableName};

/// Sessions that a migration needs besides its loaders: lock, applier, control, check.
const SESSIONS: i64 = 8;

fn problem(code: &str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Problem, "target", code, message)
}
fn warning(code: &str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Warning, "target", code, message)
}
fn remark(code: &str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Note, "target", code, message)
}
fn ok(code: &str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Ok, "target", code, message)
}

/// What statements that make tables depend on.
pub async fn settings(session: &mut Session) -> Result<Settings> {
    let row = session
        .rows(
            "looking at the target's settings",
            "SELECT @@GLOBAL.lower_case_table_names, @@SESSION.collation_database, @@GLOBAL.collation_server",
        )
        .await?
        .pop()
        .unwrap_or_default();
    let text = |n: usize| row.get(n).and_then(Option::as_deref).unwrap_or("");
    let flavour = session.flavour();
    let usual = match flavour {
        Flavour::Mysql => "utf8mb4_0900_ai_ci",
        Flavour::Mariadb => "utf8mb4_unicode_ci",
    };
    let own = [text(1), text(2)].into_iter().find(|c| c.starts_with("utf8mb4")).unwrap_or(usual);
    Ok(Settings { flavour, collation: own.to_owned(), lower_case: text(0) != "0" })
}

/// Everything that would make a migration fail here. `fresh`: no copy has begun yet, so tables must be empty.
///
/// # Errors
/// Only if the target could not be asked; what it answers becomes findings.
pub async fn check(
    session: &mut Session,
    create_schema: bool,
    source: &SourceFacts,
    tables: &[Arc<Table>],
    fresh: bool,
) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    version(session.conn.server(), &mut found);
    server(session, &mut found).await?;
    same_database(session, source, &mut found).await?;
    let databases: BTreeSet<&str> = tables.iter().map(|t| t.name.schema.as_str()).collect();
    grants::check(session, &databases, create_schema, &mut found).await?;
    existing(session, create_schema, tables, fresh, &mut found).await?;
    Ok(found)
}

fn version(server: &Server, found: &mut Vec<Finding>) {
    let (oldest, name, advice) = match server.flavour {
        Flavour::Mysql => ((8, 0, 19), "MySQL", "use MySQL 8.4 or newer; 8.0.19 at least"),
        Flavour::Mariadb => ((10, 6, 0), "MariaDB", "use MariaDB 10.11 or newer; 10.6 at least"),
    };
    if server.number < oldest {
        found.push(problem("version", format!("the target runs {name} {}", server.version)).fix(advice));
    } else if server.flavour == Flavour::Mysql && server.number < (8, 4, 0) {
        found.push(warning("version", format!("{name} {} gets no more fixes", server.version)).fix(advice));
    } else {
        found.push(ok("version", format!("{name} {}", server.version)));
    }
}

async fn server(session: &mut Session, found: &mut Vec<Finding>) -> Result<()> {
    let super_read_only = match session.flavour() {
        Flavour::Mysql => "@@GLOBAL.super_read_only",
        Flavour::Mariadb => "0",
    };
    let row = session
        .rows(
            "looking at the target's settings",
            format!(
                "SELECT @@GLOBAL.read_only, {super_read_only}, @@GLOBAL.local_infile, @@GLOBAL.max_allowed_packet, \
                 @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog, @@GLOBAL.binlog_format, \
                 @@GLOBAL.event_scheduler, @@SESSION.character_set_database, DATABASE(), @@GLOBAL.max_connections, \
                 @@GLOBAL.time_zone, @@GLOBAL.system_time_zone, @@GLOBAL.innodb_doublewrite"
            ),
        )
        .await?
        .pop()
        .unwrap_or_default();
    let text = |n: usize| row.get(n).and_then(Option::as_deref).unwrap_or("");
    let on = |n: usize| matches!(text(n), "1" | "ON");
    if on(0) || on(1) {
        found.push(
            problem("read_only", "the target is read-only: nothing can be written there")
                .fix("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF; or use the primary's address"),
        );
    }
    if on(2) {
        found.push(ok("local_infile", "LOAD DATA LOCAL is permitted"));
    } else {
        found.push(
            warning("local_infile", "local_infile is off on the target: rows are copied with INSERT, which is slower")
                .fix("SET GLOBAL local_infile = ON; (it can be set back after the copy)"),
        );
    }
    let packet: u64 = text(3).parse().unwrap_or(0);
    if packet < 16 << 20 {
        found.push(
            warning(
                "max_allowed_packet",
                format!("max_allowed_packet is {packet} bytes on the target: a larger row cannot be written"),
            )
            .fix("SET GLOBAL max_allowed_packet = 1073741824;"),
        );
    }
    if text(4) != "1" || (on(5) && text(6) != "1") {
        found.push(
            warning("durability", "innodb_flush_log_at_trx_commit or sync_binlog is not 1 on the target: after a crash of its machine its newest commits are lost; the source is told of a commit 3 seconds later")
                .fix("SET GLOBAL innodb_flush_log_at_trx_commit = 1; SET GLOBAL sync_binlog = 1; before the cutover"),
        );
    }
    if on(5) && text(7) == "STATEMENT" {
        found.push(
            problem(
                "binlog_format",
                "the target's binary log is in the format STATEMENT, which sessions at READ COMMITTED cannot write",
            )
            .fix("SET GLOBAL binlog_format = ROW;"),
        );
    }
    if on(5) {
        found.push(remark("binlog", "what is written goes into the target's binary log, and to its replicas"));
    }
    if on(8) {
        found.push(
            remark(
                "event_scheduler",
                "scheduled events run on the target: none may write to migrated tables before the cutover",
            )
            .fix("SHOW EVENTS; and if one does: SET GLOBAL event_scheduler = OFF;"),
        );
    }
    if !text(9).is_empty() && text(9) != "utf8mb4" {
        found.push(remark(
            "character_set",
            format!("the database's default character set is {}; tables that are made have utf8mb4", text(9)),
        ));
    }
    if text(10).is_empty() {
        found.push(problem("database", "target.url names no database").fix("mysql://user:password@host:3306/database"));
    }
    let zone = if text(12) == "SYSTEM" { text(13) } else { text(12) };
    if !matches!(zone, "UTC" | "+00:00" | "GMT" | "Etc/UTC") {
        found.push(remark(
            "time_zone",
            format!(
                "the target's time zone is {zone}; instants of the source are kept in UTC (datetime), whatever it is"
            ),
        ));
    }
    let used = session
        .one("counting connections on the target", "SELECT COUNT(*) FROM information_schema.processlist")
        .await?
        .and_then(|n| n.parse::<i64>().ok())
        .unwrap_or(0);
    let free = text(11).parse::<i64>().unwrap_or(i64::MAX).saturating_sub(used);
    if free < SESSIONS {
        found.push(
            problem(
                "max_connections",
                format!("only {free} connections are free on the target; at least {SESSIONS} are needed"),
            )
            .fix("SET GLOBAL max_connections = … higher, or close sessions there"),
        );
    }
    Ok(())
}

async fn same_database(session: &mut Session, source: &SourceFacts, found: &mut Vec<Finding>) -> Result<()> {
    let Some(theirs) = &source.identity else { return Ok(()) };
    let doing = "asking the target for its identity";
    let uuid = match session.flavour() {
        Flavour::Mysql => session.one(doing, "SELECT @@GLOBAL.server_uuid").await?,
        Flavour::Mariadb => session.one(doing, "SELECT @@GLOBAL.server_uid").await.unwrap_or_default(),
    };
    if uuid.as_deref() != Some(theirs.system_identifier.as_str()) {
        return Ok(());
    }
    let database = session.one(doing, "SELECT DATABASE()").await?.unwrap_or_default();
    if database == theirs.database {
        found.push(
            problem(
                "same_database",
                format!("source and target are the same database ({database} of the same server)"),
            )
            .fix("use another database in target.url"),
        );
    } else {
        found.push(remark("same_server", "source and target are databases of the same server, or of copies of it"));
    }
    Ok(())
}

async fn existing(
    session: &mut Session,
    create_schema: bool,
    tables: &[Arc<Table>],
    fresh: bool,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let names: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    let have = catalog::described(session, &names).await?;
    for (want, have) in tables.iter().zip(&have) {
        let Some(have) = have else {
            if !create_schema {
                found.push(
                    problem("missing_table", format!("there is no table {} on the target", want.name))
                        .fix("create it there, or set target.create_schema = true"),
                );
            }
            continue;
        };
        table(session, want, have, fresh, found).await?;
    }
    Ok(())
}

async fn table(
    session: &mut Session,
    want: &Table,
    have: &Described,
    fresh: bool,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let t = &have.table.name;
    if !have.engine.eq_ignore_ascii_case("innodb") {
        found.push(
            problem(
                "engine",
                format!("table {t} on the target is of the engine {}, which has no transactions", have.engine),
            )
            .fix(format!("ALTER TABLE {} ENGINE=InnoDB;", qualified(t))),
        );
    }
    if fresh {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", qualified(t));
        match session.one(format!("reading {t} on the target"), sql).await {
            Ok(Some(_)) => found.push(problem("table_not_empty", format!("table {t} on the target holds rows already")).fix(format!(
                "if they are not needed: TRUNCATE TABLE {}; else leave the table out with tables.exclude, or use another database",
                qualified(t)
            ))),
            Ok(None) => {}
            Err(e) if e.is_retry() => return Err(e),
            Err(e) => found.push(problem("table_unreadable", e.message().to_owned())),
        }
    }
    for c in &want.columns {
        let generated = have.table.generated.iter().any(|g| g.name == c.name);
        let there = have.table.columns.iter().find(|h| h.name == c.name);
        match there {
            _ if generated => found.push(
                problem(
                    "generated_column",
                    format!("column {} of {t} is generated on the target but not on the source", c.name),
                )
                .fix(format!(
                    "ALTER TABLE {} MODIFY {} {};",
                    qualified(t),
                    quoted(&c.name),
                    c.type_name
                )),
            ),
            None => found.push(
                problem("missing_column", format!("column {} of {t} is not on the target", c.name)).fix(format!(
                    "ALTER TABLE {} ADD COLUMN {} {};",
                    qualified(t),
                    quoted(&c.name),
                    c.type_name
                )),
            ),
            Some(h) => {
                found.extend(collation(t, c, h));
                if let Some(why) = narrow(&form(&c.type_name), &form(&h.type_name)) {
                    let f = format!("column {} of {t} is {} on the target, {why}", c.name, h.type_name);
                    found.push(warning("type", f).fix(format!(
                        "ALTER TABLE {} MODIFY {} {};",
                        qualified(t),
                        quoted(&c.name),
                        c.type_name
                    )));
                }
            }
        }
    }
    for c in &have.table.columns {
        let known = want.columns.iter().chain(&want.generated).any(|w| w.name == c.name);
        if !known && !c.nullable && c.default.is_none() && c.identity.is_none() {
            found.push(
                problem(
                    "extra_column",
                    format!("column {} of {t} exists only on the target, is NOT NULL and has no default", c.name),
                )
                .fix(format!(
                    "ALTER TABLE {} MODIFY {} {} NULL; or give it a default",
                    qualified(t),
                    quoted(&c.name),
                    c.type_name
                )),
            );
        }
    }
    let triggers = session
        .rows(
            format!("looking for triggers of {t}"),
            format!(
                "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = {} AND event_object_table = {}",
                literal(&t.schema),
                literal(&t.name)
            ),
        )
        .await?;
    let triggers: Vec<String> = triggers.into_iter().flatten().flatten().collect();
    if !triggers.is_empty() {
        found.push(remark(
            "triggers",
            format!(
                "triggers of {t} are dropped until the migration is finished, then made again: {}",
                triggers.join(", ")
            ),
        ));
    }
    Ok(())
}

/// What is wrong with the collation of a text column whose type was chosen with one ([`super::types::key_text`]): until the
/// target is consistent, rows whose keys are equal under it would replace each other without a word.
fn collation(t: &TableName, want: &Column, have: &Column) -> Option<Finding> {
    let (_, wanted) = want.type_name.split_once(" COLLATE ")?;
    let theirs = have.collation.as_deref()?;
    // By bytes, and without blanks that are added; digits of one length differ under any.
    let exact = theirs.ends_with("_0900_bin") || theirs.ends_with("_nopad_bin");
    let plain = matches!(want.data, DataType::Enum { .. } | DataType::Set { .. } | DataType::Char { length: 24 | 36 });
    if exact || plain || !wanted.ends_with("_bin") {
        return None;
    }
    let what = format!(
        "column {} of {t} is of the collation {theirs} on the target, under which keys that differ at the source can be one",
        want.name
    );
    Some(problem("collation", what).fix(format!(
        "ALTER TABLE {} MODIFY {} {} NOT NULL;",
        qualified(t),
        quoted(&want.name),
        want.type_name
    )))
}

/// Why values of `want` may not fit `have`; each that does not stops the migration.
fn narrow(want: &Form, have: &Form) -> Option<&'static str> {
    let text = |f: &Form| f.is_text() || matches!(f, Form::Json | Form::Other);
    match (want, have) {
        (a, b) if a == b => None,
        (Form::Varchar(a) | Form::Char(a), Form::Varchar(b) | Form::Char(b)) if a <= b => None,
        (Form::Varchar(a) | Form::Char(a), Form::Text(b)) if u64::from(*a) * 4 <= *b => None,
        (Form::Text(a), Form::Text(b)) if a <= b => None,
        (Form::Int { bits: a, unsigned: false }, Form::Int { bits: b, unsigned: false }) if a <= b => None,
        (Form::Int { bits: a, unsigned: true }, Form::Int { bits: b, unsigned }) if a < b || (a == b && *unsigned) => {
            None
        }
        (Form::Datetime(a) | Form::Timestamp(a), Form::Datetime(b) | Form::Timestamp(b)) if a <= b => None,
        (Form::Time(a), Form::Time(b)) if a <= b => None,
        (Form::Blob(a), Form::Blob(b)) if a <= b => None,
        (Form::Decimal { .. }, Form::Decimal { .. }) => Some("which has other digits than the source's"),
        (a, Form::Text(_) | Form::Varchar(_)) if text(a) => Some("which is shorter than the source's may be"),
        (_, Form::Text(_) | Form::Varchar(_) | Form::Other) => None,
        _ => Some("which does not hold every value of the source's type: one that does not fit stops the migration"),
    }
}
