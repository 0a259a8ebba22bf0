//! The source's half of the preflight: everything that would make a migration from there fail, each with what to do.

use std::collections::HashMap;

use mysql_async::Conn;

use super::cascade::Cascade;
use super::catalog::{Catalog, Described};
use super::types::ColumnType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};
use crate::mywire::conn::Flavour;
use crate::mywire::control;
use crate::mywire::errors;
use crate::mywire::quote::{literal, qualified, quoted};
use crate::schema::RowIdentity;
use crate::transform::select::Selection;

/// Findings of one kind that are listed each by itself; more are summed up.
const LISTED: usize = 20;
/// Log that expires sooner than this may be gone before a stalled target has read it.
const SHORT_EXPIRY_SECONDS: u64 = 86_400;
/// Below this, large documents are likely to be larger than what the server can print.
const SMALL_PACKET: u64 = 16 << 20;
const SIDE: &str = "source";

struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, severity: Severity, code: &str, message: impl Into<String>) {
        self.0.push(Finding::new(severity, SIDE, code, message));
    }
    fn fix(&mut self, severity: Severity, code: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding::new(severity, SIDE, code, message).fix(fix));
    }
    fn each(&mut self, severity: Severity, code: &str, all: Vec<(String, String)>) {
        let rest: Vec<String> = all.iter().skip(LISTED).map(|(_, fix)| fix.clone()).collect();
        for (message, fix) in all.into_iter().take(LISTED) {
            self.fix(severity, code, message, fix);
        }
        if !rest.is_empty() {
            self.fix(severity, code, format!("and {} more alike", rest.len()), rest.join("; "));
        }
    }
}

/// Looks at the source.
///
/// # Errors
/// Only what keeps it from looking at all (the connection); everything else is a finding.
pub async fn check(
    conn: &mut Conn,
    flavour: Flavour,
    version: (u16, u16, u16),
    catalog: &Catalog,
    selection: &Selection,
    database: Option<&str>,
) -> Result<Vec<Finding>> {
    let mut out = Report(Vec::new());
    versions(flavour, version, &mut out);
    let variables = variables(conn).await?;
    settings(flavour, &variables, &mut out);
    privileges(conn, catalog, database, &mut out).await?;
    tables(flavour, version, &variables, catalog, &mut out);
    let names: Vec<_> = catalog.tables.iter().map(|d| d.table.name.clone()).collect();
    for pattern in selection.unmatched(&names) {
        out.fix(
            Severity::Warning,
            "pattern",
            format!("the include pattern {pattern} matches no table"),
            "correct it, or remove it",
        );
    }
    prepared(conn, &mut out).await?;
    Ok(out.0)
}

fn versions(flavour: Flavour, version: (u16, u16, u16), out: &mut Report) {
    let (name, minimum, recommended) = match flavour {
        Flavour::Mysql => ("MySQL", (8, 0, 14), (8, 4, 0)),
        Flavour::Mariadb => ("MariaDB", (10, 6, 0), (10, 11, 0)),
    };
    let text = format!("{name} {}.{}.{}", version.0, version.1, version.2);
    if version < minimum {
        let needs = format!("{text} is too old: {name} {}.{}.{} is needed", minimum.0, minimum.1, minimum.2);
        out.fix(
            Severity::Problem,
            "version",
            needs,
            "upgrade the server, or migrate from a replica of a newer version",
        );
    } else if version < recommended {
        let old = format!(
            "{text} is near the end of its support or past it; {}.{} or newer is recommended",
            recommended.0, recommended.1
        );
        out.add(Severity::Warning, "version", old);
    } else {
        out.add(Severity::Ok, "version", text);
    }
}

/// The error of an account that may not even see the database, with all that it needs.
pub fn unseen(e: Error, database: Option<&str>) -> Error {
    let Some((account, database)) = errors::denied_account(&e).map(str::to_owned).zip(database) else { return e };
    // A hint that says more than the one that it has.
    Error::fatal(e.message().to_owned()).with_code("1044").hint(format!(
        "at the source: GRANT SELECT, LOCK TABLES ON {}.* TO {account}; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account}; or correct the database's name in source.url",
        quoted(database)
    ))
}

async fn variables(conn: &mut Conn) -> Result<HashMap<String, String>> {
    let rows = control::rows(conn, "reading the source's settings", "SHOW GLOBAL VARIABLES").await?;
    let pair = |mut r: Vec<Option<String>>| {
        let value = r.pop().flatten().unwrap_or_default();
        Some((r.pop().flatten()?.to_lowercase(), value))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

fn settings(flavour: Flavour, v: &HashMap<String, String>, out: &mut Report) {
    let get = |name: &str| v.get(name).map(String::as_str);
    if get("log_bin") != Some("ON") {
        out.fix(
            Severity::Problem,
            "log_bin",
            "the source writes no binary log",
            "set log_bin in the server's configuration and restart it",
        );
        return;
    }
    let mut want = |name: &str, value: &str, why: &str| {
        // Variables that a version does not have any more have the wanted value for good.
        if let Some(is) = get(name).filter(|is| !is.eq_ignore_ascii_case(value)) {
            out.fix(
                Severity::Problem,
                name,
                format!("{name} is {is}: {why}"),
                format!("SET GLOBAL {name} = '{value}'; set it in the server's configuration, too, and let sessions connect anew"),
            );
        }
    };
    want("binlog_format", "ROW", "the log must hold rows, not statements");
    want("binlog_row_image", "FULL", "the log must hold whole rows");
    want("binlog_row_metadata", "FULL", "the log must name columns and labels");
    if get("server_id").is_none_or(|id| id == "0") {
        out.fix(
            Severity::Problem,
            "server_id",
            "server_id is 0: the source refuses replicas",
            "SET GLOBAL server_id = 1",
        );
    }
    if flavour == Flavour::Mysql && get("gtid_mode") != Some("ON") {
        out.fix(
            Severity::Warning,
            "gtid_mode",
            "gtid_mode is not ON: after a failover of the source the migration cannot go on at the new server",
            "turn on GTIDs (manual, \"Enabling GTID Transactions Online\") if the source may fail over",
        );
    }
    let expiry = get("binlog_expire_logs_seconds").or(get("expire_logs_days")).and_then(|s| s.parse::<f64>().ok());
    let seconds = match (expiry, v.contains_key("binlog_expire_logs_seconds")) {
        (Some(s), true) => s,
        (Some(days), false) => days * 86_400.0,
        (None, _) => 0.0,
    };
    if seconds > 0.0 && (seconds as u64) < SHORT_EXPIRY_SECONDS {
        out.fix(
            Severity::Warning,
            "binlog_expiry",
            format!("the source throws its log away after {seconds} seconds, whether it was read or not"),
            "SET GLOBAL binlog_expire_logs_seconds = 604800, for as long as the migration lasts",
        );
    }
    let is_replica_with_workers = get("replica_parallel_workers")
        .or(get("slave_parallel_workers"))
        .and_then(|w| w.parse::<u32>().ok())
        .unwrap_or(0)
        > 1;
    let unordered = get("replica_preserve_commit_order").or(get("slave_preserve_commit_order")) == Some("OFF");
    if is_replica_with_workers && unordered {
        out.fix(
            Severity::Warning,
            "commit_order",
            "if the source is a replica, its workers commit in another order than its own source did",
            "SET GLOBAL replica_preserve_commit_order = ON on that server (with its replication stopped)",
        );
    }
    if get("log_replica_updates").or(get("log_slave_updates")) == Some("OFF") {
        out.add(
            Severity::Note,
            "log_replica_updates",
            "if the source is a replica, what it applies is not in its own log (log_replica_updates is OFF)",
        );
    }
}

async fn privileges(conn: &mut Conn, catalog: &Catalog, database: Option<&str>, out: &mut Report) -> Result<()> {
    let doing = "reading the privileges at the source";
    let user = control::rows(conn, doing, "SELECT CURRENT_USER()").await?;
    let user = user.into_iter().next().and_then(|mut r| r.pop().flatten()).unwrap_or_default();
    let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
    let who = format!("{}@{}", literal(name), literal(host));
    let grantee = literal(&format!("'{name}'@'{host}'"));
    let roles = control::rows(conn, doing, "SELECT CURRENT_ROLE()").await?;
    let has_roles = roles.into_iter().next().and_then(|mut r| r.pop().flatten()).is_some_and(|r| r != "NONE");
    let granted = control::rows(
        conn,
        doing,
        &format!(
            "SELECT '', privilege_type FROM information_schema.user_privileges WHERE grantee = {grantee} \
             UNION SELECT table_schema, privilege_type FROM information_schema.schema_privileges WHERE grantee = {grantee}"
        ),
    )
    .await?;
    let has = |schema: &str, privilege: &str| {
        granted.iter().any(|r| {
            let of = r[0].as_deref().unwrap_or("");
            let here = of.is_empty() || of == schema || of.replace("\\_", "_") == schema || of == "%";
            here && r[1].as_deref() == Some(privilege)
        })
    };
    let mut lacking = Vec::new();
    if !has("", "REPLICATION SLAVE") {
        lacking.push(("REPLICATION SLAVE", "to read the log", "*.*".to_owned()));
    }
    if !["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"].iter().any(|p| has("", p)) {
        lacking.push(("REPLICATION CLIENT", "to ask where the log ends", "*.*".to_owned()));
    }
    let mut schemas: Vec<&str> = catalog.tables.iter().map(|d| d.table.name.schema.as_str()).collect();
    schemas.dedup();
    // Without it the server shows neither tables nor columns; it may have been granted table by table.
    match database {
        Some(home) if schemas.is_empty() && !has(home, "SELECT") => {
            lacking.push(("SELECT", "to see its tables", format!("{}.*", quoted(home))));
        }
        _ => {}
    }
    for d in catalog.tables.iter().filter(|d| d.def.columns.is_empty()) {
        lacking.push(("SELECT", "to read it", qualified(&d.table.name)));
    }
    for schema in schemas {
        if !has(schema, "LOCK TABLES") {
            let on = format!("{}.*", quoted(schema));
            lacking.push(("LOCK TABLES", "to open the snapshot's sessions at one moment", on));
        }
    }
    for (privilege, why, on) in lacking {
        // What a role gives is not listed there; it is then seen when it is used.
        let severity = if has_roles { Severity::Warning } else { Severity::Problem };
        out.fix(
            severity,
            "privilege",
            format!("{user} lacks {privilege}, {why}"),
            format!("GRANT {privilege} ON {on} TO {who}"),
        );
    }
    Ok(())
}

fn tables(
    flavour: Flavour,
    version: (u16, u16, u16),
    variables: &HashMap<String, String>,
    catalog: &Catalog,
    out: &mut Report,
) {
    if catalog.tables.is_empty() {
        return;
    }
    let name = |d: &Described| qualified(&d.table.name);
    let engines = catalog.tables.iter().filter(|d| !d.engine.eq_ignore_ascii_case("InnoDB"));
    let engines = engines.map(|d| {
        let what = format!("{}: its engine is {}, which has no transactions", d.table.name, d.engine);
        (what, format!("ALTER TABLE {} ENGINE = InnoDB, or exclude it", name(d)))
    });
    out.each(Severity::Problem, "engine", engines.collect());
    let mut unreadable = Vec::new();
    for d in &catalog.tables {
        for (c, kind) in d.table.columns.iter().zip(&d.types) {
            if let Err(why) = kind {
                unreadable.push((
                    format!("{}: column {}: {why}", d.table.name, c.name),
                    "change the column's type or character set, or exclude the table".to_owned(),
                ));
            }
        }
    }
    out.each(Severity::Problem, "type", unreadable);
    let unclear = catalog.mended.unclear.iter().map(|(table, what)| {
        (
            format!("{table}: the server prints the {what} with \"?\", which may stand for characters beyond U+FFFF; the target gets it so, and rows with other labels stop the copy"),
            format!("let the account look: GRANT CREATE TEMPORARY TABLES ON {}.*; with binlog_format = ROW", quoted(&table.schema)),
        )
    });
    out.each(Severity::Warning, "labels", unclear.collect());
    let packet = variables.get("max_allowed_packet").and_then(|p| p.parse::<u64>().ok()).unwrap_or(u64::MAX);
    let documents = catalog.tables.iter().flat_map(|d| &d.types).any(|t| matches!(t, Ok(ColumnType::Json)));
    if documents && packet < SMALL_PACKET {
        out.fix(
            Severity::Warning,
            "max_allowed_packet",
            format!("max_allowed_packet is {packet} bytes at the source: a larger JSON document cannot be copied"),
            "SET GLOBAL max_allowed_packet = 1073741824, at least until the copy is over",
        );
    }
    let keyless = catalog.tables.iter().filter(|d| d.table.identity == RowIdentity::AllColumns).map(|d| {
        let what = format!("{}: no primary key: rows are found by all their columns, one by one", d.table.name);
        (what, format!("ALTER TABLE {} ADD PRIMARY KEY (…)", name(d)))
    });
    out.each(Severity::Warning, "key", keyless.collect());
    // What InnoDB itself does for a foreign key is in no log. Servers that leave it to SQL write it down (MySQL 9.6).
    let by_sql = flavour == Flavour::Mysql
        && version >= (9, 6, 0)
        && variables.get("innodb_native_foreign_keys").is_none_or(|v| v == "OFF");
    if !by_sql {
        let instead = match flavour == Flavour::Mysql && version >= (9, 6, 0) {
            true => "start the server with innodb_native_foreign_keys = OFF, or let the key refuse: ",
            false => "let the key refuse, and the application delete or change these rows: ",
        };
        let selected = |c: &&Cascade| catalog.tables.iter().any(|d| d.table.name == c.child);
        let cascades = catalog.cascades.iter().filter(selected).map(|c| {
            let (child, key) = (&c.child, c.name.as_deref().unwrap_or_default());
            (
                format!(
                    "{child}: foreign key {key} changes rows by itself when rows of {} change (CASCADE or SET NULL), and this server writes such changes into no log",
                    c.parent
                ),
                format!("{instead}{}; or exclude {child}", c.mended()),
            )
        });
        out.each(Severity::Problem, "cascade", cascades.collect());
    }
    if !catalog.beside.is_empty() {
        out.add(Severity::Note, "left_behind", format!("not brought to the target: {}", catalog.beside.join(", ")));
    }
}

async fn prepared(conn: &mut Conn, out: &mut Report) -> Result<()> {
    // Needs XA_RECOVER_ADMIN; without it nothing is known.
    if let Ok(rows) = control::rows(conn, "looking for prepared transactions", "XA RECOVER").await
        && !rows.is_empty()
    {
        out.fix(
            Severity::Problem,
            "xa",
            format!("{} prepared XA transactions are open", rows.len()),
            "XA COMMIT or XA ROLLBACK them; transactions of two phases are not followed",
        );
    }
    Ok(())
}
