//! Cases of `values.rs`.

use super::*;

fn sql(form: &Form, text: &str) -> Result<String, Misfit> {
    let mut room = Vec::new();
    let mut out = Vec::new();
    cook(form, Flavour::Mysql, text.as_bytes(), &mut room)?.put_sql(&mut out);
    Ok(String::from_utf8(out).unwrap())
}

fn field(form: &Form, text: &str) -> Vec<u8> {
    let mut room = Vec::new();
    let mut out = Vec::new();
    cook(form, Flavour::Mysql, text.as_bytes(), &mut room).unwrap().put_field(&mut out);
    out
}

#[test]
fn given_values_that_fit_when_written_then_they_are_spelled_as_the_server_reads_them() {
    let int = |bits, unsigned| Form::Int { bits, unsigned };
    let dec = Form::Decimal { precision: 10, scale: 2, unsigned: false };
    for (form, text, want) in [
        (int(8, false), "t", "1"),
        (int(8, false), "-128", "-128"),
        (int(64, true), "18446744073709551615", "18446744073709551615"),
        (int(64, false), "12.00", "12"),
        (dec.clone(), "-12345678.90", "-12345678.90"),
        (dec.clone(), "1.1000", "1.10"),
        (Form::Decimal { precision: 5, scale: 0, unsigned: false }, "7.0", "7"),
        (Form::Float, "1.1", "1.1e0"),
        (Form::Double, "1e+20", "1e+20"),
        (Form::Double, "0.1234567890123456", "0.1234567890123456e0"),
        (Form::Varchar(3), "añ😀", "'añ😀'"),
        (Form::Char(5), "ab   ", "'ab'"),
        (Form::Text(255), "it's \\", "'it''s \\\\'"),
        (Form::Blob(4), "\\x00ff", "x'00ff'"),
        (Form::Blob(4), "\\x", "x''"),
        (Form::Binary(16), "6f1f0c2e-7a5b-4d4e-9a39-1f0a6b3f9d11", "x'6f1f0c2e7a5b4d4e9a391f0a6b3f9d11'"),
        (Form::Bit(10), "1010101010", "b'1010101010'"),
        (Form::Date, "2024-01-31", "'2024-01-31'"),
        (Form::Date, "0000-00-00", "'0000-00-00'"),
        (Form::Datetime(6), "2024-01-31 12:00:00.123456+00", "'2024-01-31 12:00:00.123456'"),
        (Form::Datetime(0), "2024-01-31 12:00:00.000", "'2024-01-31 12:00:00.000'"),
        (Form::Time(6), "-838:59:59.5", "'-838:59:59.5'"),
        (Form::Year, "0", "'0000'"),
        (Form::Enum(vec!["a".into(), "1".into()]), "1", "'1'"),
        (Form::Set(vec!["a".into(), "b".into()]), "a,b", "'a,b'"),
        (Form::Set(vec!["a".into()]), "", "''"),
        (Form::Json, "{\"a\": 18446744073709551615, \"b\": 1.10}", "'{\"a\": 18446744073709551615, \"b\": 1.10}'"),
    ] {
        assert_eq!(sql(&form, text), Ok(want.to_owned()), "{form:?} {text}");
    }
}

#[test]
fn given_values_that_the_server_would_change_when_written_then_they_are_refused() {
    for (form, text) in [
        (Form::Int { bits: 8, unsigned: false }, "128"),
        (Form::Int { bits: 32, unsigned: true }, "-1"),
        (Form::Int { bits: 64, unsigned: false }, "1.5"),
        (Form::Int { bits: 64, unsigned: false }, "NaN"),
        (Form::Int { bits: 64, unsigned: false }, ""),
        (Form::Decimal { precision: 5, scale: 2, unsigned: false }, "1234.00"),
        (Form::Decimal { precision: 5, scale: 2, unsigned: false }, "1.119"),
        (Form::Decimal { precision: 5, scale: 2, unsigned: false }, "Infinity"),
        (Form::Float, "0.1234567890123"),
        (Form::Float, "1e300"),
        (Form::Double, "NaN"),
        (Form::Double, "0.12345678901234567890123"),
        (Form::Varchar(3), "abcd"),
        (Form::Varchar(3), "abc "),
        (Form::Char(5), "ab "),
        (Form::Text(3), "añb"),
        (Form::Blob(1), "\\x00ff"),
        (Form::Blob(100), "text"),
        (Form::Binary(3), "\\x00ff"),
        (Form::Bit(2), "100"),
        (Form::Date, "infinity"),
        (Form::Date, "0044-03-15 BC"),
        (Form::Date, "12024-01-31"),
        (Form::Datetime(3), "2024-01-31 12:00:00.1234"),
        (Form::Datetime(6), "2024-01-31 12:00:00+02"),
        (Form::Datetime(6), "-infinity"),
        (Form::Time(0), "12:00:00.5"),
        (Form::Time(0), "12:00:00+02"),
        (Form::Year, "20"),
        (Form::Enum(vec!["a".into(), "b".into()]), "2"),
        (Form::Enum(vec!["a".into()]), "A"),
        (Form::Set(vec!["a".into()]), "a,b"),
        (Form::Json, "{\"a\": 18446744073709551616}"),
        (Form::Json, "[0.10000000000000000001]"),
    ] {
        assert!(sql(&form, text).is_err(), "{form:?} {text}");
    }
    // MariaDB keeps JSON as its text.
    let big = b"[0.10000000000000000001]";
    assert!(cook(&Form::Json, Flavour::Mariadb, big, &mut Vec::new()).is_ok());
}

#[test]
fn given_bytes_and_bits_when_written_as_fields_then_they_are_raw_and_escaped() {
    assert_eq!(field(&Form::Blob(100), "\\x00095c0a41ff"), b"\\0\\t\\\\\\nA\xff");
    assert_eq!(field(&Form::Bit(10), "1010101010"), b"\x02\xaa");
    assert_eq!(field(&Form::Bit(8), "00000000"), b"\\0");
    assert_eq!(field(&Form::Text(100), "a\tb\\c\nd"), b"a\\tb\\\\c\\nd");
}
