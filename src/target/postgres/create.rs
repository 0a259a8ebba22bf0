//! Makes a schema script's objects on the target, repeatably.
//!
//! Every object is its own transaction, in a session of its own with the script's preamble. What a crash left half made is
//! recognised by the server's "already exists"; a table that exists is compared, column by column, with what its statement
//! would have made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::Client;

use super::quiesce::{self, Mode};
use crate::error::{Error, Result};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::quote::{qualified, quoted};
use crate::pgwire::{control, errors::wrap};
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

/// Memory that all index builds of one table may use together, at most.
const MAINTENANCE_MEMORY_MB: i64 = 512;
/// Locks on tables in use are asked for briefly and often, because whoever waits for one blocks everybody behind it.
const LOCK_TRIES: u32 = 60;

/// Makes the objects of `stage`, of `table` and its partitions or of all tables. `name` is the migration's, for notes of what is
/// withheld until it is finished. Returns warnings about what could not be made and is not needed.
pub async fn create(
    info: &ConnInfo,
    name: &str,
    script: &SchemaScript,
    stage: Stage,
    table: Option<&TableName>,
) -> Result<Vec<String>> {
    let mut maker = Maker::open(info, name, script, 1).await?;
    let wanted = maker.wanted(stage, table).await?;
    maker.make_all(wanted).await
}

/// Makes what follows one table's copy: keys first, then its indexes on up to `connections` sessions at once.
pub async fn create_table_objects(
    info: &ConnInfo,
    name: &str,
    script: &SchemaScript,
    table: &TableName,
    connections: usize,
) -> Result<Vec<String>> {
    let mut maker = Maker::open(info, name, script, connections).await?;
    let wanted = maker.wanted(Stage::TableCopied, Some(table)).await?;
    let (indexes, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|o| o.kind == "INDEX");
    // What attaches or marks indexes (INDEX ATTACH, COMMENT) needs them; constraints do not.
    let (keys, after): (Vec<_>, Vec<_>) = others.into_iter().partition(|o| o.kind == "CONSTRAINT");
    let mut warnings = maker.make_all(keys).await?;
    if connections > 1 && indexes.len() > 1 {
        let sessions = connections.min(indexes.len());
        let queue = Arc::new(Mutex::new(indexes.into_iter().cloned().collect::<VecDeque<SchemaObject>>()));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..sessions {
            let (info, name, queue) = (info.clone(), name.to_owned(), queue.clone());
            // The table's own object says what it is called here.
            let own = script.objects.iter().filter(|o| o.kind == "TABLE" && o.table.as_ref() == Some(table));
            let settings = SchemaScript { objects: own.cloned().collect(), ..SchemaScript::default() };
            let settings =
                SchemaScript { dialect: script.dialect.clone(), preamble: script.preamble.clone(), ..settings };
            tasks.spawn(async move {
                let mut maker = Maker::open(&info, &name, &settings, connections).await?;
                let mut warnings = Vec::new();
                loop {
                    // A poisoned queue only means that another worker panicked; what it holds is still whole.
                    let next = queue.lock().unwrap_or_else(|p| p.into_inner()).pop_front();
                    let Some(object) = next else { return Ok::<_, Error>(warnings) };
                    warnings.extend(maker.make_all(vec![&object]).await?);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            let done = done.map_err(|e| Error::fatal(format!("making indexes of {table}: {e}")))?;
            // On the first error the set is dropped, and with it the other sessions.
            warnings.extend(done?);
        }
    } else {
        warnings.extend(maker.make_all(indexes).await?);
    }
    warnings.extend(maker.make_all(after).await?);
    Ok(warnings)
}

/// Makes only the table's key: its primary key, else the first unique constraint or index that can find a row.
pub async fn create_key(info: &ConnInfo, name: &str, script: &SchemaScript, table: &TableName) -> Result<()> {
    let mut maker = Maker::open(info, name, script, 1).await?;
    let wanted = maker.wanted(Stage::TableCopied, Some(table)).await?;
    let is_primary = |o: &&SchemaObject| o.kind == "CONSTRAINT" && o.sql.contains(" PRIMARY KEY ");
    let own = |o: &&SchemaObject| o.table.as_ref() == Some(table);
    let table = &maker.here(table);
    let primary: Vec<_> = wanted.iter().copied().filter(is_primary).collect();
    if primary.iter().any(own) {
        // A partitioned table's key is of no use before every partition's key is attached to it.
        // A constraint's name is its table's and its own.
        let made = |o: &SchemaObject| {
            primary.iter().any(|p| p.schema == o.schema && p.name.ends_with(&format!(" {}", o.name)))
        };
        let attach = wanted.iter().filter(|o| o.kind == "INDEX ATTACH" && made(o));
        let all = primary.iter().chain(attach).copied().collect();
        return maker.make_all(all).await.map(drop);
    }
    let mut unique: Vec<_> =
        wanted.into_iter().filter(own).filter(|o| is_unique(o) && !o.sql.contains(" WHERE ")).collect();
    unique.sort_by_key(|o| !o.sql.contains("REPLICA IDENTITY USING INDEX"));
    for object in unique {
        let doing = format!("making the key {} of {table}", object.name);
        maker.make_all(vec![object]).await?;
        let made = super::catalog::table(&maker.client, table).await?;
        if made.is_some_and(|t| !t.key().is_empty()) {
            return Ok(());
        }
        // It cannot find rows (a nullable column), so it must not stand in the way of convergent apply.
        let name = object.name.strip_prefix(&format!("{} ", table.name)).unwrap_or(&object.name);
        let sql = if object.kind == "CONSTRAINT" {
            format!("ALTER TABLE {} DROP CONSTRAINT {}", qualified(table), quoted(name))
        } else {
            format!("DROP INDEX {}.{}", quoted(&table.schema), quoted(name))
        };
        maker.client.batch_execute(&sql).await.map_err(|e| wrap(doing, &e))?;
    }
    Ok(())
}

fn is_unique(o: &SchemaObject) -> bool {
    (o.kind == "CONSTRAINT" && o.sql.contains(" UNIQUE "))
        || (o.kind == "INDEX" && o.sql.contains("CREATE UNIQUE INDEX"))
}

/// Whether replication, or what it promises, needs the object.
fn is_essential(o: &SchemaObject) -> bool {
    match o.kind.as_str() {
        "TABLE" | "TABLE ATTACH" | "TYPE" | "DOMAIN" | "SEQUENCE" | "SCHEMA" | "CONSTRAINT" | "DEFAULT"
        | "FK CONSTRAINT" | "CHECK CONSTRAINT" => true,
        "INDEX" => is_unique(o),
        _ => false,
    }
}

/// SQLSTATEs of "it exists" (messages are in the server's language): table, object, schema, function, column; and, for the
/// kinds that can mean nothing else by it, a second primary key, an attached partition, a column that is an identity.
fn is_duplicate(code: &str, o: &SchemaObject) -> bool {
    match code {
        "42P07" | "42710" | "42P06" | "42723" | "42701" => true,
        "42P16" => o.kind == "CONSTRAINT" && o.sql.contains(" PRIMARY KEY "),
        "42809" => o.kind == "TABLE ATTACH",
        "55000" => o.kind == "SEQUENCE",
        _ => false,
    }
}

struct Maker<'a> {
    client: Client,
    name: &'a str,
    script: &'a SchemaScript,
    mode: Mode,
}

impl<'a> Maker<'a> {
    async fn open(info: &ConnInfo, name: &'a str, script: &'a SchemaScript, sessions: usize) -> Result<Maker<'a>> {
        let doing = "preparing to create the schema on the target";
        if script.dialect != "postgres" {
            return Err(Error::fatal(format!(
                "the schema comes in the dialect of {:?}, which a PostgreSQL target cannot create",
                script.dialect
            ))
            .hint("create the tables on the target by hand and set target.create_schema = false"));
        }
        let client = control::connect(info, "target").await?;
        if let Err(e) = client.batch_execute(&script.preamble).await {
            if e.as_db_error().is_none() {
                return Err(wrap(doing, &e));
            }
            // A newer pg_dump sets what an older server does not know (transaction_timeout): one at a time, those left out.
            for line in script.preamble.lines().filter(|l| !l.trim_start().starts_with("--") && !l.trim().is_empty()) {
                match client.batch_execute(line).await {
                    Err(e) if e.code().is_some_and(|c| c.code() == "42704") => {}
                    other => other.map_err(|e| wrap(format!("{doing}: {line}"), &e))?,
                }
            }
        }
        client
            .batch_execute("SET check_function_bodies = off; SET statement_timeout = 0; SET lock_timeout = 0; SET search_path = ''; SET client_min_messages = warning; SET max_parallel_maintenance_workers = 2")
            .await
            .map_err(|e| wrap(doing, &e))?;
        let memory = client
            .query_one(
                "SELECT (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem') / 1024,
                        (SELECT setting::bigint * 8 FROM pg_catalog.pg_settings WHERE name = 'shared_buffers') / 1024",
                &[],
            )
            .await
            .map_err(|e| wrap(doing, &e))?;
        // Nobody tells a client how much memory a server has; shared_buffers is what its owner gave away without a thought.
        let (own, shared): (i64, i64) = (memory.get(0), memory.get(1));
        let each = (shared.clamp(64, MAINTENANCE_MEMORY_MB) / sessions.max(1) as i64).max(own);
        client.batch_execute(&format!("SET maintenance_work_mem = '{each}MB'")).await.map_err(|e| wrap(doing, &e))?;
        let mode = quiesce::mode(&client).await?;
        Ok(Maker { client, name, script, mode })
    }

    /// What a source's table is called on the target.
    fn here(&self, table: &TableName) -> TableName {
        let named = |o: &SchemaObject| o.schema == table.schema && o.name == table.name;
        let mut of_it = self.script.objects.iter().filter(|o| o.kind == "TABLE" && o.table.as_ref() == Some(table));
        // A partition is its root's, which keeps its name.
        match of_it.clone().any(named) {
            true => table.clone(),
            false => of_it.next().map_or(table.clone(), |o| TableName::new(&o.schema, &o.name)),
        }
    }

    /// The script's objects of a stage; a partition's belong to its root too.
    async fn wanted(&self, stage: Stage, table: Option<&TableName>) -> Result<Vec<&'a SchemaObject>> {
        let of_stage = self.script.objects.iter().filter(|o| o.stage == stage);
        let Some(table) = table else { return Ok(of_stage.collect()) };
        let rows = self
            .client
            .query(
                "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
                 JOIN LATERAL pg_catalog.pg_partition_tree(r.oid) p ON true
                 JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE rn.nspname = $1 AND r.relname = $2 AND r.relkind = 'p'",
                &[&table.schema, &table.name],
            )
            .await
            .map_err(|e| wrap(format!("listing the partitions of {table} on the target"), &e))?;
        let mut names: Vec<TableName> =
            rows.iter().map(|r| TableName::new(r.get::<_, String>(0), r.get::<_, String>(1))).collect();
        names.push(table.clone());
        Ok(of_stage.filter(|o| o.table.as_ref().is_some_and(|t| names.contains(t))).collect())
    }

    /// Makes objects in order; what fails is tried once more after the others.
    async fn make_all(&mut self, objects: Vec<&SchemaObject>) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let mut later = Vec::new();
        for o in objects {
            match self.make(o, &mut warnings).await {
                Ok(()) => {}
                Err(e) if e.is_retry() || e.class() == crate::error::Class::Fenced => return Err(e),
                Err(_) => later.push(o),
            }
        }
        let mut extensions: Option<Error> = None;
        for o in later {
            match self.make(o, &mut warnings).await {
                Ok(()) => {}
                Err(e) if e.is_retry() => return Err(e),
                Err(e) if is_essential(o) => {
                    // A missing extension is why types are missing: say that first.
                    return Err(match extensions {
                        Some(first) if e.code() != Some("42501") => {
                            let hint = first.hint_text().unwrap_or_default().to_owned();
                            Error::fatal(format!("{}; and before that: {}", e.message(), first.message())).hint(hint)
                        }
                        _ => e,
                    });
                }
                Err(e) => {
                    warnings.push(format!("{}; left out", e.message()));
                    if o.kind == "EXTENSION" && extensions.is_none() {
                        extensions = Some(e);
                    }
                }
            }
        }
        Ok(warnings)
    }

    async fn make(&mut self, o: &SchemaObject, warnings: &mut Vec<String>) -> Result<()> {
        match (o.kind.as_str(), o.table.as_ref().map(|t| self.here(t)).as_ref()) {
            ("FK CONSTRAINT", Some(t)) => self.make_foreign_key(o, t, warnings).await,
            ("TRIGGER" | "RULE" | "POLICY" | "ROW SECURITY", Some(t)) if o.stage == Stage::Consistent => {
                self.make_quiesced(o, t).await
            }
            _ => self.run(o, &o.sql, o.stage == Stage::Consistent).await.map(drop),
        }
    }

    /// Runs one statement text as one transaction. `true` if it made something, `false` if that was there already.
    async fn run(&mut self, o: &SchemaObject, sql: &str, in_use: bool) -> Result<bool> {
        let mut tries = 0;
        loop {
            // Statements of one query message are one transaction.
            let sent = if in_use { format!("SET LOCAL lock_timeout = '2s';\n{sql}") } else { sql.to_owned() };
            let Err(e) = self.client.batch_execute(&sent).await else { return Ok(true) };
            tries += 1;
            let (code, message) = match e.as_db_error() {
                Some(d) => (d.code().code().to_owned(), d.message().to_owned()),
                None => return Err(wrap(format!("creating {}", describe(o)), &e)),
            };
            if is_duplicate(&code, o) {
                match (o.kind.as_str(), &o.table) {
                    ("TABLE", _) => self.compare(o).await?,
                    ("INDEX" | "CONSTRAINT", Some(t)) => self.belongs(o, &self.here(t)).await?,
                    _ => {}
                }
                return Ok(false);
            }
            if code == "55P03" && tries < LOCK_TRIES {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            if code == "53100" && message.contains("shared memory") && tries == 1 {
                // A small /dev/shm, as containers have it: parallel workers cannot be had.
                let _ = self.client.batch_execute("SET max_parallel_maintenance_workers = 0").await;
                continue;
            }
            return Err(self.explain(o, wrap(format!("creating {}", describe(o)), &e)).await);
        }
    }

    /// Adds what an operator can do.
    async fn explain(&self, o: &SchemaObject, e: Error) -> Error {
        let who = self.client.query_one("SELECT current_user::text, pg_catalog.current_database()::text", &[]).await;
        let (user, database) = match who {
            Ok(r) => (r.get::<_, String>(0), r.get::<_, String>(1)),
            Err(_) => return e,
        };
        let code = e.code().unwrap_or_default().to_owned();
        match (code.as_str(), o.kind.as_str()) {
            // Made anew, because the server's own hint does not say what else can be done.
            ("58P01" | "0A000" | "22023", "EXTENSION") => Error::fatal(e.message()).with_code(code).hint(format!(
                "install the package that brings extension {} on the target's server (no restart is needed), or leave out the tables that use it",
                o.name
            )),
            // A function's library is missing: waiting does not bring it.
            ("58P01", _) => e.with_class(crate::error::Class::Fatal),
            ("42501", "EXTENSION") => Error::fatal(e.message()).with_code(code).hint(format!(
                "as a superuser, in database {}: CREATE EXTENSION {};",
                quoted(&database),
                quoted(&o.name)
            )),
            ("42501", "SCHEMA") => e.hint(format!("GRANT CREATE ON DATABASE {} TO {};", quoted(&database), quoted(&user))),
            ("42501", _) if !o.schema.is_empty() => {
                e.hint(format!("GRANT USAGE, CREATE ON SCHEMA {} TO {};", quoted(&o.schema), quoted(&user)))
            }
            _ => e,
        }
    }

    /// A table exists already: does it have the columns that its statement makes? The old one is moved aside, the
    /// statement is run, both are compared, and everything is rolled back.
    async fn compare(&mut self, o: &SchemaObject) -> Result<()> {
        let doing = format!("comparing the existing {} with what it should be", describe(o));
        let aside = "switchyard: moved aside";
        let old = TableName::new(o.schema.clone(), o.name.clone());
        let columns = "SELECT a.attname::text || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
        let tx = self.client.transaction().await.map_err(|e| wrap(&doing, &e))?;
        tx.batch_execute("SET LOCAL lock_timeout = '5s'").await.map_err(|e| wrap(&doing, &e))?;
        let have = tx.query(columns, &[&old.schema, &old.name]).await.map_err(|e| wrap(&doing, &e))?;
        tx.batch_execute(&format!("ALTER TABLE {} RENAME TO {}", qualified(&old), quoted(aside)))
            .await
            .map_err(|e| wrap(&doing, &e))?;
        if let Err(e) = tx.batch_execute(&o.sql).await {
            // The statement names something else that exists (its sequence): then it cannot be tried, and is believed.
            let e = wrap(&doing, &e);
            return if e.is_retry() { Err(e) } else { Ok(()) };
        }
        let want = tx.query(columns, &[&old.schema, &old.name]).await.map_err(|e| wrap(&doing, &e))?;
        tx.rollback().await.map_err(|e| wrap(&doing, &e))?;
        let have: Vec<String> = have.iter().map(|r| r.get(0)).collect();
        let lacking: Vec<String> = want.iter().map(|r| r.get(0)).filter(|w| !have.contains(w)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Error::fatal(format!("table {old} exists on the target but lacks: {}", lacking.join(", ")))
            .hint("drop the table on the target, alter it to match, or leave it out with tables.exclude"))
    }

    /// An index exists already: is it one of this table?
    async fn belongs(&self, o: &SchemaObject, t: &TableName) -> Result<()> {
        let index = o.name.strip_prefix(&format!("{} ", t.name)).unwrap_or(&o.name);
        let primary = o.sql.contains(" PRIMARY KEY ");
        let row = self
            .client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relname = $2 AND (x.relname = $3 OR $4 AND i.indisprimary))",
                &[&t.schema, &t.name, &index, &primary],
            )
            .await
            .map_err(|e| wrap(format!("looking at {}", describe(o)), &e))?;
        if row.get(0) {
            return Ok(());
        }
        Err(Error::fatal(format!("creating {}: another object of the target has that name", describe(o)))
            .hint("rename or drop the other object on the target"))
    }

    /// Triggers, rules and policies appear while the applier runs: they are made and quiesced in one transaction.
    async fn make_quiesced(&mut self, o: &SchemaObject, t: &TableName) -> Result<()> {
        let doing = format!("creating {}", describe(o));
        let mut tries = 0;
        loop {
            let tx = self.client.transaction().await.map_err(|e| wrap(&doing, &e))?;
            tx.batch_execute("SET LOCAL lock_timeout = '2s'").await.map_err(|e| wrap(&doing, &e))?;
            let e = match tx.batch_execute(&o.sql).await {
                Ok(()) => match quiesce::quiesce_in(&tx, self.name, t, self.mode).await {
                    Ok(()) => return tx.commit().await.map_err(|e| wrap(&doing, &e)),
                    Err(e) => e,
                },
                Err(e) if e.as_db_error().is_some_and(|d| is_duplicate(d.code().code(), o)) => return Ok(()),
                Err(e) => wrap(&doing, &e),
            };
            let _ = tx.rollback().await;
            tries += 1;
            if e.code() != Some("55P03") || tries >= LOCK_TRIES {
                return Err(self.explain(o, e).await);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Adds the constraint unvalidated (a short lock), then validates it under a lock that lets rows be written. Where the
    /// applier cannot pass over foreign keys, the constraint waits for the end of the migration.
    async fn make_foreign_key(&mut self, o: &SchemaObject, t: &TableName, warnings: &mut Vec<String>) -> Result<()> {
        let doing = format!("creating {}", describe(o));
        let constraint = o.name.strip_prefix(&format!("{} ", t.name)).unwrap_or(&o.name).to_owned();
        let plain = o.sql.trim().trim_end_matches(';').trim_end().to_owned();
        let kind = self
            .client
            .query_opt(
                "SELECT c.relkind = 'p', EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.conname = $3)
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
                &[&t.schema, &t.name, &constraint],
            )
            .await
            .map_err(|e| wrap(&doing, &e))?;
        let (partitioned, exists) = kind.map_or((false, false), |r| (r.get(0), r.get(1)));
        // One that the source holds unvalidated stays so.
        let validate = !partitioned && !plain.ends_with("NOT VALID") && !plain.contains(';');
        let first = if validate { format!("{plain} NOT VALID") } else { plain };
        if self.mode == Mode::Ordinary {
            if !exists {
                let tx = self.client.transaction().await.map_err(|e| wrap(&doing, &e))?;
                quiesce::note_foreign_key(&tx, self.name, t, &constraint, &first, validate).await?;
                tx.commit().await.map_err(|e| wrap(&doing, &e))?;
                warnings.push(format!(
                    "foreign key {constraint} of {t} is made at the end of the migration: this role may not set session_replication_role"
                ));
            }
            return Ok(());
        }
        self.run(o, &first, true).await?;
        if !validate {
            return Ok(());
        }
        let sql = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified(t), quoted(&constraint));
        match self.run(o, &sql, true).await {
            Err(e) if e.code() == Some("23503") && !self.references_selected(t, &constraint).await? => {
                warnings.push(format!(
                    "foreign key {constraint} of {t} is made but not validated: it refers to a table that is not part of the migration, and some rows there are missing"
                ));
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Whether the table that a foreign key refers to is made by this script.
    async fn references_selected(&self, t: &TableName, constraint: &str) -> Result<bool> {
        let row = self
            .client
            .query_opt(
                "SELECT fn.nspname::text, f.relname::text FROM pg_catalog.pg_constraint k
                 JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
                 WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3",
                &[&t.schema, &t.name, &constraint],
            )
            .await
            .map_err(|e| wrap("reading a foreign key of the target", &e))?;
        Ok(row.is_some_and(|r| {
            let (schema, name): (String, String) = (r.get(0), r.get(1));
            self.script.objects.iter().any(|o| o.kind == "TABLE" && o.schema == schema && o.name == name)
        }))
    }
}

fn describe(o: &SchemaObject) -> String {
    if o.schema.is_empty() { format!("{} {}", o.kind, o.name) } else { format!("{} {}.{}", o.kind, o.schema, o.name) }
}
