//! Where a collection is cut by `_id`: bounds as text, and the command that reads between two of them. Pure.
//!
//! A range filter (`$gte`, `$lt`) compares only values of one type, and `_id`s may be of several. The bounds of the index
//! itself, `min` and `max`, go over all of them in BSON's order: so no document can lie in two chunks, or in none. There
//! `min` is a part of its range and `max` is not, which [`Chunk::after`] and [`Chunk::up_to`] say the other way round for
//! other engines.

use bson::{Bson, Document, doc};

use crate::documents::cursor::Value;
use crate::documents::{key, write};
use crate::exchange::Chunk;

/// A value as text that gives a value back which the index has at the same place (a number may be of another type); `None`
/// for what has no such text.
pub fn text(id: &Value<'_>) -> Option<String> {
    let mut text = Vec::new();
    key::text(&mut text, id).ok()?;
    let text = String::from_utf8(text).ok()?;
    value(&text).map(|_| text)
}

/// The value of such a text.
pub fn value(text: &str) -> Option<Bson> {
    let mut bytes = Vec::new();
    let start = write::open(&mut bytes);
    key::field(&mut bytes, b"_id", text.as_bytes()).ok()?;
    write::close(&mut bytes, start);
    Document::from_reader(&*bytes).ok()?.remove("_id")
}

/// Of many bounds in BSON's order, `pieces - 1` that lie evenly between them.
pub fn cut(sorted: &[String], pieces: usize) -> Vec<String> {
    let mut bounds: Vec<String> = Vec::new();
    for n in 1..pieces {
        let Some(text) = sorted.get(n * sorted.len() / pieces.max(1)) else { continue };
        if bounds.last() != Some(text) {
            bounds.push(text.clone());
        }
    }
    bounds
}

/// Chunks from before the first bound to behind the last.
pub fn chunks(bounds: Vec<String>, rows: u64) -> Vec<Chunk> {
    let count = bounds.len() + 1;
    let mut bounds = bounds.into_iter().map(|b| vec![b]);
    let mut from = None;
    (0..count)
        .map(|n| {
            let after = from.take();
            let up_to = bounds.next();
            from = up_to.clone();
            Chunk { number: n as u32, after, up_to, estimated_rows: rows / count as u64, ..Chunk::default() }
        })
        .collect()
}

/// The command that reads a chunk in the order of `_id`.
///
/// # Errors
/// When a bound is no such text.
pub fn find(collection: &str, chunk: &Chunk, batch: u32, read_concern: Document) -> Result<Document, String> {
    let bound = |texts: &Option<Vec<String>>| match texts.as_deref() {
        None => Ok(None),
        Some([one]) => value(one).map(Some).ok_or_else(|| format!("{one:?} is no bound of a chunk")),
        Some(_) => Err("a chunk of several keys".to_owned()),
    };
    let mut command = doc! { "find": collection, "batchSize": batch, "readConcern": read_concern };
    // In the order of the keys, whole collections, too: in natural order a document that is deleted and inserted again lies at the
    // end once more, and is given out twice.
    command.insert("hint", doc! { "_id": 1 });
    let (min, max) = (bound(&chunk.after)?, bound(&chunk.up_to)?);
    for (name, value) in [("min", min), ("max", max)] {
        if let Some(value) = value {
            command.insert(name, doc! { "_id": value });
        }
    }
    Ok(command)
}

/// The command for what [`find`] leaves out: without `max` the index is read up to the largest value there is, and not that
/// one itself.
pub fn find_largest(collection: &str, chunk: &Chunk, read_concern: Document) -> Option<Document> {
    let open_ended = chunk.after.is_some() && chunk.up_to.is_none();
    let filter = doc! { "_id": { "$eq": Bson::MaxKey } };
    open_ended.then(|| doc! { "find": collection, "filter": filter, "batchSize": 1, "readConcern": read_concern })
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;
    use crate::documents::cursor::Doc;

    #[test]
    fn given_ids_of_any_type_when_written_and_read_then_they_lie_at_the_same_place() {
        let oid = ObjectId::parse_str("6b01b7d1fb9fc256ae8aa233").unwrap();
        for id in [
            Bson::MinKey,
            Bson::Null,
            Bson::Int32(1),
            Bson::Double(-0.5),
            Bson::String("\"ü\" { 12".into()),
            Bson::String("12".into()),
            Bson::ObjectId(oid),
            Bson::Boolean(true),
            Bson::DateTime(bson::DateTime::from_millis(-62_135_596_800_001)),
            Bson::Document(doc! { "a": 1, "$b": [1.5, null] }),
            Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 }),
            Bson::MaxKey,
        ] {
            let bytes = doc! { "_id": &id }.to_vec().unwrap();
            let text = text(&Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap()).unwrap();
            assert_eq!(value(&text), Some(id), "{text}");
        }
        assert_eq!(value("{"), None);
    }

    #[test]
    fn given_sorted_ids_when_cut_then_the_chunks_meet() {
        let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let made = chunks(cut(&ids, 4), 1000);
        assert_eq!(made.len(), 4);
        assert_eq!((made[0].after.as_ref(), made[3].up_to.as_ref()), (None, None));
        for (a, b) in made.iter().zip(&made[1..]) {
            assert!(a.up_to.is_some() && a.up_to == b.after);
        }
        let same = vec!["7".to_owned(); 50];
        assert_eq!(cut(&same, 8).len(), 1);
        assert_eq!(chunks(Vec::new(), 10), [Chunk { estimated_rows: 10, ..Chunk::default() }]);
    }

    #[test]
    fn given_a_chunk_when_read_then_its_bounds_are_the_indexs() {
        let chunk = Chunk { up_to: Some(vec!["5".into()]), ..Chunk::default() };
        let command = find("c", &chunk, 10, doc! {}).unwrap();
        assert_eq!(command.get_document("max").unwrap(), &doc! { "_id": 5 });
        assert!(command.get("min").is_none() && command.get("hint").is_some());
        assert!(find("c", &Chunk::default(), 10, doc! {}).unwrap().get("hint").is_some());
        assert!(find("c", &Chunk { after: Some(vec!["{".into()]), ..Chunk::default() }, 1, doc! {}).is_err());
    }
}
