//! Reads samples of collections, for suggestions to people.

use bson::{Document, doc};
use mongodb::Client;
use secrecy::SecretString;

use super::sample::{CollectionGuess, Sample};
use crate::documents::cursor::Doc;
use crate::error::Result;
use crate::mongowire::command;
use crate::mongowire::conninfo::MongoConnInfo;
use crate::mongowire::server::first_batch;
use crate::schema::TableName;

/// Documents chosen at random.
const RANDOM: i32 = 900;
/// Documents at each end of the collection: the first and the last may have other shapes.
const ENDS: i32 = 50;
/// Fields in a smaller part of the documents stay in the rest.
const LEAST: f64 = 0.05;

/// What a sample of each collection suggests, or why it could not be read.
///
/// # Errors
/// [`crate::error::Class::Config`] for a URL that cannot be meant; what a server says that cannot be asked at all.
pub async fn guesses(url: &SecretString, names: &[TableName]) -> Result<Vec<(TableName, Result<CollectionGuess>)>> {
    let info = MongoConnInfo::parse("--source", url)?;
    let client = info.connect("source", "switchyard:init").await?;
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        out.push((name.clone(), guess(&client, name).await));
    }
    Ok(out)
}

async fn guess(client: &Client, name: &TableName) -> Result<CollectionGuess> {
    let mut sample = Sample::default();
    // Up to a few hundred documents are read once; all others are a sample.
    let whole =
        read(client, name, doc! { "find": &*name.name, "limit": RANDOM, "singleBatch": true, "batchSize": RANDOM })
            .await?;
    if whole.len() < RANDOM as usize {
        whole.iter().for_each(|bytes| add(&mut sample, bytes));
        return Ok(sample.infer(LEAST));
    }
    let random = vec![doc! { "$sample": { "size": RANDOM } }];
    let random = doc! { "aggregate": &*name.name, "pipeline": random, "cursor": { "batchSize": RANDOM } };
    for bytes in read(client, name, random).await? {
        add(&mut sample, &bytes);
    }
    for direction in [1, -1] {
        let sort = doc! { "_id": direction };
        let end = doc! { "find": &*name.name, "sort": sort, "limit": ENDS, "singleBatch": true, "batchSize": ENDS };
        for bytes in read(client, name, end).await? {
            add(&mut sample, &bytes);
        }
    }
    Ok(sample.infer(LEAST))
}

fn add(sample: &mut Sample, bytes: &[u8]) {
    if let Ok(doc) = Doc::new(bytes) {
        sample.add(doc);
    }
}

/// The documents of a command's first batch, which has 16 MB at most.
async fn read(client: &Client, name: &TableName, command: Document) -> Result<Vec<Vec<u8>>> {
    let doing = format!("looking at documents of {name}");
    let reply = command::run(client, &name.schema, &doing, command).await?;
    let cursor = reply.get_document("cursor").and_then(|c| c.get_i64("id")).unwrap_or(0);
    if cursor != 0 {
        let kill = doc! { "killCursors": &*name.name, "cursors": [cursor] };
        command::run(client, &name.schema, &doing, kill).await?;
    }
    Ok(first_batch(&reply).filter_map(|d| d.to_vec().ok()).collect())
}
