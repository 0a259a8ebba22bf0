//! Any bytes at all into the pgoutput decoder: it may refuse them, it must not panic, and what it accepts can be read.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run pgoutput -- -max_total_time=60
//! ```
//! `make fuzz` does the same. Without a nightly toolchain: `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none pgoutput`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchyard::source::postgres::pgoutput::{Message, decode};

fuzz_target!(|data: &[u8]| {
    let rows = match decode(bytes::Bytes::copy_from_slice(data)) {
        Ok(Message::Insert { new, .. }) => [Some(new), None],
        Ok(Message::Update { old, new, .. }) => [Some(new), old],
        Ok(Message::Delete { old, .. }) => [Some(old), None],
        Ok(_) => [None, None],
        Err(e) => {
            assert!(e.offset <= data.len().max(1));
            return;
        }
    };
    for row in rows.into_iter().flatten() {
        assert_eq!(row.iter().count(), row.len());
        assert!(row.bytes() <= data.len());
    }
});
