//! From log events to the stream's events: which transaction, which tables, which rows. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::binlog::{
    Body, Flavour, KnownColumn, LogEvent, OldRows, Query, QueryKind, RowsEvent, Step, TableLayout, TableMap,
    TableMapEvent, TransactionTracker,
};
use super::cascade::{Acting, Cascades};
use super::columns;
use super::ddl::{self, AlterOp, Consequence, Key, Session, Stated, World};
use crate::change::{Begin, Change, Commit, DdlEffect, Event, Op, Parcel};
use crate::error::{Error, Result};
use crate::exchange::ZeroDates;
use crate::mywire::quote::printed;
use crate::mywire::types::{ColumnType, is_zero_date};
use crate::position::{BinlogPosition, Passed, Position, TransactionId};
use crate::schema::{Column, Kind, RowIdentity, Table, TableId, TableName};
use crate::transform::select::Selection;
use crate::value::{Datum, Row, RowBuilder};

/// Where markers are written.
pub const MARKERS: (&str, &str) = ("switchyard", "marker");

/// Numbers of tables within the run.
pub type Numbers = Arc<dyn Fn(&TableName) -> TableId + Send + Sync>;

/// A table with its keys.
pub type Keyed = (Arc<Table>, Vec<Key>);

/// What is known besides the log.
#[derive(Clone)]
pub struct Known {
    /// Tables that take part.
    pub selection: Selection,
    /// Their numbers.
    pub ids: Numbers,
    /// Tables whose old rows are wanted whole.
    pub whole_rows: Arc<[TableName]>,
    /// What becomes of dates that are none.
    pub zero_dates: ZeroDates,
    /// Whether the server stores names of tables in lower case.
    pub lower_case: bool,
    /// Foreign keys that change rows by themselves.
    pub cascades: Cascades,
}

/// The transaction under way.
struct Open {
    id: Option<TransactionId>,
    /// Its `Begin` was sent: something of it concerns us.
    begun: bool,
    committed_at: i64,
}

/// A table of the log.
enum Mapped {
    /// Not of the selection.
    Ignored,
    /// Where markers are written; the token's column.
    Markers(TableLayout, usize),
    /// Of the selection.
    Followed {
        layout: TableLayout,
        table: Arc<Table>,
        /// Which columns of the log's rows are the key; `None` if old rows are wanted whole.
        key: Option<Vec<usize>>,
        /// Where NULL stands for dates that are none: the columns that may hold such.
        null_dates: Vec<usize>,
    },
}

/// What the log's number stands for.
#[derive(Clone)]
struct Numbered {
    /// What the log said of the table.
    said: Bytes,
    mapped: Arc<Mapped>,
    acting: Option<Arc<Acting>>,
}

/// Follows the log.
pub struct Follower {
    known: Known,
    /// The selected tables as they are at this place of the log, as far as is known.
    tables: ddl::Known,
    /// Their keys as the catalog had them.
    keys: HashMap<TableName, Vec<Key>>,
    session: Session,
    /// What people should hear of.
    said: Vec<String>,
    /// As they were described to the stream last.
    announced: HashMap<TableName, Arc<Table>>,
    /// By the log's number.
    maps: HashMap<u64, Numbered>,
    /// Behind the last transaction.
    position: BinlogPosition,
    open: Option<Open>,
    tracker: TransactionTracker,
    /// Where the compressed transaction under way ends.
    payload_end: Option<u64>,
    /// When the last transaction committed.
    committed_at: i64,
    /// The place moved since something was sent that says so.
    moved: bool,
}

impl Follower {
    /// Goes on from `position`. `followed` are the selected tables as the catalog has them now, which may be later;
    /// `shadows` those that a tool for schema changes works on.
    pub fn new(
        known: Known,
        session: Session,
        position: BinlogPosition,
        followed: Vec<Keyed>,
        shadows: Vec<Keyed>,
    ) -> Follower {
        let mut tables = ddl::Known::new(known.lower_case);
        let mut keys = HashMap::new();
        for (table, of) in followed {
            tables.add((*table).clone(), &of);
            keys.insert(table.name.clone(), of);
        }
        for (table, of) in shadows {
            tables.add_shadow((*table).clone(), &of);
        }
        let flavour = if session.mariadb { Flavour::MariaDb } else { Flavour::MySql };
        Follower {
            known,
            tables,
            keys,
            session,
            said: Vec::new(),
            announced: HashMap::new(),
            maps: HashMap::new(),
            position,
            open: None,
            tracker: TransactionTracker::new(flavour),
            payload_end: None,
            committed_at: 0,
            moved: false,
        }
    }

    /// What people should hear of, once.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
    /// When the last transaction committed, by the source's clock; microseconds since the Unix epoch.
    pub fn committed_at(&self) -> i64 {
        self.committed_at
    }

    /// A heartbeat, if the place moved since the last one and nothing is under way.
    pub fn heartbeat(&mut self, at: i64, even_if_unmoved: bool) -> Option<Event> {
        if self.open.is_some() || !(self.moved || even_if_unmoved) {
            return None;
        }
        self.moved = false;
        Some(Event::Heartbeat { position: Position::Binlog(self.position.clone()), at })
    }

    /// Takes one event and appends what it means; the events of a compressed transaction one by one, behind their payload.
    ///
    /// # Errors
    /// `Fatal` for what cannot be followed, with what to do.
    pub fn event(&mut self, event: LogEvent, out: &mut Parcel) -> Result<()> {
        let seconds = i64::from(event.header.timestamp) * 1_000_000;
        let end = event.end;
        if let Body::Query(query) = &event.body
            && query.kind() == QueryKind::Rows
        {
            self.statement(query)?;
            return match self.tracker.pass(&event)? {
                Step::Single => self.commit(end, out),
                _ => Ok(()),
            };
        }
        if let Body::Payload(_) = &event.body {
            // Events inside of it do not know where it ends.
            self.payload_end = end;
        }
        let step = self.tracker.step(&event)?;
        match (step, event.body) {
            (Step::Begin, Body::Gtid(g) | Body::Anonymous(g)) => {
                let committed_at = if g.committed_at > 0 { g.committed_at as i64 } else { seconds };
                self.open = Some(Open { id: g.gtid.map(TransactionId::Source), begun: false, committed_at });
                Ok(())
            }
            (Step::Begin, Body::MariaGtid(g)) => {
                let id = Some(TransactionId::Domain(g.gtid));
                self.open = Some(Open { id, begun: false, committed_at: seconds });
                Ok(())
            }
            (Step::Inside, Body::TableMap(map)) => self.table_map(map),
            (Step::Inside, Body::Rows(rows)) => self.rows(&rows, out),
            (Step::Statement, Body::Query(query)) => self.schema_change(&query, out),
            (Step::Single, Body::Query(query)) => {
                if query.kind() == QueryKind::Other {
                    self.schema_change(&query, out)?;
                }
                self.commit(end, out)
            }
            (Step::Commit | Step::PreparedCommit | Step::PreparedRollback, _) => self.commit(end, out),
            (Step::Rollback, _) if self.concerned() => {
                Err(Error::fatal("the source logged rows and rolled them back (tables without transactions take part)")
                    .with_code("switchyard:rollback")
                    .hint("ALTER TABLE … ENGINE = InnoDB for the tables of that transaction, then copy anew"))
            }
            (Step::Prepared, _) if self.concerned() => Err(Error::fatal(
                "the source prepared an XA transaction that changes selected tables",
            )
            .with_code("switchyard:xa")
            .hint(
                "transactions of two phases are not followed: let the application commit in one phase, then copy anew",
            )),
            (Step::Rollback | Step::Prepared, _) => self.commit(end, out),
            (_, Body::Rotate { file, position, .. }) => {
                self.maps.clear();
                self.at(&file, position);
                Ok(())
            }
            (_, Body::Heartbeat { file, position }) => {
                self.at(&file, position);
                Ok(())
            }
            (_, Body::FormatDescription { .. }) => {
                self.maps.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the transaction under way changes anything of ours.
    fn concerned(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.begun)
    }

    /// The log goes on here, and nothing is under way.
    fn at(&mut self, file: &str, offset: u64) {
        if self.open.is_none() && (*self.position.file != *file || self.position.offset < offset) {
            self.position.file = file.into();
            self.position.offset = offset;
            self.moved = true;
        }
    }

    /// Rows were changed by a statement that is in the log in their place. It may reach selected tables by a trigger, a
    /// view, a function or a foreign key, whatever it names. Only what servers write into tables of their own, which can
    /// have none of these, is let pass (hosted ones do, row by row or not).
    fn statement(&self, query: &Query) -> Result<()> {
        let text = query.text().unwrap_or_else(|_| String::from_utf8_lossy(&query.statement).into_owned());
        let session = query.sql_mode.map_or(self.session.clone(), |bits| self.session.clone().with_sql_mode(bits));
        let what = match ddl::writes(&text, &query.schema, &session) {
            Some((_, table)) if table.schema.eq_ignore_ascii_case("mysql") => return Ok(()),
            Some((verb, table)) => format!("{} of {table}", verb.to_uppercase()),
            None => format!("statement in database {:?}", query.schema),
        };
        Err(Error::fatal(format!("the source logged a statement instead of the rows that it changed: {what}"))
            .with_code("switchyard:statement")
            .hint(
                "it may have changed selected tables, also by a trigger, a view or a function. A session of the source set \
                 binlog_format to STATEMENT or MIXED: set it to ROW everywhere, then copy anew",
            ))
    }

    fn begin(&mut self, out: &mut Parcel) {
        let Some(open) = self.open.as_mut().filter(|o| !o.begun) else { return };
        open.begun = true;
        let xid = match &open.id {
            Some(TransactionId::Source(g)) => g.number,
            Some(TransactionId::Domain(g)) => g.sequence,
            None => 0,
        };
        out.push(Event::Begin(Begin {
            commit_start: Position::Binlog(self.position.clone()),
            committed_at: open.committed_at,
            xid,
            gtid: open.id.clone(),
        }));
    }

    fn commit(&mut self, end: Option<u64>, out: &mut Parcel) -> Result<()> {
        let open = self.open.take();
        self.committed_at = open.as_ref().map_or(self.committed_at, |o| o.committed_at);
        if let Some(end) = end.or(self.payload_end.take()) {
            self.position.offset = end;
        }
        match (open.as_ref().and_then(|o| o.id.as_ref()), &mut self.position.passed) {
            (Some(TransactionId::Source(g)), Passed::Sources(set)) => set.add(g),
            (Some(TransactionId::Domain(g)), Passed::Domains(p)) => p.advance(*g),
            (None, Passed::Unnumbered) => {}
            // Numbers that the place does not count, or none where it counts them: the next start could not tell what was passed.
            (Some(TransactionId::Source(_)), Passed::Unnumbered) => {}
            (None, _) => {
                return Err(Error::fatal(
                    "the source logged a transaction without an id, and the migration counts by ids",
                )
                .hint("set gtid_mode = ON (and enforce_gtid_consistency = ON) on the source again, then copy anew"));
            }
            (Some(_), _) => {
                return Err(Error::fatal(
                    "the source numbers its transactions otherwise than when the migration began",
                )
                .hint("point source.url at a server of the same kind, or copy anew"));
            }
        }
        match open {
            Some(Open { begun: true, committed_at, .. }) => {
                let end = Position::Binlog(self.position.clone());
                out.push(Event::Commit(Commit { end, committed_at }));
                self.moved = false;
            }
            _ => self.moved = true,
        }
        Ok(())
    }

    fn schema_change(&mut self, query: &Query, out: &mut Parcel) -> Result<()> {
        let text = query
            .text()
            .map_err(|e| Error::fatal(format!("a schema change in the source's log cannot be read: {e}")))?;
        let session = match query.sql_mode {
            Some(bits) => self.session.clone().with_sql_mode(bits),
            None => self.session.clone(),
        };
        let (selection, ids) = (self.known.selection.clone(), self.known.ids.clone());
        let world = World { selects: &|t| selection.selects(t), id: &|t| ids(t) };
        let names = self.keys.keys().chain(self.announced.keys());
        let before: HashMap<TableName, Arc<Table>> =
            names.filter_map(|n| Some((n.clone(), self.tables.table(n)?.clone()))).collect();
        let stated = ddl::read(&text, &query.schema, &session);
        let consequences = self.tables.carry(&text, &stated, &session, &world);
        if self.known.cascades.note(&stated) {
            self.maps.clear();
        }
        for consequence in consequences {
            self.maps.clear();
            match consequence {
                Consequence::Truncate(name) => {
                    let Some(table) = self.tables.table(&name).cloned() else { continue };
                    self.begin(out);
                    self.announce(&table, out);
                    out.push(Event::Truncate { tables: vec![table.id], restart_identity: true });
                }
                Consequence::Shadow { table, of } => self.said.push(format!(
                    "{table} is taken for the work of a schema change of {of}: its rows are not followed"
                )),
                Consequence::Ddl(mut ddl) => {
                    self.begin(out);
                    match &ddl.effect {
                        DdlEffect::Dropped { table } => {
                            self.announced.remove(table);
                        }
                        DdlEffect::Table { after, .. } => {
                            self.announced.insert(after.name.clone(), after.clone());
                            // Whether or not the catalog had the change already.
                            ddl.before = before.get(&after.name).map(|w| Arc::new(earlier(w, &stated)));
                        }
                        _ => {}
                    }
                    let after = match &ddl.effect {
                        DdlEffect::Table { after, .. } => Some(after.clone()),
                        _ => None,
                    };
                    out.push(Event::Ddl(ddl));
                    if let Some(after) = after {
                        out.push(Event::Schema(after));
                    }
                }
            }
        }
        Ok(())
    }

    fn table_map(&mut self, event: TableMapEvent) -> Result<()> {
        if self.maps.get(&event.table_id).is_some_and(|n| n.said == event.body) {
            return Ok(());
        }
        let map =
            event.parse().map_err(|e| Error::fatal(format!("a table in the source's log cannot be read: {e}")))?;
        let name = TableName::new(map.schema.clone(), map.table.clone());
        let followed = |t: &TableName| self.known.selection.selects(t) && !self.tables.is_shadow(t);
        let acting = Acting::new(self.known.cascades.of(&name, followed), &map).map(Arc::new);
        let mapped = if (name.schema.as_str(), name.name.as_str()) == MARKERS {
            let layout = TableLayout::new(&map, None)?;
            match layout.columns.iter().position(|c| c.name == "token") {
                Some(token) => Mapped::Markers(layout, token),
                None => Mapped::Ignored,
            }
        } else if !self.known.selection.selects(&name) || self.tables.is_shadow(&name) {
            Mapped::Ignored
        } else {
            self.followed(&map, name)?
        };
        self.maps.insert(event.table_id, Numbered { said: event.body, mapped: Arc::new(mapped), acting });
        Ok(())
    }

    fn followed(&mut self, map: &TableMap, name: TableName) -> Result<Mapped> {
        let base = self.tables.table(&name).cloned();
        let base = base.as_deref();
        // The log shows some types of one family as plain bytes; then, and only then, the catalog is believed.
        let address = |c: &Column| matches!(c.type_name.as_str(), "uuid" | "inet6" | "inet4");
        let known: Option<Vec<KnownColumn>> = base.filter(|b| b.columns.iter().any(address)).and_then(|b| {
            let all = self.tables.ordered(&b.name)?;
            let known = |c: &&Column| Some(KnownColumn { name: c.name.clone(), ty: parse(c)? });
            all.iter().map(known).collect()
        });
        let mut layout = TableLayout::new(map, known.as_deref())?;
        let computed = |c: &str| base.is_some_and(|b| b.generated.iter().any(|g| g.name == c));
        let mut columns = Vec::with_capacity(layout.columns.len());
        let numbers = base.iter().flat_map(|b| b.columns.iter().chain(&b.generated)).map(|c| c.number);
        let mut next = numbers.max().unwrap_or(0);
        for c in &mut layout.columns {
            if computed(&c.name) {
                c.skipped = true;
                continue;
            }
            let said = base.and_then(|b| b.column(&c.name).map(|at| &b.columns[at]));
            columns.push(match said {
                Some(said) if parse(said).is_some_and(|t| same(&t, &c.ty)) => said.clone(),
                Some(said) => described(&c.name, &c.ty, c.nullable, said.number),
                None => {
                    next += 1;
                    described(&c.name, &c.ty, c.nullable, next)
                }
            });
        }
        let place = |n: &str| columns.iter().position(|c| c.name == n);
        let by_catalog = base.and_then(|b| match &b.identity {
            RowIdentity::Key(key) => {
                key.iter().map(|&k| place(&b.columns[k].name)).collect::<Option<Vec<_>>>().map(RowIdentity::Key)
            }
            _ => None,
        });
        let by_log = layout.primary_key.as_ref().and_then(|key| {
            let names = key.iter().map(|&k| layout.columns.get(k).map(|c| c.name.as_str()));
            names.map(|n| place(n?)).collect::<Option<Vec<_>>>().map(RowIdentity::Key)
        });
        let identity = by_log.or(by_catalog).unwrap_or(RowIdentity::AllColumns);
        let whole = identity == RowIdentity::AllColumns || self.known.whole_rows.contains(&name);
        let key = match &identity {
            RowIdentity::Key(key) if !whole => {
                let at = |&k: &usize| layout.columns.iter().position(|c| c.name == columns[k].name);
                key.iter().map(at).collect()
            }
            _ => None,
        };
        let table = Table {
            id: (self.known.ids)(&name),
            generated: base.map(|b| b.generated.clone()).unwrap_or_default(),
            identity,
            full_old_rows: whole,
            full_old_rows_by: columns::WHOLE_ROWS_BY.to_owned(),
            has_secondary_unique: base.is_none_or(|b| b.has_secondary_unique),
            partitioned: base.is_some_and(|b| b.partitioned),
            estimated_rows: base.map_or(0, |b| b.estimated_rows),
            bytes: base.map_or(0, |b| b.bytes),
            columns,
            name,
        };
        if base.is_none_or(|b| b.columns != table.columns) {
            // The catalog was read later, or something was not noticed: the log is right about its own place.
            let there = |k: &&Key| k.columns.iter().all(|(c, _)| table.column(c).is_some());
            let keys: Vec<Key> =
                self.keys.get(&table.name).map_or(Vec::new(), |k| k.iter().filter(there).cloned().collect());
            self.tables.add(table.clone(), &keys);
        }
        let dates = layout.columns.iter().filter(|c| !c.skipped).enumerate().filter(|(_, c)| c.ty.is_date());
        let null_dates = match self.known.zero_dates {
            ZeroDates::Keep => Vec::new(),
            ZeroDates::Null => dates.map(|(i, _)| i).collect(),
        };
        Ok(Mapped::Followed { layout, table: Arc::new(table), key, null_dates })
    }

    fn announce(&mut self, table: &Arc<Table>, out: &mut Parcel) {
        let known = self.announced.get(&table.name);
        if known.is_none_or(|k| !Arc::ptr_eq(k, table) && (k.columns != table.columns || k.identity != table.identity))
        {
            self.announced.insert(table.name.clone(), table.clone());
            out.push(Event::Schema(table.clone()));
        }
    }

    fn rows(&mut self, event: &RowsEvent, out: &mut Parcel) -> Result<()> {
        let Some(Numbered { mapped, acting, .. }) = self.maps.get(&event.table_id).cloned() else {
            return Err(Error::fatal(format!(
                "the source's log changes table number {} before it describes it",
                event.table_id
            )));
        };
        // MariaDB has another meaning for the bit, or none.
        let logged = event.cascades_logged && !self.session.mariadb;
        if let Some(acting) = acting.filter(|_| !logged && !event.no_foreign_key_checks) {
            acting.look(event)?;
        }
        match &*mapped {
            Mapped::Ignored => Ok(()),
            Mapped::Markers(layout, token) => {
                for change in event.decode(layout, OldRows::Whole)? {
                    if let (Op::Insert, Some(row)) = (event.op, change.new)
                        && let Datum::Text(text) = row.get(*token)
                    {
                        self.begin(out);
                        out.push(Event::Marker { token: String::from_utf8_lossy(text).into_owned() });
                    }
                }
                Ok(())
            }
            Mapped::Followed { layout, table, key, null_dates } => {
                self.begin(out);
                self.announce(table, out);
                let old = key.as_ref().map_or(OldRows::Whole, |key| OldRows::KeyIfChanged(key));
                for change in event.decode(layout, old)? {
                    let unsent = |r: &Option<Row>| r.as_ref().is_some_and(Row::has_unsent);
                    if unsent(&change.new) || unsent(&change.old) {
                        return Err(Error::fatal(format!("{}: the source logged rows that are not whole", table.name))
                            .with_code("switchyard:row_image")
                            .hint("SET GLOBAL binlog_row_image = 'FULL' (a session may have set it otherwise), then copy anew"));
                    }
                    out.push(Event::Change(Change {
                        table: table.id,
                        op: event.op,
                        old: change.old.map(|r| without_zero_dates(r, null_dates)),
                        new: change.new.map(|r| without_zero_dates(r, null_dates)),
                    }));
                }
                Ok(())
            }
        }
    }
}

/// The table without what a statement did, where it shows it already.
fn earlier(table: &Table, stated: &Stated) -> Table {
    let mut columns = table.columns.clone();
    let Stated::AlterTable { ops, .. } = stated else { return table.clone() };
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    for op in ops {
        let (from, to) = match op {
            AlterOp::Add { column, .. } => {
                columns.retain(|c| !same(&c.name, &column.name));
                continue;
            }
            AlterOp::RenameColumn { from, to } => (from, to),
            AlterOp::Change { from, column, .. } => (from, &column.name),
            _ => continue,
        };
        if !columns.iter().any(|c| same(&c.name, from))
            && let Some(c) = columns.iter_mut().find(|c| same(&c.name, to))
        {
            c.name.clone_from(from);
        }
    }
    table.with_columns(columns)
}

/// The row with NULL in place of dates that are none.
fn without_zero_dates(row: Row, columns: &[usize]) -> Row {
    let none = |i: usize| matches!(row.get(i), Datum::Text(t) if is_zero_date(t));
    if !columns.iter().any(|&i| none(i)) {
        return row;
    }
    let mut made = RowBuilder::with_capacity(row.len(), row.bytes());
    for i in 0..row.len() {
        made.push(if columns.contains(&i) && none(i) { Datum::Null } else { row.get(i) });
    }
    made.finish()
}

/// What the catalog's column holds.
fn parse(c: &Column) -> Option<ColumnType> {
    // What a text is stored in does not matter here: the log says it.
    ColumnType::parse(&c.type_name, Some("utf8mb4")).ok()
}

/// Whether two say the same but for the character set.
fn same(a: &ColumnType, b: &ColumnType) -> bool {
    matches!((a, b), (ColumnType::Text(_), ColumnType::Text(_))) || a == b
}

/// A column that only the log knows.
fn described(name: &str, ty: &ColumnType, nullable: bool, number: i32) -> Column {
    let type_name = written(ty);
    let (data, kind) = columns::describe(&type_name);
    let kind = if kind == Kind::Other { ty.kind() } else { kind };
    Column {
        name: name.to_owned(),
        number,
        type_name,
        kind,
        data,
        nullable,
        identity: None,
        default: None,
        collation: None,
        portable_binary: false,
    }
}

/// The type as DDL writes it, as far as the log tells.
fn written(ty: &ColumnType) -> String {
    let labels = |l: &[Box<str>]| l.iter().map(|l| printed(l)).collect::<Vec<_>>().join(",");
    match ty {
        ColumnType::Int { width, unsigned } => {
            let word = match width {
                1 => "tinyint",
                2 => "smallint",
                3 => "mediumint",
                4 => "int",
                _ => "bigint",
            };
            format!("{word}{}", if *unsigned { " unsigned" } else { "" })
        }
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Float => "float".into(),
        ColumnType::Double => "double".into(),
        ColumnType::Year => "year".into(),
        ColumnType::Bit(n) => format!("bit({n})"),
        ColumnType::Date => "date".into(),
        ColumnType::Time(n) => format!("time({n})"),
        ColumnType::DateTime(n) => format!("datetime({n})"),
        ColumnType::Timestamp(n) => format!("timestamp({n})"),
        ColumnType::Text(_) => "longtext".into(),
        ColumnType::Enum(l) => format!("enum({})", labels(l)),
        ColumnType::Set(l) => format!("set({})", labels(l)),
        ColumnType::FixedBytes(n) => format!("binary({n})"),
        ColumnType::Bytes => "longblob".into(),
        ColumnType::Json => "json".into(),
        ColumnType::Geometry => "geometry".into(),
        ColumnType::Vector => "vector".into(),
        ColumnType::Address(_) => "varchar(45)".into(),
    }
}
