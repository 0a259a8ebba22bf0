//! The decoder: round trips, cuts, noise, and what a real server sent.

use bytes::Bytes;
use proptest::prelude::*;
use switchyard::position::Lsn;
use switchyard::source::postgres::pgoutput::{Message, Relation, RelationColumn, decode};
use switchyard::value::{Datum, Row, RowBuilder};

use crate::stream::server;

/// 2000-01-01 in microseconds since the Unix epoch.
const EPOCH: i64 = 946_684_800_000_000;

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn tuple(out: &mut Vec<u8>, row: &Row) {
    out.extend_from_slice(&(row.len() as u16).to_be_bytes());
    for field in row.iter() {
        match field {
            Datum::Null => out.push(b'n'),
            Datum::Unsent => out.push(b'u'),
            Datum::Text(text) => {
                out.push(b't');
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

/// Written from the manual, without a look at the decoder. `whole` says O instead of K.
fn encode(message: &Message, whole: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let old_mark = if whole { b'O' } else { b'K' };
    match message {
        Message::Begin { final_lsn, committed_at, xid } => {
            out.push(b'B');
            out.extend_from_slice(&final_lsn.0.to_be_bytes());
            out.extend_from_slice(&(committed_at - EPOCH).to_be_bytes());
            out.extend_from_slice(&xid.to_be_bytes());
        }
        Message::Commit { commit_lsn, end_lsn, committed_at } => {
            out.extend_from_slice(b"C\0");
            out.extend_from_slice(&commit_lsn.0.to_be_bytes());
            out.extend_from_slice(&end_lsn.0.to_be_bytes());
            out.extend_from_slice(&(committed_at - EPOCH).to_be_bytes());
        }
        Message::Origin { lsn, name } => {
            out.push(b'O');
            out.extend_from_slice(&lsn.0.to_be_bytes());
            string(&mut out, name);
        }
        Message::Relation(relation) => {
            out.push(b'R');
            out.extend_from_slice(&relation.oid.to_be_bytes());
            string(&mut out, &relation.schema);
            string(&mut out, &relation.name);
            out.push(relation.replica_identity);
            out.extend_from_slice(&(relation.columns.len() as u16).to_be_bytes());
            for column in &relation.columns {
                out.push(column.key.into());
                string(&mut out, &column.name);
                out.extend_from_slice(&column.type_oid.to_be_bytes());
                out.extend_from_slice(&column.type_modifier.to_be_bytes());
            }
        }
        Message::Type { oid, schema, name } => {
            out.push(b'Y');
            out.extend_from_slice(&oid.to_be_bytes());
            string(&mut out, schema);
            string(&mut out, name);
        }
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend_from_slice(&relation.to_be_bytes());
            out.push(b'N');
            tuple(&mut out, new);
        }
        Message::Update { relation, old, new } => {
            out.push(b'U');
            out.extend_from_slice(&relation.to_be_bytes());
            if let Some(old) = old {
                out.push(old_mark);
                tuple(&mut out, old);
            }
            out.push(b'N');
            tuple(&mut out, new);
        }
        Message::Delete { relation, old } => {
            out.push(b'D');
            out.extend_from_slice(&relation.to_be_bytes());
            out.push(old_mark);
            tuple(&mut out, old);
        }
        Message::Truncate { relations, cascade, restart_identity } => {
            out.push(b'T');
            out.extend_from_slice(&(relations.len() as u32).to_be_bytes());
            out.push(u8::from(*cascade) | u8::from(*restart_identity) << 1);
            for oid in relations {
                out.extend_from_slice(&oid.to_be_bytes());
            }
        }
        Message::Logical { transactional, lsn, prefix, content } => {
            out.push(b'M');
            out.push((*transactional).into());
            out.extend_from_slice(&lsn.0.to_be_bytes());
            string(&mut out, prefix);
            out.extend_from_slice(&(content.len() as u32).to_be_bytes());
            out.extend_from_slice(content);
        }
    }
    out
}

/// Everything that a message says, for comparison: rows of different buffers are equal if their fields are.
fn said(message: &Message) -> String {
    let row = |r: &Row| format!("{:?}", r.iter().collect::<Vec<_>>());
    match message {
        Message::Insert { relation, new } => format!("I {relation} {}", row(new)),
        Message::Update { relation, old, new } => format!("U {relation} {:?} {}", old.as_ref().map(row), row(new)),
        Message::Delete { relation, old } => format!("D {relation} {}", row(old)),
        other => format!("{other:?}"),
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    let field = prop_oneof![
        Just(None),
        Just(Some(None)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|text| Some(Some(text))),
    ];
    prop::collection::vec(field, 0..12).prop_map(|fields| {
        let mut builder = RowBuilder::default();
        for field in &fields {
            builder.push(match field {
                None => Datum::Null,
                Some(None) => Datum::Unsent,
                Some(Some(text)) => Datum::Text(text),
            });
        }
        builder.finish()
    })
}

fn any_name() -> impl Strategy<Value = String> {
    "[^\0]{1,20}"
}

fn any_time() -> impl Strategy<Value = i64> {
    (-EPOCH..EPOCH).prop_map(|t| t + EPOCH)
}

fn any_message() -> impl Strategy<Value = Message> {
    let column = (any::<bool>(), any_name(), any::<u32>(), any::<i32>())
        .prop_map(|(key, name, type_oid, type_modifier)| RelationColumn { key, name, type_oid, type_modifier });
    prop_oneof![
        (any::<u64>(), any_time(), any::<u32>())
            .prop_map(|(lsn, committed_at, xid)| Message::Begin { final_lsn: Lsn(lsn), committed_at, xid }),
        (any::<u64>(), any::<u64>(), any_time()).prop_map(|(start, end, committed_at)| Message::Commit {
            commit_lsn: Lsn(start),
            end_lsn: Lsn(end),
            committed_at
        }),
        (any::<u64>(), any_name()).prop_map(|(lsn, name)| Message::Origin { lsn: Lsn(lsn), name }),
        (any::<u32>(), any_name(), any_name(), any::<u8>(), prop::collection::vec(column, 0..8)).prop_map(
            |(oid, schema, name, replica_identity, columns)| Message::Relation(Relation {
                oid,
                schema,
                name,
                replica_identity,
                columns
            })
        ),
        (any::<u32>(), any_name(), any_name()).prop_map(|(oid, schema, name)| Message::Type { oid, schema, name }),
        (any::<u32>(), any_row()).prop_map(|(relation, new)| Message::Insert { relation, new }),
        (any::<u32>(), prop::option::of(any_row()), any_row())
            .prop_map(|(relation, old, new)| Message::Update { relation, old, new }),
        (any::<u32>(), any_row()).prop_map(|(relation, old)| Message::Delete { relation, old }),
        (prop::collection::vec(any::<u32>(), 0..8), any::<bool>(), any::<bool>())
            .prop_map(|(relations, cascade, restart_identity)| Message::Truncate { relations, cascade, restart_identity }),
        (any::<bool>(), any::<u64>(), any_name(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(
            |(transactional, lsn, prefix, content)| Message::Logical {
                transactional,
                lsn: Lsn(lsn),
                prefix,
                content: content.into()
            }
        ),
    ]
}

proptest! {
    #[test]
    fn given_any_message_when_written_and_decoded_then_it_is_the_same(message in any_message(), whole in any::<bool>()) {
        let bytes = encode(&message, whole);
        prop_assert_eq!(said(&decode(bytes.into()).unwrap()), said(&message));
    }

    #[test]
    fn given_a_message_cut_or_lengthened_when_decoded_then_it_is_an_error(message in any_message(), whole in any::<bool>()) {
        let bytes = Bytes::from(encode(&message, whole));
        for end in 0..bytes.len() {
            let e = decode(bytes.slice(..end)).unwrap_err();
            prop_assert!(e.offset <= end, "{}", e);
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert!(decode(longer.into()).is_err());
    }

    #[test]
    fn given_noise_when_decoded_then_nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..10) {
        let _ = decode(bytes.clone().into());
        if let Some(first) = bytes.first_mut() {
            *first = b"BCORYIUDTM"[kind];
            let _ = decode(bytes.into());
        }
    }

    #[test]
    fn given_a_message_with_bytes_changed_when_decoded_then_nothing_panics(
        message in any_message(), at in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let mut bytes = encode(&message, true);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = decode(bytes.into());
    }
}

#[test]
fn given_a_field_in_binary_form_when_decoded_then_it_is_refused_with_its_place() {
    let bytes = [b'I', 0, 0, 0, 1, b'N', 0, 1, b'b', 0, 0, 0, 1, 7];
    let e = decode(Bytes::copy_from_slice(&bytes)).unwrap_err();
    assert_eq!((e.message, e.offset), ("Insert", 8));
}

/// The captures: messages one after the other, each with its length (four bytes, big-endian) before it.
fn captures() -> Vec<(String, Vec<Bytes>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pgoutput");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "bin") {
            continue;
        }
        let mut bytes = Bytes::from(std::fs::read(&path).unwrap());
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let len = u32::from_be_bytes(bytes.split_to(4)[..].try_into().unwrap());
            messages.push(bytes.split_to(len as usize));
        }
        all.push((path.file_name().unwrap().to_string_lossy().into_owned(), messages));
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn given_what_a_real_server_sent_when_decoded_then_every_kind_is_there_and_writes_back_to_the_same_bytes() {
    for (name, messages) in captures() {
        let mut kinds: Vec<u8> = messages.iter().map(|m| m[0]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(String::from_utf8_lossy(&kinds), "BCDIMORTUY", "{name}");
        for message in messages {
            let decoded = decode(message.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let same = [false, true].iter().any(|whole| encode(&decoded, *whole) == message[..]);
            assert!(same, "{name}: {decoded:?}");
        }
    }
}

#[test]
fn given_what_a_real_server_sent_when_damaged_then_nothing_panics() {
    for (_, messages) in captures() {
        for message in messages.iter().filter(|m| m.len() < 2000) {
            for end in 0..message.len() {
                assert!(decode(message.slice(..end)).is_err());
            }
            for at in 0..message.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff, b'n', b't', b'u', b'b', b'N', b'K', b'O'] {
                    let mut bytes = message.to_vec();
                    bytes[at] = value;
                    let _ = decode(bytes.into());
                }
            }
        }
    }
}

/// `cargo test --test it -- --ignored write_the_captures`: makes the file of the newest server that is found.
#[test]
#[ignore = "writes tests/fixtures/pgoutput"]
fn write_the_captures_anew() {
    let server = server(&[]);
    server
        .psql(
            r#"create type mood as enum ('sad', 'happy');
            create table plain (id int primary key, name text, big text, feeling mood, n numeric, at timestamptz, raw bytea);
            alter table plain alter big set storage external;
            create schema "Odd ""one"; create table "Odd ""one"."Größe" ("a b" int, c int[]);
            alter table "Odd ""one"."Größe" replica identity full;
            create table none (); create publication p for all tables"#,
        )
        .unwrap();
    for sql in [
        "select pg_create_logical_replication_slot('s', 'pgoutput')",
        "select pg_replication_origin_create('elsewhere')",
        "insert into plain values (1, 'one', repeat('x', 3000), 'sad', 1.50, '2024-02-29 12:00:00.123456+00', '\\x00ff'), (2, null, null, null, 'NaN', 'infinity', '')",
        "update plain set name = 'uno' where id = 1; update plain set id = 3 where id = 2; delete from plain where id = 3",
        r#"insert into "Odd ""one"."Größe" values (1, '{1,NULL}'); update "Odd ""one"."Größe" set c = null; delete from "Odd ""one"."Größe""#,
        "insert into none default values",
        r#"truncate plain, "Odd ""one"."Größe" restart identity cascade"#,
        "select pg_logical_emit_message(true, 'switchyard', '{\"marker\":\"in\"}')",
        "select pg_logical_emit_message(false, 'switchyard', '{\"marker\":\"out\"}')",
        "select pg_replication_origin_session_setup('elsewhere'); begin; select pg_replication_origin_xact_setup('0/ABC', now()); insert into plain (id) values (9); commit",
    ] {
        server.psql(sql).unwrap();
    }
    let hex = server
        .psql(
            "select data from pg_logical_slot_peek_binary_changes('s', null, null,
             'proto_version', '1', 'publication_names', 'p', 'messages', 'true')",
        )
        .unwrap();
    let mut file = Vec::new();
    for line in hex.lines().filter_map(|l| l.strip_prefix("\\x")) {
        file.extend_from_slice(&(line.len() as u32 / 2).to_be_bytes());
        file.extend((0..line.len()).step_by(2).map(|i| u8::from_str_radix(&line[i..i + 2], 16).unwrap()));
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pgoutput");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(format!("{folder}/pg{}.bin", server.install().version_major), file).unwrap();
}
