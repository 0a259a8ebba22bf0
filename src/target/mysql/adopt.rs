//! Makes this engine's statements of tables that another engine describes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::defaults;
use super::names::fnv;
use super::types::{self, Chosen};
use crate::definition::{ColumnDef, DefaultValue, ForeignAction, ForeignKeyDef, IndexDef, TableDef};
use crate::error::{Error, Result};
use crate::mywire::quote::{list, literal, qualified, quoted};
use crate::mywire::server::Flavour;
use crate::schema::{SchemaObject, SchemaScript, Stage, Table, TableName};
use crate::transform::rules::Homes;

/// Bytes that a key has room for (InnoDB, row formats DYNAMIC and COMPRESSED).
const KEY_BYTES: u32 = 3072;
/// Bytes of a row without what lies outside it.
const ROW_BYTES: u32 = 65_000;
/// Characters of a name.
const NAME: usize = 64;

/// What the target's statements depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose server.
    pub flavour: Flavour,
    /// The collation of tables that are made, of character set utf8mb4.
    pub collation: String,
    /// Whether names of tables are kept, or compared, in lower case.
    pub lower_case: bool,
}

/// A table's columns with their types here.
struct Shaped<'a> {
    def: &'a TableDef,
    columns: Vec<(&'a ColumnDef, Chosen)>,
    home: TableName,
}

/// The script of `engine`'s tables in this engine's words.
///
/// # Errors
/// `Fatal` where a table cannot be made here: its primary key is too long, or two tables have one name.
pub fn adopt(script: SchemaScript, engine: &str, settings: &Settings, homes: &Homes) -> Result<SchemaScript> {
    let mut out = SchemaScript {
        dialect: "mysql".into(),
        made_by: script.made_by.clone(),
        remarks: script.remarks.clone(),
        ..SchemaScript::default()
    };
    one_name_each(&script.tables, settings, homes)?;
    let mut databases = BTreeSet::new();
    let shaped = script
        .tables
        .iter()
        .map(|def| shape(def, &script.tables, (engine, settings.flavour), homes, &mut out.remarks))
        .collect::<Result<Vec<_>>>()?;
    for s in &shaped {
        if databases.insert(s.home.schema.clone()) {
            out.objects.push(SchemaObject {
                kind: "DATABASE".into(),
                schema: String::new(),
                name: s.home.schema.clone(),
                table: None,
                sql: format!(
                    "CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4 COLLATE {}",
                    quoted(&s.home.schema),
                    settings.collation
                ),
                stage: Stage::BeforeCopy,
            });
        }
    }
    for s in &shaped {
        s.table(settings, &mut out)?;
    }
    let mut names: BTreeSet<(String, String)> = BTreeSet::new();
    for s in &shaped {
        for key in &s.def.foreign_keys {
            s.foreign_key(key, &shaped, &mut names, settings, &mut out);
        }
        for (name, _) in &s.def.checks {
            out.remarks.push(format!("{}: check {name} is left out: its expression is the source's", s.def.name));
        }
        out.remarks.extend(s.def.left_behind.iter().map(|l| format!("{}: left out: {l}", s.def.name)));
    }
    Ok(out)
}

/// Where the server does not tell names by case, no two tables may have one.
fn one_name_each(tables: &[TableDef], settings: &Settings, homes: &Homes) -> Result<()> {
    let mut seen: BTreeMap<String, &TableName> = BTreeMap::new();
    for t in tables {
        let home = homes.table(&t.name);
        let name = format!("{}\0{}", home.schema, home.name);
        let name = if settings.lower_case { name.to_lowercase() } else { name };
        if let Some(other) = seen.insert(name, &t.name) {
            return Err(Error::fatal(format!("{other} and {} would be one table on the target", t.name))
                .hint("leave one out with tables.exclude, or send it elsewhere with a [[rule]]; where names differ in case only, the target's lower_case_table_names decides"));
        }
    }
    Ok(())
}

/// Chooses every column's type. Text in a key gets as many characters as the key has room for.
fn shape<'a>(
    def: &'a TableDef,
    all: &[TableDef],
    (engine, flavour): (&str, Flavour),
    homes: &Homes,
    remarks: &mut Vec<String>,
) -> Result<Shaped<'a>> {
    let mut columns: Vec<(&ColumnDef, Chosen)> = Vec::new();
    for c in &def.columns {
        if !c.travels {
            remarks.push(format!("{}: column {} is computed by the source and left out", def.name, c.name));
            continue;
        }
        if c.generated.is_some() {
            remarks.push(format!("{}: column {} is computed by the source and an ordinary one here", def.name, c.name));
        }
        // A rule's word counts, whatever the type is here.
        let chosen = match homes.type_of(&def.name, &c.name) {
            Some(sql) => Chosen { sql: sql.to_owned(), charset: "", remark: None },
            None => types::choose(&c.data, engine),
        };
        if let Some(r) = chosen.remark {
            remarks.push(format!("{}: column {} ({}) {r}", def.name, c.name, c.type_name));
        }
        columns.push((c, chosen));
    }
    // Keys whose columns must lie in the row whole: the primary key, unique ones, and what foreign keys refer to or from.
    let mut keys: Vec<Vec<&str>> = vec![def.primary_key.iter().map(|k| k.name.as_str()).collect()];
    keys.extend(
        def.indexes
            .iter()
            .filter(|i| i.unique && i.peculiar.is_none())
            .map(|i| i.columns.iter().filter(|c| c.prefix.is_none()).map(|c| c.name.as_str()).collect()),
    );
    keys.extend(def.foreign_keys.iter().map(|f| f.columns.iter().map(String::as_str).collect()));
    for f in all.iter().flat_map(|t| &t.foreign_keys).filter(|f| f.references == def.name) {
        keys.push(f.referenced.iter().map(String::as_str).collect());
    }
    for key in &keys {
        let of = |name: &&str| columns.iter().position(|(c, _)| c.name == **name);
        let places: Vec<usize> = key.iter().filter_map(of).collect();
        for &p in &places {
            let chosen = &mut columns[p].1;
            if types::collates_as_table(chosen) {
                chosen.charset = types::key_text(engine, flavour);
            }
        }
        let long: Vec<usize> = places
            .iter()
            .copied()
            .filter(|&p| types::key_bytes(&columns[p].1.sql, columns[p].1.charset).is_none())
            .collect();
        if long.is_empty() {
            continue;
        }
        let fixed: u32 = places.iter().filter_map(|&p| types::key_bytes(&columns[p].1.sql, columns[p].1.charset)).sum();
        let room = KEY_BYTES.saturating_sub(fixed) / long.len() as u32;
        for p in long {
            let (c, chosen) = &mut columns[p];
            let bytes = chosen.sql.ends_with("blob");
            let length = if bytes { room } else { room / 4 };
            if length < 8 || chosen.sql == "json" || chosen.sql == "geometry" {
                // What refers to it says so where it is made.
                continue;
            }
            chosen.sql = if bytes { format!("varbinary({length})") } else { format!("varchar({length})") };
            remarks.push(format!(
                "{}: column {} ({}) stands in a key and holds {length} {} at most; a longer value stops the migration",
                def.name,
                c.name,
                c.type_name,
                if bytes { "bytes" } else { "characters" }
            ));
        }
    }
    fit_row(def, &mut columns, &keys, remarks);
    Ok(Shaped { def, columns, home: homes.table(&def.name) })
}

/// Takes the longest texts out of the row until it fits.
fn fit_row(def: &TableDef, columns: &mut [(&ColumnDef, Chosen)], keys: &[Vec<&str>], remarks: &mut Vec<String>) {
    loop {
        let sum: u32 = columns.iter().map(|(_, c)| types::row_bytes(&c.sql, c.charset)).fold(0, u32::saturating_add);
        if sum <= ROW_BYTES {
            return;
        }
        let free = |name: &str| !keys.iter().flatten().any(|k| *k == name);
        let longest = columns
            .iter_mut()
            .filter(|(c, chosen)| chosen.sql.starts_with("var") && free(&c.name))
            .max_by_key(|(_, chosen)| types::row_bytes(&chosen.sql, chosen.charset));
        let Some((c, chosen)) = longest else { return };
        chosen.sql = if chosen.sql.starts_with("varbinary") { "blob" } else { "text" }.to_owned();
        remarks.push(format!(
            "{}: column {} ({}) is {} here: the row would be too long",
            def.name, c.name, c.type_name, chosen.sql
        ));
    }
}

/// A name that the server takes; a longer one ends in its hash.
fn name(wanted: &str, what: &str, remarks: &mut Vec<String>) -> String {
    if wanted.chars().count() <= NAME {
        return wanted.to_owned();
    }
    let head: String = wanted.chars().take(NAME - 9).collect();
    let short = format!("{head}_{:08x}", fnv(wanted.as_bytes()) as u32);
    remarks.push(format!("{what} {wanted} is called {short}: names have {NAME} characters at most"));
    short
}

impl Shaped<'_> {
    fn column(&self, name: &str) -> Option<&(&ColumnDef, Chosen)> {
        self.columns.iter().find(|(c, _)| c.name == name)
    }

    fn permits_null(&self, c: &ColumnDef) -> bool {
        c.nullable && !self.def.primary_key.iter().any(|k| k.name == c.name)
    }

    fn table(&self, settings: &Settings, out: &mut SchemaScript) -> Result<()> {
        let def = self.def;
        let mut parts = Vec::new();
        let primary = self.key(&def.primary_key, &mut out.remarks);
        if let (false, Err(why)) = (def.primary_key.is_empty(), &primary) {
            return Err(Error::fatal(format!("{}: its primary key cannot be made on the target: {why}", def.name))
                .hint("make the table on the target with a key that fits, and set target.create_schema = false"));
        }
        // One column at most numbers rows, and it leads some key.
        let numbered = self.columns.iter().find(|(c, chosen)| c.numbered && chosen.sql.contains("int"));
        for (c, _) in self.columns.iter().filter(|(c, _)| c.numbered && numbered.is_none_or(|(n, _)| n.name != c.name))
        {
            out.remarks.push(format!("{}: column {} does not number rows here", def.name, c.name));
        }
        for (c, chosen) in &self.columns {
            let auto = numbered.is_some_and(|(n, _)| n.name == c.name);
            parts.push(self.definition(c, chosen, auto, settings, &mut out.remarks));
        }
        if let (false, Ok(columns)) = (def.primary_key.is_empty(), &primary) {
            parts.push(format!("PRIMARY KEY ({columns})"));
        }
        if let Some((n, _)) = numbered
            && def.primary_key.first().is_none_or(|k| k.name != n.name)
        {
            parts.push(format!(
                "KEY {} ({})",
                quoted(&name(&format!("{}_numbers", n.name), "index", &mut out.remarks)),
                quoted(&n.name)
            ));
        }
        let comment = def.comment.as_ref().map_or(String::new(), |c| format!(" COMMENT={}", comment(c, 2048)));
        if def.primary_key.is_empty() {
            out.remarks.push(format!("{}: has no primary key: InnoDB adds a hidden one, and updates and deletes look through the whole table", def.name));
        }
        out.objects.push(SchemaObject {
            kind: "TABLE".into(),
            schema: self.home.schema.clone(),
            name: self.home.name.clone(),
            table: Some(def.name.clone()),
            sql: format!(
                "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE={}{comment}",
                qualified(&self.home),
                parts.join(", "),
                settings.collation
            ),
            stage: Stage::BeforeCopy,
        });
        for index in &def.indexes {
            self.index(index, out);
        }
        Ok(())
    }

    fn definition(
        &self,
        c: &ColumnDef,
        chosen: &Chosen,
        auto: bool,
        settings: &Settings,
        remarks: &mut Vec<String>,
    ) -> String {
        let mut sql = format!("{} {}{}", quoted(&c.name), chosen.sql, chosen.charset);
        let nullable = self.permits_null(c);
        // A timestamp that may be NULL has to say so: without, old servers make it NOT NULL with a default.
        sql.push_str(if nullable { " NULL" } else { " NOT NULL" });
        if auto {
            sql.push_str(" AUTO_INCREMENT");
        } else if c.generated.is_none() && c.default != DefaultValue::None {
            match defaults::clause(&c.default, &c.data, &chosen.sql, settings.flavour) {
                Some(clause) => sql.push_str(&clause),
                None if c.numbered => {}
                None => remarks.push(format!(
                    "{}: the default of column {} cannot be said here and is left out",
                    self.def.name, c.name
                )),
            }
        }
        if let Some(text) = &c.comment {
            sql.push_str(&format!(" COMMENT {}", comment(text, 1024)));
        }
        sql
    }

    /// The columns of a key as they stand in it, each whole.
    fn key(&self, columns: &[crate::definition::KeyColumn], remarks: &mut Vec<String>) -> Result<String, String> {
        let mut parts = Vec::new();
        let mut bytes = 0_u32;
        for k in columns {
            let Some((_, chosen)) = self.column(&k.name) else {
                return Err(format!("column {} is not here", k.name));
            };
            let direction = if k.descending { " DESC" } else { "" };
            match (types::key_bytes(&chosen.sql, chosen.charset), k.prefix) {
                (_, Some(n)) => {
                    bytes = bytes.saturating_add(n * 4);
                    parts.push(format!("{}({n}){direction}", quoted(&k.name)));
                }
                (Some(n), None) => {
                    bytes = bytes.saturating_add(n);
                    parts.push(format!("{}{direction}", quoted(&k.name)));
                }
                (None, None) => return Err(format!("column {} ({}) cannot stand in a key", k.name, chosen.sql)),
            }
        }
        let _ = remarks;
        // Lengths of their own count two bytes a column, which the limit does not.
        if bytes > KEY_BYTES + 2 * columns.len() as u32 {
            return Err(format!("it would take {bytes} bytes, and a key has {KEY_BYTES}"));
        }
        Ok(parts.join(", "))
    }

    fn index(&self, index: &IndexDef, out: &mut SchemaScript) {
        let def = self.def;
        let what = if index.unique { "UNIQUE index" } else { "index" };
        let mut leave = |why: &str| {
            let more = if index.unique { "; nothing here keeps rows apart in its columns" } else { "" };
            out.remarks.push(format!("{}: {what} {} is left out: {why}{more}", def.name, index.name));
        };
        if let Some(p) = &index.peculiar {
            return leave(&format!("MySQL has no such index ({p})"));
        }
        let word = match index.method.as_deref() {
            None | Some("btree" | "hash") => "",
            Some("fulltext") => "FULLTEXT ",
            Some("spatial") => "SPATIAL ",
            Some(method) => return leave(&format!("MySQL has no method {method}")),
        };
        let columns = if index.unique {
            self.key(&index.columns, &mut Vec::new())
        } else if word.is_empty() {
            Ok(self.prefixed(&index.columns))
        } else {
            Ok(list(index.columns.iter().map(|c| c.name.as_str())))
        };
        let columns = match columns {
            Ok(c) if !c.is_empty() => c,
            Ok(_) => return leave("it has no column that is here"),
            Err(why) => return leave(&why),
        };
        if index.unique && index.nulls_equal {
            out.remarks.push(format!("{}: {what} {} lets several NULLs in here", def.name, index.name));
        }
        let unique = if index.unique { "UNIQUE " } else { word };
        let named = name(&index.name, "index", &mut out.remarks);
        out.objects.push(SchemaObject {
            kind: "INDEX".into(),
            schema: self.home.schema.clone(),
            name: named.clone(),
            table: Some(def.name.clone()),
            sql: format!("ALTER TABLE {} ADD {unique}KEY {} ({columns})", qualified(&self.home), quoted(&named)),
            stage: Stage::TableCopied,
        });
    }

    /// The columns of a plain index: what is too long for it stands there with its first characters.
    fn prefixed(&self, columns: &[crate::definition::KeyColumn]) -> String {
        let here: Vec<_> = columns.iter().filter_map(|k| self.column(&k.name).map(|(_, chosen)| (k, chosen))).collect();
        let share = KEY_BYTES / here.len().max(1) as u32;
        let part = |k: &crate::definition::KeyColumn, chosen: &Chosen| {
            let direction = if k.descending { " DESC" } else { "" };
            let column = quoted(&k.name);
            let bytes = chosen.sql.ends_with("blob") || chosen.sql.starts_with("varbinary");
            match (k.prefix, types::key_bytes(&chosen.sql, chosen.charset)) {
                (Some(n), _) => Some(format!("{column}({n}){direction}")),
                (None, Some(n)) if n <= share + 2 => Some(format!("{column}{direction}")),
                (None, _) if chosen.sql == "json" || chosen.sql == "geometry" => None,
                (None, _) => Some(format!("{column}({}){direction}", if bytes { share } else { share / 4 }.min(191))),
            }
        };
        here.iter().filter_map(|(k, c)| part(k, c)).collect::<Vec<_>>().join(", ")
    }

    fn foreign_key(
        &self,
        key: &ForeignKeyDef,
        all: &[Shaped<'_>],
        names: &mut BTreeSet<(String, String)>,
        settings: &Settings,
        out: &mut SchemaScript,
    ) {
        let def = self.def;
        let Some(parent) = all.iter().find(|s| s.def.name == key.references) else { return };
        for (a, b) in key.columns.iter().zip(&key.referenced) {
            let (Some((_, ours)), Some((_, theirs))) = (self.column(a), parent.column(b)) else {
                out.remarks.push(format!("{}: foreign key {} is left out: a column is not here", def.name, key.name));
                return;
            };
            let ((a_type, a_set), (b_type, b_set)) = (ours.parts(), theirs.parts());
            let base = |sql: &str| sql.split('(').next().unwrap_or("").to_owned();
            let text = a_type.starts_with("var") || a_type.starts_with("char");
            // Of the table's own set, if nothing else is written.
            let set = |written: &str| match written {
                "" if text => format!(" CHARACTER SET utf8mb4 COLLATE {}", settings.collation),
                other => other.to_owned(),
            };
            if base(a_type) != base(b_type) || set(a_set) != set(b_set) || (!text && a_type != b_type) {
                out.remarks.push(format!(
                    "{}: foreign key {} is left out: MySQL wants one type on both sides, and {a} is {}, {b} of {} is {}",
                    def.name, key.name, ours.sql, key.references, theirs.sql
                ));
                return;
            }
        }
        let mut action = |word: &str, a: ForeignAction| match a {
            ForeignAction::NoAction => String::new(),
            ForeignAction::Restrict => format!(" ON {word} RESTRICT"),
            ForeignAction::Cascade => format!(" ON {word} CASCADE"),
            ForeignAction::SetNull => format!(" ON {word} SET NULL"),
            ForeignAction::SetDefault => {
                out.remarks.push(format!(
                    "{}: foreign key {}: ON {word} SET DEFAULT is not InnoDB's; it refuses instead",
                    def.name, key.name
                ));
                String::new()
            }
        };
        let actions = format!("{}{}", action("DELETE", key.on_delete), action("UPDATE", key.on_update));
        // Names of foreign keys count for a whole database here.
        let taken =
            |n: &str, names: &BTreeSet<(String, String)>| names.contains(&(self.home.schema.clone(), n.to_lowercase()));
        let mut named = name(&key.name, "foreign key", &mut out.remarks);
        if taken(&named, names) {
            named = name(&format!("{}_{}", self.home.name, key.name), "foreign key", &mut out.remarks);
            out.remarks.push(format!(
                "{}: foreign key {} is called {named}: another table has one of that name",
                def.name, key.name
            ));
        }
        names.insert((self.home.schema.clone(), named.to_lowercase()));
        out.objects.push(SchemaObject {
            kind: "FK CONSTRAINT".into(),
            schema: self.home.schema.clone(),
            name: named.clone(),
            table: Some(def.name.clone()),
            sql: format!(
                "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){actions}",
                qualified(&self.home),
                quoted(&named),
                list(key.columns.iter().map(String::as_str)),
                qualified(&parent.home),
                list(key.referenced.iter().map(String::as_str)),
            ),
            stage: Stage::Consistent,
        });
    }
}

fn comment(text: &str, most: usize) -> String {
    literal(&text.chars().take(most).collect::<String>())
}

/// A table with the names and types that [`adopt`] gives it, as far as the log describes it.
pub fn adopt_table(engine: &str, table: &Table, settings: &Settings, homes: &Homes) -> Table {
    let mut out = table.clone();
    out.name = homes.table(&table.name);
    let key: Vec<usize> = table.key().to_vec();
    let mut room = KEY_BYTES;
    let mut long = 0;
    let choose = |c: &crate::schema::Column| match homes.type_of(&table.name, &c.name) {
        Some(sql) => Chosen { sql: sql.to_owned(), charset: "", remark: None },
        None => types::choose(&defaults::data_of(c), engine),
    };
    let chosen: Vec<Chosen> = table.columns.iter().map(choose).collect();
    for &k in &key {
        match chosen.get(k).map(|c| types::key_bytes(&c.sql, c.charset)) {
            Some(Some(n)) => room = room.saturating_sub(n),
            Some(None) => long += 1,
            None => {}
        }
    }
    for (i, (column, mut c)) in out.columns.iter_mut().zip(chosen).enumerate() {
        if key.contains(&i) && types::collates_as_table(&c) {
            c.charset = types::key_text(engine, settings.flavour);
        }
        if key.contains(&i) && types::key_bytes(&c.sql, c.charset).is_none() {
            let length = room / (4 * long.max(1));
            c.sql = if c.sql.ends_with("blob") {
                format!("varbinary({})", length * 4)
            } else {
                format!("varchar({length})")
            };
        }
        let form = super::forms::form(&c.sql);
        column.kind = if c.sql == "json" { crate::schema::Kind::Json } else { form.kind() };
        column.data = super::forms::data(&form);
        column.default = column
            .default
            .as_deref()
            .and_then(|d| defaults::of_expression(d, &column.type_name))
            .and_then(|d| defaults::clause(&d, &column.data, &c.sql, settings.flavour));
        column.type_name = format!("{}{}", c.sql, c.charset);
        column.collation = None;
        column.portable_binary = false;
    }
    out.generated.clear();
    out
}

/// The tables as [`adopt`] makes all of them together, in the order of `tables`.
///
/// # Errors
/// As [`adopt`].
pub fn adopted(
    defs: &[TableDef],
    (engine, flavour): (&str, Flavour),
    tables: &[Arc<Table>],
    homes: &Homes,
) -> Result<Vec<Table>> {
    let engine = if engine == "mariadb" { "mysql" } else { engine };
    let mut out = Vec::with_capacity(tables.len());
    for table in tables {
        let mut made = Table { name: homes.table(&table.name), generated: Vec::new(), ..(**table).clone() };
        if let Some(def) = defs.iter().find(|d| d.name == table.name) {
            let shaped = shape(def, defs, (engine, flavour), homes, &mut Vec::new())?;
            made.columns.retain(|c| shaped.column(&c.name).is_some());
            for column in &mut made.columns {
                let Some((c, chosen)) = shaped.column(&column.name) else { continue };
                let form = super::forms::form(&chosen.sql);
                (column.kind, column.data) = (form.kind(), super::forms::data(&form));
                column.type_name.clone_from(&chosen.sql);
                column.nullable = shaped.permits_null(c);
            }
        }
        out.push(made);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
