//! What the demo's application does in the shop of documents: transactions over several collections, and writes of one document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongodb::ClientSession;
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::super::documents::{self, Documents, Kind, Sizes, amount, article, event, id, order, person};
use super::super::ledger::{Fate, Ledger, Thing};
use super::{Counters, PACE, WRITERS};
use crate::error::Result;
use crate::mongowire::errors::wrap;

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Insert(&'static str, Vec<Document>),
    Update(&'static str, ObjectId, Document),
    Replace(&'static str, ObjectId, Document),
    Delete(&'static str, ObjectId),
}

/// How a plan ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Commit,
    Abort,
    /// One write without a transaction.
    Alone,
}

/// What is done together, and what holds once it is acknowledged.
#[derive(Debug)]
struct Plan {
    what: &'static str,
    writes: Vec<Write>,
    ending: Ending,
    write: i64,
    fates: Vec<(Thing, ObjectId, Fate)>,
    own: Vec<Own>,
}

/// Keys in a writer's own lists that changed.
#[derive(Debug)]
enum Own {
    New(Thing, ObjectId),
    Gone(Thing, usize),
}

/// One writer's part: which documents are its own, what it does next, what it was promised. No other one writes them, so the
/// last acknowledged word on each key is known.
#[derive(Debug)]
struct Writer {
    rng: StdRng,
    number: u64,
    count: u64,
    sizes: Sizes,
    /// Own documents of the beginning: nobody deletes them, others refer to them.
    people: Vec<ObjectId>,
    articles: Vec<ObjectId>,
    /// Own documents that were added, which nobody refers to.
    guests: Vec<ObjectId>,
    novelties: Vec<ObjectId>,
    orders: Vec<ObjectId>,
    altered: Arc<AtomicBool>,
    ledger: Ledger,
}

/// Writes until it is told to stop, and gives account.
///
/// # Errors
/// If the server refuses what an application may do.
pub async fn write(
    shop: Documents,
    number: u64,
    rows: u64,
    altered: Arc<AtomicBool>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> Result<Ledger> {
    let mut session =
        shop.client.start_session().await.map_err(|e| wrap("starting a session of the application", &e))?;
    let mut writer = Writer::new(number, Sizes::of(rows), altered);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PACE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !stop.is_cancelled() {
        tick.tick().await;
        let plan = writer.next();
        match carry_out(&shop, &mut session, &plan).await {
            Ok(true) => {
                let counter = if plan.ending == Ending::Abort { &counters.rolled_back } else { &counters.committed };
                counter.fetch_add(1, Ordering::Relaxed);
                writer.acknowledged(plan);
            }
            Ok(false) => drop(counters.refused.fetch_add(1, Ordering::Relaxed)),
            Err(e) => return Err(e.context(format!("the application's transaction {}", plan.what))),
        }
    }
    Ok(writer.ledger)
}

/// Whether it was acknowledged; write conflicts, which any application has to expect, are not.
async fn carry_out(shop: &Documents, session: &mut ClientSession, plan: &Plan) -> Result<bool> {
    if plan.ending == Ending::Alone {
        for write in &plan.writes {
            done(shop, None, write).await.map_err(|e| wrap("a write", &e))?;
        }
        return Ok(true);
    }
    session.start_transaction().await.map_err(|e| wrap("beginning", &e))?;
    for write in &plan.writes {
        if let Err(e) = done(shop, Some(session), write).await {
            // The server may have aborted it by itself.
            let _ = session.abort_transaction().await;
            return if e.contains_label(TRANSIENT_TRANSACTION_ERROR) { Ok(false) } else { Err(wrap("a write", &e)) };
        }
    }
    if plan.ending == Ending::Abort {
        session.abort_transaction().await.map_err(|e| wrap("aborting", &e))?;
        return Ok(true);
    }
    loop {
        match session.commit_transaction().await {
            Ok(()) => return Ok(true),
            Err(e) if e.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            Err(e) if e.contains_label(TRANSIENT_TRANSACTION_ERROR) => return Ok(false),
            Err(e) => return Err(wrap("committing", &e)),
        }
    }
}

async fn done(shop: &Documents, session: Option<&mut ClientSession>, write: &Write) -> mongodb::error::Result<()> {
    let collection = |name: &str| shop.database.collection::<Document>(name);
    let by = |id: &ObjectId| doc! { "_id": id };
    let found = match (write, session) {
        (Write::Insert(c, documents), Some(s)) => {
            collection(c).insert_many(documents).session(s).await?.inserted_ids.len() == documents.len()
        }
        (Write::Insert(c, documents), None) => {
            collection(c).insert_many(documents).await?.inserted_ids.len() == documents.len()
        }
        (Write::Update(c, id, u), Some(s)) => {
            collection(c).update_one(by(id), u.clone()).session(s).await?.matched_count == 1
        }
        (Write::Update(c, id, u), None) => collection(c).update_one(by(id), u.clone()).await?.matched_count == 1,
        (Write::Replace(c, id, d), Some(s)) => {
            collection(c).replace_one(by(id), d).session(s).await?.matched_count == 1
        }
        (Write::Replace(c, id, d), None) => collection(c).replace_one(by(id), d).await?.matched_count == 1,
        (Write::Delete(c, id), Some(s)) => collection(c).delete_one(by(id)).session(s).await?.deleted_count == 1,
        (Write::Delete(c, id), None) => collection(c).delete_one(by(id)).await?.deleted_count == 1,
    };
    match found {
        true => Ok(()),
        false => Err(mongodb::error::Error::custom("a document that the application counts on is not there")),
    }
}

impl Writer {
    fn new(number: u64, sizes: Sizes, altered: Arc<AtomicBool>) -> Writer {
        let own = |kind, of: u64| (1..=of).filter(move |i| i % WRITERS == number).map(move |i| id(kind, i)).collect();
        Writer {
            // Repeatable: the interleaving of writers is what differs from run to run.
            rng: StdRng::seed_from_u64(number),
            number,
            count: 0,
            sizes,
            people: own(Kind::Person, sizes.people),
            articles: own(Kind::Article, sizes.articles),
            guests: Vec::new(),
            novelties: Vec::new(),
            orders: own(Kind::Order, sizes.orders),
            altered,
            ledger: Ledger::default(),
        }
    }

    /// A number that no other write has, and no document of the beginning.
    fn number(&mut self) -> u64 {
        self.count += 1;
        (self.number + 1) * 1_000_000_000 + self.count
    }

    fn next(&mut self) -> Plan {
        let n = self.number();
        let write = n as i64;
        let mut plan = Plan {
            what: "order",
            writes: Vec::new(),
            ending: Ending::Commit,
            write,
            fates: Vec::new(),
            own: Vec::new(),
        };
        let dice = self.rng.random_range(0..100);
        // What has nothing to change yet becomes an order.
        if self.body(dice, n, &mut plan).is_none() {
            plan.fates.clear();
            self.new_order(n, &mut plan);
        }
        if plan.ending != Ending::Alone {
            let mut event = event(n, plan.what, Some(write));
            if self.altered.load(Ordering::Relaxed) {
                event.insert("channel", "app 📱");
            }
            plan.writes.push(Write::Insert("events", vec![event]));
        }
        plan
    }

    fn body(&mut self, dice: u32, n: u64, plan: &mut Plan) -> Option<()> {
        let w = plan.write;
        match dice {
            0..22 => return None,
            22..50 => self.change_order(n, plan)?,
            50..56 => self.delete_order(n, plan)?,
            56..60 => self.replace_order(n, plan)?,
            60..74 => self.change_person(plan)?,
            74..79 => self.guest(n, plan)?,
            79..91 => self.change_article(plan)?,
            91..94 => self.novelty(n, plan)?,
            94..96 => {
                plan.what = "batch";
                let more = (1..=200).map(|k| event(n * 1_000 + k, "bulk", None)).collect();
                plan.writes.push(Write::Insert("events", more));
            }
            _ => {
                plan.what = "never";
                plan.ending = Ending::Abort;
                let new = order(n, n, self.sizes, Some(w));
                plan.writes.push(Write::Insert("orders", vec![new]));
                plan.fates.push((Thing::Order, id(Kind::Order, n), Fate::Gone(w)));
            }
        }
        Some(())
    }

    fn new_order(&mut self, n: u64, plan: &mut Plan) {
        let (key, seed) = (id(Kind::Order, n), self.rng.random_range(0..1_000_000));
        plan.writes.push(Write::Insert("orders", vec![order(n, seed, self.sizes, Some(plan.write))]));
        plan.fates.push((Thing::Order, key, Fate::There(Some(plan.write))));
        plan.own.push(Own::New(Thing::Order, key));
        // The second collection of the transaction, beside the event.
        let i = self.rng.random_range(0..self.people.len().max(1));
        if let Some(person) = self.people.get(i).copied() {
            let change = doc! { "$inc": { "orders": 1 }, "$set": { "last_write": plan.write } };
            plan.writes.push(Write::Update("people", person, change));
            plan.fates.push((Thing::Person, person, Fate::There(Some(plan.write))));
        }
    }

    fn change_order(&mut self, n: u64, plan: &mut Plan) -> Option<()> {
        let at = self.rng.random_range(0..self.orders.len().max(1));
        let (key, w) = (*self.orders.get(at)?, plan.write);
        let set = |mut more: Document| {
            more.insert("last_write", w);
            more
        };
        let (what, change) = match self.rng.random_range(0..6) {
            0 => ("payment", doc! { "$set": set(doc! { "state": "paid", "total": amount(w % 1_000_000) }) }),
            1 => {
                let new = documents::item(n % 1_000_000, n % 5 + 1, self.sizes.articles);
                ("push", doc! { "$push": { "items": new }, "$set": set(doc! {}) })
            }
            2 => ("pull", doc! { "$pull": { "items": { "quantity": { "$lt": 3 } } }, "$set": set(doc! {}) }),
            3 => ("unset", doc! { "$unset": { "ship_to": "", "items.0.note": "" }, "$set": set(doc! {}) }),
            4 => (
                "ship",
                doc! { "$set": set(doc! { "state": "shipped", "ship_to.since": documents::date(w), "parcel": { "no": w } }) },
            ),
            _ => ("empty", doc! { "$set": set(doc! { "items": [] }) }),
        };
        plan.what = what;
        // Half of them alone, as most writes of applications are.
        if what != "payment" {
            plan.ending = Ending::Alone;
        }
        plan.writes.push(Write::Update("orders", key, change));
        plan.fates.push((Thing::Order, key, Fate::There(Some(w))));
        Some(())
    }

    fn delete_order(&mut self, n: u64, plan: &mut Plan) -> Option<()> {
        let at = self.rng.random_range(0..self.orders.len().max(1));
        let (key, w) = (*self.orders.get(at)?, plan.write);
        plan.what = "cancel";
        plan.writes.push(Write::Delete("orders", key));
        if self.rng.random_range(0..3) == 0 {
            // And inserted again under the same key.
            plan.what = "again";
            let mut new = order(n, n % 1_000_000, self.sizes, Some(w));
            new.insert("_id", key);
            plan.writes.push(Write::Insert("orders", vec![new]));
            plan.fates.push((Thing::Order, key, Fate::There(Some(w))));
        } else {
            plan.fates.push((Thing::Order, key, Fate::Gone(w)));
            plan.own.push(Own::Gone(Thing::Order, at));
        }
        Some(())
    }

    fn replace_order(&mut self, n: u64, plan: &mut Plan) -> Option<()> {
        let at = self.rng.random_range(0..self.orders.len().max(1));
        let (key, w) = (*self.orders.get(at)?, plan.write);
        plan.what = "replace";
        let mut new = order(n, n % 999_983, self.sizes, Some(w));
        new.insert("_id", key);
        plan.writes.push(Write::Replace("orders", key, new));
        plan.fates.push((Thing::Order, key, Fate::There(Some(w))));
        Some(())
    }

    fn change_person(&mut self, plan: &mut Plan) -> Option<()> {
        let at = self.rng.random_range(0..self.people.len().max(1));
        let (key, w) = (*self.people.get(at)?, plan.write);
        plan.what = "person";
        let set = |mut more: Document| {
            more.insert("last_write", w);
            more
        };
        let change = match self.rng.random_range(0..5) {
            0 => doc! { "$push": { "tags": format!("t{w}") }, "$set": set(doc! {}) },
            1 => doc! { "$pull": { "tags": "neu" }, "$set": set(doc! {}) },
            2 => doc! { "$unset": { "nick": "", "address.zip": "" }, "$set": set(doc! {}) },
            3 => {
                doc! { "$set": set(doc! { "address.city": format!("Ort {w} 🏠"), "born": null, "credit": amount(-w) }) }
            }
            _ => doc! { "$set": set(doc! { "vip": true, "prefs.lang": "fr" }), "$rename": { "nick": "called" } },
        };
        plan.writes.push(Write::Update("people", key, change));
        plan.fates.push((Thing::Person, key, Fate::There(Some(w))));
        Some(())
    }

    /// Somebody who has ordered nothing comes, or goes.
    fn guest(&mut self, n: u64, plan: &mut Plan) -> Option<()> {
        plan.what = "guest";
        let w = plan.write;
        if self.guests.len() > 20 {
            let at = self.rng.random_range(0..self.guests.len());
            let key = *self.guests.get(at)?;
            plan.writes.push(Write::Delete("people", key));
            plan.fates.push((Thing::Person, key, Fate::Gone(w)));
            plan.own.push(Own::Gone(Thing::Person, at));
        } else {
            let key = id(Kind::Person, n);
            plan.writes.push(Write::Insert("people", vec![person(n, Some(w))]));
            plan.fates.push((Thing::Person, key, Fate::There(Some(w))));
            plan.own.push(Own::New(Thing::Person, key));
        }
        Some(())
    }

    fn change_article(&mut self, plan: &mut Plan) -> Option<()> {
        let at = self.rng.random_range(0..self.articles.len().max(1));
        let (key, w) = (*self.articles.get(at)?, plan.write);
        plan.what = "article";
        let other = id(Kind::Article, self.rng.random_range(1..=self.sizes.articles));
        let set = |mut more: Document| {
            more.insert("last_write", w);
            more
        };
        let change = match self.rng.random_range(0..4) {
            0 => doc! { "$push": { "related": other }, "$set": set(doc! {}) },
            1 => doc! { "$pull": { "related": other }, "$set": set(doc! {}) },
            2 => doc! { "$set": set(doc! { "related": [other, key, other] }) },
            _ => {
                doc! { "$set": set(doc! { "price": amount(w % 1_000_000), "weight": w as f64 / 8.0 }), "$unset": { "sizes": "" } }
            }
        };
        plan.writes.push(Write::Update("articles", key, change));
        plan.fates.push((Thing::Article, key, Fate::There(Some(w))));
        Some(())
    }

    /// An article that nothing refers to comes, or goes.
    fn novelty(&mut self, n: u64, plan: &mut Plan) -> Option<()> {
        plan.what = "novelty";
        let w = plan.write;
        if self.novelties.len() > 10 {
            let at = self.rng.random_range(0..self.novelties.len());
            let key = *self.novelties.get(at)?;
            plan.writes.push(Write::Delete("articles", key));
            plan.fates.push((Thing::Article, key, Fate::Gone(w)));
            plan.own.push(Own::Gone(Thing::Article, at));
        } else {
            let key = id(Kind::Article, n);
            plan.writes.push(Write::Insert("articles", vec![article(n, self.sizes.articles, Some(w))]));
            plan.fates.push((Thing::Article, key, Fate::There(Some(w))));
            plan.own.push(Own::New(Thing::Article, key));
        }
        Some(())
    }

    /// Own documents of a kind that may be deleted.
    fn list(&mut self, thing: Thing) -> &mut Vec<ObjectId> {
        match thing {
            Thing::Person => &mut self.guests,
            Thing::Article => &mut self.novelties,
            _ => &mut self.orders,
        }
    }

    /// The promises hold from here on.
    fn acknowledged(&mut self, plan: Plan) {
        match plan.ending {
            Ending::Commit => drop(self.ledger.committed.insert(plan.write)),
            Ending::Abort => drop(self.ledger.rolled_back.insert(plan.write)),
            Ending::Alone => {}
        }
        for (thing, key, fate) in plan.fates {
            self.ledger.fates.insert((thing, key.to_hex()), fate);
        }
        for own in plan.own {
            match own {
                Own::New(thing, key) => self.list(thing).push(key),
                Own::Gone(thing, at) => drop(self.list(thing).swap_remove(at)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ledger_of(number: u64) -> Ledger {
        let mut writer = Writer::new(number, Sizes::of(1_000), Arc::default());
        for _ in 0..3_000 {
            let plan = writer.next();
            assert!(plan.ending != Ending::Alone || plan.writes.len() == 1, "{plan:?}");
            writer.acknowledged(plan);
        }
        writer.ledger
    }

    #[test]
    fn given_two_writers_when_they_write_then_no_key_is_both_s() {
        let (a, b) = (ledger_of(0), ledger_of(1));
        assert!(a.fates.keys().all(|key| !b.fates.contains_key(key)));
        assert!(a.committed.is_disjoint(&b.committed));
        let things: BTreeSet<Thing> = a.fates.keys().map(|(thing, _)| *thing).collect();
        assert_eq!(things.len(), 3);
    }

    #[test]
    fn given_an_aborted_transaction_when_it_ends_then_nothing_of_it_is_promised() {
        let ledger = ledger_of(2);
        assert!(ledger.rolled_back.len() > 30);
        assert!(ledger.rolled_back.is_disjoint(&ledger.committed));
    }
}
