//! Which of a collection's indexes go along to another MongoDB, and what is said of the others. Pure.

use bson::Document;

use super::known::Described;
use crate::documents::cursor::Doc;
use crate::documents::ejson;
use crate::schema::{SchemaObject, Stage};

/// What the server adds to a definition, and does not take, or what belongs to how it was made.
const NOT_PART: [&str; 6] = ["v", "ns", "background", "dropDups", "safe", "prepareUnique"];

/// Whether no two documents may be equal in it.
pub fn is_unique(index: &Document) -> bool {
    index.get_bool("unique").unwrap_or(false)
}

/// Sorts a collection's indexes: definitions for a target of the same engine, and words about those that stay behind.
pub fn sorted(d: &Described, indexes: &[Document]) -> (Vec<SchemaObject>, Vec<String>) {
    let (mut carried, mut left) = (Vec::new(), Vec::new());
    for index in indexes {
        // Where documents become columns there is nothing that the definition fits.
        let why = match () {
            () if !d.mapping.is_raw() => None,
            () if index.contains_key("expireAfterSeconds") => {
                Some("it would remove documents from the target that the source still has")
            }
            // Documents are looked up as they are by then: one may have a value that another has not given up yet.
            () if is_unique(index) && !d.images => Some(
                "the collection keeps no images (changeStreamPreAndPostImages), so a value may come before another document has given it up",
            ),
            () => {
                carried.push(object(d, index));
                continue;
            }
        };
        let after = |why: &str| {
            let (collection, json) = (&d.table.name.name, definition(index));
            format!(
                ": {why}; after `switchyard finish`, on the target: db.runCommand({{ createIndexes: {collection:?}, indexes: [{json}] }})"
            )
        };
        left.push(said(index) + &why.map(after).unwrap_or_default());
    }
    (carried, left)
}

/// An index in words.
fn said(index: &Document) -> String {
    let word = match () {
        () if index.contains_key("expireAfterSeconds") => "TTL index",
        () if is_unique(index) => "unique index",
        () => "index",
    };
    let fields: Vec<&str> =
        index.get_document("key").map(|k| k.keys().map(String::as_str).collect()).unwrap_or_default();
    format!("{word} {} ({})", index.get_str("name").unwrap_or_default(), fields.join(", "))
}

/// The definition as extended JSON, as `createIndexes` takes it.
fn definition(index: &Document) -> String {
    let own: Document =
        index.iter().filter(|(n, _)| !NOT_PART.contains(&n.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect();
    let bytes = own.to_vec().unwrap_or_default();
    Doc::new(&bytes).map(ejson::shown).unwrap_or_default()
}

fn object(d: &Described, index: &Document) -> SchemaObject {
    SchemaObject {
        kind: "INDEX".into(),
        schema: d.table.name.schema.clone(),
        name: index.get_str("name").unwrap_or_default().to_owned(),
        table: Some(d.table.name.clone()),
        sql: definition(index),
        stage: Stage::TableCopied,
    }
}

/// What of a collection's options no target gets, in words.
pub fn options_left(options: &Document) -> Vec<String> {
    let mut left = Vec::new();
    for (name, words) in [
        ("validator", "the validator"),
        ("collation", "the collation of the collection: texts are compared by their bytes on the target"),
        ("capped", "that the collection is capped: nothing is thrown away on the target"),
        ("expireAfterSeconds", "that documents expire by themselves"),
    ] {
        let empty = matches!(options.get(name), Some(bson::Bson::Boolean(false)))
            || options.get_document(name).is_ok_and(Document::is_empty);
        if options.contains_key(name) && !empty {
            left.push(words.to_owned());
        }
    }
    left
}
