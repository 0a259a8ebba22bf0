//! The schema that a copy makes on the target: the source's tables that pass as they are, and tables that rules write.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::Pipeline;
use crate::error::Result;
use crate::schema::{SchemaObject, SchemaScript, Stage, Table, TableName};
use crate::source::Source;
use crate::target::{Checkpoint, CopyStage, TableCopy, Target};
use crate::transform::made::{self, MadeSchema, MadeTable};
use crate::transform::rules::RuleSet;

/// What is made, as statements for the target. Objects of the first belong to tables by their names at the source, of the
/// second by those on the target.
#[derive(Debug, Default)]
pub struct Script {
    /// Tables that no rule names, and what belongs to them.
    pub own: SchemaScript,
    /// Tables that rules write and that the target had not.
    pub made: SchemaScript,
    /// Those tables.
    pub tables: Vec<MadeTable>,
    /// Those of them that are not there at this moment.
    pub missing: Vec<TableName>,
    /// Those whose keys and indexes somebody makes in this run.
    claimed: Mutex<BTreeSet<TableName>>,
}

/// The tables that rules make, before there are statements.
#[derive(Debug, Default)]
pub struct Planned {
    tables: Vec<MadeTable>,
    missing: Vec<TableName>,
    /// Tables of the target that foreign keys refer to.
    there: Vec<Arc<Table>>,
}

/// The target's tables that the rules for these sources name: those that they write, and those that made tables refer to.
pub(super) fn named<'a>(rules: &RuleSet, sources: impl Iterator<Item = &'a TableName>) -> Vec<TableName> {
    let mut names = BTreeSet::new();
    for source in sources {
        for rule in rules.of(source) {
            for (part, table) in rule.parts() {
                names.insert(table.clone());
                names.extend(rule.referenced(part));
            }
        }
    }
    names.into_iter().collect()
}

/// Which tables the rules make, from what the target has. `noted`: those that the migration makes, there or not.
///
/// # Errors
/// `Fatal`, with the rule, its key and what would be right; those of the target.
pub(super) async fn look(
    rules: &RuleSet,
    tables: &[Arc<Table>],
    target: &dyn Target,
    noted: &[TableName],
) -> Result<(made::Derived, HashMap<TableName, Arc<Table>>)> {
    let names = named(rules, tables.iter().map(|t| &t.name));
    if names.is_empty() {
        return Ok((made::Derived::default(), HashMap::new()));
    }
    let found = target.tables(&names).await?;
    let there: HashMap<TableName, Arc<Table>> =
        names.into_iter().zip(found).filter_map(|(n, t)| t.map(|t| (n, t))).collect();
    let derived = made::derive(rules, tables, &|name| there.get(name).filter(|_| !noted.contains(name)).cloned());
    Ok((derived, there))
}

/// Which tables the rules make, and notes durably that the migration makes them. A table that is gone is not made again
/// once rows for it were copied.
///
/// # Errors
/// As [`look`].
pub(super) async fn plan(p: &Pipeline, checkpoint: &Checkpoint, tables: &[Arc<Table>]) -> Result<Planned> {
    if p.rules.is_empty() {
        return Ok(Planned::default());
    }
    let target = p.target.as_ref();
    let noted = target.noted_made().await?;
    let (mut derived, there) = look(&p.rules, tables, target, &noted).await?;
    if let Some((_, e)) = derived.errors.drain(..).next() {
        return Err(e);
    }
    let gone = |t: &MadeTable| !there.contains_key(&t.table.name);
    if checkpoint.stage > CopyStage::LogKept {
        let copies = target.copies().await?;
        let begun = |t: &MadeTable| {
            checkpoint.stage > CopyStage::Copying
                || copies.iter().any(|c| t.writers.contains(&c.table) && !c.done.is_empty())
        };
        derived.tables.retain(|t| !(gone(t) && begun(t)));
    }
    let missing: Vec<TableName> = derived.tables.iter().filter(|t| gone(t)).map(|t| t.table.name.clone()).collect();
    if missing.iter().any(|t| !noted.contains(t)) {
        target.note_made(checkpoint.epoch, &missing).await?;
    }
    let there = there.into_values().collect();
    Ok(Planned { tables: derived.tables, missing, there })
}

/// What the preflight says would be made, without noting anything.
///
/// # Errors
/// Those of the servers. Rules that cannot be carried out make nothing.
pub async fn preview(source: &dyn Source, target: &dyn Target, rules: &RuleSet, everything: bool) -> Result<Script> {
    let tables = source.tables().await?;
    let noted = target.noted_made().await?;
    let (derived, there) = look(rules, &tables, target, &noted).await?;
    let planned = Planned { tables: derived.tables, missing: Vec::new(), there: there.into_values().collect() };
    script(source, target, rules, everything, &tables, planned, None).await
}

/// The statements.
///
/// # Errors
/// Those of the servers, and `Fatal` for what the target cannot hold.
pub(super) async fn script(
    source: &dyn Source,
    target: &dyn Target,
    rules: &RuleSet,
    everything: bool,
    tables: &[Arc<Table>],
    planned: Planned,
    snapshot: Option<&str>,
) -> Result<Script> {
    let Planned { tables: made, missing, there } = planned;
    let writes = |t: &TableName| made.iter().any(|m| m.writers.contains(t));
    let wanted: Vec<Arc<Table>> =
        tables.iter().filter(|t| !rules.concern(&t.name) || everything || writes(&t.name)).cloned().collect();
    let whole = source.schema_script(&wanted, snapshot).await?;
    let (dialect, defs) = (whole.dialect.clone(), whole.tables.clone());
    let ruled: BTreeSet<TableName> = wanted.iter().filter(|t| rules.concern(&t.name)).map(|t| t.name.clone()).collect();
    let types = made.iter().flat_map(|m| &m.table.columns).map(|c| c.type_name.clone()).collect();
    let mut own = without(whole, &ruled, types, everything);
    if own.tables.is_empty() && source.engine() != target.engine() {
        // Nothing that another engine could be told in neutral words.
        own.objects.clear();
    }
    let own = target.adopt(own, rules.homes()).await?;
    if made.is_empty() {
        return Ok(Script { own, ..Script::default() });
    }
    let beside = defs.iter().filter(|d| !ruled.contains(&d.name));
    let beside = beside.filter_map(|d| Some((tables.iter().find(|t| t.name == d.name)?.clone(), d.clone())));
    let schema = MadeSchema {
        dialect,
        beside: beside.collect(),
        made: made.into_iter().map(|m| (m.def(&defs), m)).map(|(d, m)| (m, d)).collect(),
        there,
    };
    let statements = target.adopt_made(&schema, rules.homes()).await?;
    let tables = schema.made.into_iter().map(|(m, _)| m).collect();
    Ok(Script { own, made: statements, tables, missing, claimed: Mutex::default() })
}

/// The script without what belongs to tables that rules reshape. Types stay that columns of other tables, or those of
/// `types`, are of.
fn without(script: SchemaScript, ruled: &BTreeSet<TableName>, types: Vec<String>, everything: bool) -> SchemaScript {
    if ruled.is_empty() {
        return script;
    }
    let SchemaScript { objects, mut tables, mut remarks, .. } = script;
    tables.retain(|d| !ruled.contains(&d.name));
    let mut to_ruled = Vec::new();
    for d in &mut tables {
        let all = std::mem::take(&mut d.foreign_keys);
        let (gone, stay): (Vec<_>, Vec<_>) = all.into_iter().partition(|f| ruled.contains(&f.references));
        d.foreign_keys = stay;
        to_ruled.extend(gone.into_iter().map(|f| (d.name.clone(), f)));
    }
    remarks.extend(to_ruled.iter().map(|(table, f)| {
        format!(
            "{table}: foreign key {} is left out: a rule reshapes {}; write it as `references` of a rule for {table}",
            f.name, f.references
        )
    }));
    let (of_ruled, mut objects): (Vec<SchemaObject>, Vec<SchemaObject>) =
        objects.into_iter().partition(|o| o.table.as_ref().is_some_and(|t| ruled.contains(t)));
    let owned: Vec<(&str, &str)> = (of_ruled.iter())
        .filter(|o| o.kind == "SEQUENCE OWNED BY")
        .map(|o| (o.schema.as_str(), o.name.as_str()))
        .collect();
    let comment_of = |o: &SchemaObject| {
        let bare = o.name.replace('"', "");
        ruled
            .iter()
            .filter(|t| t.schema == o.schema)
            .any(|t| bare == format!("TABLE {}", t.name) || bare.starts_with(&format!("COLUMN {}.", t.name)))
    };
    objects.retain(|o| match o.kind.as_str() {
        "SEQUENCE" if o.table.is_none() => !owned.contains(&(o.schema.as_str(), o.name.as_str())),
        "COMMENT" if o.table.is_none() => !comment_of(o),
        "FK CONSTRAINT" => !to_ruled.iter().any(|(t, f)| {
            o.table.as_ref() == Some(t) && (o.name == f.name || o.name == format!("{} {}", t.name, f.name))
        }),
        _ => true,
    });
    if !everything {
        unused_types(&mut objects, types);
    }
    SchemaScript { objects, tables, remarks, ..script }
}

/// Leaves out types that nothing is of, and schemas that nothing lies in. A type is used where its name stands.
fn unused_types(objects: &mut Vec<SchemaObject>, types: Vec<String>) {
    let is_type = |o: &SchemaObject| o.table.is_none() && matches!(o.kind.as_str(), "TYPE" | "DOMAIN");
    let mut texts: Vec<String> = types;
    texts.extend(objects.iter().filter(|o| !is_type(o) && o.kind != "COMMENT").map(|o| o.sql.clone()));
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    loop {
        let used = |o: &SchemaObject| {
            let name = o.name.replace('"', "\"\"");
            texts.iter().any(|t| t.contains(&name))
        };
        let more: Vec<usize> = (objects.iter().enumerate())
            .filter(|(i, o)| is_type(o) && !kept.contains(i) && used(o))
            .map(|(i, _)| i)
            .collect();
        if more.is_empty() {
            break;
        }
        texts = more.iter().filter_map(|&i| objects.get(i)).map(|o| o.sql.clone()).collect();
        kept.extend(more);
    }
    let mut place = 0;
    objects.retain(|o| {
        place += 1;
        !is_type(o) || kept.contains(&(place - 1))
    });
    let schemas: BTreeSet<String> = objects.iter().map(|o| o.schema.clone()).collect();
    // An extension says where it lies in its statement alone.
    let extended = |name: &str| objects.iter().any(|o| o.kind == "EXTENSION" && o.sql.contains(name));
    let used: Vec<bool> =
        objects.iter().map(|o| o.kind != "SCHEMA" || schemas.contains(&o.name) || extended(&o.name)).collect();
    let mut used = used.into_iter();
    objects.retain(|_| used.next().unwrap_or(true));
}

impl Pipeline {
    /// What is made on the target, as it is at this place of the migration. Empty unless the schema is made.
    pub(super) async fn script(
        &self,
        checkpoint: &Checkpoint,
        tables: &[Arc<Table>],
        snapshot: Option<&str>,
    ) -> Result<Script> {
        if !self.create_schema {
            return Ok(Script::default());
        }
        let copied: Vec<Arc<Table>> = match checkpoint.stage > CopyStage::LogKept {
            // Tables made since then come with the stream.
            true => {
                let copies = self.target.copies().await?;
                tables.iter().filter(|t| copies.iter().any(|c| c.table == t.name)).cloned().collect()
            }
            false => tables.to_vec(),
        };
        let planned = plan(self, checkpoint, &copied).await?;
        let everything = self.selection.is_everything();
        let (source, target) = (self.source.as_ref(), self.target.as_ref());
        script(source, target, &self.rules, everything, tables, planned, snapshot).await
    }
}

impl Script {
    /// The made tables that a source table's rows go to.
    fn of<'a>(&'a self, source: &'a TableName) -> impl Iterator<Item = &'a MadeTable> {
        self.tables.iter().filter(move |t| t.writers.contains(source))
    }

    /// Makes everything that has to be there before rows.
    pub(super) async fn begin(&self, p: &Pipeline) -> Result<()> {
        for remark in self.own.remarks.iter().chain(&self.made.remarks) {
            p.warn(remark.clone());
        }
        said(p, p.target.create(&self.own, Stage::BeforeCopy, None).await?);
        if !self.tables.is_empty() {
            said(p, p.target.create(&self.made, Stage::BeforeCopy, None).await?);
        }
        Ok(())
    }

    /// Makes the tables that are missing although the copy has begun: those that changed rules name.
    pub(super) async fn begin_missing(&self, p: &Pipeline) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        // Types that their columns are of may not have been wanted before; what is there is left alone.
        let type_like = |o: &SchemaObject| {
            o.table.is_none() && matches!(o.kind.as_str(), "SCHEMA" | "EXTENSION" | "FUNCTION" | "TYPE" | "DOMAIN")
        };
        let types = part(&self.own, type_like);
        if !types.objects.is_empty() {
            said(p, p.target.create(&types, Stage::BeforeCopy, None).await?);
        }
        let tables = part(&self.made, |o| o.table.as_ref().is_none_or(|t| self.missing.contains(t)));
        said(p, p.target.create(&tables, Stage::BeforeCopy, None).await?);
        p.target.quiesce(&self.missing).await
    }

    /// Makes what follows a table's copy. A table that several write gets it after the last of them; `later`: the table, or
    /// another that writes there, holds rows of two snapshots, which may meet in a unique index until the stream has passed
    /// both.
    pub(super) async fn follow(&self, p: &Pipeline, source: &TableName, later: bool) -> Result<()> {
        let whole_moment = p.source.copies_one_moment();
        // In a unique index rows of two moments may meet. Keys do not change, and what else there is can be made at any time.
        let now = |script| match whole_moment {
            true => Cow::Borrowed(script),
            false => Cow::Owned(part(script, |o| !is_unique(o))),
        };
        if !p.rules.concern(source) {
            if !later {
                said(p, p.target.create(&now(&self.own), Stage::TableCopied, Some(source)).await?);
            }
            return Ok(());
        }
        if self.of(source).next().is_none() {
            return Ok(());
        }
        let copies = p.target.copies().await?;
        let of = |t: &TableName| copies.iter().find(|c| c.table == *t);
        for table in self.of(source) {
            let whole = table.writers.iter().all(|w| of(w).is_none_or(is_whole));
            let resumed = table.writers.iter().any(|w| of(w).is_some_and(|c| c.resumed_at.is_some()));
            if whole && !resumed && self.claim(&table.table.name) {
                said(p, p.target.create(&now(&self.made), Stage::TableCopied, Some(&table.table.name)).await?);
            }
        }
        Ok(())
    }

    fn claim(&self, table: &TableName) -> bool {
        // A poisoned set only means that another task panicked; what it holds is still whole.
        self.claimed.lock().unwrap_or_else(|e| e.into_inner()).insert(table.clone())
    }

    /// Makes what finds the rows of a table whose copy goes on at another snapshot: they are loaded over what is there.
    pub(super) async fn resume(&self, p: &Pipeline, source: &TableName) -> Result<()> {
        for table in self.of(source) {
            let name = &table.table.name;
            // Where rows meet others it is there.
            if !table.merged && !table.key().is_empty() {
                p.target.create_key(&self.made, name).await?;
            }
            // What is not unique can be made at any time, and finds a parent's rows.
            let plain = part(&self.made, |o| {
                let index = o.kind == "INDEX" && !is_unique(o);
                o.table.as_ref() == Some(name) && (o.kind == "TABLE" || index)
            });
            said(p, p.target.create(&plain, Stage::TableCopied, Some(name)).await?);
        }
        Ok(())
    }

    /// Makes what waited until the target is consistent.
    pub(super) async fn complete(&self, p: &Pipeline) -> Result<()> {
        let mut late: BTreeSet<&TableName> = BTreeSet::new();
        let waited = |c: &&TableCopy| c.resumed_at.is_some() || !p.source.copies_one_moment();
        for copy in p.target.copies().await?.iter().filter(waited) {
            match p.rules.concern(&copy.table) {
                // Resumed copies got no more than their keys, those of many moments all but unique indexes.
                false => said(p, p.target.create(&self.own, Stage::TableCopied, Some(&copy.table)).await?),
                true => {
                    late.extend(self.tables.iter().filter(|t| t.writers.contains(&copy.table)).map(|t| &t.table.name))
                }
            }
        }
        for table in late {
            said(p, p.target.create(&self.made, Stage::TableCopied, Some(table)).await?);
        }
        said(p, p.target.create(&self.own, Stage::Consistent, None).await?);
        if !self.tables.is_empty() {
            said(p, p.target.create(&self.made, Stage::Consistent, None).await?);
        }
        Ok(())
    }

    /// The target's table with the key that it is going to have.
    pub(super) fn keyed(&self, there: Arc<Table>) -> Arc<Table> {
        match self.tables.iter().find(|t| t.table.name == there.name) {
            Some(made) => Arc::new(made.keyed(&there)),
            None => there,
        }
    }
}

/// Some of a script's objects.
fn part(script: &SchemaScript, wanted: impl Fn(&SchemaObject) -> bool) -> SchemaScript {
    let (dialect, preamble) = (script.dialect.clone(), script.preamble.clone());
    let objects = script.objects.iter().filter(|o| wanted(o)).cloned().collect();
    SchemaScript { objects, dialect, preamble, ..SchemaScript::default() }
}

/// Whether it keeps rows apart, and is not the key: by the words of SQL, or of a command in JSON.
fn is_unique(o: &SchemaObject) -> bool {
    let unique = o.sql.contains("UNIQUE ") || o.sql.contains("\"unique\":true");
    unique && matches!(o.kind.as_str(), "INDEX" | "CONSTRAINT") && !o.sql.contains(" PRIMARY KEY ")
}

fn is_whole(copy: &TableCopy) -> bool {
    copy.done.len() == copy.plan.chunks.len()
}

fn said(p: &Pipeline, warnings: Vec<String>) {
    warnings.into_iter().for_each(|w| p.warn(w));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{ForeignAction, ForeignKeyDef, TableDef};

    fn object(kind: &str, name: &str, table: Option<&str>, sql: &str) -> SchemaObject {
        SchemaObject {
            kind: kind.into(),
            schema: if kind == "SCHEMA" { String::new() } else { "public".into() },
            name: name.into(),
            table: table.map(|t| TableName::new("public", t)),
            sql: sql.into(),
            stage: Stage::BeforeCopy,
        }
    }

    fn script() -> SchemaScript {
        let key = |name: &str, to: &str| ForeignKeyDef {
            name: name.into(),
            columns: vec!["x".into()],
            references: TableName::new("public", to),
            referenced: vec!["id".into()],
            on_delete: ForeignAction::NoAction,
            on_update: ForeignAction::NoAction,
        };
        let def = |name: &str, foreign_keys| TableDef {
            name: TableName::new("public", name),
            columns: vec![],
            primary_key: vec![],
            indexes: vec![],
            foreign_keys,
            checks: vec![],
            comment: None,
            left_behind: vec![],
        };
        SchemaScript {
            dialect: "d".into(),
            objects: vec![
                object("SCHEMA", "public", None, "CREATE SCHEMA public"),
                object("SCHEMA", "empty", None, "CREATE SCHEMA empty"),
                object("TYPE", "mood", None, "CREATE TYPE public.mood AS ENUM ('a')"),
                object("TYPE", "inner", None, "CREATE TYPE public.\"inner\" AS ENUM ('a')"),
                object("DOMAIN", "outer", None, "CREATE DOMAIN public.outer AS public.\"inner\""),
                object("TYPE", "unused", None, "CREATE TYPE public.unused AS ENUM ('a')"),
                object("SEQUENCE", "users_id_seq", None, "CREATE SEQUENCE public.users_id_seq"),
                object("SEQUENCE", "own_seq", None, "CREATE SEQUENCE public.own_seq"),
                object("TABLE", "users", Some("users"), "CREATE TABLE public.users (m public.unused)"),
                object("TABLE", "plain", Some("plain"), "CREATE TABLE public.plain (m public.mood)"),
                object(
                    "SEQUENCE OWNED BY",
                    "users_id_seq",
                    Some("users"),
                    "ALTER SEQUENCE public.users_id_seq OWNED BY public.users.id",
                ),
                object("COMMENT", "COLUMN users.mail", None, "COMMENT ON COLUMN public.users.mail IS 'mood'"),
                object("COMMENT", "COLUMN plain.m", None, "COMMENT ON COLUMN public.plain.m IS 'x'"),
                object("FK CONSTRAINT", "plain to_users", Some("plain"), "ALTER TABLE …"),
                object("FK CONSTRAINT", "plain to_plain", Some("plain"), "ALTER TABLE …"),
            ],
            tables: vec![def("users", vec![]), def("plain", vec![key("to_users", "users"), key("to_plain", "plain")])],
            ..SchemaScript::default()
        }
    }

    #[test]
    fn given_tables_that_rules_reshape_when_left_out_then_all_that_is_theirs_goes_and_nothing_else() {
        let ruled = BTreeSet::from([TableName::new("public", "users")]);
        let names = |s: &SchemaScript| s.objects.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        let out = without(script(), &ruled, vec!["public.outer[]".into()], false);
        assert_eq!(
            names(&out),
            ["public", "mood", "inner", "outer", "own_seq", "plain", "COLUMN plain.m", "plain to_plain"]
        );
        assert_eq!((out.tables.len(), out.tables[0].foreign_keys.len(), out.remarks.len()), (1, 1, 1));
        assert!(
            out.remarks[0].starts_with("public.plain: foreign key to_users is left out: a rule reshapes public.users")
        );
        // The whole database comes with what no table needs.
        let all = without(script(), &ruled, vec![], true);
        assert!(names(&all).contains(&"unused".to_owned()) && names(&all).contains(&"empty".to_owned()));
        assert_eq!(without(script(), &BTreeSet::new(), vec![], false), script());
    }
}
