//! `switchyard transform`: shows what the rules make of a row, and what a reverse stream would make of that.

use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Global;
use super::output::{print_json, print_text};
use crate::error::{Error, Result};
use crate::pipeline::ruled;
use crate::schema::{Kind, Table, TableName};
use crate::transform::Compiled;
use crate::transform::expr::Scratch;
use crate::transform::select;
use crate::value::{Datum, Row, RowBuilder};

/// Show a row before and after the rules, and what reverse would make of it
#[derive(Args, Clone, Debug)]
#[command(after_help = "Both servers are asked for their tables; nothing is changed, and the row need not exist.

Examples:
  switchyard transform -c switchyard.toml --table public.v3_field_mappings --row '{\"id\": 7, \"is_approved\": true}'

Exit statuses: 0; 1 the rules cannot be carried out on this row; 2 wrong usage or configuration.")]
pub struct TransformArgs {
    /// The source's table
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// A row as a JSON object; columns that it leaves out are NULL
    #[arg(long, value_name = "JSON")]
    row: String,
}

pub async fn run(global: &Global, args: &TransformArgs) -> Result<u8> {
    let config = global.load()?;
    global.log_to_stderr()?;
    let name = select::table_name(&args.table, Some("public")).map_err(|e| Error::config(format!("--table: {e}")))?;
    let rules = config.rules()?;
    let source = crate::source::open(config.source_options()?)?;
    let target = crate::target::open(config.target_options())?;
    let tables = source.tables().await?;
    let Some(table) = tables.iter().find(|t| t.name == name) else {
        return Err(Error::config(format!("--table: the source has no table {name}, or [tables] leaves it out")));
    };
    let row = read(table, &args.row)?;
    let sources: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    let names = rules.targets_of(&name);
    let made = config.target.create_schema;
    let mut targets = ruled::targets(&rules, source.engine(), &tables, target.as_ref(), made).await?;
    if let Some((_, e)) =
        targets.errors.iter().position(|(t, _)| names.contains(t)).map(|i| targets.errors.swap_remove(i))
    {
        return Err(e);
    }
    let there = target.tables(&names).await?;
    let has = |n: &TableName| names.iter().position(|m| m == n).and_then(|i| there.get(i)?.clone());
    let find = |n: &TableName| targets.find(n).or_else(|| has(n));
    let compiled = Compiled::with_rules(&rules, table, &sources, &find)?;
    let mut scratch = Scratch::default();
    let mut after = Vec::new();
    for output in &compiled.outputs {
        let mut rows = Vec::new();
        output.rows(&row, &mut scratch, &mut rows)?;
        let reverse = rows.iter().find_map(|r| output.undo(r, table.columns.len(), &mut scratch));
        after.push((output.target.clone(), rows, reverse));
    }
    let losses = compiled.losses();
    if global.json {
        let after: Vec<Value> = after
            .iter()
            .map(|(t, rows, reverse)| {
                json!({
                    "table": t.name.to_string(),
                    "rows": rows.iter().map(|r| object(t, r)).collect::<Vec<_>>(),
                    "reverse": reverse.as_ref().map(|r| object(table, r)),
                })
            })
            .collect();
        print_json(&json!({"table": name.to_string(), "before": object(table, &row), "after": after, "lossy": losses}));
    } else {
        print_text(&text(table, &row, &after, &losses));
    }
    Ok(0)
}

type After = (Arc<Table>, Vec<Row>, Option<Row>);

fn text(table: &Table, row: &Row, after: &[After], losses: &[String]) -> String {
    let mut out = format!("{} (source)\n{}", table.name, lines(table, row));
    for (target, rows, reverse) in after {
        out.push_str(&format!("\n→ {}\n", target.name));
        if rows.is_empty() {
            out.push_str("    no row\n");
        }
        for (i, row) in rows.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            out.push_str(&lines(target, row));
        }
        if let Some(back) = reverse {
            out.push_str(&format!("← reverse, into {}\n{}", table.name, lines(table, back)));
        }
    }
    if !losses.is_empty() {
        out.push_str("\nWhat a reverse stream cannot bring back:\n");
        for l in losses {
            out.push_str(&format!("  {l}\n"));
        }
    }
    out.trim_end().to_owned()
}

fn lines(table: &Table, row: &Row) -> String {
    let wide = table.columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let value = match row.get(i) {
                Datum::Null => "NULL".to_owned(),
                Datum::Unsent => "(not known)".to_owned(),
                Datum::Text(t) => String::from_utf8_lossy(t).into_owned(),
            };
            format!("    {:wide$}  {value}\n", c.name)
        })
        .collect()
}

/// A row as JSON: texts in canonical form, NULL as null; what is not known is left out.
fn object(table: &Table, row: &Row) -> Value {
    let mut out = Map::new();
    for (i, c) in table.columns.iter().enumerate() {
        match row.get(i) {
            Datum::Unsent => {}
            Datum::Null => {
                out.insert(c.name.clone(), Value::Null);
            }
            Datum::Text(t) => {
                out.insert(c.name.clone(), Value::String(String::from_utf8_lossy(t).into_owned()));
            }
        }
    }
    Value::Object(out)
}

fn read(table: &Table, text: &str) -> Result<Row> {
    let given: Map<String, Value> = serde_json::from_str(text).map_err(|e| {
        Error::config(format!("--row: this is not a JSON object ({e})")).hint("write '{\"id\": 1, \"name\": \"x\"}'")
    })?;
    if let Some(unknown) = given.keys().find(|k| table.column(k).is_none()) {
        let all: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        return Err(Error::config(format!("--row: {} has no column {unknown:?}", table.name))
            .hint(format!("it has {}", all.join(", "))));
    }
    let mut b = RowBuilder::with_capacity(table.columns.len(), text.len());
    for c in &table.columns {
        let json = matches!(c.kind, Kind::Json | Kind::Jsonb);
        let value = match given.get(&c.name) {
            None => None,
            Some(Value::Null) => None,
            Some(v) if json => Some(v.to_string()),
            Some(Value::String(s)) => Some(s.clone()),
            Some(Value::Bool(b)) if c.kind == Kind::Bool => Some(if *b { "t" } else { "f" }.to_owned()),
            Some(Value::Array(items)) if c.type_name.ends_with("[]") => Some(array(items)),
            Some(v) => Some(v.to_string()),
        };
        b.push(value.as_ref().map_or(Datum::Null, |v| Datum::Text(v.as_bytes())));
    }
    Ok(b.finish())
}

fn array(items: &[Value]) -> String {
    let element = |v: &Value| match v {
        Value::Null => "NULL".to_owned(),
        Value::String(s) => format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"")),
        other => other.to_string(),
    };
    format!("{{{}}}", items.iter().map(element).collect::<Vec<_>>().join(","))
}
