//! How fast pgoutput messages become rows, on one core, without a server: `cargo bench --bench decode`.

use std::hint::black_box;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use switchyard::source::postgres::pgoutput::decode;

const MESSAGES: usize = 1_000_000;
const ROUNDS: usize = 5;

/// An update as pgbench's accounts make it: four columns, no old row.
fn small_update(out: &mut BytesMut) {
    out.put_slice(b"U\0\0\x40\0N\0\x04");
    for field in ["12345678", "1", "-4711", &" ".repeat(84)] {
        out.put_u8(b't');
        out.put_u32(field.len() as u32);
        out.put_slice(field.as_bytes());
    }
}

/// A wide insert with NULLs.
fn wide_insert(out: &mut BytesMut) {
    out.put_slice(b"I\0\0\x40\0N\0\x1e");
    for i in 0..30 {
        if i % 3 == 0 {
            out.put_u8(b'n');
        } else {
            out.put_slice(b"t\0\0\0\x0atwenty six");
        }
    }
}

fn measure(name: &str, write: fn(&mut BytesMut)) {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        // As they arrive: many frames in one chunk of 256 KiB, each cut off its front.
        let mut frames: Vec<Bytes> = Vec::with_capacity(MESSAGES);
        let mut chunk = BytesMut::new();
        while frames.len() < MESSAGES {
            if chunk.capacity() < 1024 {
                chunk = BytesMut::with_capacity(256 * 1024);
            }
            write(&mut chunk);
            frames.push(chunk.split().freeze());
        }
        let start = Instant::now();
        for frame in frames {
            black_box(decode(frame)).unwrap();
        }
        rates.push(MESSAGES as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{name}: {:.2} million messages/s (median of {ROUNDS}; {:.2} to {:.2})",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1]
    );
}

fn main() {
    measure("small update, 4 columns", small_update);
    measure("wide insert, 30 columns", wide_insert);
}
