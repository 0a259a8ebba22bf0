//! Values as BSON bytes, appended to a buffer. Pure.

use super::cursor::Value;

/// Why a name cannot be one of a field.
pub const NUL_IN_NAME: &str = "has a field whose name holds the character U+0000, which BSON has not";

/// Begins a document; what it returns is for [`close`].
pub fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Ends the document that [`open`] began. A document of 2 GiB or more, which no server takes, says it has all bytes an
/// `i32` can count.
pub fn close(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    if let Some(head) = out.get_mut(start..start + 4) {
        head.copy_from_slice(&length.to_le_bytes());
    }
}

/// A field's type and name. The place of the type is returned, so that it can be set once it is known.
///
/// # Errors
/// [`NUL_IN_NAME`]; nothing was written then.
pub fn name(out: &mut Vec<u8>, tag: u8, name: &[u8]) -> Result<usize, &'static str> {
    if memchr::memchr(0, name).is_some() {
        return Err(NUL_IN_NAME);
    }
    let at = out.len();
    out.push(tag);
    out.extend_from_slice(name);
    out.push(0);
    Ok(at)
}

/// A field.
///
/// # Errors
/// [`NUL_IN_NAME`].
pub fn field(out: &mut Vec<u8>, key: &[u8], value: &Value<'_>) -> Result<(), &'static str> {
    name(out, value.tag(), key)?;
    self::value(out, value);
    Ok(())
}

/// A text with its length in front.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    length(out, text.len() + 1);
    out.extend_from_slice(text);
    out.push(0);
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes());
}

/// What stands behind a field's name.
pub fn value(out: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::Double(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::String(t) | Value::Code(t) | Value::Symbol(t) => string(out, t),
        Value::Document(d) | Value::Array(d) => out.extend_from_slice(d.bytes()),
        Value::Binary { subtype: 2, bytes } => {
            length(out, bytes.len() + 4);
            out.push(2);
            length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        Value::Binary { subtype, bytes } => {
            length(out, bytes.len());
            out.push(subtype);
            out.extend_from_slice(bytes);
        }
        Value::ObjectId(id) => out.extend_from_slice(id),
        Value::Bool(b) => out.push(u8::from(b)),
        Value::Date(n) | Value::Int64(n) => out.extend_from_slice(&n.to_le_bytes()),
        Value::Regex { pattern, options } => {
            for text in [pattern, options] {
                out.extend_from_slice(text);
                out.push(0);
            }
        }
        Value::DbPointer { namespace, id } => {
            string(out, namespace);
            out.extend_from_slice(id);
        }
        Value::CodeWithScope { code, scope } => {
            length(out, 4 + 4 + code.len() + 1 + scope.bytes().len());
            string(out, code);
            out.extend_from_slice(scope.bytes());
        }
        Value::Int32(n) => out.extend_from_slice(&n.to_le_bytes()),
        Value::Timestamp { seconds, increment } => {
            out.extend_from_slice(&increment.to_le_bytes());
            out.extend_from_slice(&seconds.to_le_bytes());
        }
        Value::Decimal(bytes) => out.extend_from_slice(bytes),
        Value::Null | Value::Undefined | Value::MinKey | Value::MaxKey => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary;
    use super::super::cursor::Doc;
    use super::*;
    use proptest::prelude::*;

    fn copy(doc: Doc<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let start = open(&mut out);
        for f in doc.fields() {
            let (name, value) = f.unwrap();
            match value {
                Value::Document(d) => field(&mut out, name, &Value::Document(Doc::new(&copy(d)).unwrap())).unwrap(),
                other => field(&mut out, name, &other).unwrap(),
            }
        }
        close(&mut out, start);
        out
    }

    proptest! {
        #[test]
        fn given_any_document_when_read_and_written_then_it_is_the_same_bytes(document in arbitrary::document()) {
            let bytes = document.to_vec().unwrap();
            prop_assert_eq!(copy(Doc::new(&bytes).unwrap()), bytes);
        }
    }

    #[test]
    fn given_a_name_with_a_zero_when_written_then_it_is_refused_and_nothing_is_left() {
        let mut out = Vec::new();
        assert_eq!(field(&mut out, b"a\0b", &Value::Null), Err(NUL_IN_NAME));
        assert!(out.is_empty());
    }
}
