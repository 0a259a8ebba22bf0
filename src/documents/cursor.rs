//! BSON bytes as values and fields: slices of what lies there, bounds checked, nothing copied, nothing assumed (BSON
//! specification 1.1). Pure.

/// Bytes that are no BSON, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the bytes are no BSON: {}", self.0)
    }
}

/// One value. Texts are bytes: servers do not check that they are UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Double(f64),
    String(&'a [u8]),
    Document(Doc<'a>),
    /// A document whose field names do not matter.
    Array(Doc<'a>),
    Binary {
        subtype: u8,
        /// Of subtype 2 without the second length.
        bytes: &'a [u8],
    },
    Undefined,
    ObjectId(&'a [u8; 12]),
    Bool(bool),
    /// Milliseconds since the Unix epoch.
    Date(i64),
    Null,
    Regex {
        pattern: &'a [u8],
        options: &'a [u8],
    },
    DbPointer {
        namespace: &'a [u8],
        id: &'a [u8; 12],
    },
    Code(&'a [u8]),
    Symbol(&'a [u8]),
    CodeWithScope {
        code: &'a [u8],
        scope: Doc<'a>,
    },
    Int32(i32),
    Timestamp {
        seconds: u32,
        increment: u32,
    },
    Int64(i64),
    /// As it is encoded; see [`super::decimal`].
    Decimal(&'a [u8; 16]),
    MinKey,
    MaxKey,
}

impl Value<'_> {
    /// The type in words, with its article: `a string`.
    pub fn name(&self) -> &'static str {
        match self {
            Value::Double(_) => "a double",
            Value::String(_) => "a string",
            Value::Document(_) => "a document",
            Value::Array(_) => "an array",
            Value::Binary { .. } => "binary data",
            Value::Undefined => "undefined",
            Value::ObjectId(_) => "an ObjectId",
            Value::Bool(_) => "a boolean",
            Value::Date(_) => "a date",
            Value::Null => "null",
            Value::Regex { .. } => "a regular expression",
            Value::DbPointer { .. } => "a DBPointer",
            Value::Code(_) | Value::CodeWithScope { .. } => "JavaScript code",
            Value::Symbol(_) => "a symbol",
            Value::Int32(_) => "an int",
            Value::Timestamp { .. } => "a timestamp",
            Value::Int64(_) => "a long",
            Value::Decimal(_) => "a decimal",
            Value::MinKey => "MinKey",
            Value::MaxKey => "MaxKey",
        }
    }
    /// The type's byte in front of a field's name.
    pub fn tag(&self) -> u8 {
        match self {
            Value::Double(_) => 0x01,
            Value::String(_) => 0x02,
            Value::Document(_) => 0x03,
            Value::Array(_) => 0x04,
            Value::Binary { .. } => 0x05,
            Value::Undefined => 0x06,
            Value::ObjectId(_) => 0x07,
            Value::Bool(_) => 0x08,
            Value::Date(_) => 0x09,
            Value::Null => 0x0a,
            Value::Regex { .. } => 0x0b,
            Value::DbPointer { .. } => 0x0c,
            Value::Code(_) => 0x0d,
            Value::Symbol(_) => 0x0e,
            Value::CodeWithScope { .. } => 0x0f,
            Value::Int32(_) => 0x10,
            Value::Timestamp { .. } => 0x11,
            Value::Int64(_) => 0x12,
            Value::Decimal(_) => 0x13,
            Value::MinKey => 0xff,
            Value::MaxKey => 0x7f,
        }
    }
}

/// A document, or an array, whose length and end were looked at. What is inside is looked at when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doc<'a>(&'a [u8]);

impl<'a> Doc<'a> {
    /// The document that `bytes` are, from its length to its last byte.
    ///
    /// # Errors
    /// When they are not one.
    pub fn new(bytes: &'a [u8]) -> Result<Doc<'a>, Malformed> {
        match (Doc::split(bytes)?, bytes) {
            ((doc, []), _) => Ok(doc),
            _ => Err(Malformed("bytes follow the document")),
        }
    }
    /// The document that `bytes` begin with, and what follows it: documents stand behind each other in files and batches.
    ///
    /// # Errors
    /// When they do not begin with one.
    pub fn split(bytes: &'a [u8]) -> Result<(Doc<'a>, &'a [u8]), Malformed> {
        let (length, _) = bytes.split_first_chunk::<4>().ok_or(Malformed("a document is cut off"))?;
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| Malformed("a document's length"))?;
        let (doc, rest) = bytes.split_at_checked(length).ok_or(Malformed("a document is cut off"))?;
        if length < 5 || doc.last() != Some(&0) {
            return Err(Malformed("a document without an end"));
        }
        Ok((Doc(doc), rest))
    }
    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
    /// Its fields, in their order.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.0.get(4..self.0.len() - 1).unwrap_or_default() }
    }
    /// The first field of that name.
    ///
    /// # Errors
    /// When the bytes before it are no BSON.
    pub fn get(&self, name: &str) -> Result<Option<Value<'a>>, Malformed> {
        for field in self.fields() {
            let (key, value) = field?;
            if key == name.as_bytes() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.0.len() <= 5
    }
}

/// The fields of a document. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed("a value is cut off"))?;
        self.rest = tail;
        Ok(head)
    }
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Malformed("a value is cut off"))?;
        self.rest = tail;
        Ok(head)
    }
    #[inline]
    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(i32::from_le_bytes(*self.chunk()?)).map_err(|_| Malformed("a negative length"))
    }
    /// A text with its length in front, the zero at its end counted.
    #[inline]
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        match self.take(length)?.split_last() {
            Some((0, text)) => Ok(text),
            _ => Err(Malformed("a string without an end")),
        }
    }
    #[inline]
    fn cstring(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed("a name without an end"))?;
        let text = self.take(end)?;
        self.rest = self.rest.get(1..).unwrap_or_default();
        Ok(text)
    }
    fn doc(&mut self) -> Result<Doc<'a>, Malformed> {
        let (doc, rest) = Doc::split(self.rest)?;
        self.rest = rest;
        Ok(doc)
    }

    #[inline]
    fn field(&mut self, tag: u8) -> Result<(&'a [u8], Value<'a>), Malformed> {
        let key = self.cstring()?;
        let value = match tag {
            0x01 => Value::Double(f64::from_le_bytes(*self.chunk()?)),
            0x02 => Value::String(self.string()?),
            0x03 => Value::Document(self.doc()?),
            0x04 => Value::Array(self.doc()?),
            0x05 => {
                let length = self.length()?;
                let [subtype] = *self.chunk()?;
                let bytes = self.take(length)?;
                match (subtype, bytes.split_first_chunk::<4>()) {
                    (2, Some((inner, bytes))) if i32::from_le_bytes(*inner) as i64 == bytes.len() as i64 => {
                        Value::Binary { subtype, bytes }
                    }
                    (2, _) => return Err(Malformed("old binary data without its second length")),
                    _ => Value::Binary { subtype, bytes },
                }
            }
            0x06 => Value::Undefined,
            0x07 => Value::ObjectId(self.chunk()?),
            0x08 => match self.chunk()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Malformed("a boolean that is neither true nor false")),
            },
            0x09 => Value::Date(i64::from_le_bytes(*self.chunk()?)),
            0x0a => Value::Null,
            0x0b => Value::Regex { pattern: self.cstring()?, options: self.cstring()? },
            0x0c => Value::DbPointer { namespace: self.string()?, id: self.chunk()? },
            0x0d => Value::Code(self.string()?),
            0x0e => Value::Symbol(self.string()?),
            0x0f => {
                let length = self.length()?;
                let inner = self.take(length.checked_sub(4).ok_or(Malformed("code that is too short"))?)?;
                let mut inner = Fields { rest: inner };
                let (code, scope) = (inner.string()?, inner.doc()?);
                if !inner.rest.is_empty() {
                    return Err(Malformed("code of another length than it says"));
                }
                Value::CodeWithScope { code, scope }
            }
            0x10 => Value::Int32(i32::from_le_bytes(*self.chunk()?)),
            0x11 => {
                let increment = u32::from_le_bytes(*self.chunk()?);
                Value::Timestamp { seconds: u32::from_le_bytes(*self.chunk()?), increment }
            }
            0x12 => Value::Int64(i64::from_le_bytes(*self.chunk()?)),
            0x13 => Value::Decimal(self.chunk()?),
            0xff => Value::MinKey,
            0x7f => Value::MaxKey,
            _ => return Err(Malformed("a type that does not exist")),
        };
        Ok((key, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    /// Name and value.
    type Item = Result<(&'a [u8], Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        let field = self.field(tag);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary;
    use super::*;
    use bson::RawBsonRef;
    use bson::raw::RawDocument;
    use proptest::prelude::*;

    /// Compares with the crate's own reader, to the bottom.
    fn same(ours: Doc<'_>, theirs: &RawDocument) {
        assert_eq!(ours.bytes(), theirs.as_bytes());
        let mut theirs = theirs.iter();
        for field in ours.fields() {
            let (key, value) = field.unwrap();
            let (name, other) = theirs.next().unwrap().unwrap();
            assert_eq!(key, name.as_str().as_bytes());
            match (value, other) {
                (Value::Double(a), RawBsonRef::Double(b)) => assert_eq!(a.to_bits(), b.to_bits()),
                (Value::String(a), RawBsonRef::String(b)) => assert_eq!(a, b.as_bytes()),
                (Value::Document(a), RawBsonRef::Document(b)) => same(a, b),
                (Value::Array(a), RawBsonRef::Array(b)) => same(a, RawDocument::from_bytes(b.as_bytes()).unwrap()),
                (Value::Binary { subtype, bytes }, RawBsonRef::Binary(b)) => {
                    assert_eq!((subtype, bytes), (u8::from(b.subtype), b.bytes));
                }
                (Value::ObjectId(a), RawBsonRef::ObjectId(b)) => assert_eq!(*a, b.bytes()),
                (Value::Bool(a), RawBsonRef::Boolean(b)) => assert_eq!(a, b),
                (Value::Date(a), RawBsonRef::DateTime(b)) => assert_eq!(a, b.timestamp_millis()),
                (Value::Regex { pattern, options }, RawBsonRef::RegularExpression(b)) => {
                    assert_eq!(pattern, b.pattern.as_str().as_bytes());
                    assert_eq!(options, b.options.as_str().as_bytes());
                }
                (Value::Code(a), RawBsonRef::JavaScriptCode(b)) => assert_eq!(a, b.as_bytes()),
                (Value::Symbol(a), RawBsonRef::Symbol(b)) => assert_eq!(a, b.as_bytes()),
                (Value::CodeWithScope { code, scope }, RawBsonRef::JavaScriptCodeWithScope(b)) => {
                    assert_eq!(code, b.code.as_bytes());
                    same(scope, b.scope);
                }
                (Value::Int32(a), RawBsonRef::Int32(b)) => assert_eq!(a, b),
                (Value::Int64(a), RawBsonRef::Int64(b)) => assert_eq!(a, b),
                (Value::Timestamp { seconds, increment }, RawBsonRef::Timestamp(b)) => {
                    assert_eq!((seconds, increment), (b.time, b.increment));
                }
                (Value::Decimal(a), RawBsonRef::Decimal128(b)) => assert_eq!(*a, b.bytes()),
                (Value::Null, RawBsonRef::Null)
                | (Value::Undefined, RawBsonRef::Undefined)
                | (Value::MinKey, RawBsonRef::MinKey)
                | (Value::MaxKey, RawBsonRef::MaxKey)
                | (Value::DbPointer { .. }, RawBsonRef::DbPointer(_)) => {}
                (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
            }
        }
        assert!(theirs.next().is_none());
    }

    /// Reads everything; what it is does not matter.
    fn walk(doc: Doc<'_>) -> Result<usize, Malformed> {
        let mut fields = 0;
        for field in doc.fields() {
            fields += 1 + match field?.1 {
                Value::Document(d) | Value::Array(d) | Value::CodeWithScope { scope: d, .. } => walk(d)?,
                _ => 0,
            };
        }
        Ok(fields)
    }

    #[test]
    fn given_bytes_that_are_no_document_when_read_then_that_is_said() {
        for bad in [
            &b""[..],
            b"\x05\0\0\0",
            b"\x05\0\0\0\x01",
            b"\x04\0\0\0\0",
            b"\xff\xff\xff\xff\0",
            b"\x06\0\0\0\0",
            b"\x05\0\0\0\0\0",
        ] {
            assert!(Doc::new(bad).is_err(), "{bad:?}");
        }
        // A string without its zero, a boolean of 2, an unknown type, a name without an end, code that says too much.
        for bad in [
            &b"\x0d\0\0\0\x02a\0\x01\0\0\0x\0"[..],
            b"\x09\0\0\0\x08a\0\x02\0",
            b"\x08\0\0\0\x20a\0\0",
            b"\x08\0\0\0\x0aab\0"[..7].as_ref(),
            b"\x10\0\0\0\x0fa\0\x03\0\0\0\x01\0\0\0\0",
        ] {
            assert!(Doc::new(bad).and_then(walk).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn given_any_document_when_read_then_it_is_what_the_crate_reads(document in arbitrary::document()) {
            let bytes = document.to_vec().unwrap();
            same(Doc::new(&bytes).unwrap(), RawDocument::from_bytes(&bytes).unwrap());
        }

        #[test]
        fn given_damaged_documents_when_read_then_nothing_panics(
            document in arbitrary::document(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = document.to_vec().unwrap();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = Doc::new(&bytes).and_then(walk);
            let length = bytes.len() as i32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            *bytes.last_mut().unwrap() = 0;
            let _ = Doc::new(&bytes).and_then(walk);
        }

        #[test]
        fn given_random_bytes_when_read_then_nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 5..200)) {
            let length = bytes.len() as i32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            *bytes.last_mut().unwrap() = 0;
            let _ = Doc::new(&bytes).and_then(walk);
        }
    }
}
