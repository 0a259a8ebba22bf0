//! What a schema change of the source asks of documents. Pure.

use bson::{Document, doc};

use super::shape::Shape;
use super::words;
use crate::definition::DataType;
use crate::schema::{Column, Table};
use crate::value::Row;

/// A change of every document that has not had it yet; it can be repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// Which documents.
    pub filter: Document,
    /// How.
    pub update: Document,
    /// In words.
    pub says: String,
}

/// What is to be done, and what was there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// In order.
    pub rewrites: Vec<Rewrite>,
    /// What the target had, or need not have.
    pub had: Vec<String>,
}

/// What brings documents of `have` from `before` to `after`. `missing` holds, by column, what existing rows got; `rewritten`
/// says that rows which the target has may have got values that no log shows.
///
/// # Errors
/// Why it stops, in words for the operator.
pub fn plan(
    before: Option<&Table>,
    after: &Table,
    have: &Table,
    missing: &[(String, String)],
    rewritten: bool,
) -> Result<Steps, String> {
    let mut steps = Steps::default();
    let there = |name: &str| have.columns.iter().find(|c| c.name == name);
    let key = |t: &Table| -> Vec<String> {
        let mut names: Vec<String> = t.key().iter().filter_map(|&k| t.columns.get(k)).map(|c| c.name.clone()).collect();
        names.sort();
        names
    };
    if key(after) != key(have) {
        return Err(format!(
            "its key is ({}) now, and the documents' _id is made of ({})",
            key(after).join(", "),
            key(have).join(", ")
        ));
    }
    let Some(before) = before else {
        steps.had.push("the collection exists".into());
        return Ok(steps);
    };
    let shape = Shape::new(&std::sync::Arc::new(after.clone()), None)?;
    let is_key = |t: &Table, name: &str| key(t).iter().any(|k| k == name);
    let mut explained = !rewritten;
    for o in before.columns.iter().filter(|o| !after.columns.iter().any(|n| n.number == o.number)) {
        let again = after.columns.iter().any(|n| n.name == o.name || n.name.starts_with(&format!("{}.", o.name)));
        if again || is_key(have, &o.name) || there(&o.name).is_none() {
            steps.had.push(format!("column {} is gone", o.name));
            continue;
        }
        let mut unset = Document::new();
        unset.insert(o.name.clone(), "");
        steps.rewrites.push(Rewrite {
            filter: exists(&o.name, true),
            update: doc! { "$unset": unset },
            says: format!("removed {}", o.name),
        });
    }
    for n in &after.columns {
        let Some(o) = before.columns.iter().find(|o| o.number == n.number) else {
            let value = missing.iter().find(|(c, _)| *c == n.name);
            if rewritten && value.is_none() && (n.default.is_some() || n.identity.is_some()) {
                return Err(format!(
                    "existing rows got values in the new column {} that are computed row by row and not in the log",
                    n.name
                ));
            }
            let Some((_, text)) = value else {
                steps.had.push(format!("column {}: documents without it stand for NULL", n.name));
                continue;
            };
            let set = set(&shape, after, n, text).ok_or_else(|| {
                format!("the value that rows got in the new column {} is none of a document's", n.name)
            })?;
            steps.rewrites.push(Rewrite {
                filter: exists(&n.name, false),
                update: set,
                says: format!("set {} where it was not", n.name),
            });
            continue;
        };
        if o.name != n.name {
            if is_key(after, &n.name) {
                return Err(format!("column {} of the key is called {} now", o.name, n.name));
            }
            let mut rename = Document::new();
            rename.insert(o.name.clone(), n.name.clone());
            steps.rewrites.push(Rewrite {
                filter: exists(&o.name, true),
                update: doc! { "$rename": rename },
                says: format!("renamed {} to {}", o.name, n.name),
            });
        }
        let now = there(&o.name).or_else(|| there(&n.name)).unwrap_or(o);
        if now.type_name != n.type_name || (rewritten && now.data != n.data) {
            if !keeps_values(now, n) {
                return Err(format!(
                    "column {} is {} here and would be {} now: that can change values",
                    n.name, now.type_name, n.type_name
                ));
            }
            steps.had.push(format!("column {}: {} from now on", n.name, n.type_name));
            explained = true;
        }
    }
    explained |= !steps.rewrites.is_empty() && before.columns.len() != after.columns.len();
    if !explained {
        return Err("the source rewrote the table's rows, and the definitions do not say how".into());
    }
    Ok(steps)
}

fn exists(path: &str, is: bool) -> Document {
    let mut filter = Document::new();
    filter.insert(path, doc! { "$exists": is });
    filter
}

/// `{ $set: { column: value } }`.
fn set(shape: &Shape, table: &Table, column: &Column, text: &str) -> Option<Document> {
    let at = table.column(&column.name)?;
    let row = Row::from_texts((0..=at).map(|c| (c == at).then_some(text)));
    let mut out = Vec::new();
    shape.set(&mut out, &row, &[at]).ok()?;
    Document::from_reader(out.as_slice()).ok()
}

/// Whether values that are here already are equal, to MongoDB, to what the source made of them: numbers of all types
/// compare by their value.
fn keeps_values(from: &Column, to: &Column) -> bool {
    let whole = |c: &Column| matches!(c.type_name.as_str(), "int" | "long");
    let (of, will) = (words::form(from, false).0, words::form(to, false).0);
    match (&from.data, &to.data) {
        (DataType::Decimal { scale: a, .. }, DataType::Decimal { scale: b, .. }) => a <= b,
        (DataType::Varchar { .. } | DataType::Text { .. }, DataType::Varchar { .. } | DataType::Text { .. }) => true,
        (DataType::Enum { .. }, DataType::Enum { .. }) => true,
        (a, b) if a == b && of == will => true,
        _ if whole(from) && (to.type_name == "long" || (to.type_name == "decimal" && of != will)) => true,
        _ => from.type_name == "int" && to.type_name == "int",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Kind, RowIdentity, TableId, TableName};

    fn table(columns: &[(&str, i32, DataType)]) -> Table {
        let column = |(name, number, data): &(&str, i32, DataType)| Column {
            name: (*name).into(),
            number: *number,
            type_name: words::word(data, Kind::Other, ""),
            kind: Kind::Other,
            data: data.clone(),
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        };
        Table {
            id: TableId(0),
            name: TableName::new("shop", "t"),
            columns: columns.iter().map(column).collect(),
            generated: Vec::new(),
            identity: RowIdentity::Key(vec![0]),
            full_old_rows: false,
            full_old_rows_by: String::new(),
            has_secondary_unique: false,
            partitioned: false,
            estimated_rows: 0,
            bytes: 0,
        }
    }

    #[test]
    fn given_changes_when_planned_then_documents_are_changed_once_or_it_stops() {
        let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
        let text = || DataType::Text { bytes: None };
        let id = ("id", 1, int(32));
        let old = table(&[id.clone(), ("a", 2, text()), ("n", 3, int(32))]);
        let added = table(&[id.clone(), ("a", 2, text()), ("n", 3, int(32)), ("x", 4, int(32))]);
        let steps = plan(Some(&old), &added, &old, &[("x".into(), "7".into())], false).unwrap();
        assert_eq!(steps.rewrites[0].filter, doc! { "x": { "$exists": false } });
        assert_eq!(steps.rewrites[0].update, doc! { "$set": { "x": 7 } });
        assert!(plan(Some(&old), &added, &old, &[], false).unwrap().rewrites.is_empty());
        let renamed = table(&[id.clone(), ("b", 2, text()), ("n", 3, int(64))]);
        let steps = plan(Some(&old), &renamed, &old, &[], true).unwrap();
        assert_eq!(steps.rewrites[0].update, doc! { "$rename": { "a": "b" } });
        let dropped = table(&[id.clone(), ("a", 2, text())]);
        let steps = plan(Some(&old), &dropped, &old, &[], false).unwrap();
        assert_eq!(steps.rewrites[0].update, doc! { "$unset": { "n": "" } });
        let retyped = table(&[id.clone(), ("a", 2, int(32)), ("n", 3, int(32))]);
        assert!(plan(Some(&old), &retyped, &old, &[], true).is_err());
        assert!(plan(Some(&old), &old, &old, &[], true).is_err());
        let mut rekeyed = old.clone();
        rekeyed.identity = RowIdentity::Key(vec![2]);
        assert!(plan(Some(&old), &rekeyed, &old, &[], false).is_err());
    }
}
