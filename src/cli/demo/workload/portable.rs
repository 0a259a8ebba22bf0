//! What the demo's application does in the shop that two engines can hold: statements that all of them read.

use rand::Rng;

use super::super::portable::{day, moment, uuid};
use super::super::side::Engine;
use super::{Actor, Fate, Own, Plan, Thing};

impl Actor {
    /// The statements of a transaction; `None` for another order.
    pub(super) fn portable_body(&mut self, e: Engine, dice: u32, plan: &mut Plan) -> Option<String> {
        match dice {
            0..26 => None,
            26..40 => self.pay_portably(e, plan),
            40..48 => self.change_items_portably(plan),
            48..53 => self.delete_order_portably(plan),
            53..63 => Some(self.new_session(plan)),
            63..69 => self.change_session(plan),
            69..79 => self.touch_text_portably(e, plan),
            79..81 => self.rename_text_portably(plan),
            81..87 => self.stock(plan),
            87..89 => self.swap_nicks_portably(plan),
            89..91 => Some(self.new_customer_portably(e, plan)),
            91..93 => self.move_event_portably(plan),
            93..95 => Some(self.tidy_audit_portably(e, plan)),
            95..96 => Some(self.many_rows_portably(plan)),
            96..98 => Some(self.savepoint(plan)),
            _ => Some(self.change_of_mind(plan)),
        }
    }

    pub(super) fn order_portably(&mut self, e: Engine, id: i64) -> String {
        let customer = self.rng.random_range(1..=self.customers);
        let lines = self.rng.random_range(1..=5);
        let place = e.text(&format!(r#"{{"weg": "Weg \"{id}\" 🏠", "seit": null, "b": 1, "a": 2}}"#));
        let mut rows = Vec::new();
        for line in 1..=lines {
            let i = self.rng.random_range(1..=self.products);
            let note = e.text("é\t'\\ 🎁");
            rows.push(format!("({id}, {line}, 'SKU-{i}', {}, {i}.{line:04}, {note})", line * 2));
        }
        format!(
            "INSERT INTO orders (id, customer_id, placed_at, ship_to, total, last_write) \
             VALUES ({id}, {customer}, CURRENT_TIMESTAMP(6), {place}, {lines}.5, {}); \
             INSERT INTO order_items (order_id, line, sku, quantity, price, note) VALUES {}",
            self.ledger_id(),
            rows.join(", ")
        )
    }

    fn pay_portably(&mut self, e: Engine, plan: &mut Plan) -> Option<String> {
        plan.what = "payment";
        let i = self.pick(self.orders.len())?;
        let (id, w) = (self.orders[i], plan.write);
        let hex = self.hex();
        let key = if e == Engine::Postgres { format!("'{}'", uuid(&hex)) } else { format!("x'{hex}'") };
        let receipt = e.text(&format!(r#"{{"order": {id}, "big": 12345678901234, "z": true, "a": 0.5}}"#));
        plan.fates.push((Thing::Order, id.to_string(), Fate::There(Some(w))));
        Some(format!(
            "UPDATE orders SET state = 'paid', last_write = {w} WHERE id = {id}; \
             INSERT INTO payments (id, order_id, amount, paid_at, receipt) \
             VALUES ({key}, {id}, -12.3456, '1969-12-31 23:59:59.999', {receipt})"
        ))
    }

    fn change_items_portably(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "items";
        let i = self.pick(self.orders.len())?;
        let (id, w) = (self.orders[i], plan.write);
        plan.fates.push((Thing::Order, id.to_string(), Fate::There(Some(w))));
        Some(format!(
            "UPDATE order_items SET quantity = quantity + 1, note = NULL WHERE order_id = {id} AND line < 3; \
             DELETE FROM order_items WHERE order_id = {id} AND line = 4; \
             UPDATE orders SET total = 9999999999999999.9999, last_write = {w} WHERE id = {id}"
        ))
    }

    fn delete_order_portably(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "cancel";
        let i = self.pick(self.orders.len())?;
        let id = self.orders[i];
        plan.fates.push((Thing::Order, id.to_string(), Fate::Gone(plan.write)));
        plan.own.push(Own::GoneOrder(i));
        Some(format!(
            "DELETE FROM order_items WHERE order_id = {id}; DELETE FROM payments WHERE order_id = {id}; \
             DELETE FROM orders WHERE id = {id}"
        ))
    }

    pub(super) fn session_portably(&mut self, e: Engine, id: &str, w: i64) -> String {
        let token: u64 = self.rng.random();
        format!(
            "INSERT INTO sessions (id, customer_id, token, started, expires, opens, last_write) \
             VALUES ('{id}', {}, {}, CURRENT_TIMESTAMP(6), '9999-12-31', '23:59:59.999999', {w})",
            token % self.customers + 1,
            e.bytes(&format!("00{token:016x}5c"))
        )
    }

    /// Mostly leaves the long text alone, which PostgreSQL's log then does not carry.
    fn touch_text_portably(&mut self, e: Engine, plan: &mut Plan) -> Option<String> {
        plan.what = "text";
        let i = self.pick(self.texts.len())?;
        let (sku, w) = (self.texts[i].0.clone(), plan.write);
        let body = match self.rng.random_range(0..8) {
            0 => format!(", body = concat(reverse(body), {})", e.text("ß 🚲")),
            _ => String::new(),
        };
        plan.fates.push((Thing::Text, sku.clone(), Fate::There(Some(w))));
        let sql = format!(
            "UPDATE product_texts SET views = views + 1, changed_at = '{}', last_write = {w}{body} WHERE sku = '{sku}'",
            moment(self.count.unsigned_abs())
        );
        plan.own.push(Own::Text(i, sku, Some(w)));
        Some(sql)
    }

    /// A change of key, with a long text that PostgreSQL's log then does not carry.
    fn rename_text_portably(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "rename";
        let (i, w) = (self.pick(self.texts.len())?, plan.write);
        let (old, last) = self.texts[i].clone();
        let new = format!("{}/{w}", old.split('/').next().unwrap_or(&old));
        plan.fates.push((Thing::Text, old.clone(), Fate::Gone(w)));
        plan.fates.push((Thing::Text, new.clone(), Fate::There(last)));
        let sql = format!("UPDATE product_texts SET sku = '{new}' WHERE sku = '{old}'");
        plan.own.push(Own::Text(i, new, last));
        Some(sql)
    }

    /// Two rows exchange a unique value.
    fn swap_nicks_portably(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "swap";
        let w = plan.write;
        let (a, b) = (self.pick(self.nicks.len())?, self.pick(self.nicks.len())?);
        // Always in one order, so that two connections cannot wait for each other.
        let (a, b) = (a.min(b), a.max(b));
        if a == b {
            return None;
        }
        let [(x, of_x), (y, of_y)] = [a, b].map(|i| (self.nicks[i], self.nick_of[i].clone()));
        for i in [x, y] {
            plan.fates.push((Thing::Customer, format!("c{i}@example.org"), Fate::There(Some(w))));
        }
        plan.own.push(Own::Nicks(a, b));
        Some(format!(
            "UPDATE customers SET nick = 'swap {w}', last_write = {w} WHERE id = {x}; \
             UPDATE customers SET nick = '{of_x}', last_write = {w} WHERE id = {y}; \
             UPDATE customers SET nick = '{of_y}' WHERE id = {x}"
        ))
    }

    fn new_customer_portably(&mut self, e: Engine, plan: &mut Plan) -> String {
        plan.what = "customer";
        let w = plan.write;
        plan.fates.push((Thing::Customer, format!("w{w}@example.org"), Fate::There(Some(w))));
        format!(
            "INSERT INTO customers (email, nick, born, credit, prefs, vip, seen, last_write) \
             VALUES ('w{w}@example.org', NULL, '{}', -1.0001, {}, true, '{}', {w})",
            day(self.count.unsigned_abs()),
            e.text("{\"b\":1 , \"a\":[ ], \"ü\": \"\\u00fc\\n\"}"),
            moment(self.count.unsigned_abs())
        )
    }

    fn move_event_portably(&mut self, plan: &mut Plan) -> Option<String> {
        plan.what = "move";
        let back = self.rng.random_range(1..=80_000);
        let old = self.ledger.committed.iter().rev().nth(20)?;
        Some(format!("UPDATE events SET at = '{}', kind = 'moved' WHERE write_id = {old}", moment(back)))
    }

    /// Rows of a table without a key, of which there may be several alike.
    fn tidy_audit_portably(&mut self, e: Engine, plan: &mut Plan) -> String {
        plan.what = "audit";
        let one = |seen: &str| match e {
            Engine::Postgres => format!("WHERE ctid = (SELECT ctid FROM audit WHERE {seen} LIMIT 1)"),
            _ => format!("WHERE {seen} LIMIT 1"),
        };
        match self.rng.random_range(0..3) {
            0 => "INSERT INTO audit (at, what) VALUES ('2026-01-01 00:00:00', 'twice'), \
                  ('2026-01-01 00:00:00', 'twice')"
                .to_owned(),
            1 => format!("UPDATE audit SET seen = true {}", one("NOT seen")),
            _ => format!("DELETE FROM audit {}", one("seen")),
        }
    }

    fn many_rows_portably(&mut self, plan: &mut Plan) -> String {
        plan.what = "batch";
        let from = self.count.unsigned_abs();
        let rows: Vec<String> = (from..from + 500).map(|n| format!("('{}', 'bulk', NULL)", moment(n))).collect();
        format!("INSERT INTO events (at, kind, payload) VALUES {}", rows.join(", "))
    }
}
