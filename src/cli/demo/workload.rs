//! The demo's application: several connections that write all the time and remember what was acknowledged.

mod documents;
mod portable;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use super::ledger::{Fate, Ledger, Thing};
use super::portable::uuid;
use super::shop::{self, Shop};
use super::side::{Engine, Session};
use crate::error::{Error, Result};

/// Connections that write at the same time.
pub const WRITERS: u64 = 4;
/// Transactions a second on each of them, at most.
const PACE: u32 = 75;

/// What is changed about the source's schema while everything runs.
pub const ALTERATION: &str = "ALTER TABLE events ADD COLUMN channel varchar(20) NOT NULL DEFAULT 'shop'";

/// What the application did so far; read while it runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// Acknowledged transactions.
    pub committed: AtomicU64,
    /// Transactions that were rolled back on purpose.
    pub rolled_back: AtomicU64,
    /// Transactions that the server refused (a deadlock, a product renamed meanwhile): never acknowledged.
    pub refused: AtomicU64,
}

/// The running application. Dropping it stops it without its ledger.
#[derive(Debug)]
pub struct Application {
    tasks: JoinSet<Result<Ledger>>,
    stop: CancellationToken,
    altered: Arc<AtomicBool>,
    /// See [`Counters`].
    pub counters: Arc<Counters>,
}

impl Application {
    /// Starts one writer a connection; `rows` is what [`Shop::fill`] was called with.
    pub fn start(connections: Vec<Session>, shop: Shop, rows: u64) -> Application {
        let (stop, altered) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        let writers = connections.len() as u64;
        for (number, session) in connections.into_iter().enumerate() {
            let portable = (shop == Shop::Portable).then_some(session.engine());
            let actor = Actor::new(number as u64, writers, rows, portable, altered.clone());
            tasks.spawn(write(session, actor, counters.clone(), stop.clone()));
        }
        Application { tasks, stop, altered, counters }
    }

    /// The same over documents.
    pub fn over_documents(shop: &Documents, rows: u64) -> Application {
        let (stop, altered) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let (altered, counters) = (altered.clone(), counters.clone());
            tasks.spawn(documents::write(shop.clone(), number, rows, altered, counters, stop.clone()));
        }
        Application { tasks, stop, altered, counters }
    }

    /// From now on it writes the column that [`ALTERATION`] adds.
    pub fn altered(&self) {
        self.altered.store(true, Ordering::Relaxed);
    }

    /// Whether a writer ended before it was told to.
    pub fn broken(&self) -> bool {
        self.tasks.len() as u64 != WRITERS || self.tasks.is_empty()
    }

    /// Lets every writer finish its transaction and returns what was acknowledged.
    ///
    /// # Errors
    /// If a writer lost its connection: what became of its last transaction is unknown.
    pub async fn stop(mut self) -> Result<Ledger> {
        self.stop.cancel();
        let mut ledger = Ledger::default();
        while let Some(done) = self.tasks.join_next().await {
            ledger.merge(done.map_err(|e| Error::fatal(format!("the application broke down: {e}")))??);
        }
        Ok(ledger)
    }
}

async fn write(
    mut session: Session,
    mut actor: Actor,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> Result<Ledger> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PACE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !stop.is_cancelled() {
        tick.tick().await;
        let plan = actor.next();
        match session.run(&format!("the application's transaction {}", plan.what), &plan.sql).await {
            Ok(()) => {
                let counter = if plan.commits { &counters.committed } else { &counters.rolled_back };
                counter.fetch_add(1, Ordering::Relaxed);
                actor.acknowledged(plan);
            }
            // Deadlocks, and a product that was renamed after it was chosen, are an application's daily bread; anything
            // else is a mistake of ours.
            Err(e) if session.engine().refuses(&e) && !session.is_closed() => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                session.run("rolling back", "ROLLBACK").await?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(actor.ledger)
}

/// One transaction, and what holds once it is acknowledged.
#[derive(Debug)]
struct Plan {
    what: &'static str,
    sql: String,
    commits: bool,
    write: i64,
    rolled_back: Vec<i64>,
    fates: Vec<(Thing, String, Fate)>,
    /// Keys in [`Actor`]'s own lists that changed.
    own: Vec<Own>,
}

#[derive(Debug)]
enum Own {
    NewOrder(i64),
    GoneOrder(usize),
    NewSession(String),
    Session(usize, Option<String>),
    Text(usize, String, Option<i64>),
    Stock(usize, Option<(String, i64)>),
    Nicks(usize, usize),
}

/// One connection's part: which rows are its own, what it does next, what it was promised. No other connection writes its
/// rows (but for locks and cascades), so the last acknowledged word on each key is known.
#[derive(Debug)]
struct Actor {
    rng: StdRng,
    number: i64,
    count: i64,
    customers: u64,
    products: u64,
    orders: Vec<i64>,
    sessions: Vec<String>,
    texts: Vec<(String, Option<i64>)>,
    stock: Vec<(String, i64)>,
    nicks: Vec<u64>,
    nick_of: Vec<String>,
    /// Set where the statements must be ones that every engine reads.
    portable: Option<Engine>,
    altered: Arc<AtomicBool>,
    ledger: Ledger,
}

impl Actor {
    fn new(number: u64, writers: u64, rows: u64, portable: Option<Engine>, altered: Arc<AtomicBool>) -> Actor {
        let own = |of: u64| (1..=of).filter(move |i| i % writers == number);
        let products = shop::products(rows);
        Actor {
            // Printed nowhere and repeatable: the interleaving of connections is what differs from run to run.
            rng: StdRng::seed_from_u64(number),
            number: number as i64,
            count: 0,
            customers: shop::customers(rows),
            products,
            orders: Vec::new(),
            sessions: Vec::new(),
            texts: own(products).map(|i| (format!("SKU-{i}"), None)).collect(),
            stock: own(products).flat_map(|i| (1..=3).map(move |g| (format!("SKU-{i}"), g))).collect(),
            nicks: own(shop::customers(rows)).collect(),
            nick_of: own(shop::customers(rows)).map(|i| format!("nick{i} 😀")).collect(),
            portable,
            altered,
            ledger: Ledger::default(),
        }
    }

    /// An id that no other write has.
    fn id(&mut self) -> i64 {
        self.count += 1;
        (self.number + 1) * 1_000_000_000 + self.count
    }

    /// 16 bytes.
    fn hex(&mut self) -> String {
        let n: u128 = self.rng.random();
        format!("{n:032x}")
    }

    fn uuid(&mut self) -> String {
        uuid(&self.hex())
    }

    fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.rng.random_range(0..len))
    }

    fn next(&mut self) -> Plan {
        let w = self.id();
        let mut plan = Plan {
            what: "order",
            sql: String::new(),
            commits: true,
            write: w,
            rolled_back: Vec::new(),
            fates: Vec::new(),
            own: Vec::new(),
        };
        let dice = self.rng.random_range(0..100);
        let planned = match self.portable {
            Some(engine) => self.portable_body(engine, dice, &mut plan),
            None => match dice {
                0..26 => None,
                26..40 => self.pay(&mut plan),
                40..48 => self.change_items(&mut plan),
                48..53 => self.delete_order(&mut plan),
                53..63 => Some(self.new_session(&mut plan)),
                63..69 => self.change_session(&mut plan),
                69..79 => self.touch_text(&mut plan),
                79..81 => self.rename_product(&mut plan),
                81..87 => self.stock(&mut plan),
                87..89 => self.swap_nicks(&mut plan),
                89..91 => Some(self.new_customer(&mut plan)),
                91..93 => self.move_event(&mut plan),
                93..95 => Some(self.tidy_audit(&mut plan)),
                95..96 => Some(self.many_rows(&mut plan)),
                96..98 => Some(self.savepoint(&mut plan)),
                _ => Some(self.change_of_mind(&mut plan)),
            },
        };
        // Whoever has nothing of its own yet orders something.
        let body = planned.unwrap_or_else(|| self.new_order(&mut plan));
        let end = if plan.commits { "COMMIT" } else { "ROLLBACK" };
        plan.sql = format!("BEGIN; {body}; {}; {end}", self.event(&plan));
        plan
    }

    fn shop(&self) -> Shop {
        if self.portable.is_some() { Shop::Portable } else { Shop::Native }
    }

    /// What every transaction writes; the column that is added on the way is used as soon as it is there.
    fn event(&self, plan: &Plan) -> String {
        let engine = self.portable.unwrap_or(Engine::Postgres);
        let (write, payload) =
            (self.shop().write_column(), format!(r#"{{"writer": {}, "🛒": [1, null]}}"#, self.number));
        let payload = engine.text(&payload);
        let (column, value) = match self.altered.load(Ordering::Relaxed) {
            true => (", channel", ", 'app 📱'"),
            false => ("", ""),
        };
        format!(
            "INSERT INTO events (at, kind, payload, {write}{column}) VALUES (CURRENT_TIMESTAMP(6), '{}', {payload}, {}{value})",
            plan.what, plan.write
        )
    }

    /// The transaction's promises hold from here on.
    fn acknowledged(&mut self, plan: Plan) {
        self.ledger.rolled_back.extend(plan.rolled_back);
        if !plan.commits {
            self.ledger.rolled_back.insert(plan.write);
            return;
        }
        self.ledger.committed.insert(plan.write);
        for (thing, key, fate) in plan.fates {
            self.ledger.fates.insert((thing, key), fate);
        }
        for own in plan.own {
            match own {
                Own::NewOrder(id) => self.orders.push(id),
                Own::GoneOrder(i) => drop(self.orders.swap_remove(i)),
                Own::NewSession(id) => self.sessions.push(id),
                Own::Session(i, Some(id)) => self.sessions[i] = id,
                Own::Session(i, None) => drop(self.sessions.swap_remove(i)),
                Own::Text(i, sku, last) => self.texts[i] = (sku, last),
                Own::Stock(i, Some(key)) => self.stock[i] = key,
                Own::Stock(i, None) => drop(self.stock.swap_remove(i)),
                Own::Nicks(a, b) => self.nick_of.swap(a, b),
            }
        }
    }

    fn order_sql(&mut self, id: i64) -> String {
        if let Some(engine) = self.portable {
            return self.order_portably(engine, id);
        }
        let customer = self.rng.random_range(1..=self.customers);
        let (w, lines) = (self.ledger_id(), self.rng.random_range(1..=5));
        // A product's key may be changed by another connection meanwhile; its code stays.
        let mut rows = Vec::new();
        for line in 1..=lines {
            let i = self.rng.random_range(1..=self.products);
            rows.push(format!("({id}, {line}, {i}, {}, {}.{:04}, E'é\\t''\\\\')", line * 2, i, line));
        }
        format!(
            "INSERT INTO orders (id, customer_id, placed_at, ship_to, coupons, total, last_write) \
             VALUES ({id}, {customer}, clock_timestamp(), ROW('Weg, \"{id}\"', NULL, '', 'infinity'), \
             '{{{{a,\"b \\\"\"}},{{NULL,\"\"}}}}', {lines}.5, {w}); \
             INSERT INTO order_items SELECT v.o, v.l, p.sku, v.q, v.x, v.n FROM (VALUES {}) v(o, l, i, q, x, n) \
             JOIN products p ON p.code = ('c' || v.i)::char(8)",
            rows.join(", ")
        )
    }

    /// The id of the transaction that is being planned.
    fn ledger_id(&self) -> i64 {
        (self.number + 1) * 1_000_000_000 + self.count
    }

    fn new_order(&mut self, plan: &mut Plan) -> String {
        let id = plan.write;
        plan.fates.push((Thing::Order, id.to_string(), Fate::There(Some(plan.write))));
        plan.own.push(Own::NewOrder(id));
        self.order_sql(id)
    }

    fn pay(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "payment";
        let i = self.pick(self.orders.len())?;
        let id = self.orders[i];
        let uuid = self.uuid();
        plan.fates.push((Thing::Order, id.to_string(), Fate::There(Some(plan.write))));
        Some(format!(
            "UPDATE orders SET state = 'paid', last_write = {} WHERE id = {id}; \
             INSERT INTO payments VALUES ('{uuid}', {id}, 12.3456, '-infinity', '{{\"order\": {id}, \"big\": 1e30}}')",
            plan.write
        ))
    }

    fn change_items(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "items";
        let i = self.pick(self.orders.len())?;
        let id = self.orders[i];
        plan.fates.push((Thing::Order, id.to_string(), Fate::There(Some(plan.write))));
        Some(format!(
            "UPDATE order_items SET quantity = quantity + 1, note = NULL WHERE order_id = {id} AND line < 3; \
             DELETE FROM order_items WHERE order_id = {id} AND line = 4; \
             UPDATE orders SET total = 'NaN', last_write = {} WHERE id = {id}",
            plan.write
        ))
    }

    fn delete_order(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "cancel";
        let i = self.pick(self.orders.len())?;
        let id = self.orders[i];
        plan.fates.push((Thing::Order, id.to_string(), Fate::Gone(plan.write)));
        plan.own.push(Own::GoneOrder(i));
        Some(format!("DELETE FROM orders WHERE id = {id}"))
    }

    fn session_sql(&mut self, id: &str, w: i64) -> String {
        if let Some(engine) = self.portable {
            return self.session_portably(engine, id, w);
        }
        let token: u64 = self.rng.random();
        format!(
            "INSERT INTO sessions VALUES ('{id}', {}, '\\x00{token:016x}5c', clock_timestamp(), 'infinity', \
             'fe80::/10', '08:00:2b:00:00:ff', '[2026-01-01Z,)', '23:59:60-02', {w})",
            token % self.customers + 1
        )
    }

    fn new_session(&mut self, plan: &mut Plan) -> String {
        plan.what = "session";
        let id = self.uuid();
        plan.fates.push((Thing::Session, id.clone(), Fate::There(Some(plan.write))));
        let sql = self.session_sql(&id, plan.write);
        plan.own.push(Own::NewSession(id));
        sql
    }

    /// Changes a key, deletes, or deletes and inserts again under the same key.
    fn change_session(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "session change";
        let (i, w) = (self.pick(self.sessions.len())?, plan.write);
        let old = self.sessions[i].clone();
        Some(match self.rng.random_range(0..3) {
            0 => {
                let new = self.uuid();
                plan.fates.push((Thing::Session, old.clone(), Fate::Gone(w)));
                plan.fates.push((Thing::Session, new.clone(), Fate::There(Some(w))));
                let sql = format!("UPDATE sessions SET id = '{new}', last_write = {w} WHERE id = '{old}'");
                plan.own.push(Own::Session(i, Some(new)));
                sql
            }
            1 => {
                plan.own.push(Own::Session(i, None));
                let sql = format!("DELETE FROM sessions WHERE id = '{old}'");
                plan.fates.push((Thing::Session, old, Fate::Gone(w)));
                sql
            }
            _ => {
                let again = self.session_sql(&old, w);
                let sql = format!("DELETE FROM sessions WHERE id = '{old}'; {again}");
                plan.fates.push((Thing::Session, old, Fate::There(Some(w))));
                sql
            }
        })
    }

    /// Mostly leaves the long text alone, which the log then does not carry.
    fn touch_text(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "text";
        let i = self.pick(self.texts.len())?;
        let (sku, w) = (self.texts[i].0.clone(), plan.write);
        let body = if self.rng.random_range(0..8) == 0 { ", body = reverse(body) || 'ß'" } else { "" };
        let sql = format!("UPDATE product_texts SET reads = reads + 1, last_write = {w}{body} WHERE sku = '{sku}'");
        plan.fates.push((Thing::Text, sku.clone(), Fate::There(Some(w))));
        plan.own.push(Own::Text(i, sku, Some(w)));
        Some(sql)
    }

    /// A key change that cascades to order items, and to a long text that the log then does not carry.
    fn rename_product(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "rename";
        let (i, w) = (self.pick(self.texts.len())?, plan.write);
        let (old, last) = self.texts[i].clone();
        let base = old.split('/').next().unwrap_or(&old);
        let new = format!("{base}/{w}");
        let sql = format!("UPDATE products SET sku = '{new}', price = price + 0.0001 WHERE sku = '{old}'");
        plan.fates.push((Thing::Text, old, Fate::Gone(w)));
        plan.fates.push((Thing::Text, new.clone(), Fate::There(last)));
        plan.own.push(Own::Text(i, new, last));
        Some(sql)
    }

    fn stock(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "stock";
        let (i, w) = (self.pick(self.stock.len())?, plan.write);
        let (article, size) = self.stock[i].clone();
        let key = |size: i64| format!("{article}|{size}");
        let e = self.portable.unwrap_or(Engine::Postgres);
        let [number, height, amount, select, state] =
            ["Artikel-Nr", "Größe", "Menge \"neu\"", "select", "Zustand"].map(|name| e.quoted(name));
        let place = format!("{number} = '{article}' AND {height} = {size}");
        let table = self.shop().stock(e);
        Some(match self.rng.random_range(0..8) {
            0 => {
                let new = self.count + 10;
                plan.fates.push((Thing::Stock, key(size), Fate::Gone(w)));
                plan.fates.push((Thing::Stock, key(new), Fate::There(Some(w))));
                plan.own.push(Own::Stock(i, Some((article.clone(), new))));
                format!("UPDATE {table} SET {height} = {new}, {select} = NULL, last_write = {w} WHERE {place}")
            }
            1 => {
                plan.fates.push((Thing::Stock, key(size), Fate::Gone(w)));
                plan.own.push(Own::Stock(i, None));
                format!("DELETE FROM {table} WHERE {place}")
            }
            _ => {
                plan.fates.push((Thing::Stock, key(size), Fate::There(Some(w))));
                let set = format!("{amount} = -0.0001, {state} = 'halb \"voll\"'");
                format!("UPDATE {table} SET {set}, last_write = {w} WHERE {place}")
            }
        })
    }

    /// Two rows exchange a unique value.
    fn swap_nicks(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "swap";
        let w = plan.write;
        let (a, b) = (self.pick(self.nicks.len())?, self.pick(self.nicks.len())?);
        let (a, b) = (self.nicks[a], self.nicks[b]);
        if a == b {
            return None;
        }
        // Always in one order, so that two connections cannot wait for each other.
        let (a, b) = (a.min(b), a.max(b));
        for i in [a, b] {
            plan.fates.push((Thing::Customer, format!("c{i}@example.org"), Fate::There(Some(w))));
        }
        Some(format!(
            "CREATE TEMP TABLE two ON COMMIT DROP AS SELECT x.id, y.nick AS other FROM customers x, customers y \
               WHERE x.id IN ({a}, {b}) AND y.id IN ({a}, {b}) AND x.id <> y.id; \
             UPDATE customers SET nick = 'swap {w}', last_write = {w} WHERE id = {a}; \
             UPDATE customers SET nick = (SELECT other FROM two WHERE id = {b}), last_write = {w} WHERE id = {b}; \
             UPDATE customers SET nick = (SELECT other FROM two WHERE id = {a}) WHERE id = {a}"
        ))
    }

    fn new_customer(&mut self, plan: &mut Plan) -> String {
        plan.what = "customer";
        let w = plan.write;
        plan.fates.push((Thing::Customer, format!("w{w}@example.org"), Fate::There(Some(w))));
        format!(
            "INSERT INTO customers (email, nick, home, tags, born, credit, prefs, raw, seen, last_ip, every, last_write) \
             VALUES ('w{w}@example.org', NULL, ROW(NULL, NULL, NULL, NULL), '{{\"a,b\",NULL,\"\"}}', '0001-01-01 BC', \
             -1.0001, '{{\"a\": \"\\u00fc\"}}', '{{\"b\":1 , \"a\":[]}}', 'infinity', '::1', '-1 year 3 days', {w})"
        )
    }

    /// A change of the partition key moves the row to another partition.
    fn move_event(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "move";
        let back = self.rng.random_range(1..=800);
        let old = self.ledger.committed.iter().rev().nth(20)?;
        Some(format!("UPDATE events SET at = at - interval '{back} days', kind = 'moved' WHERE write = {old}"))
    }

    /// Rows of a table without a key, of which there may be several alike.
    fn tidy_audit(&mut self, plan: &mut Plan) -> String {
        plan.what = "audit";
        let one = |seen: &str| format!("ctid = (SELECT ctid FROM audit WHERE {seen} LIMIT 1)");
        match self.rng.random_range(0..2) {
            0 => format!("UPDATE audit SET seen = true WHERE {}", one("NOT seen")),
            _ => format!("DELETE FROM audit WHERE {}", one("seen OR what = 'import'")),
        }
    }

    fn many_rows(&mut self, plan: &mut Plan) -> String {
        plan.what = "batch";
        "INSERT INTO events (at, kind, payload) SELECT clock_timestamp() - i * interval '1 day', 'bulk', NULL \
         FROM generate_series(1, 500) i"
            .to_owned()
    }

    fn savepoint(&mut self, plan: &mut Plan) -> String {
        plan.what = "savepoint";
        let never = self.id();
        plan.rolled_back.push(never);
        let order = self.order_sql(never);
        let session = self.new_session(plan);
        plan.what = "savepoint";
        let write = self.shop().write_column();
        format!(
            "SAVEPOINT a; {order}; INSERT INTO events (at, kind, {write}) VALUES ('2026-01-01 00:00:00', 'never', {never}); \
             ROLLBACK TO SAVEPOINT a; {session}"
        )
    }

    fn change_of_mind(&mut self, plan: &mut Plan) -> String {
        plan.what = "never";
        plan.commits = false;
        let id = plan.write;
        self.order_sql(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_rolled_back_transaction_when_it_ends_then_nothing_is_promised() {
        let mut actor = Actor::new(1, WRITERS, 1000, None, Arc::default());
        let (mut committed, mut undone) = (0, 0);
        for _ in 0..5000 {
            let plan = actor.next();
            assert!(plan.sql.ends_with(if plan.commits { "COMMIT" } else { "ROLLBACK" }));
            if plan.commits {
                committed += 1
            } else {
                undone += 1
            }
            actor.acknowledged(plan);
        }
        assert!(undone > 10);
        assert_eq!(actor.ledger.committed.len(), committed);
        assert!(actor.ledger.rolled_back.is_disjoint(&actor.ledger.committed));
    }

    #[test]
    fn given_two_writers_when_they_write_then_no_key_is_both_s() {
        let ledger_of = |number, portable| {
            let mut actor = Actor::new(number, WRITERS, 1000, portable, Arc::default());
            for _ in 0..3000 {
                let plan = actor.next();
                actor.acknowledged(plan);
            }
            actor.ledger
        };
        for portable in [None, Some(Engine::Postgres), Some(Engine::Mysql)] {
            let (a, b) = (ledger_of(0, portable), ledger_of(1, portable));
            assert!(a.fates.keys().all(|key| !b.fates.contains_key(key)));
            assert!(a.committed.is_disjoint(&b.committed));
        }
    }
}
