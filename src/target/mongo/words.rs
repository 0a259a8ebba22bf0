//! What a column's values become in documents, and the word for it. Pure.

use crate::definition::DataType;
use crate::documents::values::{Choices, Form};
use crate::documents::{BSON, KEY, OBJECT_ID};
use crate::schema::{Column, Kind};

/// What becomes of a column's values; `in_key`: it is part of the key.
pub fn form(column: &Column, in_key: bool) -> (Form, Choices) {
    let (word, data) = (column.type_name.as_str(), &column.data);
    let form = match word {
        BSON if in_key => Form::Key,
        BSON => Form::Document,
        KEY => Form::KeyText,
        _ => match word.strip_prefix("array of ") {
            Some(element) => Form::Array(Box::new(plain(element, &DataType::Other))),
            None => plain(word, data),
        },
    };
    // A date of three digits holds no more; where a rule says `date` of a finer column, it is made one of three.
    let cut_micros = matches!(innermost(data), DataType::Timestamp { fraction } | DataType::TimestampTz { fraction } if *fraction <= 3);
    // Two keys could become one.
    let cut_micros = cut_micros && !in_key;
    (form, Choices { cut_micros })
}

/// The name of a form in a `$type` expression, or `None` where values are of several types. Source: "$type", MongoDB Manual.
pub fn alias(form: &Form) -> Option<&'static str> {
    Some(match form {
        Form::Bool => "bool",
        Form::Int32 | Form::Int64 | Form::Double | Form::Decimal => "number",
        Form::Text => "string",
        Form::Bytes | Form::Uuid => "binData",
        Form::Date => "date",
        Form::ObjectId => "objectId",
        Form::Truth | Form::Json | Form::Array(_) | Form::Document | Form::Key | Form::KeyText => return None,
    })
}

fn innermost(data: &DataType) -> &DataType {
    match data {
        DataType::Array { element } => innermost(element),
        other => other,
    }
}

/// The same without what is finer than a millisecond.
pub fn cut(data: &DataType) -> DataType {
    match data {
        DataType::Timestamp { fraction } => DataType::Timestamp { fraction: (*fraction).min(3) },
        DataType::TimestampTz { fraction } => DataType::TimestampTz { fraction: (*fraction).min(3) },
        DataType::Array { element } => DataType::Array { element: Box::new(cut(element)) },
        other => other.clone(),
    }
}

fn plain(word: &str, data: &DataType) -> Form {
    match word {
        "bool" if matches!(data, DataType::Int { .. }) => Form::Truth,
        "bool" => Form::Bool,
        "int" => Form::Int32,
        "long" => Form::Int64,
        "double" => Form::Double,
        "decimal" => Form::Decimal,
        "binData" => Form::Bytes,
        "uuid" => Form::Uuid,
        "date" => Form::Date,
        OBJECT_ID | "objectId" => Form::ObjectId,
        "object" => Form::Json,
        _ => Form::Text,
    }
}

/// The word for what a column of another engine becomes.
pub fn word(data: &DataType, kind: Kind, type_name: &str) -> String {
    let plain = match data {
        DataType::Bool | DataType::Int { truth: true, .. } => "bool",
        DataType::Int { bits, unsigned, .. } => match (bits, unsigned) {
            (..=24, _) | (25..=32, false) => "int",
            _ => "long",
        },
        DataType::Year => "int",
        DataType::Decimal { .. } => "decimal",
        DataType::Float { .. } => "double",
        DataType::Bytes { .. } => "binData",
        DataType::Geometry if kind == Kind::Bytes => "binData",
        DataType::Date | DataType::Timestamp { .. } | DataType::TimestampTz { .. } => "date",
        DataType::Uuid => "uuid",
        DataType::Json { .. } => "object",
        // Its items are separated by semicolons, unlike those of all other arrays (PostgreSQL's box).
        DataType::Array { .. } if type_name.ends_with("box[]") => "string",
        DataType::Array { element } => return format!("array of {}", word(innermost(element), Kind::Other, "")),
        DataType::Other => match kind {
            Kind::Bool => "bool",
            Kind::Int2 | Kind::Int4 => "int",
            Kind::Int8 => "long",
            Kind::Float4 | Kind::Float8 => "double",
            Kind::Numeric => "decimal",
            Kind::Bytes => "binData",
            Kind::Uuid => "uuid",
            Kind::Date | Kind::Timestamp | Kind::TimestampTz => "date",
            Kind::Json | Kind::Jsonb => "object",
            Kind::Text | Kind::Time | Kind::Other => "string",
        },
        _ => "string",
    };
    plain.to_owned()
}

/// What a column holds whose word a person chose in a rule.
///
/// # Errors
/// The words that there are.
pub fn named(word: &str) -> Result<(String, Kind, DataType), String> {
    let word = word.trim();
    let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
    let (kind, data) = match word {
        "bool" => (Kind::Bool, DataType::Bool),
        "int" => (Kind::Int4, int(32)),
        "long" => (Kind::Int8, int(64)),
        "double" => (Kind::Float8, DataType::Float { bits: 64 }),
        "decimal" => (Kind::Numeric, DataType::Decimal { precision: None, scale: 0 }),
        "string" => (Kind::Text, DataType::Text { bytes: None }),
        "binData" => (Kind::Bytes, DataType::Bytes { length: None, fixed: false }),
        "uuid" => (Kind::Uuid, DataType::Uuid),
        "date" => (Kind::TimestampTz, DataType::TimestampTz { fraction: 3 }),
        "objectId" => (Kind::Text, DataType::Char { length: 24 }),
        "object" => (Kind::Jsonb, DataType::Json { verbatim: false }),
        _ => {
            return Err(format!(
                "{word:?} is no type of MongoDB's: bool, int, long, double, decimal, string, binData, uuid, date, objectId or object"
            ));
        }
    };
    Ok((word.to_owned(), kind, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_types_of_other_engines_when_named_then_nothing_is_narrower() {
        let int = |bits, unsigned| DataType::Int { bits, unsigned, truth: false };
        for (data, wanted) in [
            (int(32, false), "int"),
            (int(32, true), "long"),
            (int(64, true), "long"),
            (DataType::Decimal { precision: Some(10), scale: 2 }, "decimal"),
            (DataType::Timestamp { fraction: 6 }, "date"),
            (DataType::Interval, "string"),
            (DataType::Array { element: Box::new(DataType::Uuid) }, "array of uuid"),
        ] {
            assert_eq!(word(&data, Kind::Other, ""), wanted);
        }
        assert_eq!(word(&DataType::Other, Kind::Int8, ""), "long");
    }

    #[test]
    fn given_a_timestamp_when_its_form_is_asked_for_then_only_a_chosen_date_cuts() {
        let column = |data: DataType| Column {
            name: "t".into(),
            number: 1,
            type_name: "date".into(),
            kind: Kind::Timestamp,
            data,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        };
        assert!(!form(&column(DataType::Timestamp { fraction: 6 }), false).1.cut_micros);
        assert!(form(&column(named("date").unwrap().2), false).1.cut_micros);
        assert!(!form(&column(named("date").unwrap().2), true).1.cut_micros);
        let fine = DataType::Array { element: Box::new(DataType::TimestampTz { fraction: 6 }) };
        assert!(!form(&column(fine.clone()), false).1.cut_micros);
        assert!(form(&column(cut(&fine)), false).1.cut_micros);
    }
}
