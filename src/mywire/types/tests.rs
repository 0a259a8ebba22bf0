//! Types by their declaration, and values of the text protocol.

use super::*;

fn text(column_type: &str, charset: Option<&str>, value: &[u8]) -> String {
    let mut out = Vec::new();
    ColumnType::parse(column_type, charset).unwrap().render_text(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn given_values_of_the_text_protocol_when_rendered_then_they_are_canonical() {
    for (column_type, value, canonical) in [
        ("int(10) unsigned zerofill", "0000000042", "42"),
        ("int(3) zerofill", "000", "0"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("decimal(10,2) unsigned zerofill", "00000042.50", "42.50"),
        ("decimal(5,3)", "-0.000", "0.000"),
        ("decimal(65,30)", "-0.100000000000000000000000000000", "-0.100000000000000000000000000000"),
        ("float", "0.10000000149011612", "0.1"),
        ("float", "-0", "-0"),
        ("double", "1e20", "1e+20"),
        ("double(10,2)", "1.5", "1.5"),
        ("year", "0000", "0000"),
        ("time(3)", "-838:59:58.120", "-838:59:58.12"),
        ("datetime(6)", "2024-01-31 12:00:00.500000", "2024-01-31 12:00:00.5"),
        ("datetime(6)", "0000-00-00 00:00:00.000000", "0000-00-00 00:00:00"),
        ("date", "2024-00-00", "2024-00-00"),
        ("date", "2020-10-10", "2020-10-10"),
        ("timestamp", "2024-01-31 12:00:00", "2024-01-31 12:00:00+00"),
        ("timestamp(3)", "0000-00-00 00:00:00.000", "0000-00-00 00:00:00"),
        ("binary(4)", "ab", "\\x61620000"),
        ("varbinary(4)", "", "\\x"),
        ("bit(3)", "\u{5}", "101"),
        ("bit(9)", "\u{1}\u{1}", "100000001"),
        ("uuid", "123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440000"),
    ] {
        assert_eq!(text(column_type, None, value.as_bytes()), canonical, "{column_type}");
    }
    assert_eq!(text("varchar(9)", Some("latin1"), "größe".as_bytes()), "größe");
}

#[test]
fn given_an_enum_when_parsed_then_its_labels_keep_quotes_and_commas() {
    let parsed = ColumnType::parse("enum('a','it''s','x,y',')','')", Some("utf8mb4")).unwrap();
    let expected: Vec<Box<str>> = ["a", "it's", "x,y", ")", ""].map(Box::from).into();
    assert_eq!(parsed, ColumnType::Enum(expected.into()));
    assert!(ColumnType::parse("enum('a", Some("utf8mb4")).is_err());
}

#[test]
fn given_what_cannot_be_read_when_parsed_then_it_is_refused_by_name() {
    for (column_type, charset) in [
        ("datetime(3) /* mariadb-5.3 */", None),
        ("varchar(10) /*M!100301 COMPRESSED*/", Some("utf8mb4")),
        ("varchar(10)", Some("klingon")),
        ("xmltype", None),
    ] {
        assert!(ColumnType::parse(column_type, charset).unwrap_err().message().contains(column_type));
    }
}

#[test]
fn given_packed_decimals_when_rendered_then_they_are_the_servers_text() {
    // The manual's example of DECIMAL(14,4): 1234567890.1234.
    let packed = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
    let negative: Vec<u8> = packed.iter().map(|b| !b).collect();
    let render = |bytes: &[u8], p, s| {
        let mut out = Vec::new();
        render::decimal(&mut out, bytes, p, s).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(render(&packed, 14, 4).unwrap(), "1234567890.1234");
    assert_eq!(render(&negative, 14, 4).unwrap(), "-1234567890.1234");
    assert_eq!(render(&[0x80], 2, 2).unwrap(), "0.00");
    assert!(render(&[0x80, 0], 2, 2).is_err());
    assert!(render(&[0xff], 2, 2).is_err());
}

#[test]
fn given_instants_when_rendered_then_the_calendar_is_right() {
    for (seconds, micros, expected) in [
        (1, 0, "1970-01-01 00:00:01+00"),
        (951_782_400, 0, "2000-02-29 00:00:00+00"),
        (2_147_483_647, 999_999, "2038-01-19 03:14:07.999999+00"),
        (u32::MAX, 10, "2106-02-07 06:28:15.00001+00"),
        (0, 0, "0000-00-00 00:00:00"),
    ] {
        let mut out = Vec::new();
        render::timestamp(&mut out, seconds, micros).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn given_text_in_other_character_sets_when_decoded_then_it_is_utf8_or_refused() {
    let decode = |name: &str, bytes: &[u8]| {
        let mut out = Vec::new();
        Charset::named(name).unwrap().decode(bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(decode("latin1", b"\x80\xe9\x81").unwrap(), "€é\u{81}");
    assert_eq!(decode("swe7", b"A[\\]").unwrap(), "AÄÖÅ");
    assert_eq!(decode("ucs2", b"\0a\x20\xac").unwrap(), "a€");
    assert_eq!(decode("utf16le", b"a\0\xac\x20").unwrap(), "a€");
    assert_eq!(decode("utf32", b"\0\x01\xf6\0").unwrap(), "😀");
    assert_eq!(decode("gbk", b"\xc4\xe3").unwrap(), "你");
    assert!(decode("utf8mb4", b"\xff").is_err());
    assert!(decode("cp1250", b"\x81").is_err());
    assert!(decode("utf16", b"\xd8\0").is_err());
    assert!(decode("ascii", b"\x80").is_err());
    assert_eq!(Charset::of_collation(255).unwrap(), Charset::Utf8);
    assert_eq!(Charset::of_collation(1041).unwrap_err(), "collation 1041 is not known");
    assert_eq!(Charset::of_collation(1032).unwrap(), Charset::of_collation(8).unwrap());
    assert!(Charset::of_collation(17).is_err());
}
