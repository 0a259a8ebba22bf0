//! The expressions of rules against a real PostgreSQL: the same text for the same values, and errors where it has errors.

mod cases;
mod random;

use std::fmt::Write;

use switchyard::schema::Kind;
use switchyard::transform::expr::{EvalError, Expr, Input, Scratch};
use switchyard::value::{Datum, Row};

use super::support::{Database, Sql};

/// A column of the table that expressions are tried on: name, SQL type as the catalog prints it, kind.
type Column = (&'static str, &'static str, Kind);

/// What came out: a text, NULL, or an error (whose words may differ).
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Text(String),
    Null,
    Failed(String),
}

impl Outcome {
    fn same(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Failed(_), Outcome::Failed(_)) => true,
            (a, b) => a == b,
        }
    }
}

fn inputs(columns: &[Column]) -> Vec<Input> {
    columns
        .iter()
        .map(|(name, type_name, kind)| Input {
            name: (*name).into(),
            kind: *kind,
            type_name: (*type_name).into(),
            nullable: true,
        })
        .collect()
}

/// The server evaluates any expression over any row in a function that catches its errors.
fn prepare(sql: &mut Sql, columns: &[Column], rows: &[Vec<Option<String>>]) {
    let mut definition = String::from("create table t (row_number int");
    for (name, type_name, _) in columns {
        let _ = write!(definition, ", {name} {type_name}");
    }
    sql.run(&(definition + ")"));
    for (number, row) in rows.iter().enumerate() {
        let values: Vec<String> = row.iter().map(|v| literal(v.as_deref())).collect();
        sql.run(&format!("insert into t values ({number}, {})", values.join(", ")));
    }
    // `format` prints what the output functions print, not what a cast to text would: `t`, not `true`.
    sql.run(
        "create function tried(expression text, n int) returns text language plpgsql as $$
         declare result text; begin
           execute format('select case when v is not null then format(''%%s'', v) end from (select (%s) as v
             from (select * from t where row_number = %s offset 0) as t offset 0) as x', expression, n) into result;
           return coalesce('=' || result, 'null');
         exception when others then return '!' || sqlerrm; end $$",
    );
}

fn literal(text: Option<&str>) -> String {
    text.map_or("null".into(), |t| format!("'{}'", t.replace('\'', "''")))
}

/// What the server makes of expressions over rows, in one query.
fn of_server(sql: &mut Sql, tried: &[(String, usize)]) -> Vec<Outcome> {
    let mut query = String::from("select tried(e, n) from (values ");
    for (i, (expression, row)) in tried.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(query, "{comma}({i}, {}, {row})", literal(Some(expression)));
    }
    let rows = sql.rows(&(query + ") as v (i, e, n) order by i"));
    rows.into_iter()
        .map(|mut row| {
            let text = row.swap_remove(0).unwrap();
            match text.split_at(1) {
                ("=", value) => Outcome::Text(value.into()),
                ("!", why) => Outcome::Failed(why.into()),
                _ => Outcome::Null,
            }
        })
        .collect()
}

/// What the engine makes of one.
fn of_engine(expression: &str, inputs: &[Input], row: &Row, scratch: &mut Scratch) -> Outcome {
    let expr = match Expr::compile(expression, inputs) {
        Ok(expr) => expr,
        Err(e) => return Outcome::Failed(format!("compile: {e}")),
    };
    match expr.eval(row, scratch) {
        Ok(Datum::Null) => Outcome::Null,
        Ok(Datum::Text(t)) => Outcome::Text(String::from_utf8(t.to_vec()).unwrap()),
        Ok(Datum::Unsent) | Err(EvalError::Unsent { .. }) => panic!("{expression}: nothing is unsent here"),
        Err(EvalError::Failed { message }) => Outcome::Failed(message),
    }
}

/// The rows as the server stores and prints them.
fn stored(sql: &mut Sql, columns: &[Column]) -> Vec<Row> {
    let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
    let rows = sql.rows(&format!("select {} from t order by row_number", names.join(", ")));
    rows.iter().map(|r| Row::from_texts(r.iter().map(Option::as_deref))).collect()
}

/// A session whose texts are canonical.
fn session(what: &str) -> (Database, Sql) {
    let database = Database::shared(what);
    let mut sql = database.on_source();
    sql.run("set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = postgres; set bytea_output = hex");
    (database, sql)
}

/// An expression whose outcomes differ.
struct Difference {
    shown: String,
    /// One side has a value where the other has an error.
    only_one_fails: bool,
}

fn compare(sql: &mut Sql, columns: &[Column], rows: &[Row], tried: &[(String, usize)]) -> Vec<Difference> {
    let inputs = inputs(columns);
    let mut scratch = Scratch::default();
    let expected = of_server(sql, tried);
    let mut wrong = Vec::new();
    for ((expression, row), expected) in tried.iter().zip(expected) {
        let found = of_engine(expression, &inputs, &rows[*row], &mut scratch);
        if !found.same(&expected) {
            let failed = |o: &Outcome| matches!(o, Outcome::Failed(_));
            wrong.push(Difference {
                shown: format!("{expression}   [row {row}]\n    server: {expected:?}\n    engine: {found:?}"),
                only_one_fails: failed(&found) != failed(&expected),
            });
        }
    }
    wrong
}
