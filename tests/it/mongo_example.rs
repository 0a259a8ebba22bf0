//! `config/mongo-to-postgres.toml` on real servers: what its remarks promise.

use bson::{Bson, Document, doc};

use crate::mongo_source::Pair;
use crate::support::Daemon;

fn id(n: u8) -> bson::oid::ObjectId {
    bson::oid::ObjectId::from_bytes([n; 12])
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

fn date(ms: i64) -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(ms))
}

fn person(n: u8) -> Document {
    doc! {
        "_id": id(n), "name": format!("P{n}"), "joined": date(0), "born": date(-86_400_000), "credit": decimal("1.5"),
        "tags": ["a", "b,c"], "address": { "city": "Bern", "zip": "3000", "geo": [1, 2] }, "nick": "x",
    }
}

fn article(n: u8, related: &[u8]) -> Document {
    let related: Vec<_> = related.iter().map(|n| id(*n)).collect();
    doc! { "_id": id(n), "code": format!("A{n}"), "price": decimal("12.3456"), "related": related }
}

fn order(n: u8, person: u8, items: &[u8]) -> Document {
    let item = |n: &u8| doc! { "article": id(*n), "quantity": 2, "price": decimal("0.10"), "note": "n" };
    let items: Vec<_> = items.iter().map(item).collect();
    doc! { "_id": id(n), "person": id(person), "created": date(1_500), "total": decimal("9.99"), "items": items }
}

#[test]
fn given_the_example_for_documents_when_run_then_tables_keys_and_references_are_as_it_says() {
    let pair = Pair::start();
    pair.insert("people", vec![person(1), person(2)]);
    pair.insert("articles", vec![article(11, &[12, 13, 12]), article(12, &[]), article(13, &[11])]);
    pair.insert("orders", vec![order(21, 1, &[11, 12]), order(22, 2, &[])]);
    pair.insert("events", vec![doc! { "_id": id(31), "at": date(1), "payload": { "a": 1 }, "more": 5 }]);
    pair.insert("others", vec![doc! { "_id": 7, "x": 1 }]);
    let mut daemon = Daemon::spawn(&pair.config().shipped("mongo-to-postgres.toml"));
    daemon.ready();
    let mut sql = pair.on_target();
    let bought = "select p.name, a.code, i.position, i.quantity, i.price, o.state, o.total from orders o \
        join people p on p.id = o.person_id join order_items i on i.order_id = o.id join articles a on a.id = i.article_id \
        order by 1, 3";
    let rows = |sql: &mut crate::support::Sql, question: &str| {
        let rows = sql.rows(question);
        rows.into_iter().map(|r| r.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let text = |sql: &mut crate::support::Sql| {
        rows(
            sql,
            &format!("select concat_ws(' ', name, code, position, quantity, price, state, total) from ({bought}) x"),
        )
    };
    assert_eq!(text(&mut sql), ["P1 A11 1 2 0.1000 placed 9.9900", "P1 A12 2 2 0.1000 placed 9.9900"]);
    let related = "select a.code || r.position || b.code from article_related r join articles a on a.id = r.article_id \
        join articles b on b.id = r.related_id order by 1";
    assert_eq!(rows(&mut sql, related), ["A111A12", "A112A13", "A113A12", "A131A11"]);
    assert_eq!(
        rows(
            &mut sql,
            "select concat_ws(' ', address_city, address_zip, tags[2], born, vip, more) from people limit 1"
        ),
        [r#"Bern 3000 b,c 1969-12-31 f {"nick": "x", "address": {"geo": [1, 2]}}"#]
    );
    assert_eq!(rows(&mut sql, "select more::text from events"), [r#"{"more": 5}"#]);
    assert_eq!(rows(&mut sql, "select _id || doc::text from others"), [r#"7{"x": 1, "_id": 7}"#]);
    // The same in the stream: lists that grow, shrink and go, parents that go.
    pair.update("orders", id(21), doc! { "$pull": { "items": { "article": id(11) } } });
    pair.update(
        "orders",
        id(22),
        doc! { "$push": { "items": { "article": id(13), "quantity": 1 } }, "$set": { "state": "paid" } },
    );
    pair.update("articles", id(11), doc! { "$unset": { "related": "" } });
    pair.update("people", id(1), doc! { "$set": { "address.city": "Genf" }, "$unset": { "nick": "" } });
    pair.insert("orders", vec![order(23, 1, &[11])]);
    pair.delete("orders", id(23));
    pair.level();
    assert_eq!(text(&mut sql), ["P1 A12 1 2 0.1000 placed 9.9900", "P2 A13 1 1 paid 9.9900"]);
    assert_eq!(rows(&mut sql, related), ["A131A11"]);
    assert_eq!(
        rows(&mut sql, "select address_city || more from people where name = 'P1'"),
        [r#"Genf{"address": {"geo": [1, 2]}}"#]
    );
    let keys = "select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint \
        where connamespace = 'public'::regnamespace and contype = 'f' and convalidated order by 1";
    assert_eq!(
        rows(&mut sql, keys),
        [
            "article_related FOREIGN KEY (article_id) REFERENCES articles(id) ON DELETE CASCADE",
            "article_related FOREIGN KEY (related_id) REFERENCES articles(id)",
            "order_items FOREIGN KEY (article_id) REFERENCES articles(id)",
            "order_items FOREIGN KEY (order_id) REFERENCES orders(id) ON DELETE CASCADE",
            "orders FOREIGN KEY (person_id) REFERENCES people(id)",
        ]
    );
}
