//! Compares the demo's documents with the rows that the rules make of them, on its own: every document is read here, what its
//! rows must be is written down once more, and the tables are read as text.

use bson::{Bson, Document};
use serde_json::Value;
use uuid::Uuid;

use super::canonical::Form;
use super::compare::{Balance, Compared, Definitions, ask, held, named};
use super::documents::Documents;
use super::side::{Session, TextRow};
use crate::error::{Error, Result};

const PEOPLE: Uuid = Uuid::from_u128(0x1e8f0c52_0000_4000_8000_000000000001);
const ARTICLES: Uuid = Uuid::from_u128(0x2e8f0c52_0000_4000_8000_000000000002);
const ORDERS: Uuid = Uuid::from_u128(0x3e8f0c52_0000_4000_8000_000000000003);

/// A table, the collection that it is made of, and what a document's rows are.
struct Made {
    table: &'static str,
    collection: &'static str,
    /// What is asked of the table, and whether the answer is JSON.
    columns: &'static [(&'static str, bool)],
    rows: fn(&Document) -> Option<Vec<TextRow>>,
}

const MADE: [Made; 8] = [
    Made {
        table: "people",
        collection: "people",
        columns: &[
            ("id", false),
            ("legacy_id", false),
            ("name", false),
            ("email", false),
            ("born", false),
            ("trim_scale(credit)", false),
            ("to_char(joined, 'YYYY-MM-DD HH24:MI:SS.MS')", false),
            ("vip::int", false),
            ("to_json(tags)", true),
            ("address_city", false),
            ("address_zip", false),
            ("last_write", false),
            ("more", true),
        ],
        rows: |d| {
            let named = ["name", "email", "born", "credit", "joined", "vip", "tags", "last_write"];
            let mut row = vec![Some(key(PEOPLE, d.get("_id"))?), text(d.get("_id"))];
            row.extend([text(d.get("name")), text(d.get("email")), day(d.get("born")), text(d.get("credit"))]);
            // A field that is missing takes the default, one that is null does not.
            row.extend([text(d.get("joined")), text(Some(d.get("vip").unwrap_or(&Bson::Boolean(false))))]);
            let address = d.get_document("address").ok();
            let within = |name: &str| text(address.and_then(|a| a.get(name)));
            row.extend([json(d.get("tags")), within("city"), within("zip"), text(d.get("last_write"))]);
            row.push(rest(d, &named, Some(("address", &["city", "zip"]))));
            Some(vec![row])
        },
    },
    Made {
        table: "articles",
        collection: "articles",
        columns: &[
            ("id", false),
            ("legacy_id", false),
            ("code", false),
            ("title", false),
            ("trim_scale(price)", false),
            ("to_json(weight)", true),
            ("encode(picture, 'hex')", false),
            ("last_write", false),
            ("more", true),
        ],
        rows: |d| {
            let named = ["code", "title", "price", "weight", "picture", "related", "last_write"];
            let mut row = vec![Some(key(ARTICLES, d.get("_id"))?), text(d.get("_id")), text(d.get("code"))];
            row.extend([text(d.get("title")), text(d.get("price")), json(d.get("weight")), text(d.get("picture"))]);
            row.extend([text(d.get("last_write")), rest(d, &named, None)]);
            Some(vec![row])
        },
    },
    Made {
        table: "article_related",
        collection: "articles",
        columns: &[("article_id", false), ("position", false), ("related_id", false)],
        rows: |d| {
            let article = key(ARTICLES, d.get("_id"))?;
            let items = d.get_array("related").ok()?.iter().enumerate();
            let row = |(i, item): (usize, &Bson)| {
                Some(vec![Some(article.clone()), Some((i + 1).to_string()), key(ARTICLES, Some(item))])
            };
            items.map(row).collect()
        },
    },
    Made {
        table: "orders",
        collection: "orders",
        columns: &[
            ("id", false),
            ("legacy_id", false),
            ("person_id", false),
            ("to_char(created, 'YYYY-MM-DD HH24:MI:SS.MS')", false),
            ("state", false),
            ("trim_scale(total)", false),
            ("last_write", false),
            ("more", true),
        ],
        rows: |d| {
            let named = ["person", "created", "state", "total", "items", "last_write"];
            let mut row = vec![Some(key(ORDERS, d.get("_id"))?), text(d.get("_id"))];
            let placed = Bson::String("placed".into());
            row.extend([Some(key(PEOPLE, d.get("person"))?), text(d.get("created"))]);
            row.extend([text(Some(d.get("state").unwrap_or(&placed))), text(d.get("total"))]);
            row.extend([text(d.get("last_write")), rest(d, &named, None)]);
            Some(vec![row])
        },
    },
    Made {
        table: "order_items",
        collection: "orders",
        columns: &[
            ("order_id", false),
            ("position", false),
            ("article_id", false),
            ("quantity", false),
            ("trim_scale(price)", false),
            ("note", false),
        ],
        rows: |d| {
            let order = key(ORDERS, d.get("_id"))?;
            let items = d.get_array("items").ok()?.iter().enumerate();
            let row = |(i, item): (usize, &Bson)| {
                let item = item.as_document()?;
                let (article, quantity) = (key(ARTICLES, item.get("article")), text(item.get("quantity")));
                let (price, note) = (text(item.get("price")), text(item.get("note")));
                Some(vec![Some(order.clone()), Some((i + 1).to_string()), article, quantity, price, note])
            };
            items.map(row).collect()
        },
    },
    Made {
        table: "events",
        collection: "events",
        columns: &[
            ("_id", false),
            ("to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS')", false),
            ("kind", false),
            ("payload", true),
            ("write_id", false),
            ("more", true),
        ],
        rows: |d| {
            let mut row = vec![text(d.get("_id")), text(d.get("at")), text(d.get("kind")), json(d.get("payload"))];
            row.extend([text(d.get("write_id")), rest(d, &["at", "kind", "payload", "write_id"], None)]);
            Some(vec![row])
        },
    },
    // No rule names it: its key, and all of it.
    Made {
        table: "notes",
        collection: "notes",
        columns: &[("_id", false), ("doc", true)],
        rows: |d| Some(vec![vec![text(d.get("_id")), Some(extended(&Bson::Document(d.clone())).to_string())]]),
    },
    Made {
        table: "pulse",
        collection: "pulse",
        columns: &[("n", false)],
        rows: |d| Some(vec![vec![text(d.get("_id"))]]),
    },
];

/// `uuid5` of an ObjectId's digits.
fn key(namespace: Uuid, id: Option<&Bson>) -> Option<String> {
    Some(Uuid::new_v5(&namespace, id?.as_object_id()?.to_hex().as_bytes()).to_string())
}

/// A value as the table's question prints it.
fn text(value: Option<&Bson>) -> Option<String> {
    Some(match value? {
        Bson::String(s) => s.clone(),
        Bson::Int32(n) => n.to_string(),
        Bson::Int64(n) => n.to_string(),
        Bson::Boolean(b) => u8::from(*b).to_string(),
        Bson::ObjectId(id) => id.to_hex(),
        Bson::Decimal128(d) => {
            let digits = d.to_string();
            match digits.contains('.') {
                true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => digits,
            }
        }
        Bson::DateTime(at) => moment(at, "%Y-%m-%d %H:%M:%S%.3f"),
        Bson::Binary(b) => b.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => return None,
    })
}

fn day(value: Option<&Bson>) -> Option<String> {
    value?.as_datetime().map(|at| moment(at, "%Y-%m-%d"))
}

fn moment(at: &bson::DateTime, form: &str) -> String {
    jiff::Timestamp::from_millisecond(at.timestamp_millis())
        .map_or_else(|_| "out of range".to_owned(), |t| t.strftime(form).to_string())
}

fn json(value: Option<&Bson>) -> Option<String> {
    value.filter(|v| !matches!(v, Bson::Null)).map(|v| extended(v).to_string())
}

/// Extended JSON, relaxed, of the types that occur.
fn extended(value: &Bson) -> Value {
    match value {
        Bson::Document(d) => Value::Object(d.iter().map(|(k, v)| (k.clone(), extended(v))).collect()),
        Bson::Array(items) => items.iter().map(extended).collect(),
        Bson::String(s) => Value::from(s.as_str()),
        Bson::Int32(n) => Value::from(*n),
        Bson::Int64(n) => Value::from(*n),
        Bson::Double(x) => Value::from(*x),
        Bson::Boolean(b) => Value::from(*b),
        Bson::ObjectId(id) => serde_json::json!({ "$oid": id.to_hex() }),
        Bson::Decimal128(d) => serde_json::json!({ "$numberDecimal": d.to_string() }),
        Bson::DateTime(at) => {
            let form = if at.timestamp_millis() % 1_000 == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.3fZ" };
            serde_json::json!({ "$date": moment(at, form) })
        }
        _ => Value::Null,
    }
}

/// What no column has: the document without its key and these fields, and without those inside of one other.
fn rest(d: &Document, named: &[&str], inside: Option<(&str, &[&str])>) -> Option<String> {
    let mut left = d.clone();
    named.iter().chain(&["_id"]).for_each(|name| drop(left.remove(name)));
    if let Some((outer, names)) = inside
        && let Ok(document) = left.get_document_mut(outer)
    {
        names.iter().for_each(|name| drop(document.remove(name)));
        if document.is_empty() {
            left.remove(outer);
        }
    }
    (!left.is_empty()).then(|| extended(&Bson::Document(left)).to_string())
}

/// Every table of the shop. `tell` is told of each as soon as it was compared.
///
/// # Errors
/// If a side cannot be read, or holds what the demo did not write.
pub async fn tables(
    source: &Documents,
    target: &mut Session,
    mut tell: impl FnMut(&Compared),
) -> Result<Vec<Compared>> {
    let mut out = Vec::new();
    for made in &MADE {
        let form = Form { json: made.columns.iter().map(|(_, json)| *json).collect(), keys: vec![0, 1] };
        let form = if made.columns.len() < 3 { Form { keys: vec![0], ..form } } else { form };
        let (mut here, mut there) = ((0, 0_u128), (0, 0_u128));
        let add = |sum: &mut (i64, u128), row: &[Option<&[u8]>]| {
            *sum = (sum.0 + 1, sum.1.wrapping_add(u128::from_le_bytes(form.hash(row))));
        };
        let (left, right) = tokio::join!(
            at_source(source, made, |row| add(&mut here, row)),
            at_target(target, made, |row| add(&mut there, row))
        );
        left.and(right)?;
        let mut compared = Compared {
            table: made.table.to_owned(),
            source_rows: here.0,
            target_rows: there.0,
            differences: Vec::new(),
        };
        if here != there {
            let mut balance = Balance::new();
            let entry =
                |row: &[Option<&[u8]>]| (form.key(row), format!("{:032x}", u128::from_le_bytes(form.hash(row))));
            at_source(source, made, |row| *balance.entry(entry(row)).or_default() += 1).await?;
            at_target(target, made, |row| *balance.entry(entry(row)).or_default() -= 1).await?;
            compared.differences = named(&balance);
            // Different by digest, and no row was found: the sides changed meanwhile. That is a difference, too.
            if compared.differences.is_empty() {
                compared.differences.push("the digests differ".to_owned());
            }
        }
        tell(&compared);
        out.push(compared);
    }
    Ok(out)
}

async fn at_source(source: &Documents, made: &Made, mut look: impl FnMut(&[Option<&[u8]>])) -> Result<()> {
    let strange =
        || Error::fatal(format!("comparing: {} holds a document that the demo did not write", made.collection));
    let each = |document: &Document| {
        for row in (made.rows)(document).ok_or_else(strange)? {
            let fields: Vec<_> = row.iter().map(|f| f.as_deref().map(str::as_bytes)).collect();
            look(&fields);
        }
        Ok(())
    };
    source.each(made.collection, each).await
}

async fn at_target(target: &mut Session, made: &Made, look: impl FnMut(&[Option<&[u8]>])) -> Result<()> {
    let columns: Vec<&str> = made.columns.iter().map(|(sql, _)| *sql).collect();
    let sql = format!("SELECT {} FROM public.{}", columns.join(", "), made.table);
    target.each("comparing: reading the target", &sql, look).await
}

/// What the rules promise of the tables: columns beyond the documents' fields are compared with the rows.
const DEFINED: [&str; 35] = [
    "primary key people (id)",
    "unique people (legacy_id)",
    "index people (email)",
    "not null people.legacy_id",
    "not null people.name",
    "not null people.joined",
    "not null people.vip",
    "primary key articles (id)",
    "unique articles (legacy_id)",
    "index articles (code)",
    "not null articles.legacy_id",
    "not null articles.code",
    "primary key article_related (article_id, position)",
    "index article_related (related_id)",
    "foreign key article_related (article_id) to articles, on delete c",
    "foreign key article_related (related_id) to articles, on delete a",
    "primary key orders (id)",
    "unique orders (legacy_id)",
    "index orders (person_id)",
    "index orders (created)",
    "foreign key orders (person_id) to people, on delete a",
    "not null orders.legacy_id",
    "not null orders.created",
    "not null orders.state",
    "primary key order_items (order_id, position)",
    "index order_items (article_id)",
    "foreign key order_items (order_id) to orders, on delete c",
    "foreign key order_items (article_id) to articles, on delete a",
    "not null order_items.quantity",
    "primary key events (_id)",
    "index events (write_id)",
    "not null events.at",
    "primary key notes (_id)",
    "not null notes.doc",
    "primary key pulse (n)",
];

/// Compares what the target has of keys, indexes and the like with what the rules say.
///
/// # Errors
/// If the target cannot be read.
pub async fn definitions(target: &mut Session) -> Result<Definitions> {
    const SQL: &str = "
        WITH t AS (SELECT c.oid, c.relname::text AS name FROM pg_catalog.pg_class c
                    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'),
             i AS (SELECT t.name, i.*, (SELECT string_agg(a.attname, ', ' ORDER BY k.o) FROM unnest(i.indkey) WITH ORDINALITY k(n, o)
                           JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n) AS columns
                     FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisvalid)
        SELECT CASE WHEN indisprimary THEN 'primary key ' WHEN indisunique THEN 'unique ' ELSE 'index ' END || name || ' (' || columns || ')'
          FROM i
        UNION ALL
        SELECT 'not null ' || t.name || '.' || a.attname FROM t JOIN pg_catalog.pg_attribute a
            ON a.attrelid = t.oid AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
         WHERE NOT EXISTS (SELECT FROM i WHERE i.indrelid = t.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
        UNION ALL
        SELECT 'foreign key ' || t.name || ' (' || (SELECT string_agg(a.attname, ', ' ORDER BY k.o)
                 FROM unnest(f.conkey) WITH ORDINALITY k(n, o)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.n) || ') to ' || r.name || ', on delete ' || f.confdeltype::text
          FROM t JOIN pg_catalog.pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f' AND f.convalidated
          JOIN t AS r ON r.oid = f.confrelid";
    let found = ask(target, "target", SQL).await?;
    let wanted = DEFINED.iter().map(|line| vec![Some((*line).to_owned())]).collect();
    held(wanted, found).map_err(|e| e.context("comparing definitions"))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::super::documents::{amount, article, date, order};
    use super::*;

    #[test]
    fn given_documents_when_their_rows_are_written_down_then_they_are_as_the_rules_say() {
        let sizes = super::super::documents::Sizes::of(1_000);
        for made in MADE.iter().filter(|m| m.collection == "orders") {
            let rows = (made.rows)(&order(7, 3, sizes, Some(5))).unwrap();
            assert_eq!(rows.len(), if made.table == "orders" { 1 } else { 4 });
            assert!(rows.iter().all(|row| row.len() == made.columns.len()), "{rows:?}");
        }
        let related = MADE.iter().find(|m| m.table == "article_related").unwrap();
        assert_eq!((related.rows)(&article(3, 40, None)).unwrap().len(), 3);
        assert_eq!(text(Some(&amount(-500_000))), Some("-50".into()));
        assert_eq!(text(Some(&date(-1))), Some("1969-12-31 23:59:59.999".into()));
    }

    #[test]
    fn given_fields_with_columns_when_the_rest_is_asked_for_then_only_what_is_left_is_in_it() {
        let d = doc! { "_id": 1, "a": 1, "b": { "c": 2, "d": date(1) } };
        assert_eq!(
            rest(&d, &["a"], Some(("b", &["c"]))).unwrap(),
            r#"{"b":{"d":{"$date":"1970-01-01T00:00:00.001Z"}}}"#
        );
        assert_eq!(rest(&d, &["a"], Some(("b", &["c", "d"]))), None);
    }
}
