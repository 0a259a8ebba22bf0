//! Places in the binary log as the server tells them: where it ends, which log it is, and whether it still reaches back far
//! enough.

use std::sync::Arc;

use crate::error::{Class, Error, Result, ResultExt};
use crate::gtid::GtidSet;
use crate::mywire::conn::{Flavour, MyConn};
use crate::position::{BinlogPosition, Passed, Position};
use crate::source::{LogHealth, LogIdentity};

const RESYNC: &str = "the target cannot be brought level from here: run `switchyard finish`, empty the target's tables, and start the migration anew";

/// A query's rows as texts.
pub async fn texts(conn: &mut MyConn, doing: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let rows = conn.query(sql).await.with_context(|| doing.to_owned())?;
    let text = |field: Option<bytes::Bytes>| field.map(|f| String::from_utf8_lossy(&f).into_owned());
    Ok(rows.into_iter().map(|r| r.into_iter().map(text).collect()).collect())
}

/// The one value of a query; NULL is empty.
pub async fn one(conn: &mut MyConn, doing: &str, sql: &str) -> Result<String> {
    let row = texts(conn, doing, sql).await?.into_iter().next();
    Ok(row.and_then(|mut r| if r.is_empty() { None } else { r.swap_remove(0) }).unwrap_or_default())
}

/// File, offset and, on MySQL, the set of executed transactions. The statement was renamed in MySQL 8.2 and its old name
/// removed in 8.4.
async fn status(conn: &mut MyConn) -> Result<(String, u64, String)> {
    let doing = "asking where the source's log ends";
    let renamed = conn.flavour() == Flavour::Mysql && conn.server().number >= (8, 2, 0);
    let sql = if renamed { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let rows = texts(conn, doing, sql).await?;
    let Some(row) = rows.into_iter().next() else {
        return Err(Error::fatal("the source writes no binary log")
            .hint("set log_bin in the server's configuration and restart it"));
    };
    let field = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let offset = field(1).parse().map_err(|_| Error::fatal(format!("{doing}: {:?} is no offset", field(1))))?;
    Ok((field(0), offset, field(4)))
}

/// Where the log ends now.
pub async fn now(conn: &mut MyConn) -> Result<Position> {
    let doing = "asking where the source's log ends";
    let (file, offset, set) = status(conn).await?;
    let passed = match conn.flavour() {
        Flavour::Mariadb => {
            // Not BINLOG_GTID_POS of that offset: it reads the whole file, and where an event in it is larger than
            // max_allowed_packet it answers NULL, which would mean the log's very beginning. That this may be a little later
            // than the offset does no harm: only ids are compared where there are ids, and rows of interest do not change
            // between the two while a snapshot is opened, because their tables are locked.
            let domains = one(conn, doing, "SELECT @@GLOBAL.gtid_binlog_pos").await?;
            Passed::Domains(domains.parse().map_err(|e: String| Error::fatal(e))?)
        }
        Flavour::Mysql => match one(conn, doing, "SELECT @@GLOBAL.gtid_mode").await?.as_str() {
            "ON" => Passed::Sources(set.parse().map_err(|e: String| Error::fatal(e))?),
            _ => Passed::Unnumbered,
        },
    };
    Ok(Position::Binlog(BinlogPosition { file: Arc::from(file), offset, passed }))
}

/// The server's own name: its UUID; where it has none, the number that its administrator gave it.
async fn server_id(conn: &mut MyConn) -> Result<String> {
    let sql = match conn.flavour() {
        Flavour::Mysql => "SELECT @@GLOBAL.server_uuid",
        Flavour::Mariadb => "SELECT CONCAT('server_id ', @@GLOBAL.server_id)",
    };
    one(conn, "asking the source who it is", sql).await
}

/// The log that `at` lies in, and the source's clock.
pub async fn identity(conn: &mut MyConn, at: &Position) -> Result<(LogIdentity, i64)> {
    let server_id = server_id(conn).await?;
    let identity = LogIdentity { server_id, timeline: None, handle: None, start: at.clone() };
    Ok((identity, clock(conn).await?))
}

/// The source's clock, in microseconds since the Unix epoch.
pub async fn clock(conn: &mut MyConn) -> Result<i64> {
    let sql = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";
    Ok(one(conn, "asking the source's clock", sql).await?.parse().unwrap_or(0))
}

/// Fails unless everything after `position` is still in this server's log.
///
/// # Errors
/// `Fatal`, each with what to do, for everything that would leave a gap.
pub async fn verify(conn: &mut MyConn, identity: &LogIdentity, position: &Position) -> Result<()> {
    let doing = "comparing the source's log with the target's checkpoint";
    let fatal = |what: String| Error::fatal(format!("{doing}: {what}"));
    let Some(at) = position.binlog() else {
        return Err(fatal(format!("the checkpoint speaks of another engine's log ({position})"))
            .hint("use another name for this migration, or point source.url at the server the copy came from"));
    };
    let end = now(conn).await?;
    let Some(end) = end.binlog() else { return Ok(()) };
    match (&at.passed, &end.passed) {
        (Passed::Sources(passed), Passed::Sources(executed)) => {
            let lacking = passed.subtract(executed);
            if !lacking.is_empty() {
                return Err(fatal(format!("the source lacks transactions that the target has: {lacking}")).hint(
                    "it was restored from a backup, or it is a replica that is behind: point source.url at a server that has them, or start the migration anew",
                ));
            }
            let purged = one(conn, doing, "SELECT @@GLOBAL.gtid_purged").await?;
            let purged: GtidSet = purged.parse().map_err(|e: String| Error::fatal(e))?;
            let gone = purged.subtract(passed);
            if !gone.is_empty() {
                return Err(fatal(format!("the source has thrown away log that is still needed: {gone}")).hint(RESYNC));
            }
            Ok(())
        }
        (Passed::Domains(passed), Passed::Domains(there)) => {
            if !there.reached(passed) {
                return Err(fatal(format!("the source lacks transactions that the target has: it is at {there}, the target at {passed}")).hint(
                    "it was restored from a backup, or it is a replica that is behind: point source.url at a server that has them, or start the migration anew",
                ));
            }
            Ok(())
        }
        (Passed::Unnumbered, _) => {
            let server = server_id(conn).await?;
            if server != identity.server_id {
                return Err(fatal(format!(
                    "the source is another server ({server} instead of {}), and places in files mean nothing there",
                    identity.server_id
                ))
                .hint(
                    "point source.url at the server the copy came from; if that one is gone, start the migration anew",
                ));
            }
            let files = texts(conn, doing, "SHOW BINARY LOGS").await?;
            let file = files.iter().find(|f| f.first().cloned().flatten().as_deref() == Some(&*at.file));
            let size: u64 = file.and_then(|f| f.get(1).cloned().flatten()).and_then(|s| s.parse().ok()).unwrap_or(0);
            if size < at.offset {
                return Err(fatal(format!("the source has no {}:{} any more", at.file, at.offset)).hint(RESYNC));
            }
            Ok(())
        }
        _ => Err(fatal("the source numbers its transactions otherwise than when the copy was made".into())
            .hint("set gtid_mode as it was, or start the migration anew")),
    }
}

/// How the log is doing. The server keeps nothing for us: its logs expire by its own settings.
pub async fn health(conn: &mut MyConn) -> Result<LogHealth> {
    let end = now(conn).await?;
    let now = clock(conn).await?;
    Ok(LogHealth { end, retained_bytes: 0, safe_bytes: None, state: "expires by itself".into(), now })
}

/// `ER_MASTER_FATAL_ERROR_READING_BINLOG`: log that is needed is gone, or was never there. Waiting does not bring it back.
pub fn reading(e: Error) -> Error {
    match e.code() {
        Some("1236") => e.with_class(Class::Fatal).hint(RESYNC),
        _ => e,
    }
}
