//! The source's half of the preflight: everything that would make a migration from there fail, each with what to do.

use std::fmt::Write as _;

use tokio_postgres::Client;

use super::catalog::{self, Catalog, Described, LeftOut, TableIds, get};
use super::slot::{self, Names, PLUGIN};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::errors::wrap;
use crate::schema::{Ident, RowIdentity, TableName};
use crate::transform::select::Selection;

/// Oldest major version that has what is needed (logical messages in `pgoutput`).
const MINIMUM: i32 = 14;
/// Oldest major version that will be maintained for some time yet.
const RECOMMENDED: i32 = 15;
/// Findings of one kind that are listed each by itself; more are summed up.
const LISTED: usize = 20;
/// Transactions older than this will make the slot's creation wait noticeably.
const LONG_TRANSACTION_SECONDS: f64 = 30.0;

/// Looks at the source. A number of queries that does not depend on the number of tables.
///
/// # Errors
/// Only what keeps it from looking at all (the connection); everything else is a finding.
pub async fn check(
    client: &Client,
    info: &ConnInfo,
    migration: &str,
    selection: &Selection,
    ids: &TableIds,
) -> Result<Vec<Finding>> {
    let mut out = Report { findings: Vec::new() };
    let server = server(client).await?;
    settings(&server, &mut out);
    roles(&server, &mut out);
    encryption(&server, info, &mut out);
    let catalog = catalog::read(client, selection, ids).await?;
    selected(&catalog, selection, &mut out);
    identities(&catalog, &mut out);
    if !server.superuser {
        partitions(&catalog, &mut out);
    }
    object_columns(&catalog, &mut out);
    if !selection.is_everything()
        && let Some(what) = super::left_behind::left_behind(client, &catalog).await?
    {
        out.fix(
            Severity::Warning,
            "left_behind",
            what,
            "make those that are needed on the target yourself, or select everything (no tables.include and tables.exclude)",
        );
    }
    privileges(client, &server, &catalog, &mut out).await?;
    existing_slot(client, &Names::of(migration), &server, &mut out).await?;
    beside_tables(client, selection, &mut out).await?;
    transactions(client, &mut out).await?;
    Ok(out.findings)
}

struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, severity: Severity, code: &str, message: impl Into<String>) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding::new(severity, "source", code, message));
        &mut self.findings[at]
    }
    fn ok(&mut self, code: &str, message: impl Into<String>) {
        self.add(Severity::Ok, code, message);
    }
    fn fix(&mut self, severity: Severity, code: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(severity, code, message).fix = Some(fix.into());
    }
    /// One finding for each of the first, and one for the rest.
    fn each(&mut self, severity: Severity, code: &str, all: Vec<(String, String)>) {
        let rest = all.len().saturating_sub(LISTED);
        let mut remaining = String::new();
        for (i, (message, fix)) in all.into_iter().enumerate() {
            if i < LISTED {
                self.fix(severity, code, message, fix);
            } else {
                let _ = write!(remaining, "{fix}; ");
            }
        }
        if rest > 0 {
            let fix = remaining.trim_end_matches("; ").to_owned();
            self.fix(severity, code, format!("and {rest} more tables alike"), fix);
        }
    }
}

/// Settings and facts of the server, as one query tells them.
struct Server {
    version: String,
    number: i32,
    user: String,
    database: String,
    superuser: bool,
    replication: bool,
    bypass_rls: bool,
    create_on_database: bool,
    standby: bool,
    encrypted: bool,
    wal_level: String,
    max_slots: i64,
    used_slots: i64,
    max_senders: i64,
    used_senders: i64,
    keep_size: String,
    sender_timeout_ms: i64,
    encoding: String,
}

impl Server {
    fn major(&self) -> i32 {
        self.number / 10_000
    }
}

async fn server(client: &Client) -> Result<Server> {
    const SQL: &str = r#"
        SELECT current_setting('server_version'), current_setting('server_version_num')::int4, current_user::text,
               current_database()::text, r.rolsuper, r.rolreplication, r.rolbypassrls,
               pg_catalog.has_database_privilege(current_database(), 'CREATE'), pg_catalog.pg_is_in_recovery(),
               coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), false),
               current_setting('wal_level'), current_setting('max_replication_slots')::int8,
               (SELECT count(*) FROM pg_catalog.pg_replication_slots), current_setting('max_wal_senders')::int8,
               (SELECT count(*) FROM pg_catalog.pg_stat_replication), current_setting('max_slot_wal_keep_size'),
               (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
               pg_catalog.getdatabaseencoding()::text
          FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"#;
    let row = client.query_one(SQL, &[]).await.map_err(|e| wrap("looking at the source's settings", &e))?;
    Ok(Server {
        version: get(&row, 0)?,
        number: get(&row, 1)?,
        user: get(&row, 2)?,
        database: get(&row, 3)?,
        superuser: get(&row, 4)?,
        replication: get(&row, 5)?,
        bypass_rls: get(&row, 6)?,
        create_on_database: get(&row, 7)?,
        standby: get(&row, 8)?,
        encrypted: get(&row, 9)?,
        wal_level: get(&row, 10)?,
        max_slots: get(&row, 11)?,
        used_slots: get(&row, 12)?,
        max_senders: get(&row, 13)?,
        used_senders: get(&row, 14)?,
        keep_size: get(&row, 15)?,
        sender_timeout_ms: get(&row, 16)?,
        encoding: get(&row, 17)?,
    })
}

fn settings(s: &Server, out: &mut Report) {
    use Severity::{Note, Problem, Warning};
    let version = format!("PostgreSQL {}", s.version);
    match s.major() {
        m if m < MINIMUM => out.fix(
            Problem,
            "version",
            format!("{version}: too old, the log of versions before {MINIMUM} cannot carry our markers"),
            format!("upgrade the source to {MINIMUM} or newer first (pg_upgrade)"),
        ),
        m if m < RECOMMENDED => {
            out.add(
                Note,
                "version",
                format!("{version}: works, but is deprecated; {RECOMMENDED} or newer is recommended"),
            );
        }
        _ => out.ok("version", version),
    }
    if s.standby {
        out.fix(
            Problem,
            "standby",
            "the source is a standby: a publication, a slot's snapshot and markers need a server that can write",
            "point source.url at the primary",
        );
    }
    match &*s.wal_level {
        "logical" => out.ok("wal_level", "wal_level is logical"),
        other => out.fix(
            Problem,
            "wal_level",
            format!("wal_level is {other}: the log does not hold rows"),
            "ALTER SYSTEM SET wal_level = logical; then restart the source",
        ),
    }
    for (code, max, used, what) in [
        ("max_replication_slots", s.max_slots, s.used_slots, "replication slots"),
        ("max_wal_senders", s.max_senders, s.used_senders, "walsenders"),
    ] {
        if max > used {
            out.ok(code, format!("{used} of {max} {what} are in use"));
        } else {
            out.fix(
                Problem,
                code,
                format!("all {max} {what} are in use"),
                format!(
                    "ALTER SYSTEM SET {code} = {}; then restart the source, or free one that is no longer needed",
                    max + 4
                ),
            );
        }
    }
    match &*s.keep_size {
        "-1" => {
            out.add(
                Note,
                "max_slot_wal_keep_size",
                "max_slot_wal_keep_size is unlimited: while the migration stands still, the log that it needs fills the source's disk; watch switchyard_retained_log_bytes",
            );
        }
        size => out.fix(
            Warning,
            "max_slot_wal_keep_size",
            format!("the source throws log away that the migration still needs once it exceeds {size} (max_slot_wal_keep_size); the migration must then start anew"),
            "make it larger than what is written during the copy, or: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()",
        ),
    }
    if (1..10_000).contains(&s.sender_timeout_ms) {
        out.fix(
            Warning,
            "wal_sender_timeout",
            format!(
                "wal_sender_timeout is {} ms: short pauses of the network will cut the stream",
                s.sender_timeout_ms
            ),
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()",
        );
    }
    if s.encoding != "UTF8" {
        let what = format!("the database's encoding is {}: text travels as UTF-8", s.encoding);
        out.add(if s.encoding == "SQL_ASCII" { Warning } else { Note }, "encoding", what);
    }
}

fn roles(s: &Server, out: &mut Report) {
    let role = Ident(&s.user);
    if s.superuser || s.replication {
        out.ok("replication", format!("role {role} may replicate"));
    } else {
        out.fix(
            Severity::Problem,
            "replication",
            format!("role {role} has no REPLICATION attribute"),
            format!("ALTER ROLE {role} REPLICATION"),
        );
    }
    if !s.superuser && !s.create_on_database {
        out.fix(
            Severity::Problem,
            "create",
            format!("role {role} may not create a publication in database {}", Ident(&s.database)),
            format!("GRANT CREATE ON DATABASE {} TO {role}", Ident(&s.database)),
        );
    }
    if s.superuser {
        out.ok("ddl", "schema changes are followed (event trigger)");
    } else {
        out.fix(
            Severity::Note,
            "ddl",
            "schema changes are not followed: an event trigger needs a superuser; the stream stops with a clear error when a table changes its shape",
            "connect as a superuser, or leave the schema alone until the cutover",
        );
    }
}

fn encryption(s: &Server, info: &ConnInfo, out: &mut Report) {
    let host: Option<std::net::IpAddr> = info.host.parse().ok();
    let loopback = info.host == "localhost" || host.is_some_and(|h| h.is_loopback());
    if s.encrypted {
        out.ok("tls", "the connection is encrypted");
    } else if !loopback {
        out.fix(
            Severity::Warning,
            "tls",
            format!("the connection to {} is not encrypted", info.host),
            "add ?sslmode=verify-full&sslrootcert=/path/ca.pem to source.url",
        );
    }
}

fn selected(catalog: &Catalog, selection: &Selection, out: &mut Report) {
    for pattern in selection.unmatched(&catalog.all) {
        out.fix(
            Severity::Problem,
            "include",
            format!("tables.include: {pattern} matches no table"),
            "correct the pattern; names are schema.table, with quotes where SQL needs them",
        );
    }
    if catalog.tables.is_empty() {
        out.fix(
            Severity::Problem,
            "tables",
            "no table is selected",
            "correct tables.include and tables.exclude, or the database in source.url",
        );
    } else {
        let bytes: u64 = catalog.tables.iter().map(|t| t.table.bytes).sum();
        let rows: u64 = catalog.tables.iter().map(|t| t.table.estimated_rows).sum();
        let mib = bytes / (1024 * 1024);
        out.ok("tables", format!("{} tables, about {rows} rows, {mib} MiB", catalog.tables.len()));
    }
    for (name, why) in &catalog.left_out {
        let exclude = format!("add {name} to tables.exclude to say that this is meant");
        match why {
            LeftOut::Unlogged => out.fix(
                Severity::Warning,
                "unlogged",
                format!("{name} is unlogged: its rows are not in the log and do not come along"),
                format!("ALTER TABLE {name} SET LOGGED, or {exclude}"),
            ),
            LeftOut::Foreign => out.fix(
                Severity::Warning,
                "foreign",
                format!("{name} is a foreign table: its rows are elsewhere and do not come along"),
                exclude,
            ),
            LeftOut::Extension => {
                out.add(
                    Severity::Note,
                    "extension_table",
                    format!("{name} belongs to an extension: it comes with the extension, its rows do not"),
                );
            }
            LeftOut::PartitionStays => out.fix(
                Severity::Problem,
                "partition",
                format!("{name} is excluded, but is a partition of a table that takes part: it cannot be left out"),
                "exclude the parent, or stop excluding the partition",
            ),
        }
    }
}

fn identities(catalog: &Catalog, out: &mut Report) {
    let bad = catalog.tables.iter().filter_map(|t| {
        let (why, statement) = t.no_identity.as_ref()?;
        let what = format!("{why}: changed and deleted rows could not be found, and published, the application's UPDATE and DELETE would fail");
        Some((what, format!("{statement}; or exclude {}", t.table.name)))
    });
    out.each(Severity::Problem, "replica_identity", bad.collect());
    let slow = catalog.tables.iter().filter(|t| t.table.identity == RowIdentity::AllColumns).map(|t| {
        let name = &t.table.name;
        (
            format!("{name} has no key: a change looks at every row of it at the target"),
            format!("ALTER TABLE {name} ADD PRIMARY KEY (…), if it has a column for that"),
        )
    });
    out.each(Severity::Warning, "no_key", slow.collect());
}

/// What no trigger of ours tells where it cannot be made.
fn partitions(catalog: &Catalog, out: &mut Report) {
    // PostgreSQL publishes partitions by their root, and tells a TRUNCATE of the root only (pgoutput.c, pgoutput_truncate).
    let divided = catalog.tables.iter().filter(|t| t.partitioned).map(|t| {
        (
            format!(
                "{}: TRUNCATE of a single partition is not in the source's log and would not reach the target",
                t.table.name
            ),
            "connect as a superuser, for a trigger that tells; or use DELETE on a single partition, or TRUNCATE the whole table, while the migration runs".to_owned(),
        )
    });
    out.each(Severity::Warning, "truncate_partition", divided.collect());
}

fn object_columns(catalog: &Catalog, out: &mut Report) {
    let objects = catalog.tables.iter().filter(|t| !t.object_columns.is_empty()).map(|t: &Described| {
        (
            format!(
                "{}: column {} holds names of objects of this server (oid or reg* type); values load only where the same objects exist, and plain oids keep their number",
                t.table.name,
                t.object_columns.join(", ")
            ),
            "make sure the objects exist at the target before the copy, or exclude the table".to_owned(),
        )
    });
    out.each(Severity::Warning, "types", objects.collect());
}

async fn privileges(client: &Client, s: &Server, catalog: &Catalog, out: &mut Report) -> Result<()> {
    if s.superuser {
        return Ok(());
    }
    // Rows are read from the parent or from the leaves directly, so both are asked about.
    const SQL: &str = r#"
        SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
               pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
               pg_catalog.pg_has_role(c.relowner, 'USAGE'),
               c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY ($1::oid[]) ORDER BY 1, 2"#;
    let roots: std::collections::HashSet<&TableName> = catalog.tables.iter().map(|t| &t.table.name).collect();
    let mut oids: Vec<u32> =
        catalog.tables.iter().flat_map(|t| t.leaves.iter().map(|l| l.oid).chain([t.oid])).collect();
    oids.sort_unstable();
    oids.dedup();
    let role = Ident(&s.user);
    let rows = client.query(SQL, &[&oids]).await.map_err(|e| wrap("looking at the privileges at the source", &e))?;
    let (mut select, mut own, mut rls) = (Vec::new(), Vec::new(), Vec::new());
    let mut schemas = std::collections::BTreeSet::new();
    for row in &rows {
        let name = TableName::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
        let owner: String = get(row, 2)?;
        if !get::<bool>(row, 3)? {
            select.push((format!("role {role} may not read {name}"), format!("GRANT SELECT ON {name} TO {role}")));
        }
        if !get::<bool>(row, 4)? {
            schemas.insert(name.schema.clone());
        }
        if !get::<bool>(row, 5)? && roots.contains(&name) {
            own.push((
                format!("role {role} does not own {name}, so it may not publish it"),
                format!(
                    "GRANT {} TO {role}, or ALTER TABLE {name} OWNER TO {role}, or connect as a superuser",
                    Ident(&owner)
                ),
            ));
        }
        if get::<bool>(row, 6)? && !s.bypass_rls {
            rls.push((
                format!("row security of {name} would hide rows from role {role}"),
                format!("ALTER ROLE {role} BYPASSRLS"),
            ));
        }
    }
    if select.is_empty() && own.is_empty() && schemas.is_empty() {
        out.ok("privileges", format!("role {role} may read and publish the selected tables"));
    }
    let schemas = schemas.into_iter().map(|schema| {
        let schema = Ident(&schema).to_string();
        (format!("role {role} may not use schema {schema}"), format!("GRANT USAGE ON SCHEMA {schema} TO {role}"))
    });
    out.each(Severity::Problem, "usage", schemas.collect());
    out.each(Severity::Problem, "select", select);
    out.each(Severity::Problem, "ownership", own);
    out.each(Severity::Problem, "row_security", rls);
    Ok(())
}

async fn existing_slot(client: &Client, names: &Names, s: &Server, out: &mut Report) -> Result<()> {
    let Some(found) = slot::slot(client, &names.slot).await? else { return Ok(()) };
    let name = &names.slot;
    if found.plugin.as_deref() != Some(PLUGIN) || found.database.as_deref() != Some(&*s.database) {
        out.fix(
            Severity::Problem,
            "slot",
            format!("a replication slot {name} of another database or plugin exists"),
            format!("choose another migration name, or: SELECT pg_drop_replication_slot('{name}')"),
        );
    } else if let Some(pid) = found.active_pid {
        out.fix(
            Severity::Warning,
            "slot",
            format!(
                "replication slot {name} exists and is in use by process {pid}: another daemon runs this migration"
            ),
            "stop it before starting another, or choose another migration name",
        );
    } else {
        let state = found.wal_status.unwrap_or_else(|| "lost".into());
        out.fix(
            Severity::Note,
            "slot",
            format!("replication slot {name} exists (not in use, {state}): this migration was begun before and will be resumed"),
            "run `switchyard finish` first if it should start anew",
        );
    }
    Ok(())
}

/// What does not come along by itself.
async fn beside_tables(client: &Client, selection: &Selection, out: &mut Report) -> Result<()> {
    const SQL: &str = "SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata), \
         (SELECT count(*) FROM pg_catalog.pg_sequences WHERE schemaname <> 'switchyard')";
    let row = client.query_one(SQL, &[]).await.map_err(|e| wrap("counting large objects at the source", &e))?;
    let (large, sequences): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    if large > 0 {
        // With chosen tables only, somebody decided what comes along; with everything, nothing may be lost unsaid.
        out.fix(
            if selection.is_everything() { Severity::Problem } else { Severity::Warning },
            "large_objects",
            format!("the database holds {large} large objects: they are not in the log and do NOT come along"),
            "move them into bytea columns, or copy them yourself under the cutover's fence (pg_dump --large-objects); if they are orphans, remove them with vacuumlo; or name the tables in tables.include to go on without them",
        );
    }
    if sequences > 0 {
        out.add(
            Severity::Note,
            "sequences",
            format!(
                "{sequences} sequences: their definitions come with the schema, their values are set at the cutover"
            ),
        );
    }
    Ok(())
}

async fn transactions(client: &Client, out: &mut Report) -> Result<()> {
    let doing = "looking at the source's open transactions";
    const PREPARED: &str = "SELECT count(*), coalesce(max(extract(epoch FROM now() - prepared)), 0)::float8 \
         FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()";
    let row = client.query_one(PREPARED, &[]).await.map_err(|e| wrap(doing, &e))?;
    let (count, age): (i64, f64) = (get(&row, 0)?, get(&row, 1)?);
    if count > 0 {
        out.fix(
            Severity::Warning,
            "prepared_transactions",
            format!("{count} prepared transactions are open, the oldest for {age:.0} s: the copy cannot begin before they end"),
            "end them: SELECT gid FROM pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED",
        );
    }
    // A slot waits for every transaction that has an id, of all databases.
    const LONG: &str = "SELECT count(*), coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8, \
         (array_agg(pid ORDER BY xact_start))[1] FROM pg_catalog.pg_stat_activity \
         WHERE backend_xid IS NOT NULL AND xact_start < now() - pg_catalog.make_interval(secs => $1) \
         AND pid <> pg_catalog.pg_backend_pid()";
    let row = client.query_one(LONG, &[&LONG_TRANSACTION_SECONDS]).await.map_err(|e| wrap(doing, &e))?;
    let (count, age): (i64, f64) = (get(&row, 0)?, get(&row, 1)?);
    if count > 0 {
        let pid: Option<i32> = get(&row, 2)?;
        out.fix(
            Severity::Warning,
            "long_transactions",
            format!("{count} transactions are writing for a long time, the oldest for {age:.0} s: the copy begins only when they have ended"),
            pid.map_or(String::new(), |p| format!("wait, or end the oldest: SELECT pg_terminate_backend({p})")),
        );
    }
    Ok(())
}
