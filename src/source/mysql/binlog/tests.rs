//! Defects that decoders of this log are known for, and any bytes at all.

use std::io::Write as _;

use bytes::Bytes;
use proptest::prelude::*;

use super::event::{HEADER, kind};
use super::*;
use crate::error::Class;

/// An event as a server frames it.
fn framed(kind: u8, end: u32, flags: u16, body: &[u8]) -> Bytes {
    let mut out = vec![0; 4];
    out.push(kind);
    out.extend_from_slice(&7_u32.to_le_bytes());
    out.extend_from_slice(&((HEADER + body.len() + 4) as u32).to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(body);
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.into()
}

fn format_description() -> Bytes {
    let mut body = vec![4, 0];
    body.extend_from_slice(b"9.7.4");
    body.resize(52, 0);
    body.extend_from_slice(&[0, 0, 0, 0, HEADER as u8]);
    let mut lengths = [0; 42];
    for (kind, length) in [(19, 8), (23, 8), (24, 8), (25, 8), (30, 10), (31, 10), (32, 10), (39, 10)] {
        lengths[kind - 1] = length;
    }
    body.extend_from_slice(&lengths);
    body.push(1);
    framed(kind::FORMAT_DESCRIPTION, 126, 0, &body)
}

fn rotate(file: &str, position: u64) -> Bytes {
    let mut body = position.to_le_bytes().to_vec();
    body.extend_from_slice(file.as_bytes());
    framed(kind::ROTATE, 0, Header::ARTIFICIAL, &body)
}

fn decoder(flavour: Flavour) -> Decoder {
    let mut d = Decoder::new(flavour);
    d.event(&rotate("binlog.1000001", 4)).unwrap();
    d.event(&format_description()).unwrap();
    d
}

fn gtid_body(number: u64) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&[7; 16]);
    body.extend_from_slice(&number.to_le_bytes());
    body
}

fn query_body(statement: &str) -> Vec<u8> {
    let mut body = vec![0; 13];
    body.push(0);
    body.extend_from_slice(statement.as_bytes());
    body
}

#[test]
fn given_a_changed_byte_when_decoded_then_file_and_position_are_named_and_a_retry_may_help() {
    let mut d = decoder(Flavour::MySql);
    let mut bytes = framed(kind::XID, 200, 0, &[0; 8]).to_vec();
    bytes[HEADER] ^= 1;
    let e = d.event(&bytes.into()).unwrap_err();
    assert_eq!(e.class(), Class::Retry);
    assert!(e.message().contains("binlog.1000001") && e.message().contains("126"), "{e}");
    assert_eq!(d.position(), 126);
}

#[test]
fn given_a_file_beyond_four_gigabytes_when_decoded_then_positions_go_on() {
    let mut d = decoder(Flavour::MySql);
    d.event(&rotate("binlog.1000001", 0xffff_fff0)).unwrap();
    let event = d.event(&framed(kind::XID, 0x20, 0, &[0; 8])).unwrap();
    assert_eq!(event.end, Some(0x1_0000_0020));
    // A heartbeat of the second version has all 64 bits.
    let mut body = vec![1, 14];
    body.extend_from_slice(b"binlog.1000001");
    body.extend_from_slice(&[2, 9, 254, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    let event = d.event(&framed(kind::HEARTBEAT_V2, 0, 0, &body)).unwrap();
    assert!(matches!(event.body, Body::Heartbeat { position: 0x2_0000_0000, .. }), "{event:?}");
    assert_eq!(d.position(), 0x2_0000_0000);
}

#[test]
fn given_events_that_lose_changes_when_decoded_then_they_stop_the_stream() {
    for (kind, says) in [(kind::INCIDENT, "INCIDENT"), (kind::EXECUTE_LOAD_QUERY, "LOAD DATA"), (99, "type 99")] {
        let e = decoder(Flavour::MySql).event(&framed(kind, 200, 0, &[1, 0, 0])).unwrap_err();
        assert!(e.class() == Class::Fatal && e.message().contains(says) && e.hint_text().is_some(), "{e}");
    }
    let ignorable = framed(99, 200, Header::IGNORABLE, &[1]);
    assert!(matches!(decoder(Flavour::MySql).event(&ignorable).unwrap().body, Body::Ignored));
    let e = Decoder::new(Flavour::MySql).event(&framed(kind::XID, 9, 0, &[0; 8])).unwrap_err();
    assert!(e.message().contains("before the format description"), "{e}");
}

/// A compressed transaction of these events.
fn payload(inner: &[u8], compressed: &[u8]) -> Vec<u8> {
    let mut body = vec![1, 9, 254];
    body.extend_from_slice(&(compressed.len() as u64).to_le_bytes());
    body.extend_from_slice(&[2, 1, 0, 3, 9, 254]);
    body.extend_from_slice(&(inner.len() as u64).to_le_bytes());
    body.push(0);
    body.extend_from_slice(compressed);
    body
}

fn inner_of(body: &[u8]) -> Result<usize, crate::Error> {
    let mut d = decoder(Flavour::MySql);
    let event = d.event(&framed(kind::TRANSACTION_PAYLOAD, 900, 0, body))?;
    let Body::Payload(payload) = event.body else { panic!("{event:?}") };
    let mut reader = payload.reader().unwrap();
    let mut count = 0;
    while d.inner(&mut reader)?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[test]
fn given_a_damaged_compressed_transaction_when_read_then_it_is_an_error_and_never_empty() {
    let mut inner = Vec::new();
    for _ in 0..3 {
        let event = framed(kind::XID, 0, 0, &[0; 8]);
        inner.extend_from_slice(&event[..event.len() - 4]);
        let size = (event.len() - 4) as u32;
        let at = inner.len() - (event.len() - 4) + 9;
        inner[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }
    let compressed = zstd::encode_all(&inner[..], 3).unwrap();
    assert_eq!(inner_of(&payload(&inner, &compressed)).unwrap(), 3);
    for cut in 0..compressed.len() {
        assert!(inner_of(&payload(&inner, &compressed[..cut])).is_err(), "{cut}");
    }
    for at in 0..4 {
        let mut damaged = compressed.clone();
        damaged[at] ^= 0x40;
        assert!(inner_of(&payload(&inner, &damaged)).is_err(), "{at}");
    }
    assert!(inner_of(&payload(&inner[..inner.len() - 27], &compressed)).is_err());
    assert!(inner_of(&payload(&[&inner[..], &[0]].concat(), &compressed)).is_err());
}

#[test]
fn given_a_compressed_statement_when_damaged_then_it_is_an_error() {
    let mut z = flate2::write::ZlibEncoder::new(vec![0x81, 6], flate2::Compression::default());
    z.write_all(b"COMMIT").unwrap();
    let compressed = z.finish().unwrap();
    assert_eq!(payload::inflate(&compressed).unwrap(), b"COMMIT");
    assert!(payload::inflate(&compressed[..compressed.len() - 5]).is_err());
    let mut lies = compressed.clone();
    lies[1] = 5;
    assert!(payload::inflate(&lies).is_err());
    lies[0] = 0x91;
    assert!(payload::inflate(&lies).is_err());
}

fn step(t: &mut TransactionTracker, d: &mut Decoder, kind: u8, body: &[u8]) -> Result<Step, crate::Error> {
    let end = d.position() as u32 + (HEADER + body.len() + 4) as u32;
    let event = d.event(&framed(kind, end, 0, body))?;
    t.step(&event)
}

#[test]
fn given_transactions_when_tracked_then_only_whole_ones_pass() {
    let mut d = decoder(Flavour::MySql);
    let mut t = TransactionTracker::new(Flavour::MySql);
    let mut s = |kind, body: &[u8]| step(&mut t, &mut d, kind, body);
    assert_eq!(s(kind::GTID, &gtid_body(1)).unwrap(), Step::Begin);
    assert_eq!(s(kind::QUERY, &query_body("BEGIN")).unwrap(), Step::Inside);
    assert_eq!(s(kind::XID, &[0; 8]).unwrap(), Step::Commit);
    assert_eq!(s(kind::GTID, &gtid_body(2)).unwrap(), Step::Begin);
    assert_eq!(s(kind::QUERY, &query_body("CREATE TABLE x (a int)")).unwrap(), Step::Single);
    // The id after an id whose transaction is missing.
    assert_eq!(s(kind::GTID, &gtid_body(3)).unwrap(), Step::Begin);
    let e = s(kind::GTID, &gtid_body(4)).unwrap_err();
    assert!(e.class() == Class::Fatal && e.message().contains(":3 ") && e.message().contains("no end"), "{e}");
    assert!(
        s(kind::QUERY, &query_body("/* x */ (INSERT INTO t VALUES (1))"))
            .unwrap_err()
            .message()
            .contains("instead of rows")
    );
    let mut t = TransactionTracker::new(Flavour::MySql);
    assert!(step(&mut t, &mut d, kind::XID, &[0; 8]).unwrap_err().message().contains("outside"));
}

#[test]
fn given_a_gap_inside_a_transaction_when_tracked_then_it_is_read_again() {
    let mut d = decoder(Flavour::MySql);
    let mut t = TransactionTracker::new(Flavour::MySql);
    step(&mut t, &mut d, kind::GTID, &gtid_body(1)).unwrap();
    let event = d.event(&framed(kind::QUERY, d.position() as u32 + 500, 0, &query_body("BEGIN"))).unwrap();
    assert_eq!(t.step(&event).unwrap_err().class(), Class::Retry);
}

#[test]
fn given_statements_when_told_apart_then_comments_and_case_do_not_matter() {
    for (statement, kind) in [
        ("begin", QueryKind::Begin),
        ("START TRANSACTION", QueryKind::Begin),
        ("COMMIT", QueryKind::Commit),
        ("ROLLBACK", QueryKind::Rollback),
        ("ROLLBACK WORK TO `a`", QueryKind::RollbackTo),
        ("ROLLBACK TO `a`", QueryKind::RollbackTo),
        ("SAVEPOINT `a`", QueryKind::Savepoint),
        ("XA START X'61',X'',1", QueryKind::Begin),
        ("XA END X'61',X'',1", QueryKind::XaEnd),
        ("XA COMMIT X'61',X'',1", QueryKind::XaCommit),
        ("XA ROLLBACK X'61',X'',1", QueryKind::XaRollback),
        ("# note\n-- more\n  insert into t values (1)", QueryKind::Rows),
        ("/*!50003 DELETE FROM t */", QueryKind::Rows),
        ("SELECT `d`.`f`()", QueryKind::Rows),
        ("create table t (a int)", QueryKind::Other),
        ("TRUNCATE t", QueryKind::Other),
        ("", QueryKind::Other),
        ("/* never closed", QueryKind::Other),
    ] {
        assert_eq!(Query::of(statement).kind(), kind, "{statement}");
    }
}

#[test]
fn given_json_that_refers_to_itself_when_printed_then_it_is_refused_soon() {
    // Every array has two cells that are the same next array: 2^60 in all.
    let mut bytes = vec![2];
    for _ in 0..60 {
        bytes.extend_from_slice(&[2, 0, 200, 0, 2, 10, 0, 2, 10, 0]);
    }
    bytes.resize(1 + 60 * 10 + 200, 0);
    let mut out = Vec::new();
    assert!(json::print(&bytes, &mut out).is_err());
    out.clear();
    json::print(&[], &mut out).unwrap();
    assert_eq!(out, b"null");
}

#[test]
fn given_dates_and_times_of_the_old_form_when_decoded_then_only_one_family_has_them() {
    // As MariaDB 10.11 logged them under mysql56_temporal_format = OFF; MySQL's before 5.6 are the same.
    let body = b"\x01t\0\x04oldt\0\x04\x03\x0c\x0b\x07\0\x0e\x01\x01\0\x04\x08\x01i\x01a\x01c\x01e";
    let map = |flavour| TableMapEvent { table_id: 1, flavour, body: Bytes::from_static(body) }.parse().unwrap();
    let layout = TableLayout::new(&map(Flavour::MySql), None).unwrap();
    let event = RowsEvent {
        table_id: 1,
        op: crate::change::Op::Insert,
        statement_end: true,
        no_foreign_key_checks: false,
        cascades_logged: false,
        columns: 4,
        present: Bytes::new(),
        present_after: Bytes::new(),
        partial: false,
        rows: Bytes::from_static(b"\0\x01\0\0\0\0\x69\xd3\x85\x68\x12\0\0\xc0\x1d\xfe\x70\x3e\xba\x65"),
    };
    let rows = event.decode(&layout, OldRows::Whole).unwrap();
    let expected = ["1", "2024-01-31 12:34:56", "-12:34:56", "2024-01-31 12:34:56+00"];
    assert_eq!(rows[0].new, Some(crate::value::Row::from_texts(expected.map(Some))));
    let e = TableLayout::new(&map(Flavour::MariaDb), None).unwrap_err();
    assert!(e.message().contains("column a") && e.message().contains("old form"), "{e}");
}

/// A table of every type, by random types and metadata; and rows of it.
fn any_event() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kinds = prop::sample::select(vec![
        2, 4, 15, 16, 19, 23, 24, 25, 27, 30, 31, 32, 33, 34, 35, 38, 39, 40, 41, 42, 162, 163, 165, 166, 167, 168, 171,
    ]);
    (kinds, prop::collection::vec(any::<u8>(), 0..200))
}

fn any_table() -> impl Strategy<Value = Vec<u8>> {
    let types = prop::sample::select(vec![
        0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 242, 245, 246, 247, 248, 252, 253, 254, 255,
    ]);
    (
        prop::collection::vec(types, 1..12),
        prop::collection::vec(any::<u8>(), 0..24),
        prop::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(types, meta, optional)| {
            let mut body = vec![1, b's', 0, 1, b't', 0, types.len() as u8];
            body.extend_from_slice(&types);
            body.push(meta.len() as u8);
            body.extend_from_slice(&meta);
            body.extend(vec![0xff; types.len().div_ceil(8)]);
            body.extend_from_slice(&optional);
            body
        })
}

proptest! {
    #[test]
    fn given_any_body_when_decoded_then_nothing_panics((kind, body) in any_event(), maria in any::<bool>()) {
        let flavour = if maria { Flavour::MariaDb } else { Flavour::MySql };
        let mut d = decoder(flavour);
        let mut t = TransactionTracker::new(flavour);
        if let Ok(event) = d.event(&framed(kind, 500, 0, &body)) {
            let _ = t.step(&event);
            match &event.body {
                Body::TableMap(map) => drop(map.parse()),
                Body::Query(query) => drop((query.kind(), query.text())),
                Body::Payload(payload) => {
                    if let Ok(mut reader) = payload.reader() {
                        while let Ok(Some(_)) = d.inner(&mut reader) {}
                    }
                }
                _ => {}
            }
        }
        let _ = d.event(&Bytes::from(body));
    }

    #[test]
    fn given_any_table_and_rows_when_decoded_then_nothing_panics(
        table in any_table(),
        rows in prop::collection::vec(any::<u8>(), 0..120),
        present in any::<[u8; 2]>(),
        partial in any::<bool>(),
    ) {
        let map = TableMapEvent { table_id: 1, flavour: Flavour::MySql, body: table.into() };
        let Ok(map) = map.parse() else { return Ok(()) };
        let known: Vec<_> = map.columns.iter().map(|_| KnownColumn { name: "c".into(), ty: ColumnType::Bytes }).collect();
        let _ = TableLayout::new(&map, Some(&known));
        let mut named = map;
        for column in &mut named.columns {
            column.name = Some("c".into());
            column.unsigned.get_or_insert(true);
            column.collation.get_or_insert(33);
            column.labels.get_or_insert_with(|| vec!["a".into(), "b".into()]);
        }
        let Ok(layout) = TableLayout::new(&named, None) else { return Ok(()) };
        for op in [crate::change::Op::Insert, crate::change::Op::Update] {
            let bits = Bytes::copy_from_slice(&present);
            let event = RowsEvent {
                table_id: 1, op, statement_end: true, no_foreign_key_checks: false, cascades_logged: false, columns: layout.columns.len(),
                present: bits.clone(), present_after: Bytes::new(), partial, rows: rows.clone().into(),
            };
            let _ = event.decode(&layout, OldRows::Whole);
            let _ = event.decode(&layout, OldRows::KeyIfChanged(&[0]));
        }
    }

    #[test]
    fn given_any_json_bytes_when_printed_then_nothing_panics(kind in 0..16_u8, bytes in prop::collection::vec(any::<u8>(), 0..100), diffs in prop::collection::vec(any::<u8>(), 0..60)) {
        let document = [&[kind][..], &bytes].concat();
        let mut out = Vec::new();
        let _ = json::print(&document, &mut out);
        let _ = json_diff::apply(&document, &diffs, &mut out);
    }

    #[test]
    fn given_any_decimal_when_packed_and_rendered_then_it_is_its_digits(whole in "[1-9][0-9]{0,34}", fraction in "[0-9]{0,30}", negative in any::<bool>()) {
        let (precision, scale) = ((whole.len() + fraction.len()) as u8, fraction.len() as u8);
        let mut packed = pack(&whole, &fraction);
        if negative {
            packed.iter_mut().for_each(|b| *b = !*b);
        }
        let mut out = Vec::new();
        super::super::types::render::decimal(&mut out, &packed, precision, scale).unwrap();
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{sign}{whole}{point}{fraction}"));
    }
}

use super::super::types::ColumnType;

/// Written from strings/decimal.cc's comment, without a look at the decoder.
fn pack(whole: &str, fraction: &str) -> Vec<u8> {
    let group = |digits: &str| {
        let bytes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4][digits.len()];
        let n: u32 = digits.parse().unwrap_or(0);
        n.to_be_bytes()[4 - bytes..].to_vec()
    };
    let (head, rest) = whole.split_at(whole.len() % 9);
    let mut out = group(head);
    rest.as_bytes().chunks(9).for_each(|c| out.extend(group(std::str::from_utf8(c).unwrap())));
    fraction.as_bytes().chunks(9).for_each(|c| out.extend(group(std::str::from_utf8(c).unwrap())));
    out[0] |= 0x80;
    out
}
