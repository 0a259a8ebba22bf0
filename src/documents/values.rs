//! Canonical text of any engine's column as a value of a document.
//!
//! | column | value |
//! |---|---|
//! | boolean; MySQL's `tinyint(1)` of 0 and 1 | boolean |
//! | whole numbers of up to 32 bits with sign, years | int |
//! | larger ones | long; beyond 63 bits decimal |
//! | numeric, decimal | decimal (34 digits; zeros at the end are given up where there is no room) |
//! | real, double | double |
//! | date, timestamps | date, which has milliseconds |
//! | bytes | binary data, subtype 0; uuid: subtype 4 |
//! | JSON | documents, arrays and scalars; extended JSON means what it says |
//! | arrays | arrays |
//! | text, labels, times of day, intervals, addresses, bits, everything else | string |
//!
//! Pure.

use super::cursor::Value;
use super::decimal::Decimal;
use super::read::{self, Misfit};
use super::{BSON, KEY, OBJECT_ID, key, moment, write};
use crate::definition::DataType;
use crate::schema::{Column, Kind};
use crate::value::Datum;

const NO_BOOL: Misfit = "holds something else than a truth value";
const NO_INTEGER: Misfit = "holds something else than a whole number of 64 bits";
const DIGITS: Misfit = "holds a number of more digits than a decimal of 128 bits keeps (34)";
const NO_FLOAT: Misfit = "holds something else than a floating-point number";
const NO_BYTES: Misfit = "holds something else than bytes";
const NO_UUID: Misfit = "holds something else than a UUID";
const NO_DATE: Misfit = "holds a date or time that no document can hold (infinity, a day that does not exist)";
const MICROS: Misfit = "holds a time with microseconds, and a document's dates have milliseconds";
const NO_ARRAY: Misfit = "holds something else than an array";
const NOT_UTF8: Misfit = "holds a text that is not UTF-8";
const NO_ID: Misfit = "holds something else than 24 hexadecimal digits";
const NO_BSON: Misfit = "holds something else than a document's bytes";
const UNSENT: Misfit = "was not sent";

/// What the operator chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Microseconds are cut off; else a time that has any is refused.
    pub cut_micros: bool,
}

/// What a column's texts become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `t` and `f`.
    Bool,
    /// `1` and `0` are truth values; other numbers stay numbers.
    Truth,
    /// An int.
    Int32,
    /// A long; a decimal beyond 63 bits.
    Int64,
    /// A decimal.
    Decimal,
    /// A double.
    Double,
    /// A string.
    Text,
    /// Binary data.
    Bytes,
    /// Binary data of subtype 4.
    Uuid,
    /// A date.
    Date,
    /// What JSON says.
    Json,
    /// An array.
    Array(Box<Form>),
    /// An ObjectId.
    ObjectId,
    /// A document's own bytes.
    Document,
    /// The bytes of a document with `_id` alone: its value.
    Key,
    /// A text as [`super::key`] makes it.
    KeyText,
}

impl Form {
    /// What becomes of a column.
    pub fn of(column: &Column) -> Form {
        if column.type_name == BSON {
            return if column.name == "_id" { Form::Key } else { Form::Document };
        }
        if column.type_name == OBJECT_ID {
            return Form::ObjectId;
        }
        if column.type_name == KEY {
            return Form::KeyText;
        }
        // Its items are separated by semicolons, unlike those of all other arrays.
        if column.type_name.ends_with("box[]") {
            return Form::Text;
        }
        Form::of_type(&column.data, column.kind, &column.type_name)
    }

    fn of_type(data: &DataType, kind: Kind, type_name: &str) -> Form {
        match data {
            _ if kind == Kind::Bytes => Form::Bytes,
            DataType::Bool => Form::Bool,
            DataType::Int { truth: true, .. } => Form::Truth,
            DataType::Int { bits: ..=31, .. } | DataType::Int { bits: 32, unsigned: false, .. } | DataType::Year => {
                Form::Int32
            }
            DataType::Int { .. } => Form::Int64,
            DataType::Decimal { .. } => Form::Decimal,
            DataType::Float { .. } => Form::Double,
            DataType::Bytes { .. } => Form::Bytes,
            DataType::Date | DataType::Timestamp { .. } | DataType::TimestampTz { .. } => Form::Date,
            DataType::Uuid => Form::Uuid,
            DataType::Json { .. } => Form::Json,
            DataType::Array { element } => {
                let named = type_name.strip_suffix("[]").unwrap_or("");
                let inner =
                    if named == OBJECT_ID { Form::ObjectId } else { Form::of_type(element, Kind::Other, named) };
                Form::Array(Box::new(inner))
            }
            DataType::Other => match kind {
                Kind::Bool => Form::Bool,
                Kind::Int2 | Kind::Int4 => Form::Int32,
                Kind::Int8 => Form::Int64,
                Kind::Float4 | Kind::Float8 => Form::Double,
                Kind::Numeric => Form::Decimal,
                Kind::Bytes => Form::Bytes,
                Kind::Uuid => Form::Uuid,
                Kind::Date | Kind::Timestamp | Kind::TimestampTz => Form::Date,
                Kind::Json | Kind::Jsonb => Form::Json,
                Kind::Text | Kind::Time | Kind::Other => Form::Text,
            },
            DataType::Char { .. }
            | DataType::Varchar { .. }
            | DataType::Text { .. }
            | DataType::Bits { .. }
            | DataType::Time { .. }
            | DataType::Interval
            | DataType::Enum { .. }
            | DataType::Set { .. }
            | DataType::Geometry
            | DataType::Network => Form::Text,
        }
    }

    /// Appends a field of that name. NULL is null.
    ///
    /// # Errors
    /// Why the value has no place in a document. `out` may then hold part of it.
    pub fn field(&self, out: &mut Vec<u8>, name: &[u8], datum: Datum<'_>, choices: Choices) -> Result<(), Misfit> {
        let text = match datum {
            Datum::Null => return write::field(out, name, &Value::Null),
            Datum::Unsent => return Err(UNSENT),
            Datum::Text(text) => text,
        };
        let mut put = |value: Value<'_>| write::field(out, name, &value);
        match self {
            Form::Bool => match text {
                b"t" => put(Value::Bool(true)),
                b"f" => put(Value::Bool(false)),
                _ => Err(NO_BOOL),
            },
            Form::Truth => match text {
                b"1" | b"t" => put(Value::Bool(true)),
                b"0" | b"f" => put(Value::Bool(false)),
                _ => put(Value::Int32(parsed(text).ok_or(NO_BOOL)?)),
            },
            Form::Int32 => put(Value::Int32(parsed(text).ok_or(NO_INTEGER)?)),
            Form::Int64 => match parsed(text) {
                Some(n) => put(Value::Int64(n)),
                None => {
                    let n = parsed::<u64>(text).ok_or(NO_INTEGER)?;
                    let beyond = Decimal::Finite { negative: false, coefficient: u128::from(n), exponent: 0 };
                    put(Value::Decimal(&beyond.encode().ok_or(DIGITS)?))
                }
            },
            Form::Decimal => put(Value::Decimal(&Decimal::parse(text).and_then(Decimal::encode).ok_or(DIGITS)?)),
            Form::Double => put(Value::Double(match text {
                b"NaN" => f64::NAN,
                b"Infinity" => f64::INFINITY,
                b"-Infinity" => f64::NEG_INFINITY,
                [b'-' | b'0'..=b'9', ..] => parsed(text).ok_or(NO_FLOAT)?,
                _ => return Err(NO_FLOAT),
            })),
            Form::Text => match std::str::from_utf8(text) {
                Ok(_) => put(Value::String(text)),
                Err(_) => Err(NOT_UTF8),
            },
            Form::Bytes => put(Value::Binary { subtype: 0, bytes: &bytes(text).ok_or(NO_BYTES)? }),
            Form::Uuid => {
                let id = uuid::Uuid::try_parse_ascii(text).map_err(|_| NO_UUID)?;
                put(Value::Binary { subtype: 4, bytes: id.as_bytes() })
            }
            Form::Date => {
                let at = moment::read(text).ok_or(NO_DATE)?;
                if at.micros != 0 && !choices.cut_micros {
                    return Err(MICROS);
                }
                put(Value::Date(at.ms))
            }
            Form::ObjectId => put(Value::ObjectId(&read::object_id(text).ok_or(NO_ID)?)),
            Form::Json => read::field(out, name, text),
            Form::Array(element) => {
                write::name(out, 0x04, name)?;
                // A lower bound other than 1 stands in front, and no document has one.
                let items = match text.first() {
                    Some(b'[') => text.iter().position(|b| *b == b'=').and_then(|at| text.get(at + 1..)),
                    _ => Some(text),
                };
                let rest = element.items(out, items.ok_or(NO_ARRAY)?, choices, 0)?;
                if rest.is_empty() { Ok(()) } else { Err(NO_ARRAY) }
            }
            Form::Document => {
                let document = super::cursor::Doc::new(text).map_err(|_| NO_BSON)?;
                put(Value::Document(document))
            }
            Form::Key => {
                let document = super::cursor::Doc::new(text).map_err(|_| NO_BSON)?;
                put(document.get("_id").ok().flatten().ok_or(NO_BSON)?)
            }
            Form::KeyText => key::field(out, name, text),
        }
    }

    /// The items of an array's text, `{1,NULL,"a b"}`, as a BSON array; what follows it is returned.
    fn items<'t>(&self, out: &mut Vec<u8>, text: &'t [u8], choices: Choices, depth: usize) -> Result<&'t [u8], Misfit> {
        if depth > super::DEEPEST {
            return Err(NO_ARRAY);
        }
        let mut rest = text.strip_prefix(b"{").ok_or(NO_ARRAY)?;
        let start = write::open(out);
        let mut place = 0_u32;
        let mut room = Vec::new();
        while let Some((&first, after)) = rest.split_first() {
            let mut buffer = itoa::Buffer::new();
            let name = buffer.format(place).as_bytes();
            match first {
                b'}' if place == 0 => {
                    write::close(out, start);
                    return Ok(after);
                }
                b'{' => {
                    write::name(out, 0x04, name)?;
                    rest = self.items(out, rest, choices, depth + 1)?;
                }
                b'"' => {
                    room.clear();
                    rest = unquoted(after, &mut room).ok_or(NO_ARRAY)?;
                    self.field(out, name, Datum::Text(&room), choices)?;
                }
                _ => {
                    let end = rest.iter().position(|b| matches!(b, b',' | b'}')).ok_or(NO_ARRAY)?;
                    let (word, after) = rest.split_at(end);
                    rest = after;
                    let datum = if word == b"NULL" { Datum::Null } else { Datum::Text(word) };
                    self.field(out, name, datum, choices)?;
                }
            }
            place += 1;
            match rest.split_first() {
                Some((b',', after)) => rest = after,
                Some((b'}', after)) => {
                    write::close(out, start);
                    return Ok(after);
                }
                _ => return Err(NO_ARRAY),
            }
        }
        Err(NO_ARRAY)
    }
}

/// What a quoted item means, behind its first quote; what follows its last is returned.
fn unquoted<'t>(text: &'t [u8], out: &mut Vec<u8>) -> Option<&'t [u8]> {
    let mut rest = text;
    loop {
        let (&b, after) = rest.split_first()?;
        rest = after;
        match b {
            b'"' => return Some(rest),
            b'\\' => {
                let (&b, after) = rest.split_first()?;
                out.push(b);
                rest = after;
            }
            b => out.push(b),
        }
    }
}

/// Bytes of `\x` and hexadecimal digits.
pub fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    digits.chunks_exact(2).map(|p| Some(digit(*p.first()?)? << 4 | digit(*p.last()?)?)).collect()
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::cursor::Doc;
    use super::super::ejson;
    use super::*;
    use crate::transform::typename;

    fn column(name: &str) -> Column {
        let (kind, data) = typename::named(name);
        column_of(name, kind, data)
    }
    fn column_of(type_name: &str, kind: Kind, data: DataType) -> Column {
        Column {
            name: "c".into(),
            number: 1,
            type_name: type_name.into(),
            kind,
            data,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        }
    }
    fn put(column: &Column, text: &str) -> Result<String, Misfit> {
        let mut out = Vec::new();
        let start = write::open(&mut out);
        Form::of(column).field(&mut out, b"c", Datum::Text(text.as_bytes()), Choices::default())?;
        write::close(&mut out, start);
        let doc = Doc::new(&out).unwrap();
        let value = doc.get("c").unwrap().unwrap();
        Ok(format!("{}: {}", value.name(), ejson::shown(doc)))
    }

    #[test]
    fn given_texts_of_every_type_when_put_into_a_document_then_each_has_its_own_type() {
        let int = |bits, unsigned, truth| DataType::Int { bits, unsigned, truth };
        let array = |e| DataType::Array { element: Box::new(e) };
        let json = || DataType::Json { verbatim: false };
        for (column, text, want) in [
            (column("boolean"), "t", r#"a boolean: {"c": true}"#),
            (column_of("tinyint(1)", Kind::Int2, int(8, false, true)), "1", r#"a boolean: {"c": true}"#),
            (column_of("tinyint(1)", Kind::Int2, int(8, false, true)), "7", r#"an int: {"c": 7}"#),
            (column("smallint"), "-5", r#"an int: {"c": -5}"#),
            (column_of("int unsigned", Kind::Int8, int(32, true, false)), "5", r#"a long: {"c": 5}"#),
            (column("bigint"), "5", r#"a long: {"c": 5}"#),
            (
                column_of("bigint unsigned", Kind::Numeric, int(64, true, false)),
                "18446744073709551615",
                r#"a decimal: {"c": {"$numberDecimal": "18446744073709551615"}}"#,
            ),
            (column("numeric"), "1.50", r#"a decimal: {"c": {"$numberDecimal": "1.50"}}"#),
            (column("numeric"), "-Infinity", r#"a decimal: {"c": {"$numberDecimal": "-Infinity"}}"#),
            (column("real"), "0.1", r#"a double: {"c": 0.1}"#),
            (column("double precision"), "1e+300", r#"a double: {"c": 1e+300}"#),
            (column("text"), "a\"b", r#"a string: {"c": "a\"b"}"#),
            (column("bytea"), "\\x00ff", r#"binary data: {"c": {"$binary": {"base64": "AP8=", "subType": "00"}}}"#),
            (
                column("uuid"),
                "01010101-0101-0101-0101-010101010101",
                r#"binary data: {"c": {"$binary": {"base64": "AQEBAQEBAQEBAQEBAQEBAQ==", "subType": "04"}}}"#,
            ),
            (column("date"), "1970-01-02", r#"a date: {"c": {"$date": "1970-01-02T00:00:00Z"}}"#),
            (
                column("timestamptz"),
                "1970-01-01 00:00:00.25+00",
                r#"a date: {"c": {"$date": "1970-01-01T00:00:00.250Z"}}"#,
            ),
            (column("time"), "12:00:00", r#"a string: {"c": "12:00:00"}"#),
            (column("interval"), "1 day", r#"a string: {"c": "1 day"}"#),
            (column("inet"), "10.0.0.1", r#"a string: {"c": "10.0.0.1"}"#),
            (column("jsonb"), r#"{"a": [1, 2.5, null]}"#, r#"a document: {"c": {"a": [1, 2.5, null]}}"#),
            (column("json"), "5", r#"an int: {"c": 5}"#),
            (
                column("jsonb"),
                r#"{"$oid": "507f1f77bcf86cd799439011"}"#,
                r#"an ObjectId: {"c": {"$oid": "507f1f77bcf86cd799439011"}}"#,
            ),
            (
                column_of("integer[]", Kind::Other, array(int(32, false, false))),
                "{1,NULL}",
                r#"an array: {"c": [1, null]}"#,
            ),
            (
                column_of("integer[]", Kind::Other, array(int(32, false, false))),
                "[0:1]={1,2}",
                r#"an array: {"c": [1, 2]}"#,
            ),
            (
                column_of("integer[]", Kind::Other, array(int(32, false, false))),
                "{{1,2},{3,4}}",
                r#"an array: {"c": [[1, 2], [3, 4]]}"#,
            ),
            (column("text[]"), r#"{}"#, r#"an array: {"c": []}"#),
            (column("text[]"), r#"{"a,\"b","NULL",x,""}"#, r#"an array: {"c": ["a,\"b", "NULL", "x", ""]}"#),
            (column_of("jsonb[]", Kind::Other, array(json())), r#"{"{\"a\": 1}"}"#, r#"an array: {"c": [{"a": 1}]}"#),
            (
                column_of("objectid", Kind::Text, DataType::Char { length: 24 }),
                "507f1f77bcf86cd799439011",
                r#"an ObjectId: {"c": {"$oid": "507f1f77bcf86cd799439011"}}"#,
            ),
            (
                column_of("set('a','b')", Kind::Text, DataType::Set { labels: vec![] }),
                "a,b",
                r#"a string: {"c": "a,b"}"#,
            ),
            (
                column_of("box[]", Kind::Other, array(DataType::Other)),
                "{(1,1),(0,0)}",
                r#"a string: {"c": "{(1,1),(0,0)}"}"#,
            ),
            (column_of("year", Kind::Int2, DataType::Year), "0000", r#"an int: {"c": 0}"#),
        ] {
            assert_eq!(put(&column, text).unwrap(), want, "{column:?}");
        }
    }

    #[test]
    fn given_values_that_no_document_keeps_when_put_then_they_are_refused() {
        for (name, text, want) in [
            ("timestamptz", "2024-01-01 00:00:00.000001+00", MICROS),
            ("timestamptz", "infinity", NO_DATE),
            ("date", "0000-00-00", NO_DATE),
            ("numeric", "1.2345678901234567890123456789012345", DIGITS),
            ("uuid", "x", NO_UUID),
            ("bytea", "\\x0", NO_BYTES),
            ("boolean", "1", NO_BOOL),
            ("integer", "3000000000", NO_INTEGER),
            ("text[]", "{a", NO_ARRAY),
            ("text[]", "{a}b", NO_ARRAY),
        ] {
            assert_eq!(put(&column(name), text), Err(want), "{name} {text}");
        }
        let mut out = Vec::new();
        let cut = Choices { cut_micros: true };
        let text = Datum::Text(b"2024-01-01 00:00:00.000001+00");
        assert!(Form::of(&column("timestamptz")).field(&mut out, b"c", text, cut).is_ok());
        assert_eq!(Form::Text.field(&mut out, b"c", Datum::Unsent, cut), Err(UNSENT));
        assert_eq!(Form::Text.field(&mut out, b"c", Datum::Text(b"\xff"), cut), Err(NOT_UTF8));
    }

    #[test]
    fn given_a_documents_own_bytes_when_put_then_they_pass() {
        let bytes = bson::doc! {"_id": 5_i64, "a": 1}.to_vec().unwrap();
        let mut out = Vec::new();
        let start = write::open(&mut out);
        Form::Key.field(&mut out, b"_id", Datum::Text(&bytes), Choices::default()).unwrap();
        Form::Document.field(&mut out, b"doc", Datum::Text(&bytes), Choices::default()).unwrap();
        write::close(&mut out, start);
        let back = bson::Document::from_reader(out.as_slice()).unwrap();
        assert_eq!(back, bson::doc! {"_id": 5_i64, "doc": {"_id": 5_i64, "a": 1}});
        assert_eq!(Form::Key.field(&mut out, b"x", Datum::Text(b"\x05\0\0\0\0"), Choices::default()), Err(NO_BSON));
    }
}
