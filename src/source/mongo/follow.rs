//! What a change stream's events mean: transactions, rows, tables that come and go. Pure.
//!
//! An update's event says which fields changed, not what the document is. Where the server keeps post-images, they come with the
//! event; else the caller looks the document up, and it may be newer than the event, or gone. Both are harmless, also where
//! apply is strict:
//!
//! - *gone*: the update is left out. Its delete is behind it in the stream, and finds the row that an earlier event left.
//! - *newer*: the row takes a later state early, and every event up to that state is still to come. An update finds its row,
//!   since nothing before it removed it. A delete that follows finds it, too; and an insert after that delete finds none,
//!   because the delete came first. No event is left out but updates, so each insert still meets no row, and each delete one.
//!
//! What a newer state can break is a *unique* field: it may hold a value that another row gives up only by a later event. Where
//! the target has unique constraints besides the key, the collection wants post-images.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{Kind, Seen};
use super::known::{Described, Known};
use super::token::Time;
use crate::change::{Begin, Change, Commit, Ddl, DdlEffect, Event, Op, Parcel};
use crate::documents::cursor::{Doc, Malformed, Value};
use crate::error::{Error, Result};
use crate::position::{OplogPosition, Position};
use crate::schema::TableName;

/// What a lookup found of an update's document.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// None was needed.
    NotAsked,
    /// It is this now.
    Found(Doc<'a>),
    /// It is not there any more.
    Gone,
}

/// A collection that events speak of.
struct Entry {
    described: Described,
    /// Whether the stream has described its table since it began.
    announced: bool,
    /// Whether the target was told of it, or had it from the start.
    made: bool,
}

/// A transaction whose end was not seen yet.
struct Open {
    time: Time,
    committed_at: i64,
    token: String,
}

/// See the module.
pub struct Follower {
    known: Known,
    /// By database and collection. `None` for those that do not take part.
    tables: HashMap<String, HashMap<String, Option<Entry>>>,
    /// Tables whose old rows rules need whole.
    whole_rows: Arc<[TableName]>,
    markers: (String, String),
    open: Option<Open>,
    /// Events up to this one were seen before.
    passed: Option<String>,
    /// Events up to this time were seen before, or are in the copy.
    passed_time: Time,
    /// What was said last.
    position: OplogPosition,
    said: Vec<String>,
}

impl Follower {
    /// A follower of the stream behind `from`. `tables` are there by now; `tells`: the server says when a collection is made
    /// (6.0 and newer).
    pub fn new(
        known: Known,
        tables: Vec<Described>,
        whole_rows: Arc<[TableName]>,
        tells: bool,
        from: OplogPosition,
    ) -> Follower {
        let mut by_name: HashMap<String, HashMap<String, Option<Entry>>> = HashMap::new();
        for described in tables {
            let TableName { schema, name } = described.table.name.clone();
            // A server that does not tell of new collections may have made this one while nobody followed.
            let entry = Entry { described, announced: false, made: tells };
            by_name.entry(schema).or_default().insert(name, Some(entry));
        }
        let (database, collection) = known.markers();
        let markers = (database.to_owned(), collection.to_owned());
        Follower {
            known,
            tables: by_name,
            whole_rows,
            markers,
            open: None,
            passed: None,
            passed_time: Time::default(),
            position: from,
            said: Vec::new(),
        }
    }

    /// Leaves out events up to the place where the follower stands: the stream begins before it, because its token could
    /// not be found again.
    pub fn pass_what_was_seen(&mut self) {
        self.passed = self.position.token.as_deref().map(str::to_owned);
    }

    /// Leaves out events up to this time, too.
    pub fn pass_until(&mut self, time: Time) {
        self.passed_time = time;
    }

    /// Whether a transaction of this time is left out.
    pub fn has_passed(&self, time: Time) -> bool {
        time <= self.passed_time
    }

    /// Where the next stream has to begin: behind everything that was said.
    pub fn position(&self) -> &OplogPosition {
        &self.position
    }

    /// What people should know, since it was asked last.
    pub fn said(&mut self) -> std::vec::Drain<'_, String> {
        self.said.drain(..)
    }

    /// Whether the event's document has to be looked up.
    pub fn asks(&self, seen: &Seen<'_>) -> bool {
        let asks = seen.kind == Kind::Update && seen.full.is_none();
        asks && !self.was_seen(seen) && self.known.selects(seen.database, seen.collection)
    }

    /// Bytes of a document of the collection, on average; 0 if unknown.
    pub fn document_bytes(&self, seen: &Seen<'_>) -> u64 {
        let entry = self.tables.get(seen.database).and_then(|t| t.get(seen.collection)).and_then(Option::as_ref);
        entry.map_or(0, |e| e.described.document_bytes)
    }

    fn was_seen(&self, seen: &Seen<'_>) -> bool {
        // Tokens are key strings: their digits sort as the stream does.
        self.has_passed(seen.time) || self.passed.as_deref().is_some_and(|passed| seen.token <= passed)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// `Fatal` for what cannot be followed.
    pub fn event(&mut self, seen: &Seen<'_>, lookup: Lookup<'_>, parcel: &mut Parcel) -> Result<()> {
        if self.was_seen(seen) {
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|o| o.time != seen.time || !seen.in_transaction) {
            self.close(parcel);
        }
        let marker = (seen.database, seen.collection) == (self.markers.0.as_str(), self.markers.1.as_str());
        if marker {
            if let (Kind::Insert, Some(full)) = (seen.kind, seen.full)
                && let Some(Value::String(token)) = full.get("token").map_err(|e| broken(seen, e))?
            {
                let token = String::from_utf8_lossy(token).into_owned();
                self.begin(seen, parcel);
                parcel.push(Event::Marker { token });
            }
        } else {
            match seen.kind {
                Kind::Insert | Kind::Update | Kind::Replace | Kind::Delete => self.row(seen, lookup, parcel)?,
                Kind::Create => self.created(seen, parcel)?,
                Kind::Drop => self.dropped(seen, parcel),
                Kind::Rename => self.renamed(seen)?,
                // Its collections were dropped one by one before.
                Kind::DropDatabase | Kind::Invalidate => {}
                Kind::Other(what) => self.other(seen, what, parcel),
                Kind::Unsaid(what) => self.unsaid(seen, what)?,
            }
        }
        match &mut self.open {
            Some(open) => {
                open.token.clear();
                open.token.push_str(seen.token);
                if !seen.in_transaction {
                    self.close(parcel);
                }
            }
            None => self.position = seen.time.with_token(seen.token),
        }
        Ok(())
    }

    /// The stream has said everything up to `token`. `idle`: and it holds nothing back that belongs to what it said last.
    pub fn reached(&mut self, token: &str, idle: bool, now: i64, parcel: &mut Parcel) {
        let Some(time) = super::token::time_of(token) else { return };
        if self.open.as_ref().is_some_and(|o| idle || time > o.time) {
            self.close(parcel);
        }
        let behind = self.passed.as_deref().is_some_and(|p| token <= p);
        let moved = self.position.token.as_deref() != Some(token) && time >= Time::from(&self.position);
        if self.open.is_none() && !behind && (moved || idle) {
            if moved {
                self.position = time.with_token(token);
            }
            parcel.push(Event::Heartbeat { position: Position::Oplog(self.position.clone()), at: now });
        }
    }

    /// Everything up to `time` was said; for a reader of the oplog itself, which has no tokens.
    pub fn through(&mut self, time: Time, parcel: &mut Parcel) {
        self.close(parcel);
        if time > Time::from(&self.position) {
            self.position = time.position();
        }
    }

    /// Hands the source's clock on, unless a transaction is open.
    pub fn beat(&self, now: i64, parcel: &mut Parcel) {
        if self.open.is_none() {
            parcel.push(Event::Heartbeat { position: Position::Oplog(self.position.clone()), at: now });
        }
    }

    /// Everything was said that there is.
    pub fn level(&self, now: i64, parcel: &mut Parcel) {
        if self.position.token.is_some() {
            self.beat(now, parcel);
        }
    }

    /// Whether a transaction was begun whose end nobody has seen.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn begin(&mut self, seen: &Seen<'_>, parcel: &mut Parcel) {
        if self.open.is_some() {
            return;
        }
        let committed_at = seen.wall.map_or_else(|| seen.time.micros(), |ms| ms.saturating_mul(1000));
        self.open = Some(Open { time: seen.time, committed_at, token: String::with_capacity(seen.token.len()) });
        parcel.push(Event::Begin(Begin {
            commit_start: Position::Oplog(seen.time.position()),
            committed_at,
            xid: seen.time.0,
            gtid: None,
        }));
    }

    fn close(&mut self, parcel: &mut Parcel) {
        let Some(open) = self.open.take() else { return };
        self.position = open.time.with_token(&open.token);
        let end = Position::Oplog(self.position.clone());
        parcel.push(Event::Commit(Commit { end, committed_at: open.committed_at }));
    }

    /// The collection of an event, described when it is met first; `None` if it does not take part.
    fn entry(&mut self, database: &str, collection: &str) -> Result<Option<&mut Entry>> {
        // Two lookups, because a borrow that is given back conditionally would last to the end.
        let known = self.tables.get(database).is_some_and(|t| t.contains_key(collection));
        if !known {
            let entry = match self.known.selects(database, collection) {
                false => None,
                true => {
                    let name = TableName::new(database, collection);
                    let described = self.known.describe(&name, &bson::Document::new(), String::new())?;
                    Some(Entry { described, announced: false, made: false })
                }
            };
            self.tables.entry(database.to_owned()).or_default().insert(collection.to_owned(), entry);
        }
        Ok(self.tables.get_mut(database).and_then(|t| t.get_mut(collection)).and_then(Option::as_mut))
    }

    fn row(&mut self, seen: &Seen<'_>, lookup: Lookup<'_>, parcel: &mut Parcel) -> Result<()> {
        if self.entry(seen.database, seen.collection)?.is_none() {
            return Ok(());
        }
        let op = match seen.kind {
            Kind::Insert => Op::Insert,
            Kind::Delete => Op::Delete,
            _ => Op::Update,
        };
        let document = match (op, seen.full, lookup) {
            (Op::Delete, ..) => None,
            (_, Some(full), _) => Some(full),
            (_, None, Lookup::Found(found)) => Some(found),
            // Its delete follows: see the module.
            (Op::Update, None, Lookup::Gone) => return Ok(()),
            (_, None, _) => return Err(broken(seen, Malformed("an event without its document"))),
        };
        self.begin(seen, parcel);
        let whole_rows = self.whole_rows.clone();
        let Some(entry) = self.entry(seen.database, seen.collection)? else { return Ok(()) };
        entry.announce(parcel);
        let Entry { described: d, .. } = entry;
        let table = &d.table;
        let id = seen.id().map_err(|e| broken(seen, e))?;
        let refused = |document, misfit| Event::Refused(Box::new(d.mapping.refused(table.id, op, document, &misfit)));
        let new = match document.map(|document| d.mapping.row(document).map_err(|e| (document, e))).transpose() {
            Ok(new) => new,
            Err((document, misfit)) => {
                parcel.push(refused(document, misfit));
                return Ok(());
            }
        };
        let before = seen.before.filter(|_| table.full_old_rows && op != Op::Insert);
        if before.is_none() && table.full_old_rows && op != Op::Insert && whole_rows.contains(&table.name) {
            return Err(Error::fatal(format!(
                "{}: the source has no image of a document from before its change, and rules need it ({})",
                table.name,
                seen.document()
            ))
            .with_code("switchyard:pre_image")
            .hint("images expire (changeStreamOptions.preAndPostImages.expireAfterSeconds), and there are none from before they were turned on: copy the migration anew"));
        }
        // An image that does not fit belongs to a row that was refused.
        let old = before.and_then(|before| d.mapping.row(before).ok());
        let old = match (op, old) {
            (_, Some(old)) => Some(old),
            (Op::Delete, None) => match (d.mapping.key_row(&id), seen.key) {
                (Ok(key), _) => Some(key),
                (Err(misfit), Some(key)) => {
                    parcel.push(refused(key, misfit));
                    return Ok(());
                }
                (Err(_), None) => return Ok(()),
            },
            (_, None) => None,
        };
        parcel.push(Event::Change(Change { table: table.id, op, old, new }));
        Ok(())
    }

    fn created(&mut self, seen: &Seen<'_>, parcel: &mut Parcel) -> Result<()> {
        if !self.known.selects(seen.database, seen.collection) {
            return Ok(());
        }
        let name = TableName::new(seen.database, seen.collection);
        let options = seen.description.and_then(|d| bson::Document::from_reader(d.bytes()).ok()).unwrap_or_default();
        if let Ok(view_on) = options.get_str("viewOn") {
            if view_on.starts_with("system.buckets.") {
                return Err(Error::fatal(format!(
                    "{name}: a time-series collection was made, and no change stream shows what is in it"
                ))
                .with_code("switchyard:ddl")
                .hint("leave it out with tables.exclude and start again"));
            }
            self.said.push(format!("view {name} was made at the source and is not brought to the target"));
            return Ok(());
        }
        // Whoever has it from before (a copy, an earlier run) takes this for what is already so.
        let described = self.known.describe(&name, &options, String::new())?;
        self.begin(seen, parcel);
        let mut entry = Entry { described, announced: false, made: false };
        entry.make(parcel);
        self.tables.entry(name.schema).or_default().insert(name.name, Some(entry));
        Ok(())
    }

    fn dropped(&mut self, seen: &Seen<'_>, parcel: &mut Parcel) {
        if !self.known.selects(seen.database, seen.collection) {
            return;
        }
        let table = TableName::new(seen.database, seen.collection);
        self.begin(seen, parcel);
        parcel.push(ddl("drop", &table, DdlEffect::Dropped { table: table.clone() }));
        if let Some(tables) = self.tables.get_mut(seen.database) {
            tables.remove(seen.collection);
        }
    }

    fn renamed(&mut self, seen: &Seen<'_>) -> Result<()> {
        let Some((database, collection)) = seen.to else { return Ok(()) };
        let from = self.known.selects(seen.database, seen.collection);
        let to = self.known.selects(database, collection);
        if !from && !to {
            return Ok(());
        }
        let (old, new) = (TableName::new(seen.database, seen.collection), TableName::new(database, collection));
        let what = match (from, to) {
            (true, false) => format!("{old} was renamed to {new} at the source, which takes no part"),
            (false, true) => {
                format!(
                    "{new} became another collection at the source ({old} was renamed to it, as $out does): its documents are in no event"
                )
            }
            _ => format!("{old} was renamed to {new} at the source"),
        };
        Err(Error::fatal(what).with_code("switchyard:ddl").hint(format!(
            "leave out what takes no part any more with tables.exclude (for example {old}, {new}) and start again; to have {new} on the target, begin anew: `switchyard finish`, empty the target's tables, run"
        )))
    }

    fn unsaid(&self, seen: &Seen<'_>, what: &str) -> Result<()> {
        if !self.known.selects(seen.database, seen.collection) {
            return Ok(());
        }
        let name = TableName::new(seen.database, seen.collection);
        Err(Error::fatal(format!("{name}: the source ran {what}, and no entry of its oplog says what that did to documents"))
            .with_code("switchyard:ddl")
            .hint(format!("leave {name} out with tables.exclude and start again; to have it on the target, begin anew: `switchyard finish`, empty the target's tables, run")))
    }

    /// Indexes, options, sharding: they change no document.
    fn other(&mut self, seen: &Seen<'_>, what: &str, parcel: &mut Parcel) {
        if !self.known.selects(seen.database, seen.collection) || seen.collection.is_empty() {
            return;
        }
        let table = TableName::new(seen.database, seen.collection);
        self.begin(seen, parcel);
        parcel.push(ddl(what, &table, DdlEffect::Other));
    }
}

impl Entry {
    /// Says what the table looks like, before its first row.
    fn announce(&mut self, parcel: &mut Parcel) {
        if !self.made {
            self.make(parcel);
        }
        if !self.announced {
            self.announced = true;
            parcel.push(Event::Schema(self.described.table.clone()));
        }
    }
    fn make(&mut self, parcel: &mut Parcel) {
        self.made = true;
        let after = self.described.table.clone();
        let name = after.name.clone();
        parcel.push(ddl("create", &name, DdlEffect::Table { after, missing_values: Vec::new(), rewritten: false }));
    }
}

fn ddl(tag: &str, table: &TableName, effect: DdlEffect) -> Event {
    Event::Ddl(Box::new(Ddl {
        tag: tag.to_owned(),
        statement: format!("{tag} {table}"),
        object: table.to_string(),
        effect,
        before: None,
    }))
}

fn broken(seen: &Seen<'_>, why: Malformed) -> Error {
    let name = TableName::new(seen.database, seen.collection);
    Error::fatal(format!(
        "{name}: an event of the source's change stream at {} cannot be read: {why}",
        seen.time.position()
    ))
    .hint("this is a bug in Switchyard, or a server of a version that it does not know")
}
