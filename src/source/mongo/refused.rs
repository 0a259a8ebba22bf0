//! Documents that do not fit the table which the configuration describes, and how messages name a document. Pure.

use super::event::Seen;
use super::known::Described;
use super::mapping::Misfit;
use crate::change::{Op, Refused};
use crate::documents::cursor::{Doc, Value};
use crate::value::{Datum, Row, RowBuilder};

/// A document of the copy that does not fit.
pub fn document(d: &Described, document: Doc<'_>, misfit: Misfit) -> Refused {
    let id = document.get("_id").ok().flatten();
    row(d, Op::Insert, &id.unwrap_or(Value::Undefined), Some(document), misfit)
}

/// A change of the stream that does not fit; `document` as far as it is known.
pub fn row(d: &Described, op: Op, id: &Value<'_>, document: Option<Doc<'_>>, misfit: Misfit) -> Refused {
    Refused {
        table: d.table.id,
        op,
        key: d.mapping.render_key(id).unwrap_or_else(|_| nothing(d)),
        row: document.map_or_else(|| "{}".to_owned(), |document| d.mapping.json(document)),
        message: misfit.message,
    }
}

/// A row of NULLs: of a key that the table cannot hold.
fn nothing(d: &Described) -> Row {
    let mut b = RowBuilder::with_capacity(d.table.columns.len(), 0);
    d.table.columns.iter().for_each(|_| b.push(Datum::Null));
    b.finish()
}

/// The document that an event speaks of, by its key.
pub fn id(seen: &Seen<'_>) -> String {
    let key = seen.key.and_then(|key| bson::Document::from_reader(key.bytes()).ok()).unwrap_or_default();
    format!("document {}", bson::Bson::Document(key).into_relaxed_extjson())
}
