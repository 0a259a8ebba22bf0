//! Makes all lists in documents once after a copy, looks for rows without a document, and clears away what rules gave up.
//!
//! What lists there are, and whether they are made, is noted in `switchyard.lists`; a copy of any table takes that back.
//! All of it can be repeated: a list is what its rows' collection says.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::Client;

use super::bookkeeping::{self, all, fenced_writes, hold, unreadable};
use super::command::{self, Written};
use super::copies::is_empty;
use super::create::{INDEX_PATIENCE, Mine};
use super::embed::{Cursor, Setting, misfit, without_parent};
use super::lists::Fitted;
use super::session::{Durable, Session, majority};
use super::{catalog, trouble};
use crate::error::{Error, Result};
use crate::faults;
use crate::mongowire::command::{finished_within, run};
use crate::mongowire::server::first_batch;
use crate::transform::embed::EmbeddedList;

/// Documents that are changed in one transaction.
const DOCUMENTS: usize = 2000;
/// How often a transaction that lost against something else is tried again.
const RETRIES: u32 = 10;
/// Keys that a warning names.
const SHOWN: i32 = 5;

fn id_of(name: &str, list: &EmbeddedList) -> Document {
    doc! { "name": name, "schema": &list.parent.schema, "table": &list.parent.name, "field": &list.field }
}

/// The lists that are noted, and whether they are made.
async fn noted(client: &Client, name: &str) -> Result<Vec<(EmbeddedList, bool)>> {
    let found = all(client, "reading which lists there are", "lists", doc! { "name": name }).await?;
    let read = |d: &Document| {
        let text = d.get_str("definition").map_err(|e| unreadable("list", e))?;
        let list = serde_json::from_str(text).map_err(|e| unreadable("list", e))?;
        Ok((list, d.get_bool("made").unwrap_or(false)))
    };
    found.iter().map(read).collect()
}

async fn note(client: &Client, mine: Mine<'_>, list: &EmbeddedList, made: bool) -> Result<()> {
    let text = serde_json::to_string(list).map_err(|e| Error::fatal(format!("writing a list's definition: {e}")))?;
    let id = id_of(mine.name, list);
    let d = doc! { "_id": id.clone(), "name": mine.name, "definition": text, "made": made };
    let command = doc! { "update": "lists", "updates": [{ "q": { "_id": id }, "u": d, "upsert": true }] };
    fenced_writes(client, "noting a list", mine.name, mine.epoch, &[command]).await.map(drop)
}

async fn fitted(client: &Client, name: &str, list: &EmbeddedList) -> Result<Fitted> {
    let names = [list.rows.clone(), list.parent.clone()];
    let found = catalog::tables(client, name, &names).await?;
    match found.as_slice() {
        [Some(rows), Some(parent)] => Fitted::new(list, rows, parent).map_err(|why| misfit(&list.rows, &why)),
        _ => Err(misfit(&list.rows, &format!("in: the target has no collection {} or {}", list.rows, list.parent))),
    }
}

/// Brings all documents to what the rules say: lists that are not made are made, fields of lists that no rule makes any
/// more are taken out. Nothing else writes meanwhile.
///
/// # Errors
/// [`crate::error::Class::Fenced`] if the epoch was raised meanwhile; `Fatal` for a document that becomes too large.
pub async fn ready(client: &Client, mine: Mine<'_>, lists: &[EmbeddedList]) -> Result<()> {
    if !bookkeeping::stands(client).await? {
        return Ok(());
    }
    let noted = noted(client, mine.name).await?;
    let now = |old: &EmbeddedList| lists.iter().find(|l| l.parent == old.parent && l.field == old.field);
    for (old, _) in &noted {
        if now(old).is_none() {
            give_up(client, mine, old).await?;
        }
    }
    for list in lists {
        let same = |old: &EmbeddedList| EmbeddedList { waits: list.waits, stays: list.stays, ..old.clone() } == *list;
        let before = noted.iter().find(|(old, _)| old.parent == list.parent && old.field == list.field);
        match before {
            Some((old, true)) if old == list => {}
            Some((old, true)) if same(old) => note(client, mine, list, true).await?,
            _ => {
                note(client, mine, list, false).await?;
                make(client, mine, list).await?;
                faults::point("lists.made");
                note(client, mine, list, true).await?;
                if let Some((old, _)) = before.filter(|(old, _)| old.rows != list.rows) {
                    drop_if_empty(client, old).await?;
                }
            }
        }
    }
    Ok(())
}

/// The rows' collection of a list that is no more, unless something is in it.
async fn drop_if_empty(client: &Client, list: &EmbeddedList) -> Result<()> {
    let doing = format!("dropping the empty collection {}", list.rows);
    if list.stays || !is_empty(client, &list.rows, &doing).await? {
        return Ok(());
    }
    drop_rows(client, list, &doing).await
}

async fn drop_rows(client: &Client, list: &EmbeddedList, doing: &str) -> Result<()> {
    match run(client, &list.rows.schema, doing, doc! { "drop": &list.rows.name, "writeConcern": majority() }).await {
        // Gone already.
        Err(e) if e.code() != Some("26") => Err(e),
        _ => Ok(()),
    }
}

async fn give_up(client: &Client, mine: Mine<'_>, list: &EmbeddedList) -> Result<()> {
    let mut unset = Document::new();
    unset.insert(list.field.clone(), "");
    change(client, mine, list, true, &doc! { "$unset": unset }).await?;
    drop_if_empty(client, list).await?;
    let gone = doc! { "delete": "lists", "deletes": [{ "q": { "_id": id_of(mine.name, list) }, "limit": 1 }] };
    fenced_writes(client, "forgetting a list", mine.name, mine.epoch, &[gone]).await.map(drop)
}

/// Changes all parents that have the field, or have it not.
async fn change(client: &Client, mine: Mine<'_>, list: &EmbeddedList, has: bool, update: &Document) -> Result<()> {
    let doing = format!("{}: preparing {} of all documents", list.parent, list.field);
    let mut reading = Session::start(client).await?;
    let mut writing = bookkeeping::listed(client, mine.name).await?;
    let mut filter = Document::new();
    filter.insert(list.field.clone(), doc! { "$exists": has });
    let done = async {
        loop {
            let find = doc! { "find": &list.parent.name, "filter": filter.clone(), "projection": { "_id": 1 } };
            let mut cursor = Cursor::open(&mut reading, &doing, &list.parent, find).await?;
            let mut any = false;
            loop {
                let found = cursor.next(&mut reading, &doing).await?;
                if found.is_empty() {
                    break;
                }
                any = true;
                let ids: Vec<Bson> = found.into_iter().filter_map(|mut d| d.remove("_id")).collect();
                for some in ids.chunks(DOCUMENTS) {
                    let command = doc! { "update": &list.parent.name,
                    "updates": [{ "q": { "_id": { "$in": some } }, "u": update.clone(), "multi": true }] };
                    let raw = RawDocumentBuf::try_from(&command)
                        .map_err(|e| Error::fatal(format!("{doing}: the command cannot be written: {e}")))?;
                    let w = transact(&mut writing, mine, &doing, &list.parent.schema, &raw).await?;
                    if let Some(r) = &w.refused {
                        return Err(super::session::refused(&doing, r));
                    }
                }
            }
            if !any {
                return Ok(());
            }
        }
    }
    .await;
    if done.is_err() {
        writing.abort().await;
    }
    bookkeeping::unlist(writing).await;
    done
}

/// Runs a write command in a transaction that only the daemon of this epoch can commit; again where it lost against
/// something else. What is refused is not committed.
async fn transact(
    s: &mut Session,
    mine: Mine<'_>,
    doing: &str,
    database: &str,
    command: &RawDocumentBuf,
) -> Result<Written> {
    let mut tries = 0;
    loop {
        let once = async {
            s.begin(Durable::Later).await?;
            let w = command::written(&s.raw(doing, database, command.clone()).await?);
            if w.refused.is_none() {
                hold(s, doing, mine.name, mine.epoch).await?;
                s.commit(doing).await?;
            }
            Ok::<_, Error>(w)
        }
        .await;
        match once {
            Err(e) if e.is_conflict() && tries < RETRIES => {
                s.abort().await;
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10 << tries)).await;
            }
            done => return done,
        }
    }
}

/// The index by which a parent's rows are found in the list's order.
async fn index(client: &Client, f: &Fitted) -> Result<()> {
    let rows = &f.list.rows;
    let doing = format!("making the index of {rows} that finds the rows of a list");
    let spec = doc! { "key": f.sorted(), "name": "switchyard_list" };
    let command = doc! { "createIndexes": &rows.name, "indexes": [spec.clone()], "writeConcern": majority() };
    let db = client.database(&rows.schema);
    let made = finished_within(INDEX_PATIENCE, &doing, async move { db.run_command(command).await }).await;
    match made {
        // Another list's, of former rules.
        Err(e) if matches!(e.code(), Some("85" | "86")) => {
            let there = catalog::indexes(client, rows).await?;
            if there.iter().any(|d| d.get_document("key").ok() == Some(&f.sorted())) {
                return Ok(());
            }
            run(client, &rows.schema, &doing, doc! { "dropIndexes": &rows.name, "index": "switchyard_list" }).await?;
            let command = doc! { "createIndexes": &rows.name, "indexes": [spec], "writeConcern": majority() };
            let db = client.database(&rows.schema);
            finished_within(INDEX_PATIENCE, &doing, async move { db.run_command(command).await }).await.map(drop)
        }
        made => made.map(drop),
    }
}

/// Makes one list of all documents.
async fn make(client: &Client, mine: Mine<'_>, list: &EmbeddedList) -> Result<()> {
    let f = fitted(client, mine.name, list).await?;
    index(client, &f).await?;
    // Lists of a former copy may have lost all their rows.
    let mut unset = Document::new();
    unset.insert(list.field.clone(), "");
    change(client, mine, list, true, &doc! { "$unset": unset }).await?;
    let doing = format!("{}: making {} of all documents", list.parent, list.field);
    let mut reading = Session::start(client).await?;
    let mut writing = bookkeeping::listed(client, mine.name).await?;
    let done = async {
        let find = doc! { "find": &list.rows.name, "sort": f.sorted(), "allowDiskUse": true };
        let mut cursor = Cursor::open(&mut reading, &doing, &list.rows, find).await?;
        let mut setting = Setting::new(&f);
        loop {
            let rows = cursor.next(&mut reading, &doing).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                setting.row(row)?;
                if setting.is_full() {
                    faults::point("lists.before_piece");
                    send(&mut writing, mine, &doing, &list.parent.schema, &mut setting).await?;
                }
            }
        }
        setting.end()?;
        send(&mut writing, mine, &doing, &list.parent.schema, &mut setting).await
    }
    .await;
    if done.is_err() {
        writing.abort().await;
    }
    bookkeeping::unlist(writing).await;
    done?;
    let mut empty = Document::new();
    empty.insert(list.field.clone(), Bson::Array(Vec::new()));
    change(client, mine, list, false, &doc! { "$set": empty }).await
}

async fn send(s: &mut Session, mine: Mine<'_>, doing: &str, database: &str, setting: &mut Setting<'_>) -> Result<()> {
    let Some((command, keys)) = setting.command()? else { return Ok(()) };
    let w = transact(s, mine, doing, database, &command).await?;
    setting.judge(doing, &w, &keys)
}

/// Looks for rows without a document, once the target is consistent. Gives back warnings.
///
/// # Errors
/// `Fatal` where there are some and may not wait.
pub async fn consistent(client: &Client, name: &str, lists: &[EmbeddedList]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for list in lists {
        let f = fitted(client, name, list).await?;
        let keys = absent(client, &f).await?;
        if keys.is_empty() {
            continue;
        }
        if !list.waits {
            let keys: Vec<Bson> = keys.into_iter().filter(|k| !is_null(k)).collect();
            return Err(match keys.is_empty() {
                true => without_parent(&f, &[], &[Bson::Null]),
                false => without_parent(&f, &keys, &[]),
            });
        }
        let shown: Vec<String> = keys.iter().map(trouble::plain).collect();
        warnings.push(format!(
            "{} has rows whose document in {} is not there, and which wait for it: _id {}",
            list.rows,
            list.parent,
            shown.join(", ")
        ));
    }
    Ok(warnings)
}

fn is_null(key: &Bson) -> bool {
    match key {
        Bson::Document(d) => d.values().any(|v| *v == Bson::Null),
        other => *other == Bson::Null,
    }
}

/// Some keys of documents that rows refer to and that are not there.
async fn absent(client: &Client, f: &Fitted) -> Result<Vec<Bson>> {
    let rows = &f.list.rows;
    let doing = format!("{rows}: looking for rows without a document");
    let command =
        doc! { "aggregate": &rows.name, "pipeline": f.without_parents(SHOWN), "cursor": {}, "allowDiskUse": true };
    let db = client.database(&rows.schema);
    let reply = finished_within(INDEX_PATIENCE, &doing, async move { db.run_command(command).await }).await?;
    Ok(first_batch(&reply).filter_map(|d| d.get("_id").cloned()).collect())
}

/// What is done with the rows' collections when the migration is finished: they go, but where a rule names them, or where
/// a row of them is in no document. `whole`: the copy is complete.
///
/// # Errors
/// The server's own.
pub async fn finish(client: &Client, name: &str, whole: bool) -> Result<Vec<String>> {
    let mut said = Vec::new();
    if !bookkeeping::stands(client).await? {
        return Ok(said);
    }
    for (list, made) in noted(client, name).await? {
        let EmbeddedList { rows, parent, field, .. } = &list;
        if list.stays {
            said.push(format!("{rows} stays, as the rule names it: its rows are also {field} of {parent}"));
            continue;
        }
        if !whole || !made {
            said.push(format!("{rows} stays: not all of its rows are in documents of {parent}"));
            continue;
        }
        let there = catalog::tables(client, name, std::slice::from_ref(rows)).await?;
        if there.first().is_none_or(Option::is_none) {
            continue;
        }
        let f = fitted(client, name, &list).await?;
        if !absent(client, &f).await?.is_empty() {
            said.push(format!("{rows} stays: it has rows that are in no document of {parent}"));
            continue;
        }
        drop_rows(client, &list, &format!("dropping {rows}")).await?;
        said.push(format!("dropped {rows}: its rows are {field} of {parent}"));
    }
    Ok(said)
}
