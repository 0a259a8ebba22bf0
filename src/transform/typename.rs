//! PostgreSQL's name for what a column of another engine holds: expressions are typed by it, and a PostgreSQL target makes
//! its columns of it. Pure.

use super::expr;
use crate::definition::DataType;
use crate::schema::Kind;

/// The longest `character varying(n)` (`MaxAttrSize`, htup_details.h).
const LONGEST: u32 = 10_485_760;
/// The most digits of a `numeric` with precision (`NUMERIC_MAX_PRECISION`, numeric.h).
const MOST_DIGITS: u32 = 1000;

/// The type that holds every value of `data`, as PostgreSQL's catalog prints it, and what decoders call it. Numbers without
/// sign become the next wider type; labels become text; what has no counterpart is text, too.
pub fn of(data: &DataType) -> (String, Kind) {
    let plain = |name: &str, kind| (name.to_owned(), kind);
    match data {
        DataType::Bool => plain("boolean", Kind::Bool),
        DataType::Int { bits, unsigned, .. } => match (bits, unsigned) {
            (..=8, _) | (9..=16, false) => plain("smallint", Kind::Int2),
            (9..=24, _) | (25..=32, false) => plain("integer", Kind::Int4),
            (25..=32, true) | (33.., false) => plain("bigint", Kind::Int8),
            (33.., true) => plain("numeric(20,0)", Kind::Numeric),
        },
        DataType::Decimal { precision: Some(p), scale } if (1..=MOST_DIGITS).contains(p) && scale <= p => {
            (format!("numeric({p},{scale})"), Kind::Numeric)
        }
        DataType::Decimal { .. } => plain("numeric", Kind::Numeric),
        DataType::Float { bits: ..=32 } => plain("real", Kind::Float4),
        DataType::Float { .. } => plain("double precision", Kind::Float8),
        DataType::Char { length } | DataType::Varchar { length } if *length <= LONGEST => {
            (format!("character varying({})", (*length).max(1)), Kind::Text)
        }
        DataType::Bytes { .. } | DataType::Geometry => plain("bytea", Kind::Bytes),
        DataType::Bits { length: Some(n), varying: false } if *n > 0 => (format!("bit({n})"), Kind::Other),
        DataType::Bits { length: Some(n), .. } if *n > 0 => (format!("bit varying({n})"), Kind::Other),
        DataType::Bits { .. } => plain("bit varying", Kind::Other),
        DataType::Date => plain("date", Kind::Date),
        DataType::Time { fraction, zone: true, .. } => {
            (format!("time{} with time zone", digits(*fraction)), Kind::Other)
        }
        DataType::Time { fraction, .. } => (format!("time{} without time zone", digits(*fraction)), Kind::Time),
        DataType::Timestamp { fraction } => {
            (format!("timestamp{} without time zone", digits(*fraction)), Kind::Timestamp)
        }
        DataType::TimestampTz { fraction } => {
            (format!("timestamp{} with time zone", digits(*fraction)), Kind::TimestampTz)
        }
        DataType::Year => plain("smallint", Kind::Int2),
        DataType::Interval => plain("interval", Kind::Other),
        DataType::Uuid => plain("uuid", Kind::Uuid),
        DataType::Json { verbatim: true } => plain("json", Kind::Json),
        DataType::Json { verbatim: false } => plain("jsonb", Kind::Jsonb),
        DataType::Network => plain("inet", Kind::Other),
        DataType::Array { element } => (format!("{}[]", of(element).0), Kind::Other),
        DataType::Char { .. }
        | DataType::Varchar { .. }
        | DataType::Text { .. }
        | DataType::Enum { .. }
        | DataType::Set { .. }
        | DataType::Other => plain("text", Kind::Text),
    }
}

/// Six digits of a second are what the types have by themselves.
fn digits(fraction: u8) -> String {
    if fraction >= 6 { String::new() } else { format!("({fraction})") }
}

/// What a column of the PostgreSQL type of this name holds, as far as the name tells: as the catalog prints it, or as a
/// person writes it.
pub fn named(name: &str) -> (Kind, DataType) {
    let name = name.trim();
    if let Some(element) = name.strip_suffix("[]") {
        return (Kind::Other, DataType::Array { element: Box::new(named(element).1) });
    }
    let kind = expr::kind_of_name(name);
    let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
    let lower = name.to_ascii_lowercase();
    let modifier = expr::modifier_of_name(name);
    let length = modifier.and_then(|(n, _)| u32::try_from(n).ok());
    let fraction = length.map_or(6, |n| n.min(6) as u8);
    let data = match kind {
        Kind::Bool => DataType::Bool,
        Kind::Int2 => int(16),
        Kind::Int4 => int(32),
        Kind::Int8 => int(64),
        Kind::Float4 => DataType::Float { bits: 32 },
        Kind::Float8 => DataType::Float { bits: 64 },
        Kind::Numeric => match modifier.map(|(p, s)| (u32::try_from(p), u32::try_from(s))) {
            Some((Ok(precision), Ok(scale))) => DataType::Decimal { precision: Some(precision), scale },
            _ => DataType::Decimal { precision: None, scale: 0 },
        },
        Kind::Text => match length {
            Some(length) if lower.contains("var") => DataType::Varchar { length },
            Some(length) => DataType::Char { length },
            None => DataType::Text { bytes: None },
        },
        Kind::Bytes => DataType::Bytes { length: None, fixed: false },
        Kind::Uuid => DataType::Uuid,
        Kind::Date => DataType::Date,
        Kind::Time => DataType::Time { fraction, span: false, zone: false },
        Kind::Timestamp => DataType::Timestamp { fraction },
        Kind::TimestampTz => DataType::TimestampTz { fraction },
        Kind::Json => DataType::Json { verbatim: true },
        Kind::Jsonb => DataType::Json { verbatim: false },
        Kind::Other => match lower.split('(').next().unwrap_or("").trim() {
            "interval" => DataType::Interval,
            "inet" | "cidr" => DataType::Network,
            _ => DataType::Other,
        },
    };
    (kind, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_of_another_engine_when_named_then_every_value_of_them_fits() {
        let int = |bits, unsigned| DataType::Int { bits, unsigned, truth: false };
        let boxed = |d| Box::new(d);
        for (data, name, kind) in [
            (DataType::Bool, "boolean", Kind::Bool),
            (int(8, false), "smallint", Kind::Int2),
            (int(8, true), "smallint", Kind::Int2),
            (int(16, false), "smallint", Kind::Int2),
            (int(16, true), "integer", Kind::Int4),
            (int(24, false), "integer", Kind::Int4),
            (int(24, true), "integer", Kind::Int4),
            (int(32, false), "integer", Kind::Int4),
            (int(32, true), "bigint", Kind::Int8),
            (int(64, false), "bigint", Kind::Int8),
            (int(64, true), "numeric(20,0)", Kind::Numeric),
            (DataType::Decimal { precision: Some(65), scale: 30 }, "numeric(65,30)", Kind::Numeric),
            (DataType::Decimal { precision: None, scale: 0 }, "numeric", Kind::Numeric),
            (DataType::Float { bits: 32 }, "real", Kind::Float4),
            (DataType::Float { bits: 64 }, "double precision", Kind::Float8),
            (DataType::Char { length: 0 }, "character varying(1)", Kind::Text),
            (DataType::Varchar { length: 255 }, "character varying(255)", Kind::Text),
            (DataType::Varchar { length: LONGEST + 1 }, "text", Kind::Text),
            (DataType::Text { bytes: Some(65535) }, "text", Kind::Text),
            (DataType::Bytes { length: Some(16), fixed: true }, "bytea", Kind::Bytes),
            (DataType::Bits { length: Some(64), varying: false }, "bit(64)", Kind::Other),
            (DataType::Bits { length: Some(8), varying: true }, "bit varying(8)", Kind::Other),
            (DataType::Date, "date", Kind::Date),
            (DataType::Time { fraction: 3, span: true, zone: false }, "time(3) without time zone", Kind::Time),
            (DataType::Time { fraction: 6, span: false, zone: true }, "time with time zone", Kind::Other),
            (DataType::Timestamp { fraction: 0 }, "timestamp(0) without time zone", Kind::Timestamp),
            (DataType::TimestampTz { fraction: 6 }, "timestamp with time zone", Kind::TimestampTz),
            (DataType::Year, "smallint", Kind::Int2),
            (DataType::Json { verbatim: false }, "jsonb", Kind::Jsonb),
            (DataType::Enum { name: None, labels: vec!["a".into()] }, "text", Kind::Text),
            (DataType::Set { labels: vec!["a".into()] }, "text", Kind::Text),
            (DataType::Array { element: boxed(int(32, false)) }, "integer[]", Kind::Other),
            (DataType::Geometry, "bytea", Kind::Bytes),
            (DataType::Uuid, "uuid", Kind::Uuid),
            (DataType::Network, "inet", Kind::Other),
            (DataType::Other, "text", Kind::Text),
        ] {
            assert_eq!(of(&data), (name.to_owned(), kind), "{data:?}");
        }
    }

    #[test]
    fn given_a_name_that_a_person_wrote_when_read_then_what_it_holds_is_known() {
        assert_eq!(named("SMALLINT"), (Kind::Int2, DataType::Int { bits: 16, unsigned: false, truth: false }));
        assert_eq!(named("varchar(20)").0, Kind::Text);
        assert_eq!(named("timestamptz(3)").0, Kind::TimestampTz);
        assert_eq!(named("public.mood"), (Kind::Other, DataType::Other));
        assert!(matches!(named("text[]"), (Kind::Other, DataType::Array { .. })));
        for (name, data) in [
            ("varchar(20)", DataType::Varchar { length: 20 }),
            ("character(3)", DataType::Char { length: 3 }),
            ("character varying", DataType::Text { bytes: None }),
            ("numeric(12, 2)", DataType::Decimal { precision: Some(12), scale: 2 }),
            ("numeric", DataType::Decimal { precision: None, scale: 0 }),
            ("timestamp(3) with time zone", DataType::TimestampTz { fraction: 3 }),
            ("time without time zone", DataType::Time { fraction: 6, span: false, zone: false }),
            ("interval", DataType::Interval),
            ("jsonb", DataType::Json { verbatim: false }),
        ] {
            assert_eq!(named(name).1, data, "{name}");
        }
    }
}
