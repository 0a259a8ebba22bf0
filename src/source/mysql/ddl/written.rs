//! A column's type as it is written, and as `information_schema` prints it; which conversions keep every value. Pure.

use super::cursor::{Cursor, Unclear};
use super::token::Kind;
use crate::definition::DataType;
use crate::mywire::quote::printed;
use crate::source::mysql::columns;

/// A type as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeText {
    /// The server's own word for it, lower case.
    word: String,
    arguments: Vec<String>,
    unsigned: bool,
    zerofill: bool,
    compressed: bool,
    /// `SERIAL`: a key that numbers itself.
    pub serial: bool,
    /// MariaDB's `JSON`: a long text that the server checks.
    pub document: bool,
}

/// Reads a type's word and its brackets; the words behind are taken by [`TypeText::behind`].
///
/// # Errors
/// It is no type of either family.
pub fn read(c: &mut Cursor<'_>) -> Result<TypeText, Unclear> {
    let unclear = c.unclear();
    let Some(Kind::Word(first)) = c.take() else { return Err(unclear) };
    let mut word = first.to_ascii_lowercase();
    let mut serial = false;
    let mut document = false;
    let varying = |c: &mut Cursor<'_>| c.word("varying") || c.word("varchar") || c.word("varcharacter");
    match word.as_str() {
        "national" => {
            word = match c.take() {
                Some(Kind::Word(w)) => w.to_ascii_lowercase(),
                _ => return Err(unclear),
            };
            if word == "character" && c.word("varying") {
                word = "varchar".into();
            }
        }
        "character" | "char" | "nchar" if varying(c) => word = "varchar".into(),
        "long" => {
            word = if c.word("varbinary") {
                "mediumblob".into()
            } else {
                // LONG VARCHAR, LONG CHAR VARYING.
                let _ = varying(c) || c.words(&["char", "varying"]) || c.words(&["character", "varying"]);
                "mediumtext".into()
            }
        }
        "double" => drop(c.word("precision")),
        _ => {}
    }
    let mut arguments = Vec::new();
    if c.sign('(') {
        loop {
            match c.take() {
                Some(Kind::Number(n)) => arguments.push(n.clone()),
                Some(Kind::Text(t)) => arguments.push(t.clone()),
                Some(Kind::Hex(h)) => arguments.push(String::from_utf8_lossy(h).into_owned()),
                _ => return Err("its type's bracket holds something else than numbers and strings".into()),
            }
            if c.sign(')') {
                break;
            }
            c.expect(',')?;
        }
    }
    if word == "real" {
        word = if c.session.real_as_float { "float" } else { "double" }.into();
    }
    word = match word.as_str() {
        "integer" | "int4" => "int",
        "bool" | "boolean" => {
            arguments = vec!["1".into()];
            "tinyint"
        }
        "int1" => "tinyint",
        "int2" => "smallint",
        "int3" | "middleint" => "mediumint",
        "int8" => "bigint",
        "dec" | "numeric" | "fixed" => "decimal",
        "number" if c.session.mariadb => "decimal",
        "float8" => "double",
        "float4" => "float",
        "character" | "nchar" => "char",
        "nvarchar" | "varcharacter" | "varchar2" => "varchar",
        "raw" | "clob" => return Err(unclear),
        "geomcollection" | "geometrycollection" => {
            if c.session.mariadb {
                "geometrycollection"
            } else {
                "geomcollection"
            }
        }
        "json" if c.session.mariadb => {
            document = true;
            "longtext"
        }
        "serial" => {
            serial = true;
            "bigint"
        }
        other => other,
    }
    .to_owned();
    if word == "float" && arguments.len() == 1 {
        let precision = arguments[0].parse::<u32>().unwrap_or(0);
        word = if precision > 24 { "double" } else { "float" }.into();
        arguments.clear();
    }
    let known = " tinyint smallint mediumint int bigint decimal float double bit date time datetime timestamp year char varchar \
        tinytext text mediumtext longtext binary varbinary tinyblob blob mediumblob longblob vector json enum set uuid inet4 \
        inet6 geometry point linestring polygon multipoint multilinestring multipolygon geometrycollection geomcollection ";
    if !known.contains(&format!(" {word} ")) {
        return Err(format!("it is not known what type {word:?} is"));
    }
    if c.session.foreign_types {
        return Err("its session's sql_mode gives types another meaning".into());
    }
    if matches!(word.as_str(), "enum" | "set") {
        // The server takes blanks off the ends of labels (manual, "The ENUM Type").
        arguments.iter_mut().for_each(|a| a.truncate(a.trim_end_matches(' ').len()));
    }
    Ok(TypeText { word, arguments, unsigned: serial, zerofill: false, compressed: false, serial, document })
}

impl TypeText {
    /// Takes a word that belongs to the type if one stands here: UNSIGNED, BYTE.
    pub fn behind(&mut self, c: &mut Cursor<'_>) -> bool {
        if c.word("unsigned") {
            self.unsigned = true;
        } else if c.word("zerofill") {
            (self.unsigned, self.zerofill) = (true, true);
        } else if c.word("byte") {
            self.binary();
        } else if c.word("compressed") {
            self.compressed = true;
            if c.sign('=') {
                c.take();
            }
        } else {
            return c.word("signed");
        }
        true
    }

    /// CHARACTER SET binary makes bytes of text (manual, "The CHARACTER SET Clause").
    pub fn binary(&mut self) {
        let word = match self.word.as_str() {
            "char" => "binary",
            "varchar" => "varbinary",
            "tinytext" => "tinyblob",
            "text" => "blob",
            "mediumtext" => "mediumblob",
            "longtext" => "longblob",
            _ => return,
        };
        self.word = word.into();
    }

    /// As `information_schema.columns.column_type` prints it. `width` is the most bytes that a character of the column's
    /// character set takes: `TEXT(n)` chooses by it.
    pub fn printed(&self, mariadb: bool, width: u64) -> String {
        let argument = |i: usize| self.arguments.get(i).and_then(|a| a.parse::<u64>().ok());
        let list = |a: &[String]| a.iter().map(|a| printed(a)).collect::<Vec<_>>().join(",");
        let sized = |bytes: u64, names: [&str; 4]| {
            let fits = [0xff, 0xffff, 0xff_ffff].iter().position(|most| bytes <= *most).unwrap_or(3);
            names[fits].to_owned()
        };
        let mut out = match self.word.as_str() {
            w @ ("tinyint" | "smallint" | "mediumint" | "int" | "bigint") => {
                // Digits of the smallest value; one less without a sign, where there is none more.
                let digits = match (w, self.unsigned) {
                    ("tinyint", false) => 4,
                    ("tinyint", true) => 3,
                    ("smallint", false) => 6,
                    ("smallint", true) => 5,
                    ("mediumint", false) => 9,
                    ("mediumint", true) => 8,
                    ("int", false) => 11,
                    ("int", true) => 10,
                    _ => 20,
                };
                let digits = argument(0).unwrap_or(digits);
                let truth = w == "tinyint" && digits == 1 && !self.unsigned;
                if mariadb || self.zerofill || truth { format!("{w}({digits})") } else { w.to_owned() }
            }
            "decimal" => {
                format!("decimal({},{})", argument(0).filter(|p| *p > 0).unwrap_or(10), argument(1).unwrap_or(0))
            }
            w @ ("float" | "double") => match (argument(0), argument(1)) {
                (Some(p), Some(s)) => format!("{w}({p},{s})"),
                _ => w.to_owned(),
            },
            w @ ("bit" | "char" | "binary") => format!("{w}({})", argument(0).unwrap_or(1)),
            w @ ("varchar" | "varbinary") => format!("{w}({})", argument(0).unwrap_or(1)),
            "vector" => format!("vector({})", argument(0).unwrap_or(2048)),
            w @ ("time" | "datetime" | "timestamp") => match argument(0) {
                Some(n) if n > 0 => format!("{w}({n})"),
                _ => w.to_owned(),
            },
            "year" => if mariadb { "year(4)" } else { "year" }.to_owned(),
            "text" => match argument(0) {
                Some(n) if n > 0 => sized(n.saturating_mul(width), ["tinytext", "text", "mediumtext", "longtext"]),
                _ => "text".to_owned(),
            },
            "blob" => match argument(0) {
                Some(n) if n > 0 => sized(n, ["tinyblob", "blob", "mediumblob", "longblob"]),
                _ => "blob".to_owned(),
            },
            w @ ("enum" | "set") => format!("{w}({})", list(&self.arguments)),
            w => w.to_owned(),
        };
        if self.unsigned {
            out.push_str(" unsigned");
        }
        if self.zerofill {
            out.push_str(" zerofill");
        }
        if self.compressed {
            // As MariaDB prints it.
            out.push_str(" /*M!100301 COMPRESSED*/");
        }
        out
    }
}

/// Whether every value of one printed type is the same value, printed the same, in the other. `from` and `to` are what
/// the types hold.
pub fn keeps(from_type: &str, from: &DataType, to_type: &str, to: &DataType) -> bool {
    use DataType as T;
    let (a, b) = (columns::read(from_type), columns::read(to_type));
    let zerofill = |t: &str| t.to_ascii_lowercase().ends_with("zerofill");
    // The most bytes that a character takes in any character set.
    let bytes = |characters: u32| u64::from(characters) * 4;
    match (from, to) {
        (T::Other, _) | (_, T::Other) => from_type.eq_ignore_ascii_case(to_type),
        (T::Int { bits: x, unsigned: u, .. }, T::Int { bits: y, unsigned: v, .. }) => match (u, v) {
            (false, false) | (true, true) => x <= y,
            (true, false) => x < y,
            (false, true) => false,
        },
        (T::Int { bits, .. }, T::Decimal { precision, scale: 0 }) => {
            let digits = match bits {
                8 => 3,
                16 => 5,
                24 => 8,
                32 => 10,
                _ => 20,
            };
            precision.is_none_or(|p| p >= digits) && (a.unsigned || !b.unsigned)
        }
        (T::Int { .. }, T::Varchar { length }) => *length >= 20 && !zerofill(from_type),
        (T::Int { .. }, T::Text { .. }) => !zerofill(from_type),
        (T::Decimal { precision: p, scale: s }, T::Decimal { precision: q, scale: t }) => {
            s == t && q.is_none_or(|q| p.is_some_and(|p| p <= q)) && (a.unsigned || !b.unsigned)
        }
        (T::Float { bits: x }, T::Float { bits: y }) => {
            x == y && (b.arguments.is_empty() || a.arguments == b.arguments) && (a.unsigned || !b.unsigned)
        }
        // CHAR loses blanks at the end, and gives them to nobody.
        (T::Char { length: x }, T::Char { length: y } | T::Varchar { length: y })
        | (T::Varchar { length: x }, T::Varchar { length: y }) => x <= y,
        (T::Char { length } | T::Varchar { length }, T::Text { bytes: most }) => {
            most.is_none_or(|m| bytes(*length) <= m)
        }
        (T::Text { bytes: x }, T::Text { bytes: y }) => y.is_none_or(|y| x.is_some_and(|x| x <= y)),
        (T::Bytes { .. }, T::Bytes { .. }) if a.word == "vector" || b.word == "vector" => a == b,
        (T::Bytes { length: x, fixed: f }, T::Bytes { length: y, fixed: g }) => {
            if *g {
                *f && x == y
            } else {
                y.is_none_or(|y| x.is_some_and(|x| x <= y))
            }
        }
        (T::Time { fraction: x, .. }, T::Time { fraction: y, .. })
        | (T::Timestamp { fraction: x }, T::Timestamp { fraction: y })
        | (T::TimestampTz { fraction: x }, T::TimestampTz { fraction: y }) => x <= y,
        (T::Enum { labels: x, .. }, T::Enum { labels: y, .. }) => x.iter().all(|l| y.contains(l)),
        (T::Enum { labels, .. }, T::Varchar { length }) => labels.iter().all(|l| l.chars().count() <= *length as usize),
        (T::Enum { .. }, T::Text { bytes }) => bytes.is_none_or(|b| b >= 0xffff),
        (T::Set { labels: x }, T::Set { labels: y }) => {
            // Members are printed in the order of the labels.
            let mut rest = y.iter();
            x.iter().all(|l| rest.any(|r| r == l))
        }
        (T::Geometry, T::Geometry) => a.word == b.word || b.word == "geometry",
        _ => from == to,
    }
}
