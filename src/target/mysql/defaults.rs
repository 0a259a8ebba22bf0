//! Defaults of columns, as clauses of CREATE and ALTER TABLE. Pure.

use super::forms::{Form, form};
use super::values::cook;
use crate::definition::{DataType, DefaultValue};
use crate::mywire::server::Flavour;
use crate::schema::{Column, Kind};

/// ` DEFAULT …` for a column of type `sql` that holds `data`; `None` where this engine cannot say it.
pub fn clause(default: &DefaultValue, data: &DataType, sql: &str, flavour: Flavour) -> Option<String> {
    let form = form(sql);
    // Where a plain literal is not permitted, an expression in parentheses is (MySQL 8.0.13, MariaDB 10.2).
    let outside = matches!(form, Form::Text(_) | Form::Json | Form::Geometry)
        || (matches!(form, Form::Blob(_)) && sql.ends_with("blob"));
    match default {
        DefaultValue::None => Some(String::new()),
        DefaultValue::Literal(text) => {
            let mut room = Vec::new();
            let mut out = Vec::new();
            cook(&form, flavour, text.as_bytes(), &mut room).ok()?.put_sql(&mut out);
            let value = String::from_utf8(out).ok()?;
            Some(if outside { format!(" DEFAULT ({value})") } else { format!(" DEFAULT {value}") })
        }
        DefaultValue::Now { on_update } => {
            let digits = |n: u8| if n == 0 { String::new() } else { format!("({n})") };
            match form {
                // The instant's clock here is UTC, whatever zone the application's sessions run in.
                Form::Datetime(n) if matches!(data, DataType::TimestampTz { .. }) && !on_update => {
                    Some(format!(" DEFAULT (UTC_TIMESTAMP{})", if n == 0 { "()".to_owned() } else { digits(n) }))
                }
                Form::Datetime(n) | Form::Timestamp(n) => {
                    let now = format!("CURRENT_TIMESTAMP{}", digits(n));
                    let update = if *on_update { format!(" ON UPDATE {now}") } else { String::new() };
                    Some(format!(" DEFAULT {now}{update}"))
                }
                Form::Date => Some(" DEFAULT (CURRENT_DATE)".into()),
                Form::Time(n) => Some(format!(" DEFAULT (CURRENT_TIME{})", digits(n))),
                _ => None,
            }
        }
        DefaultValue::Today => matches!(form, Form::Date | Form::Datetime(_)).then(|| " DEFAULT (CURRENT_DATE)".into()),
        DefaultValue::RandomUuid => {
            matches!(form, Form::Char(36) | Form::Varchar(_)).then(|| " DEFAULT (UUID())".into())
        }
        DefaultValue::Expression(_) => None,
    }
}

/// What a column of the log holds; where nobody said it, as far as its kind tells.
pub fn data_of(column: &Column) -> DataType {
    if column.data != DataType::Other {
        return column.data.clone();
    }
    let int = |bits| DataType::Int { bits, unsigned: false, truth: false };
    match column.kind {
        Kind::Bool => DataType::Bool,
        Kind::Int2 => int(16),
        Kind::Int4 => int(32),
        Kind::Int8 => int(64),
        Kind::Float4 => DataType::Float { bits: 32 },
        Kind::Float8 => DataType::Float { bits: 64 },
        Kind::Numeric => DataType::Decimal { precision: None, scale: 0 },
        Kind::Text => DataType::Text { bytes: None },
        Kind::Bytes => DataType::Bytes { length: None, fixed: false },
        Kind::Uuid => DataType::Uuid,
        Kind::Date => DataType::Date,
        Kind::Time => DataType::Time { fraction: 6, span: false, zone: false },
        Kind::Timestamp => DataType::Timestamp { fraction: 6 },
        Kind::TimestampTz => DataType::TimestampTz { fraction: 6 },
        Kind::Json => DataType::Json { verbatim: true },
        Kind::Jsonb => DataType::Json { verbatim: false },
        Kind::Other => DataType::Other,
    }
}

/// A default of a column in the log, which is told as the source's expression only: constants and the moment.
pub fn of_expression(text: &str, type_name: &str) -> Option<DefaultValue> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if ["now()", "current_timestamp", "transaction_timestamp()", "statement_timestamp()", "localtimestamp"]
        .iter()
        .any(|w| lower == *w || lower.starts_with(&format!("{w}(")))
    {
        return Some(DefaultValue::Now { on_update: false });
    }
    match lower.as_str() {
        "current_date" => return Some(DefaultValue::Today),
        "gen_random_uuid()" | "uuid_generate_v4()" | "uuid()" => return Some(DefaultValue::RandomUuid),
        "true" => return Some(DefaultValue::Literal("t".into())),
        "false" => return Some(DefaultValue::Literal("f".into())),
        "null" => return Some(DefaultValue::None),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix('\'') {
        // 'a''b'::text
        let mut value = String::new();
        let mut chars = rest.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    value.push('\'');
                }
                '\'' => break,
                other => value.push(other),
            }
        }
        let tail: String = chars.collect();
        let casts_only = tail.is_empty()
            || tail
                .strip_prefix("::")
                .is_some_and(|t| t.chars().all(|c| c.is_alphanumeric() || "_ .()[]\",".contains(c)));
        return casts_only.then_some(DefaultValue::Literal(value));
    }
    let number = text.trim_start_matches('(').split(')').next().unwrap_or("").split("::").next().unwrap_or("");
    if !number.is_empty()
        && number.parse::<f64>().is_ok()
        && number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
    {
        return Some(DefaultValue::Literal(number.to_owned()));
    }
    // A MySQL catalog tells texts without quotes.
    let bare = type_name.starts_with("varchar") || type_name.starts_with("char") || type_name.starts_with("enum");
    (bare && !text.contains('(') && !text.contains("::")).then(|| DefaultValue::Literal(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_defaults_when_said_here_then_each_type_gets_its_own_form() {
        let my = |d: DefaultValue, sql: &str| clause(&d, &DataType::Other, sql, Flavour::Mysql);
        let lit = |t: &str| DefaultValue::Literal(t.into());
        assert_eq!(my(lit("5"), "int").as_deref(), Some(" DEFAULT 5"));
        assert_eq!(my(lit("t"), "tinyint(1)").as_deref(), Some(" DEFAULT 1"));
        assert_eq!(my(lit("it's"), "varchar(9)").as_deref(), Some(" DEFAULT 'it''s'"));
        assert_eq!(my(lit("it's"), "longtext").as_deref(), Some(" DEFAULT ('it''s')"));
        assert_eq!(my(lit("{}"), "json").as_deref(), Some(" DEFAULT ('{}')"));
        assert_eq!(my(lit("x"), "int"), None);
        let now = DefaultValue::Now { on_update: true };
        let want = " DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)";
        assert_eq!(my(now, "timestamp(6)").as_deref(), Some(want));
        let zoned = DataType::TimestampTz { fraction: 6 };
        let now = DefaultValue::Now { on_update: false };
        assert_eq!(clause(&now, &zoned, "datetime(6)", Flavour::Mysql).as_deref(), Some(" DEFAULT (UTC_TIMESTAMP(6))"));
        assert_eq!(my(DefaultValue::Expression("f()".into()), "int"), None);
    }

    #[test]
    fn given_expressions_of_the_log_when_read_then_constants_and_the_moment_are_known() {
        let of = |t: &str| of_expression(t, "text");
        assert_eq!(of("'it''s'::character varying"), Some(DefaultValue::Literal("it's".into())));
        assert_eq!(of("'-1'::integer"), Some(DefaultValue::Literal("-1".into())));
        assert_eq!(of("(-1.5)::double precision"), Some(DefaultValue::Literal("-1.5".into())));
        assert_eq!(of("0"), Some(DefaultValue::Literal("0".into())));
        assert_eq!(of("true"), Some(DefaultValue::Literal("t".into())));
        assert_eq!(of("now()"), Some(DefaultValue::Now { on_update: false }));
        assert_eq!(of("lower('X'::text)"), None);
        assert_eq!(of("'a'::text || 'b'::text"), None);
        assert_eq!(of("nextval('s'::regclass)"), None);
    }
}
