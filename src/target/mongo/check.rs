//! Looks for everything that would make a migration into this server fail, and says what to do about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Bson, Document, doc};
use mongodb::Client;

use super::bookkeeping::DATABASE;
use super::catalog::{self, Described};
use super::copies::is_empty;
use super::lists::Fitted;
use crate::definition::DataType;
use crate::error::Result;
use crate::exchange::SourceFacts;
use crate::finding::{Finding, Severity};
use crate::mongowire::command::run;
use crate::mongowire::server::{Server, cluster_id};
use crate::schema::{Table, TableName};
use crate::transform::embed::EmbeddedList;

/// Digits that a decimal of MongoDB's has.
const DIGITS: u32 = 34;

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

/// What is looked at.
pub struct Asked<'a> {
    /// The migration.
    pub name: &'a str,
    /// The database of the URL.
    pub database: Option<&'a str>,
    /// Whether collections are made.
    pub create_schema: bool,
    /// What is known of the source.
    pub source: &'a SourceFacts,
    /// The tables as rows are to be written.
    pub tables: &'a [Arc<Table>],
    /// Lists in documents that rows become.
    pub lists: &'a [EmbeddedList],
    /// No copy has begun yet, so collections must be empty.
    pub fresh: bool,
}

/// Everything that would make a migration fail here.
///
/// # Errors
/// Only if the target could not be asked; what it answers becomes findings.
pub async fn check(client: &Client, asked: &Asked<'_>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let server = Server::ask(client, "asking the target what it is").await?;
    version(&server, &mut found);
    if asked.database.is_none() {
        found.push(
            problem("database", "target.url names no database").fix("mongodb://user:password@host:27017/database"),
        );
    }
    if server.set.is_none() && !server.is_router {
        found.push(
            problem("replica_set", "the target is a server without a replica set, and has no transactions")
                .fix("start mongod with --replSet rs0, then run rs.initiate() once: a set of one member is enough"),
        );
        return Ok(found);
    }
    found.push(ok("replica_set", if server.is_router { "a sharded cluster" } else { "a replica set" }));
    for t in asked.tables {
        names(&t.name, &mut found);
        values(t, &mut found);
    }
    for list in asked.lists {
        embedded(list, asked.tables, &mut found);
    }
    same_database(client, &server, asked, &mut found).await?;
    if !privileges(client, asked, &mut found).await? {
        return Ok(found);
    }
    lifetime(client, &mut found).await?;
    existing(client, asked, &mut found).await?;
    Ok(found)
}

fn version(server: &Server, found: &mut Vec<Finding>) {
    let advice = "use MongoDB 7.0 or newer; 5.0 at least";
    if server.number < (5, 0, 0) {
        found.push(problem("version", format!("the target runs MongoDB {}", server.version)).fix(advice));
    } else if server.number < (6, 0, 0) {
        found.push(warning("version", format!("MongoDB {} gets no more fixes", server.version)).fix(advice));
    } else {
        found.push(ok("version", format!("MongoDB {}", server.version)));
    }
}

async fn same_database(client: &Client, server: &Server, asked: &Asked<'_>, found: &mut Vec<Finding>) -> Result<()> {
    // Other engines' servers are known by other ids than an ObjectId's digits.
    let theirs = asked.source.identity.as_ref();
    let Some(theirs) = theirs.filter(|i| i.system_identifier.len() == 24) else { return Ok(()) };
    let ours = match cluster_id(client, server, "asking the target for its identity").await {
        Ok(id) => id,
        Err(e) if e.is_retry() => return Err(e),
        Err(e) => {
            found.push(remark(
                "identity",
                format!("whether source and target are one server cannot be told: {}", e.message()),
            ));
            return Ok(());
        }
    };
    if ours != theirs.system_identifier {
        return Ok(());
    }
    if asked.database == Some(theirs.database.as_str()) {
        let message = format!("source and target are the same database ({} of the same replica set)", theirs.database);
        found.push(problem("same_database", message).fix("use another database in target.url"));
    } else {
        found.push(remark("same_server", "source and target are databases of the same replica set"));
    }
    Ok(())
}

/// What the account must be allowed in a database.
const IN_DATABASE: [&str; 7] = ["find", "insert", "update", "remove", "createCollection", "createIndex", "listIndexes"];

/// What the account may do; whether it may do all that it has to.
async fn privileges(client: &Client, asked: &Asked<'_>, found: &mut Vec<Finding>) -> Result<bool> {
    let command = doc! { "connectionStatus": 1, "showPrivileges": true };
    let reply = run(client, "admin", "asking the target for privileges", command).await?;
    let Ok(info) = reply.get_document("authInfo") else { return Ok(true) };
    let user = info.get_array("authenticatedUsers").ok().and_then(|u| u.first()).and_then(Bson::as_document);
    let Some(user) = user else {
        found.push(remark("access_control", "the target lets everybody do everything: it runs without access control"));
        return Ok(true);
    };
    let empty = Vec::new();
    let privileges = info.get_array("authenticatedUserPrivileges").unwrap_or(&empty);
    let allows = |database: &str, action: &str| {
        privileges.iter().filter_map(Bson::as_document).any(|p| {
            let of = p.get_document("resource").is_ok_and(|r| {
                let db = r.get_str("db").ok();
                r.get_bool("anyResource").unwrap_or(false)
                    || (r.get_str("collection").ok() == Some("") && (db == Some(database) || db == Some("")))
            });
            of && p.get_array("actions").is_ok_and(|a| a.iter().any(|a| a.as_str() == Some(action)))
        })
    };
    let mut databases: BTreeSet<&str> = asked.tables.iter().map(|t| t.name.schema.as_str()).collect();
    databases.extend(asked.database);
    databases.insert(DATABASE);
    let mut roles: Vec<String> = Vec::new();
    let mut lacking = Vec::new();
    for database in &databases {
        let more = if *database == DATABASE { &["dropCollection", "dropDatabase"][..] } else { &[] };
        let lacks: Vec<&str> = IN_DATABASE.iter().chain(more).copied().filter(|a| !allows(database, a)).collect();
        if lacks.is_empty() {
            continue;
        }
        lacking.push(format!("{} on {database}", lacks.join(", ")));
        roles.push(format!("{{ role: \"readWrite\", db: \"{database}\" }}"));
        if *database == DATABASE {
            roles.push(format!("{{ role: \"dbAdmin\", db: \"{database}\" }}"));
        }
    }
    if lacking.is_empty() {
        found.push(ok("privileges", "the account may write where it has to"));
        return Ok(true);
    }
    let (account, home) = (user.get_str("user").unwrap_or(""), user.get_str("db").unwrap_or("admin"));
    found.push(
        problem("privileges", format!("the account {account} may not: {}", lacking.join("; ")))
            .fix(format!("db.getSiblingDB(\"{home}\").grantRolesToUser(\"{account}\", [{}])", roles.join(", "))),
    );
    // What it may not look at cannot be looked at.
    Ok(false)
}

/// Whether rows can become lists.
fn embedded(list: &EmbeddedList, tables: &[Arc<Table>], found: &mut Vec<Finding>) {
    let table = |name: &TableName| tables.iter().find(|t| t.name == *name);
    let Some(rows) = table(&list.rows) else {
        // What is wrong with the rule itself was said.
        return;
    };
    let why = match table(&list.parent) {
        None => format!("in: no table of this migration becomes {}", list.parent),
        Some(parent) => match Fitted::new(list, rows, parent) {
            Ok(_) => {
                let message = format!("rows of {} become {} of {}", list.rows, list.field, list.parent);
                return found.push(ok("embed", message));
            }
            Err(why) => why,
        },
    };
    let message = format!("rows of {} cannot become lists: [rule.embed] {why}", list.rows);
    found.push(problem("embed", message).fix("correct the rule, or leave its embed part out"));
}

async fn lifetime(client: &Client, found: &mut Vec<Finding>) -> Result<()> {
    let command = doc! { "getParameter": 1, "transactionLifetimeLimitSeconds": 1 };
    match run(client, "admin", "asking the target for its limits", command).await {
        Ok(reply) => {
            let seconds = super::command::number(reply.get("transactionLifetimeLimitSeconds")).unwrap_or(60);
            found.push(
                remark(
                    "transaction_lifetime",
                    format!("the target ends transactions after {seconds} s: one of the source that takes longer to apply waits until that is more"),
                )
                .fix("db.adminCommand({ setParameter: 1, transactionLifetimeLimitSeconds: 3600 }), where the source has very large transactions"),
            );
            Ok(())
        }
        Err(e) if e.is_retry() => Err(e),
        // A router does not know it, and an account may not ask.
        Err(_) => Ok(()),
    }
}

/// Source: "MongoDB Limits and Thresholds", naming restrictions.
fn names(t: &TableName, found: &mut Vec<Finding>) {
    let mut bad = |what: String| {
        found.push(
            problem("name", format!("{t} cannot be a collection: {what}"))
                .fix("send it to another name with a rule (to)"),
        );
    };
    if matches!(t.schema.as_str(), "admin" | "local" | "config") || t.schema == DATABASE {
        bad(format!("the database {} is the server's or Switchyard's own", t.schema));
    } else if t.schema.is_empty()
        || t.schema.len() > 63
        || t.schema.contains(['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?'])
    {
        bad(format!("a database cannot be called {:?}", t.schema));
    }
    if t.name.is_empty() || t.name.starts_with("system.") || t.name.contains('$') {
        bad(format!("a collection cannot be called {:?}", t.name));
    } else if t.schema.len() + 1 + t.name.len() > 255 {
        bad("database and collection together have more than 255 bytes".into());
    }
}

/// What single values may not fit.
fn values(t: &Table, found: &mut Vec<Finding>) {
    let of = |what: &dyn Fn(&DataType) -> bool, word: &str| -> Vec<&str> {
        t.columns.iter().filter(|c| c.type_name == word && what(&c.data)).map(|c| c.name.as_str()).collect()
    };
    let fine = |d: &DataType| matches!(d, DataType::Timestamp { fraction } | DataType::TimestampTz { fraction } if *fraction > 3);
    let mut times = of(&fine, "date");
    times.extend(of(&|d| matches!(d, DataType::Array { element } if fine(element)), "array of date"));
    if !times.is_empty() {
        found.push(
            warning(
                "microseconds",
                format!("{}: {} may hold microseconds, and MongoDB's dates have milliseconds: a value that has any stops the migration", t.name, times.join(", ")),
            )
            .fix("target.microseconds = \"cut\" cuts them off in every table, but in keys; in a rule for the table, types = { column = \"date\" } cuts them off in one column, and \"string\" keeps them"),
        );
    }
    let long = |d: &DataType| matches!(d, DataType::Decimal { precision: Some(p), .. } if *p > DIGITS);
    let numbers = of(&long, "decimal");
    if !numbers.is_empty() {
        found.push(
            warning(
                "digits",
                format!(
                    "{}: {} may hold more than {DIGITS} digits: a value that has stops the migration",
                    t.name,
                    numbers.join(", ")
                ),
            )
            .fix("in a rule for the table: types = { column = \"string\" } keeps them"),
        );
    }
}

async fn existing(client: &Client, asked: &Asked<'_>, found: &mut Vec<Finding>) -> Result<()> {
    let names: Vec<TableName> = asked.tables.iter().map(|t| t.name.clone()).collect();
    let have = catalog::described(client, asked.name, &names).await?;
    for (want, have) in asked.tables.iter().zip(&have) {
        match have {
            Some(have) => collection(client, asked, want, have, found).await?,
            None if asked.create_schema => {}
            None => found.push(
                problem("missing_collection", format!("there is no collection {} on the target", want.name)).fix(
                    format!(
                        "db.getSiblingDB(\"{}\").createCollection(\"{}\"), or set target.create_schema = true",
                        want.name.schema, want.name.name
                    ),
                ),
            ),
        }
    }
    Ok(())
}

async fn collection(
    client: &Client,
    asked: &Asked<'_>,
    want: &Table,
    have: &Described,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let t = &want.name;
    if have.kind != "collection" {
        let message = format!("{t} on the target is a {}, which rows cannot be changed in", have.kind);
        found.push(
            problem("collection", message).fix("drop or rename it, or send the table elsewhere with a rule (to)"),
        );
        return Ok(());
    }
    if have.options.get_bool("capped").unwrap_or(false) {
        let message = format!("{t} on the target is capped: it throws old documents away");
        found.push(problem("capped", message).fix("drop it: it is made anew"));
    }
    if have.options.get("validator").and_then(Bson::as_document).is_some_and(|v: &Document| !v.is_empty()) {
        let message = format!("{t} on the target has a validator: a row that it refuses stops the migration");
        found.push(warning("validator", message).fix(format!(
            "db.getSiblingDB(\"{}\").runCommand({{ collMod: \"{}\", validationLevel: \"off\" }}) until the migration is finished",
            t.schema, t.name
        )));
    }
    if have.options.get("collation").is_some() {
        let message = format!("{t} on the target has a collation: keys that are equal under it are one to it");
        found.push(warning("collation", message).fix("drop it: it is made anew without"));
    }
    if asked.fresh && !is_empty(client, t, &format!("looking into {t} on the target")).await? {
        found.push(problem("collection_not_empty", format!("collection {t} on the target holds documents already")).fix(
            format!(
                "if they are not needed: db.getSiblingDB(\"{}\").getCollection(\"{}\").deleteMany({{}}); else leave the table out with tables.exclude, or use another database",
                t.schema, t.name
            ),
        ));
    }
    Ok(())
}
