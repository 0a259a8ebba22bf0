//! A logical replication stream: slot commands, and the loop that turns pgoutput messages into [`Event`]s.
//!
//! Source: PostgreSQL manual, "Streaming Replication Protocol" and "Logical Streaming Replication Protocol".
//! The server resends whole transactions whose commit ends after the place that was confirmed, so nothing is ever
//! skipped row by row here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pgoutput::{self, Message, Relation};
use super::walsender::{Frame, Wire};
use crate::change::{Begin, Change, Commit, Ddl, Event, Micros, Op, Parcel};
use crate::error::{Error, Result, ResultExt};
use crate::pgwire::conn::{PgConn, Purpose};
use crate::pgwire::conninfo::ConnInfo;
use crate::pgwire::quote::{literal, quoted};
use crate::position::{Lsn, Position};
use crate::schema::{Table, TableId};
use crate::source::queue::EventSender;
use crate::value::Row;

/// A parcel is sent when it holds this much, or when nothing more was read.
const PARCEL: usize = 128 * 1024;
/// Heartbeats that nobody asked for come at most this often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(100);
/// A server under load may be silent for a while, however impatient it is with us.
const LEAST_SILENCE: Duration = Duration::from_secs(20);
/// How long the server may take to agree to the end of the stream.
const GOODBYE: Duration = Duration::from_secs(2);
/// Logical messages of ours, and those of the DDL trigger.
const PREFIX: &str = "switchyard";
const DDL_PREFIX: &str = "switchyard.ddl";

/// Finds the table that the log speaks of. It may look into the catalog meanwhile: keepalives are answered.
pub trait RelationResolver: Send {
    /// The table as it is from here on. Its columns correspond to the relation's, one to one, in order.
    fn resolve<'a>(&'a mut self, relation: &'a Relation) -> BoxFuture<'a, Result<Arc<Table>>>;
    /// The schema change that the DDL trigger described; `None` if it concerns nobody.
    fn ddl<'a>(&'a mut self, json: &'a [u8]) -> BoxFuture<'a, Result<Option<Ddl>>>;
}

/// What `IDENTIFY_SYSTEM` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// `system_identifier`.
    pub system_id: String,
    /// The timeline.
    pub timeline: u32,
    /// The log's end.
    pub end: Lsn,
}

/// What comes of creating a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Changes from here on are sent.
    pub consistent_point: Lsn,
    /// The exported snapshot's name; it lives until the connection's next command.
    pub snapshot: Option<String>,
}

/// A walsender connection.
#[derive(Debug)]
pub struct ReplicationStream {
    conn: PgConn,
    interval: Duration,
    /// What the caller asked for.
    silence_wanted: Option<Duration>,
    silence_limit: Duration,
}

impl ReplicationStream {
    /// Connects. `who` is the side in messages.
    pub async fn connect(info: &ConnInfo, who: &str) -> Result<Self> {
        let conn = PgConn::connect(info, who, Purpose::Replication).await.map_err(|e| match e.code() {
            Some("42501" | "28000") => e.hint("grant it: ALTER ROLE … REPLICATION, and a line for it in pg_hba.conf"),
            _ => e,
        })?;
        let (interval, silence_limit) = (Duration::from_secs(5), Duration::from_secs(60));
        Ok(ReplicationStream { conn, interval, silence_wanted: None, silence_limit })
    }

    /// Nothing from the server for so long means that the connection is dead (at least `wal_sender_timeout` is waited
    /// for). If nobody says otherwise it is that timeout, but not less than 20 s; 60 s where it is switched off.
    pub fn silence_limit(mut self, limit: Duration) -> Self {
        self.silence_limit = limit;
        self.silence_wanted = Some(limit);
        self
    }

    /// The connection, for SQL before the stream starts.
    pub fn conn(&mut self) -> &mut PgConn {
        &mut self.conn
    }

    /// Which server and which history this is.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let rows = self.conn.simple_query("IDENTIFY_SYSTEM").await?;
        let field = |n: usize| rows.first().and_then(|r| r.get(n)).and_then(|v| v.as_deref());
        match (field(0), field(1).and_then(|t| t.parse().ok()), field(2).and_then(|l| l.parse().ok())) {
            (Some(id), Some(timeline), Some(end)) => Ok(SystemIdentity { system_id: id.to_owned(), timeline, end }),
            _ => Err(Error::fatal(format!("{}: IDENTIFY_SYSTEM has an answer of unknown form", self.conn.name()))),
        }
    }

    /// Creates a logical slot for pgoutput. Waits for the transactions that run at the server. With `export`, the
    /// snapshot of the slot's start can be imported by others until this connection's next command.
    pub async fn create_slot(&mut self, name: &str, temporary: bool, export: bool) -> Result<CreatedSlot> {
        // The options in parentheses are of 15; 14 knows keywords only.
        let options = match (self.conn.server_major() >= 15, export) {
            (true, true) => "(SNAPSHOT 'export')",
            (true, false) => "(SNAPSHOT 'nothing')",
            (false, true) => "EXPORT_SNAPSHOT",
            (false, false) => "NOEXPORT_SNAPSHOT",
        };
        let temporary = if temporary { " TEMPORARY" } else { "" };
        let command = format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput {options}", quoted(name));
        let doing = || format!("creating the replication slot {name}");
        let rows = self.conn.simple_query(&command).await.with_context(doing)?;
        let field = |n: usize| rows.first().and_then(|r| r.get(n)).and_then(|v| v.as_deref());
        match field(1).and_then(|l| l.parse().ok()) {
            Some(consistent_point) => Ok(CreatedSlot { consistent_point, snapshot: field(2).map(str::to_owned) }),
            None => Err(Error::fatal(format!("{}: the answer has an unknown form", doing()))),
        }
    }

    /// Drops a slot, waiting until nobody uses it.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        let command = format!("DROP_REPLICATION_SLOT {} WAIT", quoted(name));
        self.conn.execute(&command).await.with_context(|| format!("dropping the replication slot {name}"))
    }

    /// Starts streaming what was committed after `from`.
    pub async fn start(&mut self, slot: &str, from: Lsn, publication: &str) -> Result<()> {
        let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = self.conn.simple_query(sql).await?;
        let setting = rows.first().and_then(|r| r.first()).and_then(|v| v.as_deref()).and_then(|v| v.parse().ok());
        if let Some(millis @ 1..) = setting {
            let timeout = Duration::from_millis(millis);
            self.interval = self.interval.min(timeout / 3);
            self.silence_limit = self.silence_wanted.unwrap_or(LEAST_SILENCE).max(timeout);
        }
        // The replication grammar has no E'…': names of ours hold no backslash.
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, messages 'true')",
            quoted(slot),
            literal(&quoted(publication)),
        );
        self.conn
            .start_copy_both(&command)
            .await
            .with_context(|| format!("streaming from the replication slot {slot} at {from}"))
    }

    /// Streams into `out` until nobody listens (Ok) or the connection fails (`Retry`). Tells the server what
    /// `confirmed` says and never anything later. Call [`ReplicationStream::start`] first.
    pub async fn run(
        self,
        resolver: &mut dyn RelationResolver,
        out: EventSender,
        confirmed: watch::Receiver<Position>,
    ) -> Result<()> {
        let mut wire = Wire::new(self.conn, confirmed);
        wire.interval = self.interval;
        wire.silence_limit = self.silence_limit;
        let mut translator = Translator::new(resolver);
        loop {
            let mut parcel = Parcel::default();
            while parcel.bytes < PARCEL {
                match wire.next_frame()? {
                    None => break,
                    Some(Frame::Data(frame)) => {
                        let message = pgoutput::decode(frame)?;
                        if let Some(message) = translator.row(message, &mut parcel)? {
                            // Boxed, so that the rows' path does not carry its state about.
                            wire.wait(Box::pin(translator.other(message, &mut parcel))).await??;
                        }
                    }
                    Some(Frame::Keepalive { end, at, urgent }) => translator.keepalive(end, at, urgent, &mut parcel),
                }
            }
            wire.wake_at = translator.heartbeat_due(&mut parcel);
            if !parcel.events.is_empty() {
                if wire.wait(out.send(parcel)).await?.is_err() {
                    break;
                }
                continue;
            }
            tokio::select! {
                biased;
                stepped = wire.step() => stepped?,
                () = out.closed() => break,
            }
        }
        wire.finish(GOODBYE).await;
        Ok(())
    }
}

/// Messages to events, with what must be remembered between them.
struct Translator<'r> {
    resolver: &'r mut dyn RelationResolver,
    tables: FxHashMap<u32, Known>,
    /// Between Begin and Commit.
    open: bool,
    last_heartbeat: Option<Instant>,
    /// A heartbeat that came too soon after another; said later unless something else says more.
    held_back: Option<(Lsn, Micros)>,
}

/// A table of the log.
struct Known {
    id: TableId,
    columns: usize,
    table: Arc<Table>,
}

impl<'r> Translator<'r> {
    fn new(resolver: &'r mut dyn RelationResolver) -> Self {
        Translator { resolver, tables: FxHashMap::default(), open: false, last_heartbeat: None, held_back: None }
    }

    /// What most messages are; gives back the ones that may have to wait for the catalog.
    #[inline]
    fn row(&mut self, message: Message, parcel: &mut Parcel) -> Result<Option<Message>> {
        let (relation, op, old, new) = match message {
            Message::Insert { relation, new } => (relation, Op::Insert, None, Some(new)),
            Message::Update { relation, old, new } => (relation, Op::Update, old, Some(new)),
            Message::Delete { relation, old } => (relation, Op::Delete, Some(old), None),
            Message::Begin { final_lsn, committed_at, xid } => {
                self.open = true;
                // Its commit will say more.
                self.held_back = None;
                let commit_start = Position::Lsn(final_lsn);
                parcel.push(Event::Begin(Begin { commit_start, committed_at, xid: xid.into(), gtid: None }));
                return Ok(None);
            }
            Message::Commit { end_lsn, committed_at, .. } => {
                self.open = false;
                parcel.push(Event::Commit(Commit { end: Position::Lsn(end_lsn), committed_at }));
                return Ok(None);
            }
            other => return Ok(Some(other)),
        };
        let known = self.known(relation)?;
        let fits = |row: &Option<Row>| row.as_ref().is_none_or(|r| r.len() == known.columns);
        if !fits(&old) || !fits(&new) {
            return Err(Error::fatal(format!(
                "a row of {} has another number of columns than the table",
                known.table.name
            )));
        }
        parcel.push(Event::Change(Change { table: known.id, op, old, new }));
        Ok(None)
    }

    /// Everything else.
    async fn other(&mut self, message: Message, parcel: &mut Parcel) -> Result<()> {
        match message {
            Message::Relation(relation) => {
                let table = self.resolver.resolve(&relation).await?;
                check_columns(&relation, &table)?;
                // The server repeats itself whenever its cache was invalidated; only news is passed on.
                if self.tables.get(&relation.oid).is_none_or(|known| known.table != table) {
                    parcel.push(Event::Schema(table.clone()));
                }
                self.tables.insert(relation.oid, Known { id: table.id, columns: table.columns.len(), table });
            }
            Message::Truncate { relations, restart_identity, .. } => {
                let tables = relations.iter().map(|r| self.known(*r).map(|k| k.id)).collect::<Result<_>>()?;
                parcel.push(Event::Truncate { tables, restart_identity });
            }
            Message::Logical { lsn, prefix, content, .. } => {
                let event = match prefix.as_str() {
                    PREFIX => marker(&content).map(|token| Event::Marker { token }),
                    DDL_PREFIX => self.resolver.ddl(&content).await?.map(|ddl| Event::Ddl(Box::new(ddl))),
                    _ => None,
                };
                match event {
                    Some(event) if self.open => parcel.push(event),
                    // Outside of any transaction: it gets one of its own, which ends where the message lies.
                    Some(event) => {
                        let (commit_start, end, committed_at) = (Position::Lsn(lsn), Position::Lsn(lsn), now());
                        self.held_back = None;
                        parcel.push(Event::Begin(Begin { commit_start, committed_at, xid: 0, gtid: None }));
                        parcel.push(event);
                        parcel.push(Event::Commit(Commit { end, committed_at }));
                    }
                    None => {}
                }
            }
            // Rows and borders of transactions were dealt with; types and origins say nothing that is needed.
            _ => {}
        }
        Ok(())
    }

    fn known(&self, relation: u32) -> Result<&Known> {
        self.tables.get(&relation).ok_or_else(|| {
            Error::fatal(format!("the log holds a change of relation {relation}, which it did not describe before"))
        })
    }

    fn keepalive(&mut self, end: Lsn, at: Micros, urgent: bool, parcel: &mut Parcel) {
        if self.open {
            return;
        }
        let soon = self.last_heartbeat.is_some_and(|last| last.elapsed() < HEARTBEAT_EVERY);
        if soon && !urgent {
            self.held_back = Some((end, at));
        } else {
            self.say(end, at, parcel);
        }
    }

    fn say(&mut self, end: Lsn, at: Micros, parcel: &mut Parcel) {
        self.held_back = None;
        self.last_heartbeat = Some(Instant::now());
        parcel.push(Event::Heartbeat { position: Position::Lsn(end), at });
    }

    /// Says the heartbeat that was held back, if it is time; else when it will be.
    fn heartbeat_due(&mut self, parcel: &mut Parcel) -> Option<Instant> {
        let (end, at) = self.held_back?;
        let due = self.last_heartbeat.map(|last| last + HEARTBEAT_EVERY);
        match due {
            Some(due) if due > Instant::now() => Some(due),
            _ => {
                self.say(end, at, parcel);
                None
            }
        }
    }
}

/// The resolver's promise, looked after: rows are read by position.
fn check_columns(relation: &Relation, table: &Table) -> Result<()> {
    let ours = table.columns.iter().map(|c| c.name.as_str());
    if ours.eq(relation.columns.iter().map(|c| c.name.as_str())) {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "table {}: the log has the columns ({}), the catalog ({})",
        table.name,
        relation.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
    ))
    .hint("the table was changed while rows written before the change were still to be read"))
}

/// The token in `{"marker":"token"}`. Anything else under our prefix is of another version: ignored.
fn marker(content: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Content {
        marker: String,
    }
    match serde_json::from_slice::<Content>(content) {
        Ok(content) => Some(content.marker),
        Err(_) => {
            tracing::warn!("a logical message with our prefix is no marker; it is ignored");
            None
        }
    }
}

/// For what has no time of its own on the wire.
fn now() -> Micros {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
