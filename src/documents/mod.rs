//! Documents as bytes: BSON read and written where it lies, its values as extended JSON and as canonical text, and the way
//! back. What a source and a target of documents share. Pure.
//!
//! | file | responsibility |
//! |---|---|
//! | `cursor.rs` | BSON bytes as values and fields |
//! | `write.rs` | values as BSON bytes |
//! | `decimal.rs`, `double.rs`, `moment.rs` | numbers and dates, as texts and back |
//! | `ejson.rs`, `read.rs` | values as extended JSON text, and back |
//! | `key.rs` | the value of `_id` as a text that no other `_id` has, and back |
//! | `canonical.rs` | values as the canonical text of a column's type |
//! | `values.rs` | canonical text of any engine's column as BSON |

pub mod canonical;
pub mod cursor;
pub mod decimal;
pub mod double;
pub mod ejson;
pub mod key;
pub mod moment;
pub mod read;
pub mod values;
pub mod write;

/// Documents nested deeper are refused, so that none can exhaust the stack. The server takes 100 levels, and a few more in
/// what it makes itself (`BSONDepth::kDefaultMaxAllowableDepth` is 200).
pub const DEEPEST: usize = 220;

/// `type_name` of a column that holds a document's own bytes (BSON). Its key column, of the same name, holds the bytes of a
/// document with `_id` alone.
pub const BSON: &str = "bson";
/// `type_name` of a column of 24 hexadecimal digits that was an ObjectId.
pub const OBJECT_ID: &str = "objectid";
/// `type_name` of a column of texts as [`key`] makes them of `_id`s of any type.
pub const KEY: &str = "key";

#[cfg(test)]
pub(crate) mod arbitrary;
