//! Any bytes at all into the binary log's decoder: it may refuse them, it must not panic.
//!
//! `make fuzz FUZZ=binlog`. The first byte says which family wrote the log, the second is the event's type; the checksum
//! is made to fit, so that the bytes reach what is behind it. Row events are decoded by the table map before them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use switchyard::source::mysql::binlog::{Body, Decoder, Flavour, OldRows, TableLayout, TransactionTracker};

fuzz_target!(|data: &[u8]| {
    let Some((family, mut rest)) = data.split_first() else { return };
    let flavour = if family & 1 == 0 { Flavour::MySql } else { Flavour::MariaDb };
    let mut decoder = Decoder::new(flavour);
    let mut tracker = TransactionTracker::new(flavour);
    let mut layout = None;
    let _ = decoder.event(&format_description());
    // Events one behind the other: a type, a length, and so many bytes.
    while let [kind, length, tail @ ..] = rest {
        let (body, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        let Ok(event) = decoder.event(&framed(*kind, body)) else { continue };
        let _ = tracker.step(&event);
        match &event.body {
            Body::TableMap(map) => layout = map.parse().ok().and_then(|m| TableLayout::new(&m, None).ok()),
            Body::Rows(rows) => {
                if let Some(layout) = &layout {
                    let _ = rows.decode(layout, OldRows::Whole);
                    let _ = rows.decode(layout, OldRows::KeyIfChanged(&[0]));
                }
            }
            Body::Payload(payload) => {
                if let Ok(mut reader) = payload.reader() {
                    while let Ok(Some(_)) = decoder.inner(&mut reader) {}
                }
            }
            Body::Query(query) => {
                let _ = (query.kind(), query.text());
            }
            _ => {}
        }
    }
});

fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut out = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
    out.extend_from_slice(&(body.len() as u32 + 23).to_le_bytes());
    out.extend_from_slice(&[9, 0, 0, 0, 0, 0]);
    out.extend_from_slice(body);
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.into()
}

fn format_description() -> Bytes {
    let mut body = vec![4, 0];
    body.resize(56, 0);
    body.push(19);
    let mut lengths = [0; 42];
    for (kind, length) in [(19, 8), (23, 8), (24, 8), (25, 8), (30, 10), (31, 10), (32, 10), (39, 10)] {
        lengths[kind - 1] = length;
    }
    body.extend_from_slice(&lengths);
    body.push(1);
    framed(15, &body)
}
