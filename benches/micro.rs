//! The pure steps of a change's way, on one core, without a server: `cargo bench --bench micro [-- name]`.
//!
//! Each prints the median of several rounds with the slowest and the fastest, so that a change for the worse can be told
//! from noise. A name runs only those that contain it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use switchyard::change::{Change, Op};
use switchyard::documents::cursor::Doc;
use switchyard::exchange::{CollectionFields, DocumentForm};
use switchyard::pgwire::copytext;
use switchyard::pipeline::batch::{Batch, Step};
use switchyard::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};
use switchyard::source::mongo::mapping::{Mapping, Options};
use switchyard::source::mysql::binlog::{Body, Decoder, Flavour, OldRows, RowsEvent, TableLayout};
use switchyard::source::postgres::pgoutput;
use switchyard::target::postgres::statements;
use switchyard::transform::Compiled;
use switchyard::transform::expr::{Expr, Input, Scratch};
use switchyard::value::{Datum, Row, RowBuilder, RowsBuilder};

const ROUNDS: usize = 9;
const ITEMS: usize = 200_000;

/// Runs `work` on freshly prepared input, without the time of preparing it or of dropping what came out.
fn measure<I, O>(name: &str, what: &str, items: usize, prepare: impl Fn() -> I, work: impl Fn(I) -> O) {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    if wanted.is_some_and(|w| !name.contains(&w)) {
        return;
    }
    let mut rates = Vec::new();
    // The first round only warms the allocator.
    for round in 0..=ROUNDS {
        let input = prepare();
        let begun = Instant::now();
        let out = black_box(work(black_box(input)));
        let took: Duration = begun.elapsed();
        drop(out);
        if round > 0 {
            rates.push(items as f64 / took.as_secs_f64() / 1e6);
        }
    }
    rates.sort_by(f64::total_cmp);
    let (slow, middle, fast) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
    println!("| {name} | {middle:.2} million {what}/s | {slow:.2}–{fast:.2} | {:.0} ns each |", 1000.0 / middle);
}

/// pgoutput frames as they arrive: many in one chunk of 256 KiB, each cut off its front.
fn frames(write: impl Fn(&mut BytesMut, usize)) -> Vec<Bytes> {
    let mut frames = Vec::with_capacity(ITEMS);
    let mut chunk = BytesMut::new();
    for i in 0..ITEMS {
        if chunk.capacity() < 1024 {
            chunk = BytesMut::with_capacity(256 * 1024);
        }
        write(&mut chunk, i);
        frames.push(chunk.split().freeze());
    }
    frames
}

/// An update as pgbench's accounts make it: four columns, no old row.
fn account_update(out: &mut BytesMut, i: usize) {
    out.put_slice(b"U\0\0\x40\0N\0\x04");
    for field in [&i.to_string(), "1", "-4711", &" ".repeat(84)] {
        out.put_u8(b't');
        out.put_u32(field.len() as u32);
        out.put_slice(field.as_bytes());
    }
}

/// A wide insert with NULLs.
fn wide_insert(out: &mut BytesMut, _: usize) {
    out.put_slice(b"I\0\0\x40\0N\0\x1e");
    for i in 0..30 {
        if i % 3 == 0 {
            out.put_u8(b'n');
        } else {
            out.put_slice(b"t\0\0\0\x0atwenty six");
        }
    }
}

fn decode_all(frames: Vec<Bytes>) -> Vec<pgoutput::Message> {
    frames.into_iter().map(|f| pgoutput::decode(f).expect("the frames above are well formed")).collect()
}

fn accounts() -> Arc<Table> {
    let column = |name: &str, kind, type_name: &str| Column {
        name: name.into(),
        number: 0,
        type_name: type_name.into(),
        kind,
        nullable: false,
        identity: None,
        default: None,
        collation: None,
        data: Default::default(),
        portable_binary: true,
    };
    Arc::new(Table {
        id: TableId(1),
        name: TableName::new("public", "pgbench_accounts"),
        columns: vec![
            column("aid", Kind::Int4, "integer"),
            column("bid", Kind::Int4, "integer"),
            column("abalance", Kind::Int4, "integer"),
            column("filler", Kind::Text, "character(84)"),
        ],
        generated: Vec::new(),
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    })
}

fn account(i: usize) -> Row {
    Row::from_texts([Some(i.to_string().as_str()), Some("1"), Some("-4711"), Some(&" ".repeat(84))])
}

fn changes(op: Op, keys: usize) -> Vec<Change> {
    // Neighbours in the log are not neighbours in the table.
    let key = |i: usize| (i * 7919) % keys;
    (0..ITEMS)
        .map(|i| {
            let row = account(key(i));
            match op {
                Op::Delete => Change { table: TableId(1), op, old: Some(row), new: None },
                _ => Change { table: TableId(1), op, old: None, new: Some(row) },
            }
        })
        .collect()
}

fn compact(compiled: &Compiled, changes: Vec<Change>) -> Batch {
    let (mut batch, mut scratch) = (Batch::default(), Scratch::default());
    for change in changes {
        batch.change(compiled, change, &mut scratch).expect("the changes above are well formed");
    }
    batch
}

fn arrays(table: &Table, batch: &Batch) -> usize {
    let mut size = 0;
    for step in &batch.steps {
        let Step::Sets(sets) = step else { continue };
        for set in &sets.tables {
            let mut rows: Vec<&Row> = set.updates().chain(set.inserts()).collect();
            statements::sort_by_key(table, &mut rows);
            for column in 0..table.columns.len() {
                let array = statements::array(table, column, &rows).expect("the rows above fit their columns");
                size += std::mem::size_of_val(&black_box(array));
            }
        }
    }
    size
}

fn escaped(i: usize) -> Row {
    let mut b = RowBuilder::with_capacity(4, 64);
    for text in [i.to_string().as_str(), "1", "tab\tand\\backslash\n", "plain"] {
        b.push(Datum::Text(text.as_bytes()));
    }
    b.finish()
}

fn encode(rows: &[Row], table: &Table) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 128);
    for row in rows {
        statements::copy_text(&mut out, row, table).expect("the rows above are text");
    }
    out
}

/// A row of ten columns, and the rule's columns over it: all ten under other names, then a case, a text and a key.
fn rule() -> (Row, Vec<Expr>) {
    let columns: Vec<(String, Kind, &str, &str)> = [
        (Kind::Int4, "integer", "4711"),
        (Kind::Bool, "boolean", "f"),
        (Kind::Bool, "boolean", "t"),
        (Kind::Text, "text", "a name of some length"),
        (Kind::Numeric, "numeric(10,2)", "1234.50"),
        (Kind::TimestampTz, "timestamp with time zone", "2024-05-06 07:08:09.123+00"),
        (Kind::Text, "text", "note"),
        (Kind::Int8, "bigint", "987654321"),
        (Kind::Uuid, "uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        (Kind::Jsonb, "jsonb", "{\"a\": 1}"),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, (kind, type_name, value))| (format!("c{i}"), kind, type_name, value))
    .collect();
    let inputs: Vec<Input> = columns
        .iter()
        .map(|(name, kind, type_name, _)| Input {
            name: name.clone(),
            kind: *kind,
            type_name: (*type_name).into(),
            nullable: true,
        })
        .collect();
    let mut texts: Vec<&str> = columns.iter().map(|c| c.0.as_str()).collect();
    texts.extend([
        "case when c1 then 'approved' when c2 then 'rejected' else 'suggested' end",
        "coalesce(c6, 'none') || '-' || c0",
        "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', c0)",
    ]);
    let exprs = texts.iter().map(|t| Expr::compile(t, &inputs).expect("the rules above compile")).collect();
    (Row::from_texts(columns.iter().map(|c| Some(c.3))), exprs)
}

fn apply(row: &Row, exprs: &[Expr], scratch: &mut Scratch) -> usize {
    let mut bytes = 0;
    for expr in exprs {
        if let Datum::Text(t) = expr.eval(row, scratch).expect("the rules above do not fail") {
            bytes += black_box(t).len();
        }
    }
    bytes
}

/// A table of six narrow columns and its rows, in events of about 8 KB, as a server's log has them.
fn binlog_rows(update: bool) -> (TableLayout, Vec<RowsEvent>) {
    let framed = |kind: u8, body: &[u8]| {
        let mut out = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
        out.extend_from_slice(&(body.len() as u32 + 19).to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(body);
        Bytes::from(out)
    };
    let mut format = vec![4, 0];
    format.resize(56, 0);
    format.push(19);
    let mut lengths = [0; 42];
    (lengths[18], lengths[29], lengths[30]) = (8, 10, 10);
    format.extend_from_slice(&lengths);
    format.extend_from_slice(&[0; 5]);
    let mut decoder = Decoder::new(Flavour::MySql).without_checksums();
    decoder.event(&framed(15, &format)).expect("a format description");
    // bigint, int, int, varchar(20) utf8mb4, decimal(10,2), datetime(6).
    let mut map = b"\x01\0\0\0\0\0\0\0\x01s\0\x01t\0\x06\x08\x03\x03\x0f\xf6\x12\x05\x50\0\x0a\x02\x06\x3e".to_vec();
    map.extend_from_slice(b"\x01\x01\x00\x02\x01\x2d\x04\x0c\x01a\x01b\x01c\x01d\x01e\x01f");
    let Body::TableMap(map) = decoder.event(&framed(19, &map)).expect("a table map").body else { unreachable!() };
    let layout = TableLayout::new(&map.parse().expect("a table"), None).expect("a layout");
    let row = |out: &mut Vec<u8>, i: usize, change: u8| {
        out.push(0);
        out.extend_from_slice(&(i as u64).to_le_bytes());
        out.extend_from_slice(&(i as u32 * 7).to_le_bytes());
        out.extend_from_slice(&(-4711_i32).to_le_bytes());
        out.extend_from_slice(b"\x0atwenty six");
        out.extend_from_slice(&[0x80, 0, 0x12, change, 42]);
        out.extend_from_slice(&[0x99, 0xb2, 0xbf, 0x45, 0x67, 1, 2, 3]);
    };
    let mut events = Vec::new();
    let mut i = 0;
    while i < ITEMS {
        let mut body = if update {
            b"\x01\0\0\0\0\0\x01\0\x02\0\x06\x3f\x3f".to_vec()
        } else {
            b"\x01\0\0\0\0\0\x01\0\x02\0\x06\x3f".to_vec()
        };
        while body.len() < 8000 && i < ITEMS {
            row(&mut body, i, 1);
            if update {
                row(&mut body, i, 2);
            }
            i += 1;
        }
        let Body::Rows(rows) = decoder.event(&framed(if update { 31 } else { 30 }, &body)).expect("rows").body else {
            unreachable!()
        };
        events.push(rows);
    }
    (layout, events)
}

/// Documents of about 170 bytes with eight fields, as drivers write them.
fn documents() -> Vec<Vec<u8>> {
    let document = |i: i32| {
        bson::doc! {
            "_id": bson::oid::ObjectId::from_bytes([(i % 251) as u8; 12]),
            "name": format!("user number {i}"),
            "email": format!("user{i}@example.com"),
            "age": i % 90,
            "score": f64::from(i) / 100.0,
            "created": bson::DateTime::from_millis(1_700_000_000_000 + i64::from(i) * 1000),
            "active": i % 2 == 0,
            "note": "twenty six characters long",
        }
    };
    (0..ITEMS as i32).map(|i| document(i).to_vec().expect("a small document")).collect()
}

fn mapping(fields: &[(&str, &str)], documents: DocumentForm) -> Mapping {
    let described = CollectionFields {
        fields: fields.iter().map(|(path, spec)| ((*path).to_owned(), (*spec).to_owned())).collect(),
        rest: None,
    };
    let options = Options { documents, ..Options::default() };
    let fields = (!fields.is_empty()).then_some(&described);
    Mapping::new(TableName::new("shop", "users"), fields, options, false).expect("the fields above are well formed")
}

/// In blocks, as the copy hands them on.
fn render(mapping: &Mapping, documents: &[Vec<u8>]) -> usize {
    let block = |block: &[Vec<u8>]| {
        let mut rows = RowsBuilder::with_capacity(block.len(), 256 * block.len());
        for bytes in block {
            let doc = Doc::new(bytes).expect("a document");
            mapping.render(doc, &mut rows).expect("the documents above fit");
        }
        black_box(rows.finish().expect("less than 4 GiB").collect::<Vec<_>>()).len()
    };
    documents.chunks(1000).map(block).sum()
}

fn main() {
    println!("| step | median | slowest–fastest | |\n|---|---|---|---|");
    measure("decode: account update, 4 columns", "messages", ITEMS, || frames(account_update), decode_all);
    measure("decode: wide insert, 30 columns", "messages", ITEMS, || frames(wide_insert), decode_all);

    for (name, update, old) in [
        ("binary log: inserts, 6 columns", false, OldRows::Whole),
        ("binary log: updates, 6 columns, whole old rows", true, OldRows::Whole),
        ("binary log: updates, 6 columns, key if changed", true, OldRows::KeyIfChanged(&[0])),
    ] {
        let (layout, events) = binlog_rows(update);
        let decode = |e: &RowsEvent| e.decode(&layout, old).expect("rows fit their table");
        measure(name, "rows", ITEMS, || (), |()| events.iter().map(decode).collect::<Vec<_>>());
    }

    let typed = [
        ("_id", "objectid"),
        ("name", "text"),
        ("email", "text not null"),
        ("age", "integer"),
        ("score", "double precision"),
        ("created", "timestamptz"),
        ("active", "boolean"),
        ("note", "text"),
    ];
    for (name, mapping) in [
        ("documents: eight typed columns", mapping(&typed, DocumentForm::Json)),
        ("documents: four typed columns and the rest", mapping(&typed[1..5], DocumentForm::Json)),
        ("documents: key and JSON", mapping(&[], DocumentForm::Json)),
        ("documents: key and BSON", mapping(&[], DocumentForm::Bson)),
    ] {
        measure(name, "documents", ITEMS, documents, |d| render(&mapping, &d));
    }

    let table = accounts();
    let compiled = Compiled::new(&table, &table).expect("a table fits itself");
    let updates = |keys| move || changes(Op::Update, keys);
    let (row, exprs) = rule();
    let evaluate = |exprs: &[Expr]| {
        let mut scratch = Scratch::default();
        (0..ITEMS).map(|_| apply(black_box(&row), exprs, &mut scratch)).sum::<usize>()
    };
    measure("expressions: ten columns, case, text, uuid5", "rows", ITEMS, || (), |()| evaluate(&exprs));
    measure("expressions: ten columns alone", "rows", ITEMS, || (), |()| evaluate(&exprs[..10]));
    measure("expressions: case", "rows", ITEMS, || (), |()| evaluate(&exprs[10..11]));
    measure("expressions: coalesce and ||", "rows", ITEMS, || (), |()| evaluate(&exprs[11..12]));
    measure("expressions: uuid5", "rows", ITEMS, || (), |()| evaluate(&exprs[12..]));
    measure("batch: updates, every key once", "changes", ITEMS, updates(ITEMS), |c| compact(&compiled, c));
    measure("batch: updates, 1 000 keys", "changes", ITEMS, updates(1000), |c| compact(&compiled, c));
    measure("batch: inserts", "changes", ITEMS, || changes(Op::Insert, ITEMS), |c| compact(&compiled, c));
    measure("batch: deletes", "changes", ITEMS, || changes(Op::Delete, ITEMS), |c| compact(&compiled, c));
    measure(
        "parameters: sorted arrays of a batch",
        "rows",
        ITEMS,
        || compact(&compiled, changes(Op::Update, ITEMS)),
        |b| (arrays(&table, &b), b),
    );

    let plain: Vec<Row> = (0..ITEMS).map(account).collect();
    let special: Vec<Row> = (0..ITEMS).map(escaped).collect();
    measure("COPY text: encode", "rows", ITEMS, || (), |()| encode(&plain, &table));
    measure("COPY text: encode, with escapes", "rows", ITEMS, || (), |()| encode(&special, &table));
    let (plain, special) = (Bytes::from(encode(&plain, &table)), Bytes::from(encode(&special, &table)));
    let read = |b: Bytes| copytext::rows(b, 4).expect("what was encoded can be read");
    measure("COPY text: decode", "rows", ITEMS, || plain.clone(), read);
    measure("COPY text: decode, with escapes", "rows", ITEMS, || special.clone(), read);
}
