//! Documents as bytes, as far as rows are made of them; and what to do where a value cannot be one of a document's. Pure.

use crate::documents::cursor::{Doc, Value};
use crate::documents::values::Form;
use crate::documents::write;

/// The value of a document's `_id`.
pub fn id_of(document: &[u8]) -> Option<Value<'_>> {
    Doc::new(document).ok()?.get("_id").ok().flatten()
}

/// Appends a document that finds another by its `_id`.
pub fn find_by(out: &mut Vec<u8>, id: &Value<'_>) -> Option<()> {
    let start = write::open(out);
    write::name(out, 0x03, b"_id").ok()?;
    let within = write::open(out);
    // Not the value alone: a document that begins with a dollar would be taken for an operator.
    write::field(out, b"$eq", id).ok()?;
    write::close(out, within);
    write::close(out, start);
    Some(())
}

/// Appends all fields of a document but `_id`.
pub fn put_without_id(out: &mut Vec<u8>, document: &[u8]) -> Option<()> {
    for field in Doc::new(document).ok()?.fields() {
        let (name, value) = field.ok()?;
        if name != b"_id" {
            write::field(out, name, &value).ok()?;
        }
    }
    Some(())
}

/// What can be done about a value that is no document's.
pub fn hint(form: Option<&Form>) -> &'static str {
    match form {
        Some(Form::Date) => {
            "MongoDB's dates are whole milliseconds: target.microseconds = \"cut\" cuts off what is finer in every table, but in keys; or say in a rule for the table what the column becomes, types = { column = \"date\" } to cut it off, \"string\" to keep it as text; then start again"
        }
        Some(Form::Decimal) => {
            "MongoDB's decimals have 34 digits: say types = { column = \"string\" } in a rule for the table to keep it as text, or \"double\" to have it rounded; then start again"
        }
        _ => {
            "change the value at the source, or say in a rule for the table what the column becomes (types = { column = \"string\" }), or leave it out (drop); then start again"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_document_when_its_key_is_asked_for_then_it_finds_it() {
        let bytes = bson::doc! { "a": 1, "_id": { "$x": 1 } }.to_vec().unwrap();
        let mut out = Vec::new();
        find_by(&mut out, &id_of(&bytes).unwrap()).unwrap();
        let read = bson::Document::from_reader(out.as_slice()).unwrap();
        assert_eq!(read, bson::doc! { "_id": { "$eq": { "$x": 1 } } });
        assert!(id_of(b"\x05\0\0\0\0").is_none());
    }
}
