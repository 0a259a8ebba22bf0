//! Writers that insert, update, delete and re-key rows with unique ids and remember every acknowledged commit.
//!
//! Two tables: `ledger`, whose rows the writers also keep in memory, and `ledger_log`, one row a transaction and without
//! any key, so that a transaction that is applied twice leaves two rows. A commit whose answer got lost is *unknown*: the
//! writer looks it up at the source once it is back, and counts how often that happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Sql, wait_until};

/// Ids of one writer begin at its number times this.
const IDS: i64 = 1_000_000_000;

/// The tables; the large column is stored outside the row, so that most updates do not send it.
const TABLES: &str = "create table if not exists ledger (id bigint primary key, writer int not null, n int not null, big text);
    alter table ledger alter big set storage external;
    create table if not exists ledger_log (writer int not null, seq bigint not null, at timestamptz not null default clock_timestamp());
    alter table ledger_log replica identity full;";

/// What a row holds: the counter, and the number that the large value is made of (0: none).
type Rows = BTreeMap<i64, (i64, u32)>;

/// What one writer knows.
#[derive(Clone, Debug, Default)]
struct Memory {
    rows: Rows,
    /// Acknowledged transactions, and unknown ones that the source turned out to have.
    committed: u64,
    next_id: i64,
    next_seq: u64,
}

/// Writers at work.
pub struct Ledger {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Memory>>,
}

/// What was written in the end.
pub struct Written {
    writers: Vec<Memory>,
    /// Commits that were acknowledged.
    pub acknowledged: u64,
    /// Commits whose answer got lost.
    pub unknown: u64,
}

impl Ledger {
    /// Makes the tables, without any writer, for a database whose copy is to begin with them.
    pub fn create(url: &str) {
        Sql::connect(url).run(TABLES);
    }

    /// Starts `writers` connections that write until [`Ledger::stop`], each waiting `pause` between transactions.
    pub fn start(url: &str, writers: u32, pause: Duration, seed: u64) -> Ledger {
        Ledger::create(url);
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledged, unknown) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..writers)
            .map(|number| {
                let writer = Writer {
                    url: format!("{url}?application_name=ledger_{number}&connect_timeout=5"),
                    number,
                    random: StdRng::seed_from_u64(seed.wrapping_mul(1009).wrapping_add(number.into())),
                    memory: Memory { next_id: i64::from(number) * IDS + 1, ..Memory::default() },
                    stop: stop.clone(),
                    acknowledged: acknowledged.clone(),
                    unknown: unknown.clone(),
                };
                std::thread::spawn(move || writer.run(pause))
            })
            .collect();
        Ledger { stop, acknowledged, unknown, threads }
    }

    /// Commits acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `more` further commits were acknowledged.
    pub fn wait_for(&self, more: u64) {
        let goal = self.acknowledged() + more;
        wait_until("the ledger was written on", Duration::from_secs(60), || self.acknowledged() >= goal);
    }

    /// Ends the writers; every outcome is known afterwards (the source must be reachable).
    pub fn stop(mut self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        let writers = self.threads.drain(..).map(|t| t.join().expect("a writer of the ledger panicked")).collect();
        Written { writers, acknowledged: self.acknowledged(), unknown: self.unknown.load(Ordering::SeqCst) }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Written {
    /// What is wrong with the ledger in a database: nothing, if every commit is there once and every row is as written.
    pub fn check(&self, url: &str) -> Vec<String> {
        let mut sql = Sql::connect(url);
        let mut said = Vec::new();
        let found: Vec<_> = sql.rows(
            "select writer, count(*), count(distinct seq), coalesce(max(seq), 0) from ledger_log group by writer",
        );
        for (number, memory) in self.writers.iter().enumerate() {
            let row = found.iter().find(|r| r[0].as_deref() == Some(&number.to_string()));
            let n = |i: usize| -> u64 { row.and_then(|r| r[i].as_ref()).map_or(0, |t| t.parse().unwrap()) };
            let (rows, distinct) = (n(1), n(2));
            if distinct != memory.committed {
                said.push(format!("writer {number}: {} commits, {distinct} of them found", memory.committed));
            }
            if rows != distinct {
                said.push(format!(
                    "writer {number}: {distinct} commits found, in {rows} rows: some were applied twice"
                ));
            }
            let mut seen = Rows::new();
            for r in sql.rows(&format!(
                "select id, n, case when big is null then 0 else split_part(big, ' ', 1)::int end from ledger where writer = {number}"
            )) {
                let n = |i: usize| -> i64 { r[i].as_ref().unwrap().parse().unwrap() };
                seen.insert(n(0), (n(1), n(2) as u32));
            }
            if seen != memory.rows {
                let ids: std::collections::BTreeSet<_> = seen.keys().chain(memory.rows.keys()).collect();
                for id in ids.into_iter().filter(|id| seen.get(id) != memory.rows.get(id)).take(5) {
                    said.push(format!(
                        "writer {number}, id {id}: {:?} was written, {:?} is there",
                        memory.rows.get(id),
                        seen.get(id)
                    ));
                }
            }
        }
        said
    }

    /// Panics unless the ledger in a database is as written.
    pub fn assert_kept(&self, url: &str) {
        let said = self.check(url);
        assert!(said.is_empty(), "the ledger is not as it was written:\n  {}", said.join("\n  "));
    }
}

struct Writer {
    url: String,
    number: u32,
    random: StdRng,
    memory: Memory,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, pause: Duration) -> Memory {
        let mut session: Option<Sql> = None;
        // What the memory becomes if the transaction whose answer got lost was committed.
        let mut open_question: Option<Memory> = None;
        loop {
            let stopping = self.stop.load(Ordering::SeqCst);
            if stopping && open_question.is_none() {
                return self.memory;
            }
            let Some(sql) = &mut session else {
                session = Sql::try_connect(&self.url).ok();
                if session.is_none() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                continue;
            };
            if let Some(after) = open_question.take() {
                match self.look_up(sql, after.next_seq - 1) {
                    Some(true) => self.memory = after,
                    Some(false) => self.memory.next_seq = after.next_seq,
                    None => {
                        open_question = Some(after);
                        session = None;
                    }
                }
                continue;
            }
            let (statements, after) = self.transaction();
            if sql.try_run(&statements).is_err() {
                // COMMIT was not sent: the transaction is rolled back, whatever happened.
                self.memory.next_seq = after.next_seq;
                session = None;
                continue;
            }
            match sql.try_run("commit") {
                Ok(()) => {
                    self.memory = after;
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    self.unknown.fetch_add(1, Ordering::SeqCst);
                    open_question = Some(after);
                    session = None;
                }
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    /// Whether a transaction is in the database; `None` if that cannot be said now.
    fn look_up(&self, sql: &mut Sql, seq: u64) -> Option<bool> {
        // The session whose answer got lost may still be committing.
        let others = format!(
            "select count(*) from pg_stat_activity where application_name = 'ledger_{}' and datname = current_database() and pid <> pg_backend_pid()",
            self.number
        );
        if sql.try_rows(&others).ok()?[0][0].as_deref() != Some("0") {
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        let asked = format!("select count(*) from ledger_log where writer = {} and seq = {seq}", self.number);
        Some(sql.try_rows(&asked).ok()?[0][0].as_deref() != Some("0"))
    }

    /// A transaction without its COMMIT, and what the memory is after it.
    fn transaction(&mut self) -> (String, Memory) {
        let mut after = self.memory.clone();
        let mut sql = String::from("begin;");
        for _ in 0..self.random.random_range(1..=5) {
            if self.random.random_ratio(1, 20) {
                // Rolled back: the memory stays as it is.
                let mut lost = after.clone();
                sql.push_str("savepoint s;");
                self.operation(&mut sql, &mut lost);
                after.next_id = lost.next_id;
                sql.push_str("rollback to savepoint s;");
            } else {
                self.operation(&mut sql, &mut after);
            }
        }
        let _ = write!(sql, "insert into ledger_log (writer, seq) values ({}, {});", self.number, after.next_seq);
        after.next_seq += 1;
        after.committed += 1;
        (sql, after)
    }

    fn operation(&mut self, sql: &mut String, memory: &mut Memory) {
        let die = self.random.random_range(0..100);
        let some: Vec<i64> = match memory.rows.len() {
            0 => Vec::new(),
            n => (0..2).filter_map(|_| memory.rows.keys().nth(self.random.random_range(0..n)).copied()).collect(),
        };
        let (Some(&id), Some(&other)) = (some.first(), some.get(1)) else {
            return self.insert(sql, memory);
        };
        match die {
            0..40 => self.insert(sql, memory),
            40..70 => {
                memory.rows.get_mut(&id).unwrap().0 += 1;
                let _ = write!(sql, "update ledger set n = n + 1 where id = {id};");
            }
            70..76 => {
                let big = self.random.random_range(1..1_000_000);
                memory.rows.get_mut(&id).unwrap().1 = big;
                let _ = write!(sql, "update ledger set big = {} where id = {id};", large(big));
            }
            76..86 => {
                memory.rows.remove(&id);
                let _ = write!(sql, "delete from ledger where id = {id};");
            }
            86..92 => {
                let to = memory.next_id;
                memory.next_id += 1;
                let row = memory.rows.remove(&id).unwrap();
                memory.rows.insert(to, row);
                let _ = write!(sql, "update ledger set id = {to} where id = {id};");
            }
            92..96 => {
                let n = self.random.random_range(0..1000);
                memory.rows.insert(id, (n, 0));
                let _ = write!(
                    sql,
                    "delete from ledger where id = {id}; insert into ledger values ({id}, {}, {n}, null);",
                    self.number
                );
            }
            _ if id != other => {
                // Two rows change keys with each other.
                let (a, b) = (memory.rows[&id], memory.rows[&other]);
                memory.rows.insert(id, b);
                memory.rows.insert(other, a);
                let _ = write!(
                    sql,
                    "update ledger set id = -{id} where id = {id}; update ledger set id = {id} where id = {other}; \
                     update ledger set id = {other} where id = -{id};"
                );
            }
            _ => self.insert(sql, memory),
        }
    }

    fn insert(&mut self, sql: &mut String, memory: &mut Memory) {
        let id = memory.next_id;
        memory.next_id += 1;
        let n = self.random.random_range(0..1000);
        let big = if self.random.random_ratio(1, 5) { self.random.random_range(1..1_000_000) } else { 0 };
        memory.rows.insert(id, (n, big));
        let _ = write!(sql, "insert into ledger values ({id}, {}, {n}, {});", self.number, large(big));
    }
}

/// An expression for the large value made of a number: it begins with the number.
fn large(big: u32) -> String {
    match big {
        0 => "null".into(),
        n => format!("'{n} ' || repeat(md5('{n}'), 90)"),
    }
}
