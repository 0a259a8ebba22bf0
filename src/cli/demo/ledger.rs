//! What the demo's application was promised: every acknowledged write with its unique id, kept in the application's memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::shop::Shop;
use super::side::{self, Engine, Session};
use crate::error::Result;

/// What the application keeps an account of, beside the event that every transaction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// By id.
    Order,
    /// By id, a UUID.
    Session,
    /// By SKU.
    Text,
    /// By email.
    Customer,
    /// By article and size, `SKU-1|2`.
    Stock,
    /// A document's, by ObjectId.
    Person,
    /// A document's, by ObjectId.
    Article,
}

impl Thing {
    /// Every kind that is in a shop.
    fn of(shop: Shop) -> &'static [Thing] {
        match shop {
            Shop::Documents => &[Thing::Order, Thing::Person, Thing::Article],
            _ => &[Thing::Order, Thing::Session, Thing::Text, Thing::Customer, Thing::Stock],
        }
    }

    /// Last write and key of every row.
    fn question(self, shop: Shop, engine: Engine) -> String {
        match self {
            Thing::Order if shop == Shop::Documents => "SELECT last_write, legacy_id FROM orders".to_owned(),
            Thing::Person => "SELECT last_write, legacy_id FROM people".to_owned(),
            Thing::Article => "SELECT last_write, legacy_id FROM articles".to_owned(),
            Thing::Order => "SELECT last_write, id FROM orders".to_owned(),
            Thing::Session => "SELECT last_write, id FROM sessions".to_owned(),
            Thing::Text => "SELECT last_write, sku FROM product_texts".to_owned(),
            Thing::Customer => "SELECT last_write, email FROM customers".to_owned(),
            Thing::Stock => {
                let [article, size] = ["Artikel-Nr", "Größe"].map(|c| engine.quoted(c));
                format!("SELECT last_write, {article}, {size} FROM {}", shop.stock(engine))
            }
        }
    }

    fn label(self) -> &'static str {
        match self {
            Thing::Order => "order",
            Thing::Session => "session",
            Thing::Text => "product text",
            Thing::Customer => "customer",
            Thing::Stock => "stock",
            Thing::Person => "person",
            Thing::Article => "article",
        }
    }
}

/// What must be found under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The row, with this write as its last; `None` if the application only moved it.
    There(Option<i64>),
    /// Nothing, since this write.
    Gone(i64),
}

/// The account of one connection, or of all together.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Transactions whose COMMIT was acknowledged.
    pub committed: BTreeSet<i64>,
    /// Writes that were rolled back, whole or to a savepoint: they must never be seen.
    pub rolled_back: BTreeSet<i64>,
    /// The last word on every key.
    pub fates: BTreeMap<(Thing, String), Fate>,
}

impl Ledger {
    /// Adds another connection's account. Connections never write the same key.
    pub fn merge(&mut self, other: Ledger) {
        self.committed.extend(other.committed);
        self.rolled_back.extend(other.rolled_back);
        self.fates.extend(other.fates);
    }
}

/// What a look at the target came to; sentences name ids and keys.
#[derive(Debug, Default)]
pub struct Audit {
    /// Ids and keys that were looked up.
    pub looked_up: usize,
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// Rolled back, and there.
    pub phantoms: Vec<String>,
}

/// Looks up every entry.
///
/// # Errors
/// If the server cannot be asked.
pub async fn look_up(ledger: &Ledger, shop: Shop, target: &mut Session) -> Result<Audit> {
    let doing = "looking up the application's writes on the target";
    let (engine, column) = (target.engine(), shop.write_column());
    let sql = format!("SELECT {column} FROM events WHERE {column} IS NOT NULL");
    let mut seen: HashMap<i64, u32> = HashMap::new();
    for row in target.rows(doing, &sql).await? {
        *seen.entry(side::number(&row, 0)?).or_default() += 1;
    }
    let mut rows: HashMap<Thing, HashMap<String, Option<i64>>> = HashMap::new();
    for &thing in Thing::of(shop) {
        let of = rows.entry(thing).or_default();
        for mut row in target.rows(doing, &thing.question(shop, engine)).await? {
            let key: Vec<String> = row.drain(1..).map(Option::unwrap_or_default).collect();
            let last = if row[0].is_some() { Some(side::number(&row, 0)?) } else { None };
            of.insert(key.join("|"), last);
        }
    }
    Ok(judge(ledger, &seen, &rows))
}

/// Compares the account with what was seen.
fn judge(ledger: &Ledger, seen: &HashMap<i64, u32>, rows: &HashMap<Thing, HashMap<String, Option<i64>>>) -> Audit {
    let mut audit =
        Audit { looked_up: ledger.committed.len() + ledger.rolled_back.len() + ledger.fates.len(), ..Audit::default() };
    for id in &ledger.committed {
        match seen.get(id) {
            None => audit.lost.push(format!("write {id}")),
            Some(1) => {}
            Some(n) => audit.phantoms.push(format!("write {id}, {n} times")),
        }
    }
    for id in ledger.rolled_back.iter().filter(|id| seen.contains_key(*id)) {
        audit.phantoms.push(format!("write {id}, rolled back"));
    }
    for ((thing, key), fate) in &ledger.fates {
        let found = rows.get(thing).and_then(|of| of.get(key));
        let what = thing.label();
        match (fate, found) {
            (Fate::Gone(_), None) => {}
            (Fate::Gone(write), Some(_)) => audit.lost.push(format!("write {write}: {what} {key} should be gone")),
            (Fate::There(write), Some(last)) if write == last => {}
            (Fate::There(write), other) => {
                let write = write.map_or("a change of key".to_owned(), |w| format!("write {w}"));
                let how = if other.is_some() { "is in an older state" } else { "is missing" };
                audit.lost.push(format!("{write}: {what} {key} {how}"));
            }
        }
    }
    audit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_account_when_the_target_lacks_something_then_it_is_named() {
        let key = |k: &str| (Thing::Order, k.to_owned());
        let ledger = Ledger {
            committed: [1, 2, 3].into(),
            rolled_back: [9, 10].into(),
            fates: [
                (key("a"), Fate::There(Some(1))),
                (key("b"), Fate::There(Some(2))),
                (key("c"), Fate::Gone(3)),
                (key("d"), Fate::There(None)),
                (key("e"), Fate::Gone(2)),
            ]
            .into(),
        };
        let seen = [(1, 1), (2, 2), (10, 1)].into();
        let orders = [("a", Some(1)), ("b", Some(1)), ("c", None)].map(|(k, w)| (k.to_owned(), w)).into();
        let audit = judge(&ledger, &seen, &[(Thing::Order, orders)].into());
        assert_eq!(audit.looked_up, 10);
        assert_eq!(
            audit.lost,
            [
                "write 3",
                "write 2: order b is in an older state",
                "write 3: order c should be gone",
                "a change of key: order d is missing",
            ]
        );
        assert_eq!(audit.phantoms, ["write 2, 2 times", "write 10, rolled back"]);
    }
}
