//! What a migration leaves at the source: the names of it, the publication, the slot's health, and taking it all away again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::catalog::get;
use crate::error::{Error, Result};
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{qualified, quoted};
use crate::position::{Lsn, Position};
use crate::schema::{RowIdentity, Table, TableName};
use crate::source::{LogHealth, LogIdentity};
use crate::transform::select::Selection;

/// Longest identifier of PostgreSQL, in bytes (`NAMEDATALEN - 1`).
const LONGEST_NAME: usize = 63;
/// Tables named in one `CREATE` or `ALTER PUBLICATION`, so that no statement locks thousands at once.
const TABLES_A_STATEMENT: usize = 500;
/// The output plugin that every PostgreSQL brings.
pub const PLUGIN: &str = "pgoutput";

/// Every name at the source that is derived from the migration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
}

impl Names {
    /// Names for the migration: `switchyard_<name>`, of the letters that a slot may have. A hash of the whole name is
    /// added where letters had to be replaced or cut, so that two migrations never share a slot.
    pub fn of(migration: &str) -> Names {
        let clean: String = migration
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '_' })
            .collect();
        let mut name = format!("switchyard_{clean}");
        if clean != migration || name.len() > LONGEST_NAME {
            let hash = format!("_{:08x}", crc32fast::hash(migration.as_bytes()));
            name.truncate(LONGEST_NAME - hash.len());
            name.push_str(&hash);
        }
        Names { slot: name.clone(), publication: name }
    }

    /// The temporary slot under which a copy is resumed. No migration's own slot begins like this, not even that of a
    /// migration called `shop_copy`; what has to be cut is told apart by a hash.
    pub fn copy_slot(&self) -> String {
        let rest = self.slot.strip_prefix("switchyard_").unwrap_or(&self.slot);
        let mut name = format!("switchyardcopy_{rest}");
        if name.len() > LONGEST_NAME {
            let hash = format!("_{:08x}", crc32fast::hash(self.slot.as_bytes()));
            name.truncate(LONGEST_NAME - hash.len());
            name.push_str(&hash);
        }
        name
    }
}

/// Makes the publication afresh with exactly these tables.
///
/// # Errors
/// `Fatal`, before anything is made, if a table has no usable identity: publishing it would make the *application's*
/// UPDATE and DELETE fail. `Retry` if a lock is not got within half a minute.
pub async fn create_publication(client: &Client, names: &Names, tables: &[Arc<Table>]) -> Result<()> {
    refuse_without_identity(tables)?;
    let doing = format!("creating publication {} at the source", names.publication);
    let publication = quoted(&names.publication);
    let list: Vec<&TableName> = tables.iter().map(|t| &t.name).collect();
    let mut statements = vec![format!("DROP PUBLICATION IF EXISTS {publication}")];
    let mut chunks = list.chunks(TABLES_A_STATEMENT);
    let options = "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)";
    statements.push(match chunks.next() {
        Some(first) => format!("CREATE PUBLICATION {publication} FOR TABLE {} {options}", only(first)),
        None => format!("CREATE PUBLICATION {publication} {options}"),
    });
    statements.extend(chunks.map(|c| format!("ALTER PUBLICATION {publication} ADD TABLE {}", only(c))));
    run_locked(client, &doing, &statements).await
}

/// Adds those of the tables that the publication lacks: they were made, or made anew, between a crash and the resume, and
/// are about to be copied. Call it before the snapshot is taken, so that everything after the snapshot is in the log.
///
/// # Errors
/// As [`create_publication`].
pub async fn publish_missing(client: &Client, names: &Names, tables: &[Arc<Table>]) -> Result<()> {
    let have = published(client, names).await?;
    let missing: Vec<Arc<Table>> = tables.iter().filter(|t| !have.contains(&t.name)).cloned().collect();
    refuse_without_identity(&missing)?;
    let doing = format!("adding tables to publication {} at the source", names.publication);
    let list: Vec<&TableName> = missing.iter().map(|t| &t.name).collect();
    let publication = quoted(&names.publication);
    let statements: Vec<_> = list
        .chunks(TABLES_A_STATEMENT)
        .map(|c| format!("ALTER PUBLICATION {publication} ADD TABLE {}", only(c)))
        .collect();
    if statements.is_empty() { Ok(()) } else { run_locked(client, &doing, &statements).await }
}

/// Takes tables out of the publication that the selection leaves out by now.
///
/// # Errors
/// As [`create_publication`].
pub async fn unpublish_excluded(client: &Client, names: &Names, selection: &Selection) -> Result<()> {
    let have = published(client, names).await?;
    let excluded: Vec<&TableName> = have.iter().filter(|t| !selection.selects(t)).collect();
    let doing = format!("taking excluded tables out of publication {} at the source", names.publication);
    let publication = quoted(&names.publication);
    let statements: Vec<String> = excluded
        .chunks(TABLES_A_STATEMENT)
        .map(|chunk| format!("ALTER PUBLICATION {publication} DROP TABLE {}", only(chunk)))
        .collect();
    if statements.is_empty() { Ok(()) } else { run_locked(client, &doing, &statements).await }
}

/// The tables that the publication names.
pub async fn published(client: &Client, names: &Names) -> Result<BTreeSet<TableName>> {
    const SQL: &str = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_publication_rel r \
         JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1::text";
    let doing = format!("reading publication {} at the source", names.publication);
    let rows = client.query(SQL, &[&names.publication]).await.map_err(|e| wrap(&doing, &e))?;
    rows.iter().map(|r| Ok(TableName::new(get::<String>(r, 0)?, get::<String>(r, 1)?))).collect()
}

fn refuse_without_identity(tables: &[Arc<Table>]) -> Result<()> {
    let bad: Vec<String> =
        tables.iter().filter(|t| t.identity == RowIdentity::None).map(|t| t.name.to_string()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let some = bad.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    let more = if bad.len() > 10 { format!(" and {} more", bad.len() - 10) } else { String::new() };
    Err(Error::fatal(format!(
        "publishing {some}{more}: no usable replica identity; published, an UPDATE or DELETE of the application would fail there"
    ))
    .hint(format!(
        "give each a primary key, or run ALTER TABLE {} REPLICA IDENTITY FULL, or exclude it; `switchyard check` prints the statement for each",
        bad[0]
    )))
}

/// `ONLY` because a table's inheritance children are tables of their own here; on partitioned tables it means nothing.
fn only(tables: &[&TableName]) -> String {
    tables.iter().map(|t| format!("ONLY {}", qualified(t))).collect::<Vec<_>>().join(", ")
}

async fn run_locked(client: &Client, doing: &str, statements: &[String]) -> Result<()> {
    client.batch_execute("SET lock_timeout = '30s'").await.map_err(|e| wrap(doing, &e))?;
    let mut result = Ok(());
    for s in statements {
        result = client.batch_execute(s).await.map_err(|e| {
            let e = wrap(doing, &e);
            match e.code() {
                Some("42501") => e.hint("a publication needs CREATE on the database and ownership of its tables: connect as their owner, as a member of the owning role, or as a superuser"),
                Some("55P03") => e.hint("another session holds a lock on one of the tables (a VACUUM, an index build, a schema change): it is tried again"),
                _ => e,
            }
        });
        if result.is_err() {
            break;
        }
    }
    client.batch_execute("SET lock_timeout = 0").await.map_err(|e| wrap(doing, &e))?;
    result
}

/// Who the server is: its system identifier, its timeline, and the end of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `system_identifier`.
    pub server_id: String,
    /// The timeline that is written (on a standby: received).
    pub timeline: u32,
    /// The end of the log.
    pub end: Lsn,
    /// Whether the server is a standby.
    pub standby: bool,
    /// The server's clock, microseconds since the Unix epoch.
    pub now: i64,
}

/// Looks at the server's log.
pub async fn log(client: &Client) -> Result<Log> {
    // A walfile's name begins with the timeline; the control file's lags behind until the checkpoint after a promotion.
    const SQL: &str = "SELECT s.system_identifier::text, r.standby, \
         CASE WHEN r.standby THEN coalesce((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), c.timeline_id)::text \
              ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END, \
         CASE WHEN r.standby THEN coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) \
              ELSE pg_catalog.pg_current_wal_lsn() END::text, \
         (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8 \
         FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c, \
              (SELECT pg_catalog.pg_is_in_recovery() AS standby) r";
    let doing = "asking the source where its log is";
    let row = client.query_one(SQL, &[]).await.map_err(|e| wrap(doing, &e))?;
    let standby: bool = get(&row, 1)?;
    let timeline: String = get(&row, 2)?;
    let odd = || Error::fatal(format!("{doing}: timeline {timeline:?} is not a number"));
    Ok(Log {
        server_id: get(&row, 0)?,
        timeline: u32::from_str_radix(&timeline, if standby { 10 } else { 16 }).map_err(|_| odd())?,
        end: lsn(doing, get(&row, 3)?)?,
        standby,
        now: get(&row, 4)?,
    })
}

fn lsn(doing: &str, text: String) -> Result<Lsn> {
    text.parse().map_err(|e| Error::fatal(format!("{doing}: {e}")))
}

/// A replication slot as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Output plugin; `None` for physical slots.
    pub plugin: Option<String>,
    /// Database; `None` for physical slots.
    pub database: Option<String>,
    /// The session that uses it.
    pub active_pid: Option<i32>,
    /// Log before this may be removed; `None` once it was.
    pub restart: Option<Lsn>,
    /// What we have confirmed.
    pub confirmed: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`; `None` before anything was reserved.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before the slot can be lost; `None` without a limit.
    pub safe_bytes: Option<i64>,
}

/// Looks a slot up by name.
pub async fn slot(client: &Client, name: &str) -> Result<Option<Slot>> {
    const SQL: &str = "SELECT plugin::text, database::text, active_pid, restart_lsn::text, confirmed_flush_lsn::text, \
         wal_status::text, safe_wal_size::int8 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text";
    let doing = format!("looking at replication slot {name} at the source");
    let Some(row) = client.query_opt(SQL, &[&name]).await.map_err(|e| wrap(&doing, &e))? else { return Ok(None) };
    let parse = |text: Option<String>| text.map(|t| lsn(&doing, t)).transpose();
    Ok(Some(Slot {
        plugin: get(&row, 0)?,
        database: get(&row, 1)?,
        active_pid: get(&row, 2)?,
        restart: parse(get(&row, 3)?)?,
        confirmed: parse(get(&row, 4)?)?,
        wal_status: get(&row, 5)?,
        safe_bytes: get(&row, 6)?,
    }))
}

/// Describes the log that a slot, made just now with this consistent point, belongs to.
pub async fn identity(client: &Client, names: &Names, start: Lsn) -> Result<LogIdentity> {
    let log = log(client).await?;
    Ok(LogIdentity {
        server_id: log.server_id,
        timeline: Some(log.timeline),
        handle: Some(names.slot.clone()),
        start: Position::Lsn(start),
    })
}

const RESYNC: &str = "the target cannot be brought level from here: run `switchyard finish`, empty the target's tables, and start the migration anew";

/// Fails unless the log is the one that `identity` describes and the slot still reaches back to `position`.
///
/// # Errors
/// `Retry` while another session uses the slot. `Fatal`, each with what to do, for everything that would leave a gap.
pub async fn verify_log(client: &Client, identity: &LogIdentity, position: &Position) -> Result<()> {
    let doing = "comparing the source's log with the target's checkpoint";
    let fatal = |what: String| Error::fatal(format!("{doing}: {what}"));
    let Some(at) = position.lsn() else {
        return Err(fatal(format!("the checkpoint speaks of another engine's log ({position})"))
            .hint("use another name for this migration, or point source.url at the server the copy came from"));
    };
    let now = log(client).await?;
    if now.server_id != identity.server_id {
        return Err(fatal(format!(
            "the source is another server (system identifier {} instead of {})",
            now.server_id, identity.server_id
        ))
        .hint("point source.url at the server the copy came from; if that one is gone, start the migration anew"));
    }
    if let Some(timeline) = identity.timeline.filter(|t| *t != now.timeline) {
        return Err(fatal(format!(
            "the source is on timeline {} and the checkpoint on {timeline}: the source was failed over or restored, and may have lost or replaced changes",
            now.timeline
        ))
        .hint(RESYNC));
    }
    if !now.standby && now.end < at {
        return Err(fatal(format!(
            "the source's log ends at {} and the checkpoint is at {at}: the source was restored from an older backup",
            now.end
        ))
        .hint(RESYNC));
    }
    let Some(name) = &identity.handle else {
        return Err(fatal("the checkpoint names no replication slot".into()).hint(RESYNC));
    };
    let Some(slot) = slot(client, name).await? else {
        return Err(fatal(format!(
            "replication slot {name} does not exist any more, and the log since {at} may be gone"
        ))
        .hint(RESYNC));
    };
    if slot.plugin.as_deref() != Some(PLUGIN) {
        let kind = slot.plugin.map_or("a physical slot".to_owned(), |p| format!("a slot of plugin {p}"));
        return Err(fatal(format!("replication slot {name} is {kind}, not of {PLUGIN}")).hint(
            "somebody replaced the slot: drop it with pg_drop_replication_slot, or choose another migration name, and start anew",
        ));
    }
    let row = client.query_one("SELECT pg_catalog.current_database()::text", &[]).await.map_err(|e| wrap(doing, &e))?;
    let database: String = get(&row, 0)?;
    if slot.database.as_deref() != Some(&*database) {
        return Err(fatal(format!(
            "replication slot {name} belongs to database {}, not {database}",
            slot.database.as_deref().unwrap_or("-")
        ))
        .hint("correct the database in source.url, or choose another migration name"));
    }
    if slot.wal_status.as_deref() == Some("lost") || slot.restart.is_none() {
        return Err(fatal(format!("replication slot {name} is lost: the source removed log that it still needed")).hint(
            "raise max_slot_wal_keep_size on the source (or set it to -1) and give it disk, then run `switchyard finish`, empty the target's tables, and start anew",
        ));
    }
    if let Some(confirmed) = slot.confirmed.filter(|c| *c > at) {
        return Err(fatal(format!(
            "the target's checkpoint is at {at}, but {confirmed} was already confirmed to slot {name}: the target was restored from an older backup, or the slot was made anew; everything between would be missing"
        ))
        .hint(RESYNC));
    }
    if let Some(pid) = slot.active_pid {
        return Err(Error::retry(format!("{doing}: replication slot {name} is in use by process {pid} of the source"))
            .with_code("55006")
            .hint(
                "it is free once that session has ended; if it is a forgotten one, SELECT pg_terminate_backend(pid)",
            ));
    }
    Ok(())
}

/// The log's end and how much of it the slot keeps.
///
/// # Errors
/// `Fatal` if the slot is gone.
pub async fn health(client: &Client, identity: &LogIdentity) -> Result<LogHealth> {
    let log = log(client).await?;
    let name = identity.handle.as_deref().unwrap_or_default();
    let Some(slot) = slot(client, name).await? else {
        return Err(Error::fatal(format!("replication slot {name} does not exist any more")).hint(RESYNC));
    };
    Ok(LogHealth {
        end: Position::Lsn(log.end),
        retained_bytes: slot.restart.map_or(0, |r| log.end.0.saturating_sub(r.0)),
        safe_bytes: slot.safe_bytes.map(|b| b.max(0) as u64),
        state: slot.wal_status.unwrap_or_else(|| "lost".into()),
        now: log.now,
    })
}

/// Drops the slot if it exists, waiting up to `patience` while a session uses it. Whether there was one.
///
/// # Errors
/// `Retry` if it is still in use afterwards.
pub async fn drop_slot(client: &Client, name: &str, patience: Duration) -> Result<bool> {
    let doing = format!("dropping replication slot {name} at the source");
    let until = tokio::time::Instant::now() + patience;
    loop {
        let sql = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text";
        match client.execute(sql, &[&name]).await {
            Ok(n) => return Ok(n > 0),
            Err(e) => {
                let e = wrap(&doing, &e);
                match e.code() {
                    // Dropped by somebody between looking and dropping.
                    Some("42704") => return Ok(false),
                    Some("55006") if tokio::time::Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    _ => return Err(e),
                }
            }
        }
    }
}

/// Ends the session that uses a temporary slot, and waits until the slot is gone with it. Nothing if there is none.
///
/// # Errors
/// `Retry` if the session does not end.
pub async fn end_user(client: &Client, name: &str) -> Result<()> {
    const SQL: &str = "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = $1::text AND temporary AND active_pid IS NOT NULL";
    let doing = format!("ending the session that still uses replication slot {name} at the source");
    client.execute(SQL, &[&name]).await.map_err(|e| wrap(&doing, &e))?;
    drop_slot(client, name, Duration::from_secs(10)).await.map(drop)
}

/// What the creation of one of the migration's slots waits for: it is done once every transaction has ended that had a
/// number when it began (SnapBuildFindSnapshot, snapbuild.c), those of other databases and prepared ones, too. Names the
/// oldest; says nothing of what they run. `None` while no slot is being made.
pub async fn held_up(client: &Client, names: &Names) -> Result<Option<String>> {
    // A slot that is not ready has confirmed nothing. Ages only a member of the role, or of pg_read_all_stats, may see.
    const SQL: &str = "SELECT o.what FROM pg_catalog.pg_replication_slots s CROSS JOIN LATERAL (
             SELECT pg_catalog.format('session %s of database %s', a.pid, a.datname)
                    || coalesce(pg_catalog.format(' (open for %s s)', pg_catalog.round(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::numeric)), '') AS what,
                    a.backend_xid AS xid
               FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid NOT IN (s.active_pid, pg_catalog.pg_backend_pid())
             UNION ALL
             SELECT pg_catalog.format('prepared transaction %L of database %s (open for %s s)', p.gid, p.database,
                      pg_catalog.round(extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::numeric)), p.transaction
               FROM pg_catalog.pg_prepared_xacts p) o
         WHERE s.slot_name = ANY ($1::text[]) AND s.active_pid IS NOT NULL AND s.confirmed_flush_lsn IS NULL
         ORDER BY pg_catalog.age(o.xid) DESC LIMIT 6";
    let slots = [names.slot.clone(), names.copy_slot()];
    let doing = "looking at the source's open transactions";
    let rows = client.query(SQL, &[&slots.as_slice()]).await.map_err(|e| wrap(doing, &e))?;
    let mut open: Vec<String> = rows.iter().map(|r| get(r, 0)).collect::<Result<_>>()?;
    if open.is_empty() {
        return Ok(None);
    }
    let more = if open.len() > 5 { " and others" } else { "" };
    open.truncate(5);
    Ok(Some(format!(
        "the source's replication slot waits for transactions that were open before it: {}{more}; it goes on by itself when they have ended",
        open.join(", ")
    )))
}

/// Removes everything of this migration from the source: slot, publication, and, with the last migration of the
/// database, the DDL trigger and the schema `switchyard`. Says what it removed; repeating it is harmless.
pub async fn finish(client: &Client, names: &Names) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    if drop_slot(client, &names.slot, Duration::from_secs(10)).await? {
        removed.push(format!("replication slot {}", names.slot));
    }
    let doing = "removing the migration's publication from the source";
    let exists = "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1::text";
    if client.query_opt(exists, &[&names.publication]).await.map_err(|e| wrap(doing, &e))?.is_some() {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", quoted(&names.publication));
        client.batch_execute(&sql).await.map_err(|e| wrap(doing, &e))?;
        removed.push(format!("publication {}", names.publication));
    }
    super::ddl::forget_selection(client, &names.publication).await?;
    let others = "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname LIKE 'switchyard\\_%' LIMIT 1";
    if client.query_opt(others, &[]).await.map_err(|e| wrap(doing, &e))?.is_none() {
        removed.extend(super::ddl::uninstall(client).await?);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_migration_names_when_derived_then_they_are_legal_and_distinct() {
        assert_eq!(Names::of("shop").slot, "switchyard_shop");
        let names: Vec<String> =
            ["Shop", "shop-1", "shop.1", "größe", &"a".repeat(80), &format!("{}b", "a".repeat(79)), ""]
                .iter()
                .map(|n| Names::of(n).slot)
                .collect();
        for n in &names {
            assert!(n.len() <= LONGEST_NAME, "{n}");
            assert!(n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{n}");
        }
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn given_names_near_the_longest_when_a_copy_is_resumed_then_its_slot_is_nobody_elses() {
        let mut all = BTreeSet::new();
        let mut count = 0;
        for n in (1..=60).chain([80, 200]) {
            let a = "a".repeat(n);
            for migration in
                [format!("{a}b"), format!("{a}c"), format!("{a}_copy"), format!("{a}-"), format!("copy_{a}")]
            {
                let names = Names::of(&migration);
                for slot in [names.copy_slot(), names.slot] {
                    assert!(slot.len() <= LONGEST_NAME, "{slot}");
                    all.insert(slot);
                    count += 1;
                }
            }
        }
        assert_eq!(all.len(), count);
        assert_eq!(Names::of("shop").copy_slot(), "switchyardcopy_shop");
    }
}
