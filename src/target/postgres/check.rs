//! Looks for everything that would make a migration into this database fail, and says what to do about it.

use std::sync::Arc;

use tokio_postgres::Client;

use super::{bookkeeping, catalog, compatible, quiesce};
use crate::error::Result;
use crate::exchange::{DatabaseIdentity, SourceFacts};
use crate::finding::{Finding, Severity};
use crate::pgwire::errors::wrap;
use crate::pgwire::quote::{qualified, quoted};
use crate::schema::{Identity, Table, TableName};

/// The oldest version that can be a target.
const OLDEST: i32 = 140_000;
/// Sessions that a migration needs besides its loaders: lock, applier, control, check.
const SESSIONS: i64 = 8;

/// The identity of the database that `client` is connected to; works on a source as well.
pub async fn identity(client: &Client) -> Result<DatabaseIdentity> {
    let r = client
        .query_one(
            "SELECT system_identifier::text, pg_catalog.current_database()::text FROM pg_catalog.pg_control_system()",
            &[],
        )
        .await
        .map_err(|e| wrap("asking a server for its identity", &e))?;
    Ok(DatabaseIdentity { system_identifier: r.get(0), database: r.get(1) })
}

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

/// Everything that would make migration `name` fail here. `fresh`: no copy has begun yet, so tables must be empty.
///
/// # Errors
/// Only if the target could not be asked; what it answers becomes findings.
pub async fn check(
    client: &Client,
    name: &str,
    create_schema: bool,
    source: &SourceFacts,
    tables: &[Arc<Table>],
    fresh: bool,
) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    server(client, source, &mut found).await?;
    privileges(client, create_schema, tables, &mut found).await?;
    existing(client, create_schema, tables, fresh, &mut found).await?;
    extensions(client, &source.extensions, &mut found).await?;
    collations(client, tables, &mut found).await?;
    if fresh {
        found.push(disk(tables));
    }
    books(client, name, source, fresh, &mut found).await?;
    Ok(found)
}

async fn server(client: &Client, source: &SourceFacts, found: &mut Vec<Finding>) -> Result<()> {
    let r = client
        .query_one(
            "SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version'),
                    pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only') = 'on',
                    pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datname::text, d.datcollate::text,
                    pg_catalog.current_setting('max_connections')::int8
                      - pg_catalog.current_setting('superuser_reserved_connections')::int8
                      - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'),
                    pg_catalog.current_setting('fsync') = 'on', pg_catalog.current_setting('synchronous_commit'),
                    pg_catalog.current_setting('full_page_writes') = 'on'
             FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
            &[],
        )
        .await
        .map_err(|e| wrap("looking at the target's settings", &e))?;
    let (number, version): (i32, String) = (r.get(0), r.get(1));
    let database: String = r.get(5);
    if number < OLDEST {
        found.push(
            problem("version", format!("the target runs PostgreSQL {version}")).fix("use PostgreSQL 14 or newer"),
        );
    } else {
        found.push(ok("version", format!("PostgreSQL {version}")));
    }
    if r.get::<_, bool>(2) {
        found.push(
            problem("read_only", "the target is a standby (in recovery): nothing can be written there")
                .fix("use its primary's address"),
        );
    } else if r.get::<_, bool>(3) {
        found.push(
            problem("read_only", "default_transaction_read_only is on for this role or database on the target").fix(
                format!(
                    "ALTER DATABASE {} RESET default_transaction_read_only; (or the same for the role)",
                    quoted(&database)
                ),
            ),
        );
    }
    let encoding: String = r.get(4);
    if let Some(theirs) = source.encoding.as_ref().filter(|s| **s != encoding) {
        if encoding == "UTF8" {
            found.push(remark("encoding", format!("text is converted from {theirs} to UTF8")));
        } else {
            found.push(
                problem(
                    "encoding",
                    format!(
                        "the target's encoding is {encoding}, the source's is {theirs}: not every text can be stored"
                    ),
                )
                .fix("CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and use that one"),
            );
        }
    }
    let headroom: i64 = r.get(7);
    if headroom < SESSIONS {
        found.push(
            problem(
                "max_connections",
                format!("only {headroom} connections are free on the target; at least {SESSIONS} are needed"),
            )
            .fix("raise max_connections and restart the target, or close sessions there"),
        );
    }
    if !r.get::<_, bool>(8) || !r.get::<_, bool>(10) {
        found.push(
            warning("fsync", "fsync or full_page_writes is off on the target: after a crash of its machine, its data are lost")
                .fix("ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); before the cutover"),
        );
    }
    if r.get::<_, String>(9) == "off" {
        found.push(remark(
            "synchronous_commit",
            "synchronous_commit is off on the target; checkpoints are committed synchronously all the same",
        ));
    }
    if let Some(theirs) = &source.identity {
        let ours = identity(client).await?;
        if ours == *theirs {
            found.push(
                problem(
                    "same_database",
                    format!("source and target are the same database ({database} of the same server)"),
                )
                .fix("use another database in target.url"),
            );
        } else if ours.system_identifier == theirs.system_identifier {
            found.push(remark("same_server", "source and target are databases of the same server, or of copies of it"));
        }
    }
    Ok(())
}

async fn privileges(
    client: &Client,
    create_schema: bool,
    tables: &[Arc<Table>],
    found: &mut Vec<Finding>,
) -> Result<()> {
    let doing = "looking at privileges on the target";
    let mut schemas: Vec<&str> = tables.iter().map(|t| t.name.schema.as_str()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let r = client
        .query_one(
            "SELECT current_user::text, pg_catalog.current_database()::text,
                    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
                    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'switchyard'
                            AND pg_catalog.has_schema_privilege(oid, 'CREATE') AND pg_catalog.has_schema_privilege(oid, 'USAGE'))",
            &[],
        )
        .await
        .map_err(|e| wrap(doing, &e))?;
    let (user, database): (String, String) = (r.get(0), r.get(1));
    let (may_create, books): (bool, bool) = (r.get(2), r.get(3));
    let rows = client
        .query(
            "SELECT s, pg_catalog.has_schema_privilege(n.oid, 'CREATE'), pg_catalog.has_schema_privilege(n.oid, 'USAGE')
             FROM pg_catalog.unnest($1::text[]) AS s LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = s ORDER BY 1",
            &[&schemas],
        )
        .await
        .map_err(|e| wrap(doing, &e))?;
    let mut need_create = !books;
    for r in &rows {
        let schema: String = r.get(0);
        let (create, usage): (Option<bool>, Option<bool>) = (r.get(1), r.get(2));
        match (create, usage) {
            (None, _) => need_create |= create_schema,
            (Some(c), Some(u)) if (create_schema && !c) || !u => found.push(
                problem(
                    "schema_privilege",
                    format!("role {user} may not create tables in schema {} on the target", quoted(&schema)),
                )
                .fix(format!(
                    "GRANT USAGE, CREATE ON SCHEMA {} TO {};",
                    quoted(&schema),
                    quoted(&user)
                )),
            ),
            _ => {}
        }
    }
    if need_create && !may_create {
        found.push(
            problem(
                "database_privilege",
                format!("role {user} may not create schemas in database {database} on the target"),
            )
            .fix(format!("GRANT CREATE ON DATABASE {} TO {};", quoted(&database), quoted(&user))),
        );
    }
    if quiesce::replication_role_allowed(client).await? {
        found.push(ok(
            "session_replication_role",
            "may be set: triggers and foreign keys stay in place and do not fire while changes are applied",
        ));
    } else {
        found.push(
            remark(
                "session_replication_role",
                format!("role {user} may not set it on the target: triggers are disabled and foreign keys dropped until the migration is finished, then restored"),
            )
            .fix(format!("on PostgreSQL 15 and newer, optional: GRANT SET ON PARAMETER session_replication_role TO {};", quoted(&user))),
        );
    }
    Ok(())
}

async fn existing(
    client: &Client,
    create_schema: bool,
    tables: &[Arc<Table>],
    fresh: bool,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let names: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    let have = catalog::tables(client, &names).await?;
    if !create_schema {
        for m in catalog::missing(client, tables).await? {
            found.push(
                problem("missing_table", format!("{m} on the target"))
                    .fix("create it there, or set target.create_schema = true"),
            );
        }
    }
    let owned = client
        .query(
            "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (s, r, i)
             LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.r ORDER BY w.i",
            &[
                &names.iter().map(|n| n.schema.as_str()).collect::<Vec<_>>(),
                &names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
            ],
        )
        .await
        .map_err(|e| wrap("looking at the owners of the target's tables", &e))?;
    // What is made here is compared when it is made; what exists must only be able to hold what comes.
    let foreign = !create_schema && compatible::are_foreign(tables.iter().map(Arc::as_ref));
    for ((want, have), owned) in tables.iter().zip(&have).zip(&owned) {
        let Some(have) = have else { continue };
        if foreign {
            found.extend(compatible::differences(want, have));
        }
        let t = &have.name;
        if owned.get::<_, Option<bool>>(0) == Some(false) {
            found.push(
                problem(
                    "owner",
                    format!(
                        "table {t} on the target belongs to another role: its triggers and indexes cannot be managed"
                    ),
                )
                .fix(format!(
                    "ALTER TABLE {} OWNER TO CURRENT_USER; as a superuser, naming the role of target.url",
                    qualified(t)
                )),
            );
            continue;
        }
        if fresh {
            let sql = format!("SELECT EXISTS (SELECT FROM {})", qualified(t));
            match client.query_one(&sql, &[]).await {
                Ok(r) if r.get::<_, bool>(0) => {
                    let about = if have.estimated_rows > 0 {
                        format!("about {} rows", have.estimated_rows)
                    } else {
                        "not empty".into()
                    };
                    found.push(problem("table_not_empty", format!("table {t} on the target holds rows already ({about})")).fix(format!(
                        "if they are not needed: TRUNCATE {}; else leave the table out with tables.exclude, or use another database",
                        qualified(t)
                    )));
                }
                Ok(_) => {}
                Err(e) => found.push(problem(
                    "table_unreadable",
                    wrap(format!("reading {t} on the target"), &e).message().to_owned(),
                )),
            }
        }
        let known = |n: &str| want.columns.iter().chain(&want.generated).any(|c| c.name == n);
        for c in &have.columns {
            if !known(&c.name) && !c.nullable && c.default.is_none() && c.identity.is_none() {
                found.push(
                    problem(
                        "extra_column",
                        format!(
                            "column {} of {t} exists only on the target, is NOT NULL and has no default",
                            quoted(&c.name)
                        ),
                    )
                    .fix(format!(
                        "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL; or give it a default",
                        qualified(t),
                        quoted(&c.name)
                    )),
                );
            }
        }
        for c in &want.columns {
            if have.generated.iter().any(|g| g.name == c.name) {
                found.push(
                    problem(
                        "generated_column",
                        format!("column {} of {t} is generated on the target but not on the source", quoted(&c.name)),
                    )
                    .fix(format!(
                        "ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION;",
                        qualified(t),
                        quoted(&c.name)
                    )),
                );
            }
        }
        if have.columns.iter().any(|c| c.identity == Some(Identity::Always)) {
            found.push(remark(
                "identity",
                format!("GENERATED ALWAYS columns of {t} are BY DEFAULT until the migration is finished"),
            ));
        }
    }
    Ok(())
}

/// Collations that columns name and the target does not have. Those of user schemas come with the schema.
async fn collations(client: &Client, tables: &[Arc<Table>], found: &mut Vec<Finding>) -> Result<()> {
    let mut wanted: Vec<&str> = tables
        .iter()
        .flat_map(|t| &t.columns)
        .filter_map(|c| c.collation.as_deref())
        .filter(|c| c.starts_with("pg_catalog."))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let rows = client
        .query(
            "SELECT w FROM pg_catalog.unnest($1::text[]) AS w WHERE pg_catalog.to_regcollation(w) IS NULL ORDER BY 1",
            &[&wanted],
        )
        .await
        .map_err(|e| wrap("looking at the target's collations", &e))?;
    for r in &rows {
        let name: String = r.get(0);
        found.push(problem("collation", format!("collation {name} does not exist on the target")).fix(
            "install that locale on the target's machine, then: SELECT pg_import_system_collations('pg_catalog');",
        ));
    }
    Ok(())
}

/// SQL cannot ask for free disk space; the operator can.
fn disk(tables: &[Arc<Table>]) -> Finding {
    let megabytes = tables.iter().map(|t| t.bytes).sum::<u64>() / (1024 * 1024);
    remark(
        "disk",
        format!(
            "the tables take {megabytes} MB on the source, without indexes; the target needs as much, its indexes, and room for max_wal_size"
        ),
    )
}

/// Extensions that the target's server does not have at all, or that this role may not create.
async fn extensions(client: &Client, wanted: &[String], found: &mut Vec<Finding>) -> Result<()> {
    let rows = client
        .query(
            "SELECT w, a.name IS NOT NULL, e.oid IS NOT NULL,
                    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
                      OR EXISTS (SELECT FROM pg_catalog.pg_available_extension_versions v WHERE v.name = w AND v.trusted)
             FROM pg_catalog.unnest($1::text[]) AS w LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = w
             LEFT JOIN pg_catalog.pg_extension e ON e.extname = w ORDER BY 1",
            &[&wanted],
        )
        .await
        .map_err(|e| wrap("looking at the target's extensions", &e))?;
    for r in &rows {
        let (name, available, installed, may): (String, bool, bool, bool) = (r.get(0), r.get(1), r.get(2), r.get(3));
        if installed {
            continue;
        }
        if !available {
            found.push(problem("extension", format!("extension {name} is not available on the target's server")).fix(
                "install the package that brings it there (no restart is needed), or leave out the tables that use it",
            ));
        } else if !may {
            found.push(
                problem(
                    "extension",
                    format!("extension {name} is not created on the target, and only a superuser may create it"),
                )
                .fix(format!("as a superuser, in the target database: CREATE EXTENSION {};", quoted(&name))),
            );
        }
    }
    Ok(())
}

async fn books(client: &Client, name: &str, source: &SourceFacts, fresh: bool, found: &mut Vec<Finding>) -> Result<()> {
    let checkpoint = match bookkeeping::checkpoint(client, name).await {
        Ok(c) => c,
        Err(e) if e.is_retry() => return Err(e),
        Err(e) => {
            let f = problem("bookkeeping", e.message().to_owned());
            found.push(match e.hint_text() {
                Some(h) => f.fix(h.to_owned()),
                None => f,
            });
            return Ok(());
        }
    };
    let Some(c) = checkpoint else { return Ok(()) };
    let theirs = c.log.as_ref().map(|l| l.server_id.clone());
    if let (Some(ours), Some(theirs)) = (&source.server_id, &theirs)
        && ours != theirs
    {
        found.push(
            problem(
                "bookkeeping",
                format!("the target holds a migration {name:?} from another source (server {theirs}, ours is {ours})"),
            )
            .fix("give this migration another name, or finish the other one first (switchyard finish)"),
        );
    } else if fresh && c.position.is_some() {
        found.push(remark(
            "bookkeeping",
            format!("the target holds a checkpoint of migration {name:?}; it is gone on with"),
        ));
    }
    Ok(())
}
