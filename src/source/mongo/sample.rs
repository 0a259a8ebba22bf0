//! What a sample of a collection's documents looks like, and which columns would hold it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::mapping::ID;
use crate::documents::cursor::{Doc, Malformed, Value};
use crate::documents::moment::DAY;

/// Nested documents are looked into so many steps deep.
const DEEPEST: usize = 3;
/// With more names than these a document is a map of values, not a record.
const MOST_NAMES: usize = 60;
/// Strings of so few different values may be labels.
const MOST_LABELS: usize = 8;

/// What a value is, as far as columns are chosen by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Int,
    Long,
    Double,
    Decimal,
    Bool,
    Date,
    String,
    ObjectId,
    Uuid,
    Binary,
    Document,
    Array,
    Other,
}

impl Sort {
    fn of(value: &Value<'_>) -> Option<Sort> {
        Some(match value {
            Value::Null | Value::Undefined => return None,
            Value::Int32(_) => Sort::Int,
            Value::Int64(_) => Sort::Long,
            Value::Double(_) => Sort::Double,
            Value::Decimal(_) => Sort::Decimal,
            Value::Bool(_) => Sort::Bool,
            Value::Date(_) => Sort::Date,
            Value::String(_) => Sort::String,
            Value::ObjectId(_) => Sort::ObjectId,
            Value::Binary { subtype: 4, bytes } if bytes.len() == 16 => Sort::Uuid,
            Value::Binary { .. } => Sort::Binary,
            Value::Document(_) => Sort::Document,
            Value::Array(_) => Sort::Array,
            _ => Sort::Other,
        })
    }
    fn name(self) -> &'static str {
        match self {
            Sort::Int => "an int",
            Sort::Long => "a long",
            Sort::Double => "a double",
            Sort::Decimal => "a decimal",
            Sort::Bool => "a boolean",
            Sort::Date => "a date",
            Sort::String => "a string",
            Sort::ObjectId => "an ObjectId",
            Sort::Uuid => "a UUID",
            Sort::Binary => "binary data",
            Sort::Document => "a document",
            Sort::Array => "an array",
            Sort::Other => "a value of a rare type",
        }
    }
}

/// What was seen of one field.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// In how many documents.
    times: u64,
    nulls: u64,
    sorts: BTreeMap<Sort, u64>,
    /// Doubles with a fraction, or beyond whole numbers.
    fractions: u64,
    /// Strings that are UUIDs.
    uuids: u64,
    /// Dates that are midnight.
    midnights: u64,
    labels: BTreeSet<String>,
    too_many_labels: bool,
    /// Of nested documents.
    inside: Group,
    /// Of arrays: their items, as fields of no name, and how many there were.
    items: Option<Box<Seen>>,
}

/// What was seen of a document's fields, in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Group {
    names: Vec<String>,
    fields: BTreeMap<String, Seen>,
    /// How many documents.
    times: u64,
    /// More names than anyone would make columns of, or names that no path says.
    wild: bool,
}

/// What was seen of a collection.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    group: Group,
    /// Documents that could not be read.
    unreadable: u64,
}

/// Columns that would hold what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionGuess {
    /// How many documents were looked at.
    pub documents: u64,
    /// Fields that become columns; `_id` first if its documents have one type of it.
    pub fields: Vec<FieldGuess>,
    /// Fields that stay in the column of the rest, with the number of documents that have them.
    pub rest: Vec<(String, u64)>,
    /// Lists that could become tables of their own.
    pub lists: Vec<ListGuess>,
    /// Documents that could not be read.
    pub unreadable: u64,
}

/// A field that becomes a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldGuess {
    /// `address.city`.
    pub path: String,
    /// `text`.
    pub spec: String,
    /// What was seen, in words: `in 990 of 1000`.
    pub note: String,
}

/// A list that could become a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGuess {
    /// The list's path.
    pub path: String,
    /// What its items are.
    pub items: ListItems,
    /// What was seen, in words.
    pub note: String,
}

/// What a list's items are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListItems {
    /// Keys of other documents, of this type.
    References(String),
    /// Documents: name of a column, and the expression that takes it out of `item`.
    Documents(Vec<(String, String)>),
}

impl Sample {
    /// Looks at one document.
    pub fn add(&mut self, doc: Doc<'_>) {
        if self.group.add(doc, 0).is_err() {
            self.unreadable += 1;
        }
    }

    /// What could be made of it. `least`: fields in a smaller part of the documents stay in the rest.
    pub fn infer(&self, least: f64) -> CollectionGuess {
        let mut guess = CollectionGuess {
            documents: self.group.times,
            fields: Vec::new(),
            rest: Vec::new(),
            lists: Vec::new(),
            unreadable: self.unreadable,
        };
        if let Some(seen) = self.group.fields.get(ID)
            && let Some(spec) = seen.key_type()
        {
            guess.fields.push(FieldGuess { path: ID.into(), spec, note: seen.note(self.group.times) });
        }
        self.group.infer("", self.group.times, least, &mut guess);
        guess
    }
}

impl Group {
    fn add(&mut self, doc: Doc<'_>, depth: usize) -> Result<(), Malformed> {
        self.times += 1;
        for field in doc.fields() {
            let (name, value) = field?;
            let Some(name) = std::str::from_utf8(name).ok().filter(|n| !n.is_empty() && !n.contains('.')) else {
                self.wild = true;
                continue;
            };
            if !self.fields.contains_key(name) {
                if self.names.len() >= MOST_NAMES && depth > 0 {
                    self.wild = true;
                    continue;
                }
                self.names.push(name.to_owned());
            }
            self.fields.entry(name.to_owned()).or_default().add(&value, depth)?;
        }
        Ok(())
    }

    fn infer(&self, above: &str, documents: u64, least: f64, guess: &mut CollectionGuess) {
        for name in &self.names {
            let Some(seen) = self.fields.get(name) else { continue };
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            if path == ID {
                continue;
            }
            if (seen.times as f64) < least * documents as f64 || seen.times == seen.nulls {
                guess.rest.push((path, seen.times));
                continue;
            }
            let steps = path.split('.').count();
            if seen.only(Sort::Document) && !seen.inside.wild && !seen.inside.names.is_empty() && steps < DEEPEST {
                seen.inside.infer(&path, documents, least, guess);
                continue;
            }
            let note = seen.note(documents);
            if let Some(items) = seen.list() {
                guess.lists.push(ListGuess { path: path.clone(), items, note: note.clone() });
            }
            guess.fields.push(FieldGuess { path, spec: seen.one_type().unwrap_or_else(|| "jsonb".into()), note });
        }
    }
}

impl Seen {
    fn add(&mut self, value: &Value<'_>, depth: usize) -> Result<(), Malformed> {
        self.times += 1;
        let Some(sort) = Sort::of(value) else {
            self.nulls += 1;
            return Ok(());
        };
        *self.sorts.entry(sort).or_default() += 1;
        match *value {
            Value::Double(x) if x.fract() != 0.0 || x.abs() >= 9e15 => self.fractions += 1,
            Value::Date(ms) if ms.rem_euclid(DAY) == 0 => self.midnights += 1,
            Value::String(text) => {
                self.uuids += u64::from(text.len() == 36 && uuid::Uuid::try_parse_ascii(text).is_ok());
                match std::str::from_utf8(text) {
                    Ok(label) if label.len() <= 24 && !self.too_many_labels => {
                        if !self.labels.contains(label) {
                            self.labels.insert(label.to_owned());
                        }
                        self.too_many_labels = self.labels.len() > MOST_LABELS;
                    }
                    _ => self.too_many_labels = true,
                }
            }
            Value::Document(d) if depth < DEEPEST => self.inside.add(d, depth + 1)?,
            Value::Array(items) if depth < DEEPEST => {
                let seen = self.items.get_or_insert_default();
                for item in items.fields() {
                    // A list of lists stays as it is.
                    match item?.1 {
                        value @ Value::Array(_) => seen.add(&value, DEEPEST)?,
                        value => seen.add(&value, depth + 1)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn only(&self, sort: Sort) -> bool {
        self.sorts.len() == 1 && self.sorts.contains_key(&sort)
    }

    /// The type that takes every value that was seen; `None` where only JSON does.
    fn one_type(&self) -> Option<String> {
        let sorts: Vec<Sort> = self.sorts.keys().copied().collect();
        Some(
            match sorts.as_slice() {
                [Sort::Int] => "integer",
                [Sort::Int, Sort::Long] | [Sort::Long] => "bigint",
                [Sort::Double] | [Sort::Int, Sort::Double] if self.fractions == 0 => "bigint",
                [Sort::Double] | [Sort::Int, Sort::Double] => "double precision",
                [Sort::Int, Sort::Long, Sort::Double] | [Sort::Long, Sort::Double] if self.fractions == 0 => "bigint",
                all if all.iter().all(|s| *s <= Sort::Decimal) && !all.is_empty() => "numeric",
                [Sort::Bool] => "boolean",
                [Sort::Date] => "timestamptz",
                [Sort::String] if self.uuids == self.times - self.nulls => "uuid",
                [Sort::String, Sort::Uuid] if self.uuids == self.sorts.get(&Sort::String).copied().unwrap_or(0) => {
                    "uuid"
                }
                [Sort::String] | [Sort::String, Sort::ObjectId] => "text",
                [Sort::ObjectId] => "objectid",
                [Sort::Uuid] => "uuid",
                [Sort::Binary] | [Sort::Uuid, Sort::Binary] => "bytea",
                [Sort::Array] => return self.list_type(),
                _ => return None,
            }
            .to_owned(),
        )
    }

    /// The type of keys; `None` where they have several, or one that has no place in a key.
    fn key_type(&self) -> Option<String> {
        match self.sorts.keys().collect::<Vec<_>>().as_slice() {
            [Sort::String] => Some("text".into()),
            [Sort::Uuid] => Some("uuid".into()),
            [Sort::ObjectId | Sort::Int | Sort::Long | Sort::Date] | [Sort::Int, Sort::Long] => self.one_type(),
            [Sort::Double] | [Sort::Int, Sort::Double] => self.one_type(),
            _ => None,
        }
    }

    /// The type of an array whose items are scalars of one type.
    fn list_type(&self) -> Option<String> {
        let items = self.items.as_deref()?;
        if items.times == 0 {
            return None;
        }
        let inner = items.one_type()?;
        (inner != "jsonb" && !inner.ends_with("[]")).then(|| format!("{inner}[]"))
    }

    fn list(&self) -> Option<ListItems> {
        let items = self.items.as_deref().filter(|_| self.only(Sort::Array))?;
        if items.only(Sort::ObjectId) {
            return Some(ListItems::References("objectid".into()));
        }
        if items.only(Sort::Uuid) {
            return Some(ListItems::References("uuid".into()));
        }
        if !items.only(Sort::Document) || items.inside.wild {
            return None;
        }
        let column = |name: &String| Some((name.clone(), items.inside.fields.get(name)?.expression_of_item(name)));
        Some(ListItems::Documents(items.inside.names.iter().filter_map(column).collect()))
    }

    /// The expression that takes a field out of an item of a list.
    fn expression_of_item(&self, name: &str) -> String {
        let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let quoted = format!("'{}'", name.replace('\'', "''"));
        let text = if plain { format!("item.{name}") } else { format!("(item->>{quoted})") };
        let typed = |word: &str| format!("(item->{quoted}->>'${word}')");
        match self.one_type().as_deref() {
            Some("text") if self.only(Sort::String) => text,
            Some("uuid") if self.only(Sort::String) => format!("{text}::uuid"),
            Some("objectid") => typed("oid"),
            Some("timestamptz") => format!("{}::timestamptz", typed("date")),
            Some("numeric") if self.only(Sort::Decimal) => format!("{}::numeric", typed("numberDecimal")),
            // JSON's numbers are as they stand there; 1.0 is a whole number only by way of numeric.
            Some("bigint") if self.sorts.contains_key(&Sort::Double) => format!("{text}::numeric::bigint"),
            Some(number @ ("integer" | "bigint" | "double precision")) => format!("{text}::{number}"),
            Some("boolean") => format!("{text}::boolean"),
            _ => format!("item->{quoted}"),
        }
    }

    /// What was seen, in words.
    fn note(&self, documents: u64) -> String {
        let mut parts = vec![match self.times {
            n if n == documents => format!("in all {documents}"),
            n => format!("in {n} of {documents}"),
        }];
        if self.nulls > 0 {
            parts.push(format!("{} null", self.nulls));
        }
        if self.sorts.len() > 1 {
            let each: Vec<String> = self.sorts.iter().map(|(s, n)| format!("{n} {}", s.name())).collect();
            parts.push(each.join(", "));
        }
        if self.sorts.contains_key(&Sort::Double) && self.one_type().as_deref() == Some("bigint") {
            parts.push("doubles, all of them whole numbers".into());
        }
        if self.only(Sort::Date) && self.midnights == self.times - self.nulls && self.midnights >= 20 {
            parts.push("all at midnight UTC: date would do".into());
        }
        let strings = self.sorts.get(&Sort::String).copied().unwrap_or(0);
        if self.only(Sort::String) && !self.too_many_labels && strings >= 10 * self.labels.len() as u64 && strings > 20
        {
            let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
            parts.push(format!("only {}", labels.join(", ")));
        }
        if let Some(items) = self.items.as_deref() {
            parts.push(format!("{} items", items.times));
            if items.sorts.len() > 1 {
                let each: Vec<String> = items.sorts.iter().map(|(s, n)| format!("{n} {}", s.name())).collect();
                parts.push(each.join(", "));
            }
        }
        parts.join("; ").replace(char::is_control, " ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{Mapping, Options};
    use super::*;
    use crate::exchange::CollectionFields;
    use crate::schema::TableName;
    use bson::{Bson, Document, doc, oid::ObjectId};
    use proptest::prelude::*;

    fn infer(documents: impl IntoIterator<Item = Document>) -> CollectionGuess {
        let mut sample = Sample::default();
        for d in documents {
            sample.add(Doc::new(&d.to_vec().unwrap()).unwrap());
        }
        sample.infer(0.05)
    }

    fn user(i: i32) -> Document {
        let id = ObjectId::from_bytes([i as u8; 12]);
        let mut user = doc! {
            "_id": id,
            "email": format!("user{i}@example.com"),
            "age": if i % 100 == 0 { Bson::String("?".into()) } else { Bson::Int32(i) },
            "state": if i % 3 == 0 { "open" } else { "closed" },
            "visits": f64::from(i),
            "score": f64::from(i) / 3.0,
            "born": bson::DateTime::from_millis(i64::from(i) * DAY),
            "address": { "city": "X", "geo": { "lat": 1.5, "lon": 2.5, "more": { "x": 1 } } },
            "friends": [id, id],
            "tags": ["a", "b"],
            "items": [{ "sku": "x", "n": 1, "at": bson::DateTime::from_millis(1), "user": id, "unitPrice": 1.5 }],
            "mixed": [1, "x"],
            "nothing": null,
        };
        if i % 50 == 0 {
            user.insert("rare", 1);
        }
        user
    }

    #[test]
    fn given_documents_when_sampled_then_columns_that_hold_them_are_found() {
        let guess = infer((0..200).map(user));
        let spec = |path: &str| guess.fields.iter().find(|f| f.path == path).map(|f| f.spec.as_str());
        for (path, want) in [
            ("_id", Some("objectid")),
            ("email", Some("text")),
            ("age", Some("jsonb")),
            ("state", Some("text")),
            ("visits", Some("bigint")),
            ("score", Some("double precision")),
            ("born", Some("timestamptz")),
            ("address.city", Some("text")),
            ("address.geo.lat", Some("double precision")),
            ("address.geo.more", Some("jsonb")),
            ("friends", Some("objectid[]")),
            ("tags", Some("text[]")),
            ("items", Some("jsonb")),
            ("mixed", Some("jsonb")),
            ("nothing", None),
            ("rare", None),
        ] {
            assert_eq!(spec(path), want, "{path}");
        }
        let note = |path: &str| guess.fields.iter().find(|f| f.path == path).unwrap().note.clone();
        assert_eq!(note("age"), "in all 200; 198 an int, 2 a string");
        assert_eq!(note("state"), "in all 200; only closed, open");
        assert!(note("born").contains("midnight") && note("visits").contains("whole numbers"));
        assert_eq!(guess.rest, [("nothing".to_owned(), 200), ("rare".to_owned(), 4)]);
        let lists: Vec<&str> = guess.lists.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(lists, ["friends", "items"]);
        assert_eq!(guess.lists[0].items, ListItems::References("objectid".into()));
        let ListItems::Documents(columns) = &guess.lists[1].items else { panic!("{:?}", guess.lists[1]) };
        let columns: Vec<(&str, &str)> = columns.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            columns,
            [
                ("sku", "item.sku"),
                ("n", "item.n::integer"),
                ("at", "(item->'at'->>'$date')::timestamptz"),
                ("user", "(item->'user'->>'$oid')"),
                ("unitPrice", "(item->>'unitPrice')::double precision"),
            ]
        );
    }

    #[test]
    fn given_maps_of_values_and_strange_names_when_sampled_then_they_stay_json() {
        let maps = (0..100).map(|i| doc! {"_id": i, "by": { format!("k{i}"): 1 }, "odd": { "a.b": 1 }});
        let guess = infer(maps);
        let specs: Vec<(&str, &str)> = guess.fields.iter().map(|f| (f.path.as_str(), f.spec.as_str())).collect();
        assert_eq!(specs, [("_id", "integer"), ("by", "jsonb"), ("odd", "jsonb")]);
        assert_eq!(infer([]).documents, 0);
        // Keys of several types have no type of their own.
        let mixed = infer([doc! {"_id": 1}, doc! {"_id": "x"}]);
        assert!(mixed.fields.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// What is suggested for a sample takes the sample.
        #[test]
        fn given_any_documents_when_sampled_then_the_suggested_rule_takes_all_of_them(
            documents in proptest::collection::vec(crate::documents::arbitrary::document(), 1..12),
        ) {
            let documents: Vec<Document> = documents.into_iter().enumerate().map(|(i, mut d)| {
                d.insert("_id", i as i32);
                d
            }).collect();
            let guess = infer(documents.clone());
            let fields = CollectionFields {
                fields: guess.fields.iter().map(|f| (f.path.clone(), f.spec.clone())).collect(),
                rest: Some("the rest".into()),
            };
            let mapping = Mapping::new(TableName::new("a", "b"), Some(&fields), Options::default(), false);
            let mapping = mapping.unwrap_or_else(|e| panic!("{e:?}"));
            for d in documents {
                let bytes = d.to_vec().unwrap();
                if let Err(e) = mapping.row(Doc::new(&bytes).unwrap()) {
                    // Dates that no timestamp holds, and names with a point beside nested ones, are told when they come.
                    let told = e.what.contains("4713 BC") || e.what.contains("stands twice");
                    prop_assert!(told, "{}: {:?}", e, fields);
                }
            }
        }
    }
}
