//! Values in the forms in which they are compared.

use super::*;

fn form(f: &Form, t: &str) -> Vec<u8> {
    let mut out = Vec::new();
    f.append(Datum::Text(t.as_bytes()), &mut out);
    out
}

fn equal(f: Form, texts: &[&str]) {
    for t in texts {
        assert_eq!(form(&f, t), form(&f, texts[0]), "{f:?}: {t} and {}", texts[0]);
    }
}

fn apart(f: Form, texts: &[&str]) {
    for (i, a) in texts.iter().enumerate() {
        for b in &texts[i + 1..] {
            assert_ne!(form(&f, a), form(&f, b), "{f:?}: {a} and {b}");
        }
    }
}

#[test]
fn given_numbers_when_compared_then_scale_and_spelling_do_not_count() {
    equal(Form::Number, &["1.5", "1.50", "15e-1", "+1.5", "01.5", "0.15E+1"]);
    equal(Form::Number, &["0", "-0", "0.000", "0e5", "00", "f"]);
    equal(Form::Number, &["1", "t"]);
    equal(Form::Number, &["1500", "1.5e3", "1500.0"]);
    apart(Form::Number, &["1.5", "1.51", "-1.5", "15", "150", "0.15", "NaN", "Infinity", "-Infinity", ""]);
    apart(Form::Number, &["123456789012345678901234567890.1", "123456789012345678901234567890.2"]);
}

#[test]
fn given_moments_when_compared_then_the_last_microsecond_counts() {
    equal(
        Form::Moment,
        &["2024-02-29 12:00:00", "2024-02-29 12:00:00+00", "2024-02-29 12:00:00.000", "2024-02-29 12:00:00.0+00"],
    );
    equal(Form::Moment, &["2024-02-29 12:00:00.5", "2024-02-29 12:00:00.500000+00"]);
    equal(Form::Moment, &["0044-03-15 00:00:00 BC", "0044-03-15 00:00:00+00 BC"]);
    apart(
        Form::Moment,
        &["2024-02-29 12:00:00", "2024-02-29 12:00:00.000001", "2024-02-29 12:00:10", "2024-02-29", "infinity"],
    );
    equal(Form::Instant, &["2024-02-29", "2024-02-29 00:00:00", "2024-02-29 00:00:00.000000+00"]);
    equal(Form::Instant, &["0044-03-15 BC", "0044-03-15 00:00:00 BC"]);
    apart(Form::Instant, &["2024-02-29", "2024-02-29 00:00:00.000001", "infinity", "-infinity"]);
    apart(Form::Moment, &["0044-03-15", "0044-03-15 BC", "2020-10-10", "2020-10-1"]);
}

#[test]
fn given_texts_when_compared_then_blanks_count_but_for_padding() {
    apart(Form::Bytes, &["a", "a ", "", " a", "A"]);
    equal(Form::Padded, &["a", "a  "]);
    apart(Form::Padded, &["a", " a"]);
    let mut null = Vec::new();
    Form::Bytes.append(Datum::Null, &mut null);
    assert_ne!(null, form(&Form::Bytes, ""));
    equal(Form::Truth, &["t", "true", "1"]);
    apart(Form::Truth, &["t", "f", "2"]);
}

#[test]
fn given_floats_when_compared_then_their_bits_decide() {
    equal(Form::Float8, &["0.1", "0.10000000000000001", "1e-1"]);
    equal(Form::Float8, &["0", "-0"]);
    apart(Form::Float8, &["0.1", "0.10000000000000002", "NaN", "Infinity"]);
    equal(Form::Float4, &["0.1", "0.10000000149011612"]);
}

#[test]
fn given_json_when_compared_then_order_blanks_and_scale_do_not_count() {
    equal(
        Form::Json,
        &[r#"{"b": 1.0, "a": [1, "é\n"]}"#, r#"{"a":[1e0,"\u00e9\u000a"],"b":1}"#, r#"{"b":2,"a":[1,"é\n"],"b":1}"#],
    );
    apart(
        Form::Json,
        &["{}", "[]", "null", "\"\"", "0", "[0]", "[[]]", r#"{"a":null}"#, r#"["a","b"]"#, r#"["b","a"]"#, "no json"],
    );
    apart(Form::Json, &["12345678901234567890123", "12345678901234567890124"]);
}

#[test]
fn given_values_that_engines_write_otherwise_when_compared_then_their_meaning_decides() {
    equal(
        Form::Uuid,
        &[
            "00112233-4455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "\\x00112233445566778899aabbccddeeff",
        ],
    );
    apart(Form::Uuid, &["00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeefe", "", "-"]);
    equal(Form::Bits, &["101", "00101"]);
    equal(Form::Bits, &["0", "000", "f"]);
    apart(Form::Bits, &["1", "10", "0", ""]);
    equal(Form::Network, &["10.0.0.1", "10.0.0.1/32"]);
    equal(Form::Network, &["::ffff:1.2.3.4", "::ffff:102:304", "0:0:0:0:0:ffff:1.2.3.4/128"]);
    apart(Form::Network, &["10.0.0.1", "10.0.0.1/24", "10.0.0.2", "::1", "none"]);
}

#[test]
fn given_arrays_when_compared_then_quotes_do_not_count_and_elements_do() {
    let of = |element: Form| Form::Array(Box::new(element));
    equal(of(Form::Bytes), &["{a,b c,NULL}", r#"{"a","b c",NULL}"#, r#"{a,"b c",null}"#]);
    equal(of(Form::Bytes), &[r#"{"a\"\\b"}"#, r#"{a\"\\b}"#]);
    equal(of(Form::Number), &["{{1,2.50},{3,4}}", r#"{{"1","2.5"},{"3","4.0"}}"#]);
    equal(of(Form::Bytes), &["[0:1]={a,b}", "{a,b}"]);
    let texts =
        ["{}", "{a}", "{a,b}", "{ab}", "{{a,b}}", "{{a},{b}}", "{NULL}", "{\"NULL\"}", "{\"\"}", "{a", "a}", ""];
    apart(of(Form::Bytes), &texts);
    for broken in ["{\"a", "{a\\", "{\"a\\", "[", "}{", "{a}}"] {
        form(&of(Form::Number), broken);
    }
}

#[test]
fn given_fields_when_appended_then_rows_do_not_run_together() {
    let row = |a: &str, b: &str| {
        let mut out = form(&Form::Bytes, a);
        out.extend(form(&Form::Bytes, b));
        out
    };
    assert_ne!(row("ab", "c"), row("a", "bc"));
}
