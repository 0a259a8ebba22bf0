//! Whether a table that exists here can hold what a source of another engine sends. Pure.

use crate::definition::DataType;
use crate::finding::{Finding, Severity};
use crate::pgwire::quote::{qualified, quoted};
use crate::schema::{Column, Kind, Table};

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// Every value fits.
    Fits,
    /// Most do, or they become something else.
    Note(&'static str),
    /// They do not.
    Misfit,
}

use Judgement::{Fits, Misfit, Note};

/// Whether `tables` come from another engine: a type of PostgreSQL's own that is known here by its kind is always portable
/// between its servers, and an adopted one never is.
pub fn are_foreign<'a>(mut tables: impl Iterator<Item = &'a Table>) -> bool {
    tables.any(|t| t.columns.iter().any(|c| !c.portable_binary && c.kind != Kind::Other))
}

/// What is to be said of a table `have` that rows for `want`, the adopted one, go to. Columns that are not there are not
/// looked at.
pub fn differences(want: &Table, have: &Table) -> Vec<Finding> {
    let mut found = Vec::new();
    for w in &want.columns {
        let Some(h) = have.column(&w.name).and_then(|i| have.columns.get(i)) else { continue };
        let names =
            || format!("column {} of {} is {}, and {} comes", quoted(&w.name), have.name, h.type_name, w.type_name);
        match judge(w, h) {
            Fits => {}
            Note(what) => {
                found.push(Finding::new(Severity::Note, "target", "column_type", format!("{}: {what}", names())))
            }
            Misfit => found.push(Finding::new(Severity::Problem, "target", "column_type", names()).fix(format!(
                "ALTER TABLE {} ALTER COLUMN {c} TYPE {t} USING {c}::{t};",
                qualified(&have.name),
                c = quoted(&w.name),
                t = w.type_name
            ))),
        }
        if w.nullable && !h.nullable {
            let what = format!("column {} of {} is NOT NULL, and NULL may come", quoted(&w.name), have.name);
            found.push(Finding::new(Severity::Note, "target", "not_null", what));
        }
    }
    found
}

fn judge(want: &Column, have: &Column) -> Judgement {
    let rank = |k: Kind| match k {
        Kind::Int2 => 1,
        Kind::Int4 => 2,
        Kind::Int8 => 3,
        _ => 0,
    };
    if want.type_name == have.type_name {
        return Fits;
    }
    match (want.kind, have.kind) {
        (Kind::Text, Kind::Text) => match (width(&want.data), width(&have.data)) {
            (_, None) => Fits,
            (Some(w), Some(h)) if w <= h => Fits,
            _ if matches!(have.data, DataType::Enum { .. }) => Note("other labels than its own are refused"),
            _ => Note("longer texts are refused"),
        },
        (Kind::Bytes, Kind::Text) if width(&have.data).is_none() => Note("bytes become \\x and hexadecimal digits"),
        (_, Kind::Text) if width(&have.data).is_none() => Note("it is stored as text"),
        (Kind::Bytes, Kind::Uuid) if matches!(want.data, DataType::Bytes { length: Some(16), .. }) => Fits,
        (Kind::Bool, Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric) => Fits,
        (Kind::Int2 | Kind::Int4 | Kind::Int8, Kind::Int2 | Kind::Int4 | Kind::Int8) => {
            if rank(want.kind) <= rank(have.kind) { Fits } else { Misfit }
        }
        (Kind::Int2 | Kind::Int4 | Kind::Int8, Kind::Numeric) => match &have.data {
            DataType::Decimal { precision: Some(p), scale } if p - scale.min(p) < 19 => {
                Note("larger numbers are refused")
            }
            _ => Fits,
        },
        (Kind::Numeric, Kind::Int8) if matches!(want.data, DataType::Int { .. }) => {
            Note("numbers beyond 9223372036854775807 are refused")
        }
        (Kind::Numeric, Kind::Numeric) => match (&want.data, &have.data) {
            (_, DataType::Decimal { precision: None, .. }) => Fits,
            _ => Note("larger numbers are refused, and more digits are rounded"),
        },
        (Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float8, Kind::Float4 | Kind::Float8) => {
            Note("digits may be lost")
        }
        (Kind::Float4, Kind::Float8) | (Kind::Float4 | Kind::Float8, Kind::Numeric) => Fits,
        (Kind::Date, Kind::Timestamp | Kind::TimestampTz) => Fits,
        (Kind::Timestamp, Kind::Timestamp) | (Kind::TimestampTz, Kind::TimestampTz) | (Kind::Time, Kind::Time) => {
            Note("fractions of a second may be rounded")
        }
        (Kind::Timestamp, Kind::TimestampTz) => Note("times without zone are read as UTC"),
        (Kind::TimestampTz, Kind::Timestamp) => Note("instants are stored in UTC, without zone"),
        (Kind::Time, Kind::Other) if have.type_name.starts_with("interval") => Fits,
        (Kind::Json | Kind::Jsonb, Kind::Json | Kind::Jsonb) => Fits,
        (Kind::Json | Kind::Jsonb, Kind::Other) if matches!(have.data, DataType::Array { .. }) => {
            Note("lists become arrays, and other JSON is refused")
        }
        (Kind::Text, Kind::Uuid | Kind::Json | Kind::Jsonb | Kind::Other) => {
            Note("texts that it cannot read are refused")
        }
        (Kind::Other, Kind::Other)
            if matches!((&want.data, &have.data), (DataType::Bits { .. }, DataType::Bits { .. })) =>
        {
            Note("other lengths are refused")
        }
        (a, b) if a == b && a != Kind::Other => Fits,
        _ => Misfit,
    }
}

/// How many characters fit; `None` without limit.
fn width(data: &DataType) -> Option<u32> {
    match data {
        DataType::Char { length } | DataType::Varchar { length } => Some(*length),
        DataType::Enum { .. } => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::typename;

    fn column(data: DataType) -> Column {
        let (type_name, kind) = typename::of(&data);
        Column {
            name: "c".into(),
            number: 1,
            type_name,
            kind,
            data,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        }
    }

    #[test]
    fn given_columns_that_exist_when_judged_then_wider_ones_fit_and_others_are_said() {
        let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
        let big = DataType::Int { bits: 64, unsigned: true, truth: false };
        let text = || DataType::Text { bytes: None };
        let varchar = |length| DataType::Varchar { length };
        let dec = |p, scale| DataType::Decimal { precision: Some(p), scale };
        let array = DataType::Array { element: Box::new(text()) };
        let json = || DataType::Json { verbatim: false };
        let bytes = |n| DataType::Bytes { length: Some(n), fixed: true };
        let of = |want: &DataType, have: &DataType| match judge(&column(want.clone()), &column(have.clone())) {
            Fits => "fits",
            Note(_) => "note",
            Misfit => "misfit",
        };
        for (want, have, result) in [
            (int(32), int(64), "fits"),
            (int(64), int(32), "misfit"),
            (DataType::Bool, int(16), "fits"),
            (int(16), DataType::Bool, "misfit"),
            (big.clone(), int(64), "note"),
            (int(64), dec(10, 2), "note"),
            (int(64), dec(19, 0), "fits"),
            (varchar(20), varchar(40), "fits"),
            (varchar(40), varchar(20), "note"),
            (varchar(40), text(), "fits"),
            (text(), varchar(20), "note"),
            (int(32), text(), "note"),
            (bytes(16), DataType::Uuid, "fits"),
            (bytes(20), DataType::Uuid, "misfit"),
            (DataType::Timestamp { fraction: 6 }, DataType::TimestampTz { fraction: 6 }, "note"),
            (DataType::Timestamp { fraction: 6 }, DataType::Date, "misfit"),
            (DataType::Time { fraction: 6, span: true, zone: false }, DataType::Interval, "fits"),
            (json(), array.clone(), "note"),
            (json(), DataType::Json { verbatim: true }, "fits"),
            (text(), array, "note"),
            (text(), int(32), "misfit"),
            (dec(10, 2), DataType::Decimal { precision: None, scale: 0 }, "fits"),
        ] {
            assert_eq!(of(&want, &have), result, "{want:?} into {have:?}");
        }
    }
}
