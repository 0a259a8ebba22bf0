//! The demo's database in MongoDB: the shop as documents, and the connection that it is filled and asked by.

use bson::oid::ObjectId;
use bson::{Bson, Decimal128, Document, doc};
use mongodb::options::{ClientOptions, InsertManyOptions, WriteConcern};
use mongodb::{Client, Database};

use super::shop::{customers, products};
use crate::error::{Result, ResultExt};
use crate::mongowire::errors::wrap;

/// The rules are those of the example that is shipped: what is shown works.
const EXAMPLE: &str = include_str!("../../../config/mongo-to-postgres.toml");
/// The demo's probes, whose number is looked for at the target.
const PULSE: &str = "\n[[rule]]\nfrom = \"shop.pulse\"\nto = \"public.pulse\"\nrename = { _id = \"n\" }\ndrop = [\"rest\"]\nfields = { _id = \"bigint\" }\n";
/// What is changed about the documents while everything runs.
pub const ALTERATION: &str = "events get a field `channel`, which no rule names: it goes into the column `more`";

/// Documents of one insert.
const BATCH: u64 = 1_000;
const STATES: [&str; 4] = ["placed", "paid", "shipped", "returned"];
const DAY: i64 = 86_400_000;

/// What a document of a collection is called in [`id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `people`.
    Person = 1,
    /// `articles`.
    Article = 2,
    /// `orders`.
    Order = 3,
    /// `events`.
    Event = 4,
}

/// The key of a document by number: the same in every run.
pub fn id(kind: Kind, n: u64) -> ObjectId {
    let mut bytes = [0x66, kind as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// An amount with four digits behind the point.
pub fn amount(ten_thousandths: i64) -> Bson {
    let (sign, n) = (if ten_thousandths < 0 { "-" } else { "" }, ten_thousandths.unsigned_abs());
    let text = format!("{sign}{}.{:04}", n / 10_000, n % 10_000);
    // Digits of 64 bits always are a Decimal128.
    text.parse::<Decimal128>().map_or(Bson::Null, Bson::Decimal128)
}

/// A date by milliseconds since 1970.
pub fn date(ms: i64) -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(ms))
}

/// The rules, without the example's remarks: sections from `[tables]` on, but for `[api]`.
pub fn rules() -> String {
    let from = EXAMPLE.find("\n[tables]\n").map_or("", |at| &EXAMPLE[at..]);
    let until = from.find("\n[api]\n").map_or(from, |at| &from[..at]);
    let mut out = String::new();
    for line in until.lines().filter(|l| !l.starts_with('#')) {
        // Where remarks stood, no more than one empty line stays.
        if !(line.is_empty() && out.ends_with("\n\n")) {
            out.push_str(line);
            out.push('\n');
        }
    }
    format!("{}\n{PULSE}", out.trim_end())
}

/// A connection to the shop.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The driver's own pool.
    pub client: Client,
    /// The shop.
    pub database: Database,
}

impl Documents {
    /// Connects. What is acknowledged by it, a majority of the set has on its disks.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub async fn connect(url: &str, database: &str) -> Result<Documents> {
        let failed = |e| wrap("connecting to a private server", &e);
        let mut options = ClientOptions::parse(url).await.map_err(failed)?;
        options.app_name = Some("shop".into());
        options.write_concern =
            Some(WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build());
        let client = Client::with_options(options).map_err(failed)?;
        Ok(Documents { database: client.database(database), client })
    }

    /// Adds a probe.
    ///
    /// # Errors
    /// As the server says.
    pub async fn pulse(&self, n: i64) -> Result<()> {
        let inserted = self.database.collection::<Document>("pulse").insert_one(doc! { "_id": n }).await;
        inserted.map(drop).map_err(|e| wrap("sending a probe", &e))
    }

    /// Hands every document of a collection to `look`.
    ///
    /// # Errors
    /// As the server says, or `look`.
    pub async fn each(&self, collection: &str, mut look: impl FnMut(&Document) -> Result<()>) -> Result<()> {
        let failed = |e| wrap("comparing: reading the source", &e);
        let mut cursor = self.database.collection::<Document>(collection).find(doc! {}).await.map_err(failed)?;
        while cursor.advance().await.map_err(failed)? {
            look(&cursor.deserialize_current().map_err(failed)?)?;
        }
        Ok(())
    }

    /// What a migration left behind.
    ///
    /// # Errors
    /// As the server says.
    pub async fn leftovers(&self) -> Result<Vec<String>> {
        let failed = |e| wrap("looking for what is left at the source", &e);
        let databases = self.client.list_database_names().await.map_err(failed)?;
        let collections = self.database.list_collection_names().await.map_err(failed)?;
        let databases = databases.into_iter().filter(|d| d == "switchyard").map(|d| format!("source: database {d}"));
        let ours = collections.into_iter().filter(|c| c.starts_with("switchyard"));
        Ok(databases.chain(ours.map(|c| format!("source: collection {c}"))).collect())
    }

    /// Fills the empty shop; `rows` is about the number of order items. Returns how many documents there are.
    ///
    /// # Errors
    /// As the server says.
    pub async fn fill(&self, rows: u64) -> Result<u64> {
        let s = Sizes::of(rows);
        self.insert("people", s.people, move |n| person(n, None)).await?;
        self.insert("articles", s.articles, move |n| article(n, s.articles, None)).await?;
        self.insert("orders", s.orders, move |n| order(n, n, s, None)).await?;
        self.insert("events", s.events, |n| event(n, "view", None)).await?;
        self.insert("notes", s.notes, note).await?;
        for (collection, field) in
            [("orders", "person"), ("orders", "created"), ("people", "email"), ("events", "write_id")]
        {
            let index = doc! { "key": { field: 1 }, "name": field };
            let made = self.database.run_command(doc! { "createIndexes": collection, "indexes": [index] }).await;
            made.map_err(|e| wrap("making the shop's indexes", &e))?;
        }
        // It takes part from the start; its table is asked before the first probe is sent.
        self.database.create_collection("pulse").await.map_err(|e| wrap("making the shop's collections", &e))?;
        Ok(s.people + s.articles + s.orders + s.events + s.notes)
    }

    async fn insert(&self, collection: &str, count: u64, make: impl Fn(u64) -> Document) -> Result<()> {
        let into = self.database.collection::<Document>(collection);
        for from in (1..=count).step_by(BATCH as usize) {
            let documents: Vec<Document> = (from..=count.min(from + BATCH - 1)).map(&make).collect();
            let options = InsertManyOptions::builder().ordered(false).build();
            let inserted = into.insert_many(documents).with_options(options).await;
            inserted.map_err(|e| wrap("filling the shop", &e)).with_context(|| collection.to_owned())?;
        }
        Ok(())
    }
}

/// How many documents there are in the beginning, by the number of order items.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// People.
    pub people: u64,
    /// Articles.
    pub articles: u64,
    /// Orders, with three items on average.
    pub orders: u64,
    /// Events.
    pub events: u64,
    /// Documents of a collection without a rule.
    pub notes: u64,
}

impl Sizes {
    /// Of so many order items.
    pub fn of(rows: u64) -> Sizes {
        let third = (rows / 3).max(20);
        Sizes { people: customers(rows), articles: products(rows), orders: third, events: third, notes: 300 }
    }
}

/// A person; fields come and go, and no two hold all of the same.
pub fn person(n: u64, write: Option<i64>) -> Document {
    let i = n as i64;
    let mut d = doc! {
        "_id": id(Kind::Person, n), "name": format!("Zoë \"{n}\" 🚲\t\\"), "email": format!("p{n}@example.org"),
        "born": date((i % 30_000 - 20_000) * DAY), "credit": amount(i * 10_001 - 500_000),
        "joined": date(1_600_000_000_000 + i * 61_001), "tags": ["neu", "a,b", "", format!("n{}", n % 7)],
        "address": { "city": if n.is_multiple_of(3) { Bson::Null } else { "Zürich".into() }, "zip": format!("{:05}", n % 99_999),
            "geo": { "lat": n as f64 / 7.0, "lon": -1.5 } },
        "prefs": { "lang": "de", "n": i, "deep": [null, true, 1.0, { "at": date(i) }] }, "nick": format!("nick{n}"),
    };
    match n % 5 {
        0 => drop(d.remove("tags")),
        1 => drop(d.insert("tags", Bson::Array(Vec::new()))),
        2 => drop(d.insert("vip", true)),
        3 => drop(d.insert("born", Bson::Null)),
        _ => {
            d.remove("address");
            d.remove("prefs");
            d.remove("nick");
        }
    }
    d.extend(write.map(|w| ("last_write".to_owned(), Bson::Int64(w))));
    d
}

/// An article and the ones related to it, among `articles`.
pub fn article(n: u64, articles: u64, write: Option<i64>) -> Document {
    let related = (1..=n % 4).map(|k| id(Kind::Article, 1 + (n * 7 + k * 13) % articles));
    let mut d = doc! {
        "_id": id(Kind::Article, n), "code": format!("A-{n}"), "title": format!("Ding Nr. {n} ☃\n"),
        "price": amount(n as i64 * 12_500), "weight": n as f64 / 3.0, "related": related.collect::<Vec<_>>(),
        "picture": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 0xff, (n % 251) as u8, 0x5c] },
        "sizes": [n as i64, (n * 2) as i64],
    };
    if n.is_multiple_of(6) {
        d.remove("sizes");
        d.insert("price", Bson::Null);
    }
    d.extend(write.map(|w| ("last_write".to_owned(), Bson::Int64(w))));
    d
}

/// One item of an order.
pub fn item(n: u64, line: u64, articles: u64) -> Document {
    let mut d = doc! {
        "article": id(Kind::Article, 1 + (n * 3 + line * 17) % articles), "quantity": (1 + (n + line) % 9) as i32,
        "price": amount((n % 100_000 * 100 + line) as i64),
    };
    if line % 2 == 1 {
        d.insert("note", format!("bitte läuten {line} 🎁"));
    }
    d
}

/// An order, with one to five items; `n` is its key, `seed` says what is in it.
pub fn order(n: u64, seed: u64, s: Sizes, write: Option<i64>) -> Document {
    let items: Vec<Document> = (1..=1 + seed % 5).map(|line| item(seed, line, s.articles)).collect();
    let mut d = doc! {
        "_id": id(Kind::Order, n), "person": id(Kind::Person, 1 + seed % s.people),
        "created": date(1_650_000_000_000 + seed as i64 % 100_000_000 * 421), "state": STATES[(seed % 4) as usize],
        "total": amount(seed as i64 % 1_000_000_000 * 7), "items": items,
        "ship_to": { "street": format!("Weg \"{seed}\""), "since": null },
    };
    if seed.is_multiple_of(7) {
        d.remove("ship_to");
        d.remove("state");
    }
    d.extend(write.map(|w| ("last_write".to_owned(), Bson::Int64(w))));
    d
}

/// An event.
pub fn event(n: u64, kind: &str, write: Option<i64>) -> Document {
    let mut d = doc! {
        "_id": id(Kind::Event, n), "at": date(1_700_000_000_000 + n as i64 % 1_000_000_000 * 333), "kind": kind,
        "payload": { "page": format!("/p/{n} 🛒"), "a": [1, null] },
    };
    d.extend(write.map(|w| ("write_id".to_owned(), Bson::Int64(w))));
    d
}

/// A document of a collection that no rule names, under keys of several types.
fn note(n: u64) -> Document {
    let key = match n % 3 {
        0 => Bson::Int32(n as i32),
        1 => Bson::String(format!("note {n}")),
        _ => Bson::ObjectId(id(Kind::Event, n)),
    };
    doc! { "_id": key, "text": format!("merken: {n}"), "when": date(n as i64), "half": n as f64 + 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_shipped_example_when_its_rules_are_taken_then_they_are_whole_and_without_remarks() {
        let text = rules();
        assert!(
            text.contains("[tables]") && text.matches("[[rule]]").count() == 5 && !text.contains("[api]"),
            "{text}"
        );
        assert!(text.lines().all(|l| !l.starts_with('#') && l.chars().count() <= 95), "{text}");
        let parsed: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(parsed["rule"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn given_amounts_when_made_then_their_digits_are_kept() {
        for (n, text) in [(-1, "-0.0001"), (123_456, "12.3456"), (-500_000, "-50.0000")] {
            assert_eq!(amount(n).to_string(), text);
        }
    }
}
