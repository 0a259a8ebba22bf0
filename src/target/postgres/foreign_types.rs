//! Which type of PostgreSQL's a column of another engine gets, and which default. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::definition::{ColumnDef, DataType, DefaultValue, TableDef};
use crate::pgwire::quote::{literal, quoted};
use crate::schema::{Kind, TableName};
use crate::transform::rules::Homes;
use crate::transform::typename;

/// A column's type here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// As the catalog prints it, or as a rule writes it.
    pub type_name: String,
    /// What it holds.
    pub kind: Kind,
    /// What it holds, in full.
    pub data: DataType,
    /// Whether a rule chose it, or it is the source's own.
    pub chosen: bool,
    /// The column's collation, if it is not the type's; as SQL writes it.
    pub collation: Option<String>,
}

/// The type of one column. `numbered`: the server counts in it, or in what it refers to.
pub fn place(data: &DataType, numbered: bool, chosen: Option<&str>) -> Placed {
    if let Some(name) = chosen {
        let (kind, data) = typename::named(name);
        return Placed { type_name: name.trim().to_owned(), kind, data, chosen: true, collation: None };
    }
    let data = match data {
        // Written as a truth value and read as one by every driver and mapper of its engine.
        DataType::Int { truth: true, .. } if !numbered => DataType::Bool,
        // Only smallint, integer and bigint can count. What lies beyond is refused when it comes.
        DataType::Int { bits: 64, unsigned: true, .. } if numbered => {
            DataType::Int { bits: 64, unsigned: false, truth: false }
        }
        other => other.clone(),
    };
    let (type_name, kind) = typename::of(&data);
    let data = match data {
        DataType::Enum { .. } | DataType::Set { .. } | DataType::Other => DataType::Text { bytes: None },
        DataType::Char { length } => DataType::Varchar { length },
        DataType::Geometry => DataType::Bytes { length: None, fixed: false },
        DataType::Time { fraction, zone, .. } => DataType::Time { fraction, span: false, zone },
        other => other,
    };
    Placed { type_name, kind, data, chosen: false, collation: None }
}

/// The types of all columns of `tables`, by table and column. A column that refers to one that counts is of its type,
/// because a foreign key wants both sides comparable by one index.
pub fn place_all<'a>(tables: &'a [TableDef], homes: &Homes) -> HashMap<(&'a TableName, &'a str), Placed> {
    let mut counts: BTreeSet<(&TableName, &str)> = BTreeSet::new();
    for t in tables {
        counts.extend(t.columns.iter().filter(|c| c.numbered).map(|c| (&t.name, c.name.as_str())));
    }
    let wide = |t: &TableName, c: &str| {
        let column = tables.iter().find(|d| d.name == *t).and_then(|d| d.column(c));
        column.is_some_and(|c| matches!(c.data, DataType::Int { bits: 64, unsigned: true, .. }))
    };
    loop {
        let before = counts.len();
        for t in tables {
            for f in &t.foreign_keys {
                for (own, theirs) in f.columns.iter().zip(&f.referenced) {
                    let (own, theirs) = ((&t.name, own.as_str()), (&f.references, theirs.as_str()));
                    if !wide(own.0, own.1) || !wide(theirs.0, theirs.1) {
                        continue;
                    }
                    if counts.contains(&own) {
                        counts.insert(theirs);
                    } else if counts.contains(&theirs) {
                        counts.insert(own);
                    }
                }
            }
        }
        if counts.len() == before {
            break;
        }
    }
    let mut out = HashMap::new();
    for t in tables {
        for c in &t.columns {
            let key = (&t.name, c.name.as_str());
            // Truth values that are counted do not exist; what only refers to a counted column keeps its own meaning.
            out.insert(key, place(&c.data, counts.contains(&key), homes.type_of(&t.name, &c.name)));
        }
    }
    out
}

/// Whether values of the two types are compared by one index, so that a foreign key can join them.
pub fn comparable(a: &Placed, b: &Placed) -> bool {
    let family = |k: Kind| match k {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => 1,
        Kind::Float4 | Kind::Float8 => 2,
        Kind::Text => 3,
        Kind::Date | Kind::Timestamp | Kind::TimestampTz => 4,
        _ => 0,
    };
    a.kind == b.kind && (a.kind != Kind::Other || a.type_name == b.type_name)
        || (family(a.kind) != 0 && family(a.kind) == family(b.kind))
}

/// A default's expression; `Ok(None)` without one.
///
/// # Errors
/// Why the column gets none here, in words.
pub fn default_of(column: &ColumnDef, placed: &Placed) -> Result<Option<String>, String> {
    let is_moment = matches!(placed.kind, Kind::Timestamp | Kind::TimestampTz);
    match &column.default {
        DefaultValue::None => Ok(None),
        DefaultValue::Literal(value) => constant(value, placed).map(Some),
        DefaultValue::Now { .. } if is_moment => {
            let digits = match &placed.data {
                DataType::Timestamp { fraction } | DataType::TimestampTz { fraction } if *fraction < 6 => {
                    format!("({fraction})")
                }
                _ => String::new(),
            };
            Ok(Some(format!("CURRENT_TIMESTAMP{digits}")))
        }
        DefaultValue::Now { .. } | DefaultValue::Today if placed.kind == Kind::Date => Ok(Some("CURRENT_DATE".into())),
        DefaultValue::Today if is_moment => Ok(Some("CURRENT_DATE".into())),
        DefaultValue::RandomUuid if placed.kind == Kind::Uuid => Ok(Some("gen_random_uuid()".into())),
        DefaultValue::RandomUuid if placed.kind == Kind::Text => Ok(Some("(gen_random_uuid())::text".into())),
        DefaultValue::Expression(text) => Err(format!("its default is an expression of the source's SQL: {text}")),
        DefaultValue::Now { .. } | DefaultValue::Today | DefaultValue::RandomUuid => {
            Err(format!("its default is no value of type {}", placed.type_name))
        }
    }
}

fn constant(value: &str, placed: &Placed) -> Result<String, String> {
    let no = || Err(format!("its default is no value of type {}", placed.type_name));
    let number = || !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match placed.kind {
        Kind::Bool => match value {
            "1" | "t" | "true" => Ok("true".into()),
            "0" | "f" | "false" => Ok("false".into()),
            _ => no(),
        },
        Kind::Int2 | Kind::Int4 | Kind::Int8 if matches!(value, "t" | "f") => {
            Ok(if value == "t" { "1" } else { "0" }.into())
        }
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float4 | Kind::Float8 if !number() => no(),
        Kind::Date | Kind::Timestamp | Kind::TimestampTz if is_zero_date(value.as_bytes()) => {
            Err("its default is a date with a zero in it, which does not exist here".into())
        }
        Kind::Time if is_beyond_a_day(value.as_bytes()) => Err("its default lies outside of a day".into()),
        _ if value.contains('\0') => no(),
        _ => Ok(literal(value).trim_start().to_owned()),
    }
}

/// MySQL's `0000-00-00`, and dates with a month or day of zero.
pub fn is_zero_date(text: &[u8]) -> bool {
    let part = |at: usize| text.get(at..at + 2) == Some(b"00");
    text.get(4) == Some(&b'-') && (text.starts_with(b"0000") || part(5) || (text.get(7) == Some(&b'-') && part(8)))
}

/// MySQL's times are spans: below zero, or of more than a day.
pub fn is_beyond_a_day(text: &[u8]) -> bool {
    let hours = text.split(|b| *b == b':').next().unwrap_or(text);
    text.starts_with(b"-")
        || hours.len() > 2
        || (hours.starts_with(b"24") && text.iter().skip(2).any(|b| (b'1'..=b'9').contains(b)))
        || hours >= b"25".as_slice()
}

/// `CHECK (…)` for the labels of an enum, empty for other types.
pub fn check_of(column: &ColumnDef, placed: &Placed) -> String {
    match &column.data {
        DataType::Enum { labels, .. } if !labels.is_empty() && !placed.chosen => {
            let labels: Vec<String> = labels.iter().map(|l| literal(l).trim_start().to_owned()).collect();
            format!(" CHECK ({} IN ({}))", quoted(&column.name), labels.join(", "))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(data: DataType, default: DefaultValue) -> ColumnDef {
        ColumnDef {
            name: "c".into(),
            data,
            type_name: "t".into(),
            nullable: true,
            default,
            numbered: false,
            generated: None,
            travels: true,
            comment: None,
        }
    }

    fn default(data: DataType, value: DefaultValue) -> Result<Option<String>, String> {
        let placed = place(&data, false, None);
        default_of(&column(data, value), &placed)
    }

    #[test]
    fn given_truth_values_counters_and_chosen_types_when_placed_then_each_has_its_rule() {
        let truth = DataType::Int { bits: 8, unsigned: false, truth: true };
        let wide = DataType::Int { bits: 64, unsigned: true, truth: false };
        assert_eq!(
            (place(&truth, false, None).type_name.as_str(), place(&truth, false, None).kind),
            ("boolean", Kind::Bool)
        );
        assert_eq!(place(&truth, true, None).type_name, "smallint");
        assert_eq!(place(&truth, false, Some("smallint")).kind, Kind::Int2);
        assert_eq!(place(&wide, false, None).type_name, "numeric(20,0)");
        assert_eq!(place(&wide, true, None).type_name, "bigint");
    }

    #[test]
    fn given_defaults_when_written_then_values_are_quoted_and_what_does_not_exist_here_is_said() {
        let lit = |v: &str| DefaultValue::Literal(v.to_owned());
        let truth = DataType::Int { bits: 8, unsigned: false, truth: true };
        let text = DataType::Text { bytes: None };
        let (ts, tz) = (DataType::Timestamp { fraction: 3 }, DataType::TimestampTz { fraction: 6 });
        assert_eq!(default(truth.clone(), lit("1")), Ok(Some("true".into())));
        assert!(default(truth, lit("7")).is_err());
        assert_eq!(default(text.clone(), lit("it's\\")), Ok(Some("E'it''s\\\\'".into())));
        assert_eq!(default(DataType::Year, lit("2024")), Ok(Some("'2024'".into())));
        assert_eq!(default(ts.clone(), DefaultValue::Now { on_update: true }), Ok(Some("CURRENT_TIMESTAMP(3)".into())));
        assert_eq!(default(tz, DefaultValue::Now { on_update: false }), Ok(Some("CURRENT_TIMESTAMP".into())));
        assert!(default(ts.clone(), lit("0000-00-00 00:00:00")).unwrap_err().contains("zero"));
        assert_eq!(default(ts, lit("2020-10-10 00:00:00")), Ok(Some("'2020-10-10 00:00:00'".into())));
        assert!(default(DataType::Time { fraction: 0, span: true, zone: false }, lit("838:59:59")).is_err());
        assert!(
            default(text.clone(), DefaultValue::Expression("concat('a','b')".into())).unwrap_err().contains("concat")
        );
        assert_eq!(default(text, DefaultValue::RandomUuid), Ok(Some("(gen_random_uuid())::text".into())));
        assert_eq!(default(DataType::Date, DefaultValue::Today), Ok(Some("CURRENT_DATE".into())));
        assert!(default(DataType::Int { bits: 32, unsigned: false, truth: false }, lit("x")).is_err());
    }

    #[test]
    fn given_dates_and_times_when_looked_at_then_only_those_that_do_not_exist_here_are_found() {
        for zero in ["0000-00-00", "0000-00-00 00:00:00", "2020-00-10", "2020-10-00", "0000-01-01"] {
            assert!(is_zero_date(zero.as_bytes()), "{zero}");
        }
        for real in ["2020-10-20", "1000000-01-01", "infinity", "0001-01-01 BC", "2020-10-10 00:00:00", ""] {
            assert!(!is_zero_date(real.as_bytes()), "{real}");
        }
        for span in ["-01:00:00", "24:00:01", "25:00:00", "838:59:59", "99:00:00"] {
            assert!(is_beyond_a_day(span.as_bytes()), "{span}");
        }
        for time in ["00:00:00", "23:59:59.999999", "24:00:00", "24:00:00.000", "09:00:00"] {
            assert!(!is_beyond_a_day(time.as_bytes()), "{time}");
        }
    }
}
