//! Tables, columns, keys and row identities as `information_schema` has them, in a fixed number of queries for any number
//! of tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mysql_async::Conn;

use super::cascade::Cascade;
use super::columns;
use super::ddl::shadow::{belongs, shadow_of};
use super::misprints::{self, Mended};
use crate::definition::{
    ColumnDef, DataType, DefaultValue, ForeignAction, ForeignKeyDef, IndexDef, KeyColumn, TableDef,
};
use crate::error::Result;
use crate::mywire::control;
use crate::mywire::quote::{qualified, read_printed};
use crate::mywire::types::ColumnType;
use crate::schema::{Column, Identity, Kind, RowIdentity, Table, TableName};
use crate::source::ids::TableIds;
use crate::transform::select::Selection;

/// Schemas of the server itself, and ours.
const NOT_USERS: &str = "'mysql','information_schema','performance_schema','sys','switchyard'";

/// A table with what only this engine needs to know of it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The table in everyone's words.
    pub table: Arc<Table>,
    /// What each of `table.columns` holds, or why it cannot be carried.
    pub types: Vec<Result<ColumnType, String>>,
    /// The whole definition.
    pub def: TableDef,
    /// `InnoDB`.
    pub engine: String,
    /// Bytes of a row, by the server's statistics.
    pub row_bytes: u64,
}

/// All selected tables in name order, and the views and other things beside them that stay behind.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The tables.
    pub tables: Vec<Described>,
    /// Copies of tables that tools for schema changes work on (gh-ost's `_t_gho`): no tables of their own.
    pub shadows: Vec<Described>,
    /// Views, routines, events and triggers in the schemas of the selection: `view shop.totals`.
    pub beside: Vec<String>,
    /// Foreign keys of all tables, also those that are not selected, that change rows by themselves.
    pub cascades: Vec<Cascade>,
    /// What the server printed otherwise than it is; the tables have it as it is.
    pub mended: Mended,
}

type Rows = Vec<Vec<Option<String>>>;

/// Reads the catalog.
///
/// # Errors
/// Of the connection.
pub async fn read(conn: &mut Conn, mariadb: bool, selection: &Selection, ids: &TableIds) -> Result<Catalog> {
    let doing = "reading the source's catalog";
    let mut ask = async |sql: String| -> Result<Rows> { control::rows(conn, doing, &sql).await };
    let tables = ask(format!(
        "SELECT table_schema, table_name, engine, COALESCE(table_rows, 0), COALESCE(data_length, 0), \
         COALESCE(avg_row_length, 0), table_comment, table_type, create_options FROM information_schema.tables \
         WHERE table_schema NOT IN ({NOT_USERS}) ORDER BY table_schema, table_name"
    ))
    .await?;
    let mut columns = ask(format!(
        "SELECT table_schema, table_name, column_name, ordinal_position, column_default, is_nullable, column_type, \
         character_set_name, collation_name, extra, generation_expression, column_comment \
         FROM information_schema.columns WHERE table_schema NOT IN ({NOT_USERS}) \
         ORDER BY table_schema, table_name, ordinal_position"
    ))
    .await?;
    let has_expressions = !ask("SELECT 1 FROM information_schema.columns WHERE table_schema = 'information_schema' \
         AND table_name = 'STATISTICS' AND column_name = 'EXPRESSION'"
        .into())
    .await?
    .is_empty();
    let expression = if has_expressions { "expression" } else { "NULL" };
    let statistics = ask(format!(
        "SELECT table_schema, table_name, index_name, non_unique, column_name, sub_part, collation, index_type, \
         {expression} FROM information_schema.statistics WHERE table_schema NOT IN ({NOT_USERS}) \
         ORDER BY table_schema, table_name, index_name, seq_in_index"
    ))
    .await?;
    let mut references = ask(format!(
        "SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema, \
         k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule \
         FROM information_schema.key_column_usage k LEFT JOIN information_schema.referential_constraints r \
         ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name \
         AND r.table_name = k.table_name \
         WHERE k.table_schema NOT IN ({NOT_USERS}) AND k.referenced_table_name IS NOT NULL \
         ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position"
    ))
    .await?;
    // MariaDB hides what a foreign key does from accounts that may only read; the table's own statement does not.
    let mut hidden: Vec<TableName> = references
        .iter()
        .filter(|r| maybe(r, 7).is_none())
        .map(|r| TableName::new(text(r, 0), text(r, 1)))
        .filter(|t| selection.selects(t))
        .collect();
    hidden.dedup();
    for table in hidden {
        let shown = ask(format!("SHOW CREATE TABLE {}", qualified(&table))).await?;
        let statement = shown.first().map(|r| text(r, 1)).unwrap_or_default();
        for r in references.iter_mut().filter(|r| text(r, 0) == table.schema && text(r, 1) == table.name) {
            let (on_delete, on_update) = actions(&statement, &text(r, 2));
            r[7] = Some(on_delete);
            r[8] = Some(on_update);
        }
    }
    let triggers = ask(format!(
        "SELECT event_object_schema, event_object_table, trigger_name FROM information_schema.triggers \
         WHERE event_object_schema NOT IN ({NOT_USERS}) ORDER BY 1, 2, 3"
    ))
    .await?;
    let routines = ask(format!(
        "SELECT routine_schema, routine_name, LOWER(routine_type) FROM information_schema.routines \
         WHERE routine_schema NOT IN ({NOT_USERS}) ORDER BY 1, 2"
    ))
    .await?;
    let events = ask(format!(
        "SELECT event_schema, event_name FROM information_schema.events \
         WHERE event_schema NOT IN ({NOT_USERS}) ORDER BY 1, 2"
    ))
    .await?;

    // MariaDB's JSON is a long text with a check; nothing else tells it.
    let documents = match mariadb {
        true => {
            ask(format!(
                "SELECT constraint_schema, table_name, check_clause FROM information_schema.check_constraints \
                 WHERE constraint_schema NOT IN ({NOT_USERS}) AND check_clause LIKE 'json_valid(%'"
            ))
            .await?
        }
        false => Vec::new(),
    };

    let whole: BTreeSet<TableName> = tables
        .iter()
        .filter(|t| text(t, 7) == "BASE TABLE")
        .map(|t| TableName::new(text(t, 0), text(t, 1)))
        .filter(|t| selection.selects(t))
        .collect();
    let mended = misprints::mend(conn, mariadb, |t| whole.contains(t), &mut columns).await?;
    let cascades = cascades(&references);
    let mut of_table = ByTable::default();
    of_table.fill(columns, |t| &mut t.columns);
    of_table.fill(statistics, |t| &mut t.statistics);
    of_table.fill(references, |t| &mut t.references);
    of_table.fill(triggers, |t| &mut t.triggers);
    of_table.fill(documents, |t| &mut t.documents);
    let mut catalog = Catalog { cascades, mended, ..Catalog::default() };
    let mut schemas: Vec<String> = Vec::new();
    for row in &tables {
        let name = TableName::new(text(row, 0), text(row, 1));
        if !selection.selects(&name) {
            continue;
        }
        schemas.push(name.schema.clone());
        match text(row, 7).as_str() {
            "BASE TABLE" => {
                let parts = of_table.0.remove(&name).unwrap_or_default();
                catalog.tables.push(describe(name, row, &parts, ids));
            }
            // MariaDB's versioned tables and sequences are no plain tables.
            "VIEW" => catalog.beside.push(format!("view {name}")),
            other => catalog.beside.push(format!("{} {name}", other.to_lowercase())),
        }
    }
    let all: Vec<TableName> = catalog.tables.iter().map(|d| d.table.name.clone()).collect();
    let is_shadow = |t: &TableName| shadow_of(t).is_some_and(|(of, _)| all.iter().any(|a| belongs(&of, a)));
    (catalog.shadows, catalog.tables) = catalog.tables.into_iter().partition(|d| is_shadow(&d.table.name));
    for d in &catalog.shadows {
        catalog.beside.push(format!("{} (taken for the work of a schema change)", d.table.name));
    }
    schemas.dedup();
    let within = |schema: &str| schemas.iter().any(|s| s == schema);
    for r in routines.iter().filter(|r| within(&text(r, 0))) {
        catalog.beside.push(format!("{} {}", text(r, 2), TableName::new(text(r, 0), text(r, 1))));
    }
    for e in events.iter().filter(|e| within(&text(e, 0))) {
        catalog.beside.push(format!("event {}", TableName::new(text(e, 0), text(e, 1))));
    }
    let selected: Vec<TableName> = catalog.tables.iter().map(|d| d.table.name.clone()).collect();
    for d in &mut catalog.tables {
        // A key to a table that is left out cannot be made on the target.
        let (kept, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut d.def.foreign_keys).into_iter().partition(|f| selected.contains(&f.references));
        d.def.foreign_keys = kept;
        d.def
            .left_behind
            .extend(left.iter().map(|f| format!("foreign key {} to {}, which is not selected", f.name, f.references)));
    }
    Ok(catalog)
}

/// What the queries said about one table.
#[derive(Default)]
struct Parts {
    columns: Rows,
    statistics: Rows,
    references: Rows,
    triggers: Rows,
    /// Checks that a column holds JSON.
    documents: Rows,
}

#[derive(Default)]
struct ByTable(HashMap<TableName, Parts>);

impl ByTable {
    fn fill(&mut self, rows: Rows, part: impl Fn(&mut Parts) -> &mut Rows) {
        for row in rows {
            let name = TableName::new(text(&row, 0), text(&row, 1));
            part(self.0.entry(name).or_default()).push(row);
        }
    }
}

fn text(row: &[Option<String>], at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

fn maybe(row: &[Option<String>], at: usize) -> Option<String> {
    row.get(at).cloned().flatten().filter(|t| !t.is_empty())
}

fn number(row: &[Option<String>], at: usize) -> u64 {
    text(row, at).parse().unwrap_or(0)
}

fn describe(name: TableName, row: &[Option<String>], parts: &Parts, ids: &TableIds) -> Described {
    let mut table = Table {
        id: ids.id(&name),
        name: name.clone(),
        columns: Vec::new(),
        generated: Vec::new(),
        identity: RowIdentity::AllColumns,
        full_old_rows: true,
        full_old_rows_by: columns::WHOLE_ROWS_BY.to_owned(),
        has_secondary_unique: false,
        partitioned: text(row, 8).contains("partitioned"),
        estimated_rows: number(row, 3),
        bytes: number(row, 4),
    };
    let mut def = TableDef {
        name,
        columns: Vec::new(),
        primary_key: Vec::new(),
        indexes: Vec::new(),
        foreign_keys: Vec::new(),
        checks: Vec::new(),
        comment: maybe(row, 6),
        left_behind: Vec::new(),
    };
    let mut types = Vec::new();
    for c in &parts.columns {
        let (mut column, mut defined, charset) = column(c);
        let check = format!("json_valid(`{}`)", column.name.replace('`', "``"));
        if column.type_name == "longtext" && parts.documents.iter().any(|d| text(d, 2).eq_ignore_ascii_case(&check)) {
            (column.data, column.kind) = (DataType::Json { verbatim: true }, Kind::Json);
            defined.data = column.data.clone();
        }
        let generated = defined.generated.is_some();
        if !generated {
            types.push(ColumnType::parse(&column.type_name, charset.as_deref()).map_err(|e| e.message().to_owned()));
        }
        def.columns.push(defined);
        if generated { &mut table.generated } else { &mut table.columns }.push(column);
    }
    indexes(&mut def, &parts.statistics);
    let (identity, name_of_key) = identity(&table, &def);
    table.identity = identity;
    table.has_secondary_unique = def.indexes.iter().any(|i| i.unique && Some(&i.name) != name_of_key.as_ref());
    references(&mut def, &parts.references);
    def.left_behind.extend(parts.triggers.iter().map(|t| format!("trigger {}", text(t, 2))));
    let rows = table.estimated_rows.max(1);
    let row_bytes = number(row, 5).max(table.bytes / rows).max(1);
    Described { table: Arc::new(table), types, def, engine: text(row, 2), row_bytes }
}

fn column(c: &[Option<String>]) -> (Column, ColumnDef, Option<String>) {
    let (name, type_name, extra) = (text(c, 2), text(c, 6), text(c, 9).to_lowercase());
    let (data, kind) = columns::describe(&type_name);
    let nullable = text(c, 5) == "YES";
    let numbered = extra.contains("auto_increment");
    let generated = maybe(c, 10);
    let default = c.get(4).cloned().flatten();
    let computed = extra.contains("default_generated");
    let on_update = extra.contains("on update");
    let comment = maybe(c, 11);
    let column = Column {
        name: name.clone(),
        number: number(c, 3) as i32,
        type_name: type_name.clone(),
        kind,
        data: data.clone(),
        nullable,
        identity: numbered.then_some(Identity::ByDefault),
        default: generated.clone().or_else(|| default.clone()),
        collation: maybe(c, 8),
        portable_binary: false,
    };
    let default = match default {
        _ if generated.is_some() => DefaultValue::None,
        None => DefaultValue::None,
        Some(d) => default_value(&d, computed, on_update, &data),
    };
    let travels = generated.is_none();
    let defined = ColumnDef { name, data, type_name, nullable, default, numbered, generated, travels, comment };
    (column, defined, maybe(c, 7))
}

/// A default as the catalog prints it: MySQL prints constants bare and marks expressions in EXTRA, MariaDB prints every
/// default as an expression, constants in quotes.
pub fn default_value(text: &str, computed: bool, on_update: bool, data: &crate::definition::DataType) -> DefaultValue {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("current_timestamp") || lower.starts_with("now(") || lower.starts_with("(now(") {
        return DefaultValue::Now { on_update };
    }
    if lower == "null" {
        return DefaultValue::None;
    }
    if matches!(lower.as_str(), "uuid()" | "(uuid())") {
        return DefaultValue::RandomUuid;
    }
    if matches!(lower.as_str(), "curdate()" | "(curdate())" | "current_date()" | "curdate") {
        return DefaultValue::Today;
    }
    // A bit literal.
    if let (DataType::Bits { length, .. }, Some(bits)) =
        (data, lower.strip_prefix("b'").and_then(|t| t.strip_suffix('\'')))
    {
        let width = length.unwrap_or(1) as usize;
        return DefaultValue::Literal(format!("{bits:0>width$}"));
    }
    if let Some(quoted) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        let constant = read_printed(text).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| text);
        return DefaultValue::Literal(constant.unwrap_or_else(|| quoted.to_owned()));
    }
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if computed || (!is_number && text.contains('(')) {
        return DefaultValue::Expression(text.to_owned());
    }
    DefaultValue::Literal(text.to_owned())
}

fn indexes(def: &mut TableDef, statistics: &Rows) {
    let mut by_name: BTreeMap<String, IndexDef> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for s in statistics {
        let name = text(s, 2);
        let index = by_name.entry(name.clone()).or_insert_with(|| {
            order.push(name.clone());
            let method = text(s, 7);
            IndexDef {
                name: name.clone(),
                columns: Vec::new(),
                unique: text(s, 3) == "0",
                nulls_equal: false,
                method: (method != "BTREE").then(|| method.to_lowercase()),
                peculiar: None,
            }
        });
        match maybe(s, 4) {
            Some(column) => index.columns.push(KeyColumn {
                name: column,
                descending: text(s, 6) == "D",
                prefix: maybe(s, 5).and_then(|p| p.parse().ok()),
            }),
            None => index.peculiar = maybe(s, 8).or_else(|| Some("an expression".into())),
        }
    }
    for name in order {
        let Some(index) = by_name.remove(&name) else { continue };
        if name == "PRIMARY" { def.primary_key = index.columns } else { def.indexes.push(index) }
    }
}

/// What finds a row: the primary key, else a unique index without NULLs over whole columns, else the whole row. With
/// the index's name, if it is one.
fn identity(table: &Table, def: &TableDef) -> (RowIdentity, Option<String>) {
    let places = |columns: &[KeyColumn]| -> Option<Vec<usize>> {
        (!columns.is_empty()).then(|| columns.iter().map(|c| table.column(&c.name)).collect()).flatten()
    };
    if let Some(key) = places(&def.primary_key) {
        return (RowIdentity::Key(key), None);
    }
    for index in def.indexes.iter().filter(|i| i.unique && i.peculiar.is_none()) {
        let Some(key) = places(&index.columns) else { continue };
        if index.columns.iter().all(|c| c.prefix.is_none()) && key.iter().all(|&k| !table.columns[k].nullable) {
            return (RowIdentity::Key(key), Some(index.name.clone()));
        }
    }
    (RowIdentity::AllColumns, None)
}

fn references(def: &mut TableDef, rows: &Rows) {
    for r in rows {
        let name = text(r, 2);
        if def.foreign_keys.last().is_none_or(|f| f.name != name) {
            let (on_delete, on_update) = (action(&text(r, 7)), action(&text(r, 8)));
            def.foreign_keys.push(ForeignKeyDef {
                name,
                columns: Vec::new(),
                references: TableName::new(text(r, 4), text(r, 5)),
                referenced: Vec::new(),
                on_delete,
                on_update,
            });
        }
        if let Some(key) = def.foreign_keys.last_mut() {
            key.columns.push(text(r, 3));
            key.referenced.push(text(r, 6));
        }
    }
}

/// The foreign keys that change rows by themselves.
fn cascades(rows: &Rows) -> Vec<Cascade> {
    let acts = |rule: &str| {
        matches!(action(rule), ForeignAction::Cascade | ForeignAction::SetNull | ForeignAction::SetDefault)
    };
    let mut all: Vec<Cascade> = Vec::new();
    for r in rows {
        let (child, name) = (TableName::new(text(r, 0), text(r, 1)), Some(text(r, 2)));
        if all.last().is_none_or(|c| c.child != child || c.name != name) {
            let parent = TableName::new(text(r, 4), text(r, 5));
            let (on_delete, on_update) = (acts(&text(r, 7)), acts(&text(r, 8)));
            all.push(Cascade {
                name,
                child,
                columns: Vec::new(),
                parent,
                referenced: Vec::new(),
                on_delete,
                on_update,
            });
        }
        if let Some(key) = all.last_mut() {
            key.columns.push(text(r, 3));
            key.referenced.push(text(r, 6));
        }
    }
    all.retain(|c| c.on_delete || c.on_update);
    all
}

/// What a foreign key does on DELETE and on UPDATE, by the table's own statement.
fn actions(statement: &str, name: &str) -> (String, String) {
    let start = format!("CONSTRAINT `{}` FOREIGN KEY ", name.replace('`', "``"));
    let line = statement.lines().map(str::trim_start).find(|l| l.starts_with(&start)).unwrap_or("");
    // The clauses stand at the end; names before them are quoted.
    let rest = line.rsplit_once(')').map_or("", |(_, rest)| rest);
    let of = |word: &str| {
        let said = rest.split_once(word).map_or("", |(_, said)| said.trim_start());
        let known = ["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT"];
        known.iter().find(|a| said.starts_with(*a)).map_or("NO ACTION", |a| a).to_owned()
    };
    (of(" ON DELETE "), of(" ON UPDATE "))
}

fn action(rule: &str) -> ForeignAction {
    match rule {
        "CASCADE" => ForeignAction::Cascade,
        "SET NULL" => ForeignAction::SetNull,
        "SET DEFAULT" => ForeignAction::SetDefault,
        "RESTRICT" => ForeignAction::Restrict,
        _ => ForeignAction::NoAction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_printed_foreign_key_when_read_then_its_actions_are_known() {
        let text = "CREATE TABLE `c` (\n  `p` int,\n  CONSTRAINT `f)` FOREIGN KEY (`p`) REFERENCES `a b` (`id`) ON DELETE SET NULL ON UPDATE CASCADE,\n  \
                    CONSTRAINT `g` FOREIGN KEY (`p`) REFERENCES `x` (`id`)\n)";
        assert_eq!(actions(text, "f)"), ("SET NULL".into(), "CASCADE".into()));
        assert_eq!(actions(text, "g"), ("NO ACTION".into(), "NO ACTION".into()));
    }

    #[test]
    fn given_defaults_of_both_flavours_when_read_then_constants_are_constants() {
        let text = DataType::Varchar { length: 10 };
        let value = |t: &str, computed: bool| default_value(t, computed, false, &text);
        assert_eq!(value("a b", false), DefaultValue::Literal("a b".into()));
        assert_eq!(value("'it''s'", false), DefaultValue::Literal("it's".into()));
        assert_eq!(value("0.50", false), DefaultValue::Literal("0.50".into()));
        assert_eq!(value("current_timestamp(6)", false), DefaultValue::Now { on_update: false });
        assert_eq!(value("NULL", false), DefaultValue::None);
        assert_eq!(value("(`a` + 1)", true), DefaultValue::Expression("(`a` + 1)".into()));
        let bits = DataType::Bits { length: Some(4), varying: false };
        assert_eq!(default_value("b'101'", false, false, &bits), DefaultValue::Literal("0101".into()));
    }
}
