//! What a rule says of a collection's fields: `text not null default 'x'`. Pure.

use crate::definition::{DataType, DefaultValue};
use crate::documents::canonical::{ByteOrder, Wanted};
use crate::documents::{OBJECT_ID, decimal::Decimal, double, moment, read};
use crate::exchange::CollectionFields;
use crate::schema::Kind;
use crate::transform::typename;

/// The column that gets what no path names, unless the rule says another.
pub const REST: &str = "rest";
/// The steps that a path may have.
const MOST_STEPS: usize = 8;
const TYPES: &str = "text, varchar(n), char(n), smallint, integer, bigint, numeric, numeric(p,s), real, double precision, \
    boolean, timestamptz, timestamp, date, uuid, objectid, bytea, json, jsonb, or one of them but the last two with []";

/// A field that becomes a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// What the column holds.
    pub data: DataType,
    /// What decoders and rules call it.
    pub kind: Kind,
    /// The type in PostgreSQL's words; `objectid`.
    pub type_name: String,
    /// What is taken for a value.
    pub wanted: Wanted,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// What a document without the field has there, in canonical text form.
    pub default: Option<String>,
}

impl FieldSpec {
    /// Reads `varchar(20) not null default 'x'`.
    ///
    /// # Errors
    /// What is wrong, and after a `; ` what would be right.
    pub fn parse(text: &str) -> Result<FieldSpec, String> {
        let mut words = Words { rest: text.trim() };
        let (data, wanted) = type_of(&mut words)?;
        let (type_name, kind) = named(&data, &wanted);
        let mut spec = FieldSpec { data, kind, type_name, wanted, not_null: false, default: None };
        while !words.rest.is_empty() {
            let word = words.word();
            match word.as_str() {
                "not" if words.word() == "null" => spec.not_null = true,
                "null" if !spec.not_null => {}
                "default" if spec.default.is_none() => spec.default = literal(&mut words, &spec.wanted)?,
                _ => {
                    return Err(format!(
                        "{:?} cannot be read; behind the type stand `not null` and `default 'value'`",
                        if word.is_empty() { words.rest } else { &word }
                    ));
                }
            }
        }
        Ok(spec)
    }

    /// The default as other engines read it.
    pub fn default_value(&self) -> DefaultValue {
        self.default.clone().map_or(DefaultValue::None, DefaultValue::Literal)
    }
}

/// Looks at all that a rule says of a collection's fields.
///
/// # Errors
/// The key, `fields."address.city"` or `rest`, and what is wrong with it.
pub fn check(fields: &CollectionFields) -> Result<(), (String, String)> {
    for (path, text) in &fields.fields {
        let key = || key(path);
        steps(path).map_err(|e| (key(), e))?;
        let spec = FieldSpec::parse(text).map_err(|e| (key(), e))?;
        if path == super::ID && matches!(spec.wanted, Wanted::Json | Wanted::Array(_)) {
            let what = "two keys could be one here; write the type that the keys have, or leave _id out of fields: it becomes a text then";
            return Err((key(), what.into()));
        }
    }
    let rest = fields.rest.as_deref().unwrap_or(REST);
    if rest.is_empty() || rest == "_id" || fields.fields.contains_key(rest) {
        let what = format!(
            "{rest:?} is the name of another column; name the one for all other fields, such as rest = \"other_fields\""
        );
        return Err(("rest".into(), what));
    }
    Ok(())
}

/// A path's key, as messages about the configuration have it.
pub(super) fn key(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if path.chars().all(plain) && !path.is_empty() { format!("fields.{path}") } else { format!("fields.{path:?}") }
}

/// The steps of a path.
pub(super) fn steps(path: &str) -> Result<Vec<&str>, String> {
    let steps: Vec<&str> = path.split('.').collect();
    if steps.iter().any(|s| s.is_empty()) {
        return Err("a step of the path is empty; write names with a point between, such as address.city".into());
    }
    if path.contains('\0') {
        return Err("a name with U+0000, which no field has; take it out".into());
    }
    if steps.len() > MOST_STEPS {
        return Err(format!(
            "the path has {} steps, and {MOST_STEPS} are read; make a jsonb column of a document above, and take it apart with set",
            steps.len()
        ));
    }
    Ok(steps)
}

/// The type's name, and what decoders call it.
fn named(data: &DataType, wanted: &Wanted) -> (String, Kind) {
    match (data, wanted) {
        (_, Wanted::ObjectId) => (OBJECT_ID.to_owned(), Kind::Text),
        (DataType::Array { element }, Wanted::Array(inner)) => (format!("{}[]", named(element, inner).0), Kind::Other),
        // The order of members and spaces is the document's, not jsonb's.
        (DataType::Json { .. }, _) => ("json".to_owned(), Kind::Json),
        _ => typename::of(data),
    }
}

struct Words<'t> {
    rest: &'t str,
}

impl Words<'_> {
    /// The next run of letters, digits and underscores, in lower case.
    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word.to_lowercase()
    }
    fn take(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }
    /// The words that a phrase has, in this order, or nothing.
    fn phrase(&mut self, phrase: &[&str]) -> bool {
        let before = self.rest;
        let all = phrase.iter().all(|p| self.word() == *p);
        if !all {
            self.rest = before;
        }
        all
    }
}

fn type_of(words: &mut Words<'_>) -> Result<(DataType, Wanted), String> {
    let mut word = words.word();
    if word.is_empty() {
        return Err(format!("no type; write one of {TYPES}"));
    }
    match word.as_str() {
        "double" if words.phrase(&["precision"]) => {}
        "character" if words.phrase(&["varying"]) => word = "varchar".into(),
        _ => {}
    }
    let arguments = arguments(words)?;
    if matches!(word.as_str(), "timestamp") {
        if words.phrase(&["with", "time", "zone"]) {
            word = "timestamptz".into();
        } else {
            words.phrase(&["without", "time", "zone"]);
        }
    }
    let lists = words.take("[") && {
        if !words.take("]") {
            return Err("behind [ stands ], without a number; write text[]".into());
        }
        true
    };
    let int = |bits| (DataType::Int { bits, unsigned: false, truth: false }, Wanted::Integer(bits));
    let length = |most: u32| match arguments.as_slice() {
        [one] => match one.parse() {
            Ok(n) if (1..=most).contains(&n) => Ok(n),
            _ => Err(format!("{one:?} is no length; write a number from 1 to {most}")),
        },
        _ => Err(format!("{word} needs a length; write {word}(20), or text")),
    };
    let takes_arguments = matches!(word.as_str(), "varchar" | "char" | "character" | "numeric" | "decimal" | "uuid");
    if !takes_arguments && !arguments.is_empty() {
        return Err(format!("{word} has nothing in brackets; write {word}"));
    }
    let found = match word.as_str() {
        "text" => (DataType::Text { bytes: None }, Wanted::Text(None)),
        "varchar" => {
            let length = length(10_485_760)?;
            (DataType::Varchar { length }, Wanted::Text(Some(length)))
        }
        "char" | "character" => {
            let length = length(10_485_760)?;
            (DataType::Char { length }, Wanted::Text(Some(length)))
        }
        "smallint" | "int2" => int(16),
        "integer" | "int" | "int4" => int(32),
        "bigint" | "int8" => int(64),
        "numeric" | "decimal" => match numeric(&arguments)? {
            Some((p, s)) => (DataType::Decimal { precision: Some(p), scale: s }, Wanted::Numeric(Some((p, s)))),
            None => (DataType::Decimal { precision: None, scale: 0 }, Wanted::Numeric(None)),
        },
        "real" | "float4" => (DataType::Float { bits: 32 }, Wanted::Real),
        "double" | "float8" => (DataType::Float { bits: 64 }, Wanted::Double),
        "boolean" | "bool" => (DataType::Bool, Wanted::Bool),
        "timestamptz" => (DataType::TimestampTz { fraction: 3 }, Wanted::Timestamp { zoned: true }),
        "timestamp" => (DataType::Timestamp { fraction: 3 }, Wanted::Timestamp { zoned: false }),
        "date" => (DataType::Date, Wanted::Date),
        "uuid" => {
            let order = match arguments.iter().map(|a| a.to_lowercase()).collect::<Vec<_>>().as_slice() {
                [] => None,
                [one] if one == "python" => Some(ByteOrder::Python),
                [one] if one == "java" => Some(ByteOrder::Java),
                [one] if one == "csharp" => Some(ByteOrder::CSharp),
                _ => {
                    return Err(
                        "no driver's order of bytes; write uuid(python), uuid(java), uuid(csharp) or uuid".into()
                    );
                }
            };
            (DataType::Uuid, Wanted::Uuid(order))
        }
        "objectid" => (DataType::Char { length: 24 }, Wanted::ObjectId),
        "bytea" => (DataType::Bytes { length: None, fixed: false }, Wanted::Bytes),
        "json" | "jsonb" => (DataType::Json { verbatim: word == "json" }, Wanted::Json),
        other => return Err(format!("{other:?} is not a type; write one of {TYPES}")),
    };
    if !lists {
        return Ok(found);
    }
    if found.1 == Wanted::Json {
        return Err(format!("{word}[] is a list of scalars only; write jsonb, which holds lists as well"));
    }
    Ok((DataType::Array { element: Box::new(found.0) }, Wanted::Array(Box::new(found.1))))
}

fn arguments(words: &mut Words<'_>) -> Result<Vec<String>, String> {
    if !words.take("(") {
        return Ok(Vec::new());
    }
    let (inside, rest) = words.rest.split_once(')').ok_or("a bracket is not closed; write varchar(20)")?;
    words.rest = rest.trim_start();
    Ok(inside.split(',').map(|a| a.trim().to_owned()).collect())
}

fn numeric(arguments: &[String]) -> Result<Option<(u32, u32)>, String> {
    let wrong = || "numeric has digits in all and digits behind the point; write numeric(10,2), or numeric".to_owned();
    let number = |a: &String| a.parse::<u32>().map_err(|_| wrong());
    let (p, s) = match arguments {
        [] => return Ok(None),
        [p] => (number(p)?, 0),
        [p, s] => (number(p)?, number(s)?),
        _ => return Err(wrong()),
    };
    if !(1..=1000).contains(&p) || s > p {
        return Err(wrong());
    }
    Ok(Some((p, s)))
}

/// A literal in canonical text form; `None` for null.
fn literal(words: &mut Words<'_>, wanted: &Wanted) -> Result<Option<String>, String> {
    let mut text = String::new();
    let quoted = words.take_quote();
    if quoted {
        loop {
            let end = words.rest.find('\'').ok_or("a quote is not closed; write default 'value'")?;
            let (part, rest) = words.rest.split_at(end);
            text.push_str(part);
            match rest.strip_prefix("''") {
                Some(more) => {
                    text.push('\'');
                    words.rest = more;
                }
                None => {
                    words.rest = rest.strip_prefix('\'').unwrap_or(rest).trim_start();
                    break;
                }
            }
        }
    } else {
        let end = words.rest.find(char::is_whitespace).unwrap_or(words.rest.len());
        let (word, rest) = words.rest.split_at(end);
        text.push_str(word);
        words.rest = rest.trim_start();
        if text.eq_ignore_ascii_case("null") {
            return Ok(None);
        }
    }
    let plain =
        matches!(wanted, Wanted::Integer(_) | Wanted::Numeric(_) | Wanted::Real | Wanted::Double | Wanted::Bool);
    if !quoted && (text.is_empty() || !plain) {
        return Err("no default; write default 'value', in quotes unless it is a number, true or false".into());
    }
    let canonical = canonical(&text, wanted).ok_or_else(|| {
        format!("the default {text:?} is no value of the type; write one that is, in the type's own form")
    })?;
    Ok(Some(canonical))
}

impl Words<'_> {
    /// A quote; blanks behind it belong to the literal.
    fn take_quote(&mut self) -> bool {
        match self.rest.strip_prefix('\'') {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

fn canonical(text: &str, wanted: &Wanted) -> Option<String> {
    let done = |out: Vec<u8>| String::from_utf8(out).ok();
    let mut out = Vec::new();
    match wanted {
        Wanted::Text(most) => {
            let fits = most.is_none_or(|most| text.chars().count() <= most as usize);
            (fits && !text.contains('\0')).then(|| text.to_owned())
        }
        Wanted::ObjectId => read::object_id(text.as_bytes()).map(|_| text.to_lowercase()),
        Wanted::Integer(bits) => {
            let n: i64 = text.parse().ok()?;
            let most = 1_i64.checked_shl(u32::from(*bits) - 1).filter(|m| *m > 0);
            most.is_none_or(|m| (-m..m).contains(&n)).then(|| n.to_string())
        }
        Wanted::Numeric(limits) => {
            let d = Decimal::parse(text.as_bytes())?;
            if let Some((p, s)) = limits
                && (matches!(d, Decimal::Infinity { .. }) || d.whole_digits() > i64::from(*p) - i64::from(*s))
            {
                return None;
            }
            d.plain(&mut out, limits.map(|(_, s)| s)).then_some(())?;
            done(out)
        }
        Wanted::Double | Wanted::Real => {
            let x: f64 = text.parse().ok()?;
            if *wanted == Wanted::Real {
                double::single(&mut out, x as f32)
            } else {
                double::canonical(&mut out, x)
            }
            done(out)
        }
        Wanted::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "t" => Some("t".into()),
            "false" | "f" => Some("f".into()),
            _ => None,
        },
        Wanted::Timestamp { zoned } => {
            let at = moment::read(text.as_bytes()).filter(|at| at.micros == 0)?;
            moment::timestamp(&mut out, at.ms, *zoned).then_some(())?;
            done(out)
        }
        Wanted::Date => {
            let at = moment::read(text.as_bytes()).filter(|at| at.micros == 0)?;
            moment::date(&mut out, at.ms).then_some(())?;
            done(out)
        }
        Wanted::Uuid(_) => uuid::Uuid::try_parse(text).ok().map(|id| id.hyphenated().to_string()),
        Wanted::Bytes => crate::documents::values::bytes(text.as_bytes()).map(|_| text.to_lowercase()),
        Wanted::Json => {
            read::field(&mut out, b"", text.as_bytes()).ok()?;
            Some(text.to_owned())
        }
        // What items would be in canonical form is not worth a parser: lists begin empty.
        Wanted::Array(_) => (text == "{}").then(|| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_specs_when_read_then_type_null_and_default_are_understood() {
        for (text, type_name, kind, not_null, default) in [
            ("text", "text", Kind::Text, false, None),
            ("TEXT NOT NULL", "text", Kind::Text, true, None),
            ("text not null default 'it''s  '", "text", Kind::Text, true, Some("it's  ")),
            ("text default ''", "text", Kind::Text, false, Some("")),
            ("varchar(20) default 'x' not null", "character varying(20)", Kind::Text, true, Some("x")),
            ("character varying (20)", "character varying(20)", Kind::Text, false, None),
            ("char(3)", "character varying(3)", Kind::Text, false, None),
            ("smallint default -5", "smallint", Kind::Int2, false, Some("-5")),
            ("int", "integer", Kind::Int4, false, None),
            ("bigint default null", "bigint", Kind::Int8, false, None),
            ("numeric", "numeric", Kind::Numeric, false, None),
            ("numeric( 10 , 2 ) default 1.5", "numeric(10,2)", Kind::Numeric, false, Some("1.50")),
            ("double precision default 1e3", "double precision", Kind::Float8, false, Some("1000")),
            ("real", "real", Kind::Float4, false, None),
            ("boolean default TRUE", "boolean", Kind::Bool, false, Some("t")),
            (
                "timestamptz default '2024-01-01'",
                "timestamp(3) with time zone",
                Kind::TimestampTz,
                false,
                Some("2024-01-01 00:00:00+00"),
            ),
            ("timestamp with time zone", "timestamp(3) with time zone", Kind::TimestampTz, false, None),
            ("timestamp without time zone not null", "timestamp(3) without time zone", Kind::Timestamp, true, None),
            ("date default '2024-02-29'", "date", Kind::Date, false, Some("2024-02-29")),
            ("uuid(java)", "uuid", Kind::Uuid, false, None),
            ("objectid not null", "objectid", Kind::Text, true, None),
            ("bytea default '\\x00FF'", "bytea", Kind::Bytes, false, Some("\\x00ff")),
            ("jsonb default '{\"a\": 1}'", "json", Kind::Json, false, Some("{\"a\": 1}")),
            ("text[] not null default '{}'", "text[]", Kind::Other, true, Some("{}")),
            ("objectid[]", "objectid[]", Kind::Other, false, None),
            ("numeric(4,1)[]", "numeric(4,1)[]", Kind::Other, false, None),
        ] {
            let spec = FieldSpec::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((spec.type_name.as_str(), spec.kind), (type_name, kind), "{text}");
            assert_eq!((spec.not_null, spec.default.as_deref()), (not_null, default), "{text}");
        }
        assert_eq!(FieldSpec::parse("jsonb").unwrap().data, DataType::Json { verbatim: false });
        assert_eq!(FieldSpec::parse("json").unwrap().data, DataType::Json { verbatim: true });
    }

    #[test]
    fn given_specs_that_cannot_be_meant_when_read_then_it_is_said_what_would_be_right() {
        for (text, what) in [
            ("", "no type"),
            ("txt", "not a type"),
            ("varchar", "needs a length"),
            ("varchar(0)", "no length"),
            ("varchar(20", "not closed"),
            ("text(5)", "nothing in brackets"),
            ("numeric(2,5)", "numeric(10,2)"),
            ("numeric(1,2,3)", "numeric(10,2)"),
            ("uuid(perl)", "uuid(python)"),
            ("text[3]", "without a number"),
            ("jsonb[]", "write jsonb"),
            ("text primary key", "cannot be read"),
            ("text default x", "in quotes"),
            ("text default", "no default"),
            ("text default 'x", "not closed"),
            ("varchar(2) default 'abc'", "no value of the type"),
            ("smallint default 40000", "no value of the type"),
            ("boolean default 2", "no value of the type"),
            ("date default '2024-02-30'", "no value of the type"),
            ("uuid default 'x'", "no value of the type"),
            ("integer[] default '{1}'", "no value of the type"),
            ("text not", "cannot be read"),
        ] {
            let e = FieldSpec::parse(text).unwrap_err();
            assert!(e.contains(what) && e.contains("; "), "{text}: {e}");
        }
    }

    #[test]
    fn given_all_fields_of_a_rule_when_checked_then_the_key_is_named() {
        let fields = |pairs: &[(&str, &str)], rest: Option<&str>| CollectionFields {
            fields: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            rest: rest.map(str::to_owned),
        };
        assert_eq!(check(&fields(&[("address", "jsonb"), ("address.city", "text")], None)), Ok(()));
        for (bad, key) in [
            (fields(&[("a..b", "text")], None), "fields.\"a..b\""),
            (fields(&[("a", "txt")], None), "fields.a"),
            (fields(&[("a.b.c.d.e.f.g.h.i", "text")], None), "fields.\"a.b.c.d.e.f.g.h.i\""),
            (fields(&[("_id", "jsonb")], None), "fields._id"),
            (fields(&[("_id", "text[]")], None), "fields._id"),
            (fields(&[("rest", "text")], None), "rest"),
            (fields(&[("a", "text")], Some("a")), "rest"),
            (fields(&[("a", "text")], Some("_id")), "rest"),
        ] {
            assert_eq!(check(&bad).unwrap_err().0, key);
        }
        assert_eq!(check(&fields(&[("rest", "text")], Some("others"))), Ok(()));
    }
}
