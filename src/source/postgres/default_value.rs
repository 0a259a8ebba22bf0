//! What a column's default means, read from the expression as the catalog prints it. Pure.

use crate::definition::{DataType, DefaultValue};

/// What a default is, and whether it numbers rows (it takes the next value of a sequence).
///
/// Reads what `pg_get_expr` prints under the canonical settings with an empty search path, so that constants are in
/// canonical text form. What is not a constant and not one of the few functions that every engine has stays an expression.
pub fn classify(expression: &str, data: &DataType) -> (DefaultValue, bool) {
    let text = expression.trim();
    if text.starts_with("nextval(") {
        return (DefaultValue::None, true);
    }
    let value = match constant(text) {
        Some(None) => DefaultValue::None,
        Some(Some(value)) => literal(value, data).unwrap_or_else(|| DefaultValue::Expression(text.to_owned())),
        None => function(text, data).unwrap_or_else(|| DefaultValue::Expression(text.to_owned())),
    };
    (value, false)
}

/// A constant of the expression's own type is one of the column's where that changes nothing of its text.
fn literal(value: String, data: &DataType) -> Option<DefaultValue> {
    let value = match (data, value.as_str()) {
        (DataType::Bool, "true" | "t") => "t".to_owned(),
        (DataType::Bool, "false" | "f") => "f".to_owned(),
        (DataType::Bool, _) => return None,
        // `'now'` and the like were evaluated when the default was made, or are not constants of these types.
        _ => value,
    };
    Some(DefaultValue::Literal(value))
}

/// The value of a constant; `Some(None)` for NULL, `None` for what is no constant.
fn constant(text: &str) -> Option<Option<String>> {
    let (inner, cast) = split_cast(text);
    if let Some(word) = inner.strip_prefix("ARRAY[").and_then(|w| w.strip_suffix(']')) {
        return (word.is_empty() && cast.is_some()).then(|| Some("{}".to_owned()));
    }
    if inner.eq_ignore_ascii_case("null") {
        return Some(None);
    }
    if let Some(quoted) = string(inner) {
        // A string's own casts may change it: `('x'::text)::integer` is none.
        return Some(Some(quoted));
    }
    let number = inner.strip_prefix('(').and_then(|i| i.strip_suffix(')')).unwrap_or(inner).replace("- ", "-");
    let digits = number.strip_prefix('-').unwrap_or(&number);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    if plain && cast.is_none_or(is_number) {
        return Some(Some(number));
    }
    (cast.is_none() && matches!(inner, "true" | "false")).then(|| Some(inner.to_owned()))
}

fn is_number(cast: &str) -> bool {
    let name = cast.split('(').next().unwrap_or(cast).trim();
    matches!(name, "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision")
}

/// `'x'::t` apart; what follows must be a type's name and nothing else.
fn split_cast(text: &str) -> (&str, Option<&str>) {
    let Some(at) = text.rfind("::") else { return (text, None) };
    let (inner, cast) = (&text[..at], &text[at + 2..]);
    let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"' | ' ' | '(' | ')' | ',' | '[' | ']' | '-');
    // Inside of a string it is no cast, and then the string's end stands in what is taken for the name.
    let balanced = cast.matches('(').count() == cast.matches(')').count();
    if !cast.is_empty() && cast.chars().all(name) && balanced { (inner, Some(cast)) } else { (text, None) }
}

/// The content of one whole string constant: `'it''s'`, `E'a\\b'`, `B'101'`.
fn string(text: &str) -> Option<String> {
    let (escapes, body) = match text.strip_prefix('E') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('B').unwrap_or(text)),
    };
    let body = body.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                if chars.next() != Some('\'') {
                    return None;
                }
                out.push('\'');
            }
            // ruleutils.c writes `E''` only to double backslashes.
            '\\' if escapes => {
                if chars.next() != Some('\\') {
                    return None;
                }
                out.push('\\');
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// Functions whose meaning other engines share.
fn function(text: &str, data: &DataType) -> Option<DefaultValue> {
    // A cast to the column's own type is what an assignment does anyway.
    let (inner, _) = split_cast(text);
    let inner = inner.strip_prefix('(').and_then(|i| i.strip_suffix(')')).unwrap_or(inner).trim();
    let name = inner.rsplit_once('.').map_or(inner, |(schema, name)| if schema.contains('(') { inner } else { name });
    let bare = name.split('(').next().unwrap_or(name);
    let moment = matches!(bare, "CURRENT_TIMESTAMP" | "LOCALTIMESTAMP")
        || matches!(name, "now()" | "transaction_timestamp()" | "statement_timestamp()" | "clock_timestamp()");
    match data {
        DataType::Timestamp { .. } | DataType::TimestampTz { .. } if moment => {
            Some(DefaultValue::Now { on_update: false })
        }
        DataType::Date if moment || name == "CURRENT_DATE" => Some(DefaultValue::Today),
        DataType::Uuid if matches!(name, "gen_random_uuid()" | "uuid_generate_v4()" | "uuidv4()") => {
            Some(DefaultValue::RandomUuid)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_defaults_as_the_catalog_prints_them_when_classified_then_constants_are_values() {
        let text = DataType::Text { bytes: None };
        let int = DataType::Int { bits: 32, unsigned: false, truth: false };
        let array = DataType::Array { element: Box::new(text.clone()) };
        let value = |t: &str, d: &DataType| classify(t, d).0;
        let is = |t: &str| DefaultValue::Literal(t.to_owned());
        assert_eq!(value("'new'::character varying", &text), is("new"));
        assert_eq!(value("'it''s :: odd'::text", &text), is("it's :: odd"));
        assert_eq!(value("E'a\\\\b'::text", &text), is("a\\b"));
        assert_eq!(value("'sad'::public.\"Mood\"", &text), is("sad"));
        assert_eq!(value("0", &int), is("0"));
        assert_eq!(value("'-5'::integer", &int), is("-5"));
        assert_eq!(value("(- 5)", &int), is("-5"));
        assert_eq!(value("(0)::numeric", &DataType::Decimal { precision: None, scale: 0 }), is("0"));
        assert_eq!(value("1.50", &DataType::Decimal { precision: Some(10), scale: 2 }), is("1.50"));
        assert_eq!((value("true", &DataType::Bool), value("false", &DataType::Bool)), (is("t"), is("f")));
        assert_eq!(value("'{}'::jsonb", &DataType::Json { verbatim: false }), is("{}"));
        assert_eq!((value("ARRAY[]::text[]", &array), value("'{a,b}'::text[]", &array)), (is("{}"), is("{a,b}")));
        assert_eq!(value("'101'::\"bit\"", &DataType::Bits { length: Some(3), varying: false }), is("101"));
        assert_eq!(value("NULL::character varying", &text), DefaultValue::None);
        assert_eq!(classify("nextval('public.t_id_seq'::regclass)", &int), (DefaultValue::None, true));
    }

    #[test]
    fn given_defaults_that_are_computed_when_classified_then_only_shared_functions_are_known() {
        let text = DataType::Text { bytes: None };
        let (tz, ts) = (DataType::TimestampTz { fraction: 6 }, DataType::Timestamp { fraction: 3 });
        let value = |t: &str, d: &DataType| classify(t, d).0;
        let now = DefaultValue::Now { on_update: false };
        for t in ["now()", "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(3)", "(now())::timestamp without time zone"] {
            assert_eq!((value(t, &tz), value(t, &ts)), (now.clone(), now.clone()), "{t}");
        }
        assert_eq!(value("CURRENT_DATE", &DataType::Date), DefaultValue::Today);
        assert_eq!(value("(now())::date", &DataType::Date), DefaultValue::Today);
        assert_eq!(value("extensions.uuid_generate_v4()", &DataType::Uuid), DefaultValue::RandomUuid);
        for (t, d) in [
            ("(now() AT TIME ZONE 'utc'::text)", &ts),
            ("timezone('utc'::text, now())", &ts),
            ("lower('X'::text)", &text),
            ("(gen_random_uuid())::text", &text),
            ("('a'::text || 'b'::text)", &text),
            ("public.f(1)", &text),
            ("('x'::text)::public.dom", &text),
            ("now() + '1 day'::interval", &tz),
        ] {
            assert_eq!(value(t, d), DefaultValue::Expression(t.to_owned()), "{t}");
        }
    }
}
