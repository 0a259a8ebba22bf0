//! The source's half of the preflight: everything that would make a migration from there fail, each with what to do.

use bson::{Document, doc};
use mongodb::Client;

use super::catalog::{self, Catalog};
use super::known::Known;
use super::oplog::OPLOG;
use super::place;
use super::rights::{Rights, Way};
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::mongowire::command;
use crate::mongowire::server::Server;

const SIDE: &str = "source";
/// Bytes a second that a copy reads at least, for the estimate of how long it takes.
const COPY_RATE: u64 = 20 << 20;
/// Findings of one kind that are listed each by itself; more are summed up.
const LISTED: usize = 20;

struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, severity: Severity, code: &str, message: impl Into<String>) {
        self.0.push(Finding::new(severity, SIDE, code, message));
    }
    fn fix(&mut self, severity: Severity, code: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding::new(severity, SIDE, code, message).fix(fix));
    }
}

/// Looks at the source.
///
/// # Errors
/// Only what keeps it from looking at all (the connection); everything else is a finding.
pub async fn check(client: &Client, server: &Server, known: &Known, way: Way) -> Result<Vec<Finding>> {
    let mut out = Report(Vec::new());
    version(server, &mut out);
    if server.set.is_none() && !server.is_router {
        out.fix(
            Severity::Problem,
            "replica_set",
            "the server belongs to no replica set, so it has no log of changes",
            "make it a set of one member: stop mongod, start it with --replSet rs0 (replication.replSetName in its configuration; with accounts also a keyFile), run rs.initiate() once, and add replicaSet=rs0 to source.url",
        );
        return Ok(out.0);
    }
    if server.is_router {
        out.add(
            Severity::Warning,
            "sharded",
            "the source is a sharded cluster: an _id that two shards have is one row here; keep the balancer's moves and resharding for later",
        );
    }
    let rights = Rights::ask(client).await?;
    let databases = privileges(&rights, known, way, &mut out);
    engine(client, server, &mut out).await?;
    if !databases {
        return Ok(out.0);
    }
    let catalog = catalog::read(client, known).await?;
    collections(&catalog, known, way, &mut out);
    window(client, server, &catalog, &mut out).await?;
    Ok(out.0)
}

fn version(server: &Server, out: &mut Report) {
    let text = format!("MongoDB {}", server.version);
    match server.number {
        n if n < (4, 4, 0) => {
            out.fix(Severity::Problem, "version", format!("{text} is too old: 4.4 is needed"), "upgrade the server")
        }
        n if n < (6, 0, 0) => out.add(
            Severity::Warning,
            "version",
            format!("{text} is past its support; 6.0 and newer keep images of documents, tell of collections that are made, and can be fenced for a cutover"),
        ),
        _ => out.add(Severity::Ok, "version", text),
    }
}

/// Whether the account may read what it has to.
fn privileges(rights: &Rights, known: &Known, way: Way, out: &mut Report) -> bool {
    let user = &rights.user;
    let grant = |roles: &str| format!("db.getSiblingDB(\"admin\").grantRolesToUser(\"{user}\", [{roles}])");
    let mut readable = true;
    let (database, role) = match known.only() {
        Some(home) => (home, format!("{{ role: \"read\", db: \"{home}\" }}")),
        // A stream over several databases is one over all.
        None => ("", "{ role: \"readAnyDatabase\", db: \"admin\" }".to_owned()),
    };
    let wanted = [
        ("find", "to copy"),
        ("listCollections", "to see which collections there are"),
        ("collStats", "to see how large they are"),
    ];
    for (action, why) in wanted {
        if !rights.has(action, database, "") {
            readable = false;
            let place = if database.is_empty() { "all databases".to_owned() } else { format!("database {database}") };
            let what = format!("{user} lacks the right {action} on {place}, {why}");
            out.fix(Severity::Problem, "privilege", what, grant(&role));
        }
    }
    readable &= following(rights, known, way, &grant, &role, out);
    if !rights.on_cluster("serverStatus") {
        out.fix(
            Severity::Problem,
            "privilege",
            format!(
                "{user} lacks the role clusterMonitor, to see which set this is and how far its oplog reaches back"
            ),
            grant("{ role: \"clusterMonitor\", db: \"admin\" }"),
        );
    }
    let (database, collection) = known.markers();
    if !rights.has("insert", database, collection) {
        let role = format!(
            "db.getSiblingDB(\"admin\").createRole({{ role: \"switchyardMarkers\", roles: [], privileges: [{{ resource: {{ db: \"{database}\", collection: \"{collection}\" }}, actions: [\"find\", \"insert\", \"createCollection\", \"dropCollection\"] }}] }}); "
        );
        out.fix(
            Severity::Warning,
            "privilege",
            format!("{user} may not write into {database}.{collection}: without markers there is no cutover, and the end of the copy is noticed up to ten seconds late"),
            role + &grant("\"switchyardMarkers\""),
        );
    }
    readable
}

/// Which way the source is followed, and whether the account may go it.
fn following(
    rights: &Rights,
    known: &Known,
    way: Way,
    grant: &dyn Fn(&str) -> String,
    role: &str,
    out: &mut Report,
) -> bool {
    let user = &rights.user;
    let place = known.only().map_or("all databases".to_owned(), |home| format!("database {home}"));
    let read_oplog = format!(
        "db.getSiblingDB(\"admin\").createRole({{ role: \"switchyardOplog\", roles: [], privileges: [{{ resource: {{ db: \"{}\", collection: \"{}\" }}, actions: [\"find\"] }}] }}); {}",
        OPLOG.0,
        OPLOG.1,
        grant("\"switchyardOplog\"")
    );
    match way {
        Way::Streams if rights.streams(known) => {
            out.add(Severity::Ok, "follow", format!("followed by a change stream of {place}"));
            true
        }
        Way::Streams => {
            out.fix(
                Severity::Problem,
                "privilege",
                format!("{user} lacks the right changeStream on {place}, to follow; nor may it read the oplog instead"),
                format!(
                    "{}; or, to follow a replica set by its oplog, which tells of all databases: {read_oplog}",
                    grant(role)
                ),
            );
            false
        }
        Way::Oplog if rights.oplog() => {
            out.fix(
                Severity::Note,
                "follow",
                "followed by the oplog itself (local.oplog.rs): images are not in it, so documents that were updated are looked up as they are by then",
                format!("a change stream has images, and needs no right to other databases' log: {}", grant(role)),
            );
            true
        }
        Way::Oplog => {
            out.fix(
                Severity::Problem,
                "privilege",
                format!(
                    "{user} lacks the right find on local.oplog.rs, to follow by the oplog (source.follow = \"oplog\")"
                ),
                read_oplog,
            );
            false
        }
    }
}

/// What the server keeps its data with, and whether it can say what a majority has.
async fn engine(client: &Client, server: &Server, out: &mut Report) -> Result<()> {
    let doing = "looking at the source's settings";
    let answer = |r: Result<Document>| match r {
        Ok(reply) => Ok(Some(reply)),
        // Not permitted, or not known to this version: nothing is said.
        Err(e) if !e.is_retry() => Ok(None),
        Err(e) => Err(e),
    };
    if !server.is_router
        && let Some(status) = answer(command::run(client, "admin", doing, doc! { "serverStatus": 1 }).await)?
        && let Ok(engine) = status.get_document("storageEngine")
        && !engine.get_bool("supportsCommittedReads").unwrap_or(true)
    {
        out.fix(
            Severity::Problem,
            "majority",
            format!(
                "the server cannot read what a majority of its set has (storage engine {})",
                engine.get_str("name").unwrap_or("unknown")
            ),
            "use WiredTiger, and leave enableMajorityReadConcern on",
        );
    }
    let ask = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
    if !server.is_router
        && let Some(reply) = answer(command::run(client, "admin", doing, ask).await)?
        && let Ok(is) = reply.get_document("featureCompatibilityVersion").and_then(|f| f.get_str("version"))
    {
        let own = format!("{}.{}", server.number.0, server.number.1);
        if is != own && server.number.0 >= 6 && is < "6.0" && !is.starts_with("1") {
            out.fix(
                Severity::Problem,
                "feature_version",
                format!("the server is {own}, and works like {is}: it keeps no images of documents"),
                format!("db.adminCommand({{ setFeatureCompatibilityVersion: \"{own}\" }})"),
            );
        }
    }
    let hello = command::run(client, "admin", doing, doc! { "hello": 1 }).await?;
    if !server.is_router && !hello.get_bool("isWritablePrimary").unwrap_or(false) {
        out.fix(
            Severity::Warning,
            "primary",
            "source.url leads to a member that is no primary: no marker can be written there",
            "name all members of the set in source.url, with replicaSet=, and leave directConnection out",
        );
    }
    Ok(())
}

fn collections(catalog: &Catalog, known: &Known, way: Way, out: &mut Report) {
    for name in &catalog.series {
        out.fix(
            Severity::Problem,
            "time_series",
            format!("{name} is a time-series collection: no change stream shows what is in it"),
            format!("leave it out: tables.exclude = [\"{name}\"], and copy it by other means"),
        );
    }
    for d in catalog.tables.iter().filter(|d| d.capped).take(LISTED) {
        out.add(
            Severity::Warning,
            "capped",
            format!("{} is capped: documents that the server throws away by itself stay on the target", d.table.name),
        );
    }
    let without: Vec<_> = catalog.tables.iter().filter(|d| !d.images).collect();
    // The oplog brings none, whatever they keep.
    if let Some(first) = without.first().filter(|_| way == Way::Streams) {
        out.fix(
            Severity::Note,
            "images",
            format!(
                "{} of {} collections keep no images: documents that were updated are looked up as they are by then, and rules that need old rows (filters by other fields than _id) have none",
                without.len(),
                catalog.tables.len()
            ),
            format!(
                "where a target has unique fields besides _id, or rules filter: db.getSiblingDB(\"{}\").runCommand({{ collMod: \"{}\", changeStreamPreAndPostImages: {{ enabled: true }} }})",
                first.table.name.schema, first.table.name.name
            ),
        );
    }
    let names: Vec<_> = catalog.tables.iter().map(|d| d.table.name.clone()).collect();
    for pattern in known.selection.unmatched(&names) {
        out.fix(
            Severity::Warning,
            "pattern",
            format!("the include pattern {pattern} matches no collection"),
            "correct it, or remove it",
        );
    }
    if !catalog.beside.is_empty() {
        out.add(Severity::Note, "left_behind", format!("not brought to the target: {}", catalog.beside.join(", ")));
    }
}

/// Whether the oplog holds what is written while the copy runs.
async fn window(client: &Client, server: &Server, catalog: &Catalog, out: &mut Report) -> Result<()> {
    if server.is_router {
        return Ok(());
    }
    let Some(w) = place::window(client).await? else { return Ok(()) };
    let bytes: u64 = catalog.tables.iter().map(|d| d.table.bytes).sum();
    let copy = bytes / COPY_RATE;
    let span = u64::from(w.last.seconds().saturating_sub(w.first.seconds()));
    // One that is not full yet goes on to grow.
    let grows = match (w.bytes, w.room) {
        (Some(size), Some(room)) if size > 0 && size < room / 10 * 9 => room / size,
        _ => 1,
    };
    let reach = span.saturating_mul(grows.max(1));
    let minutes = |s: u64| if s < 120 { format!("{s} s") } else { format!("{} min", s / 60) };
    let said = format!(
        "the oplog reaches back {}, and the copy of {} MiB takes about {}",
        minutes(reach),
        bytes >> 20,
        minutes(copy)
    );
    let fix = "db.adminCommand({ replSetResizeOplog: 1, size: <megabytes>, minRetentionHours: 72 }) on every member";
    match () {
        () if reach < copy && grows <= 1 => out.fix(Severity::Problem, "oplog", said, fix),
        () if reach < 3 * copy => out.fix(Severity::Warning, "oplog", said, fix),
        () => out.add(Severity::Ok, "oplog", said),
    }
    Ok(())
}
