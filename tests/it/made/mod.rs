//! Tables that rules write and the target has not: made by the rules, on real servers.

mod interrupted;
mod pairs;

use crate::support::{Config, Daemon, Database, Sql, assert_same_rows};

/// A source whose tables rules reshape into tables that do not exist.
pub const SOURCE: &str = "
    create type mood as enum ('glad', 'sad'); create type unused as enum ('x');
    create domain email as varchar(60) check (value like '%@%');
    create table users (id serial primary key, mail email not null, mood mood not null default 'glad', secret unused,
        tags text[], created timestamptz not null default now(), note text default 'none', code text collate \"C\");
    comment on table users is 'Who'; comment on column users.mail is 'Where to'; comment on column users.secret is 'no';
    create table orders (id bigint generated always as identity primary key, user_id int not null references users,
        lines jsonb, cents bigint not null default 0);
    create table old_a (id int primary key, v text not null, a int); create table old_b (id int primary key, v text not null, b int);
    create table plain (id int primary key, user_id int references users, n int unique);
    create view glad as select * from users where mood = 'glad';
    insert into users (mail, mood, tags, code) select i || '@x.org', case when i % 3 = 0 then 'sad' else 'glad' end::mood,
        case i % 4 when 0 then null when 1 then '{}' else array['a' || i, null, 'b \"c\"'] end, 'c' || i from generate_series(1, 2000) i;
    insert into orders (user_id, lines, cents) select 1 + i % 2000,
        case when i % 3 > 0 then jsonb_build_array(jsonb_build_object('sku', 's' || i, 'qty', i % 7), jsonb_build_object('sku', null)) end, i
        from generate_series(1, 5000) i;
    insert into old_a select i, 'a' || i, i from generate_series(1, 300) i;
    insert into old_b select i, 'b' || i, i from generate_series(1001, 1400) i;
    insert into plain select i, i, i from generate_series(1, 50) i; analyze";

pub const RULES: &str = r#"
[[rule]]
from = "public.users"
to = "app.accounts"
rename = { mail = "address" }
drop = ["secret", "tags"]
set = { id = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', id)", legacy_id = "id" }
indexes = [{ columns = ["address"], unique = true, name = "one_address" }, { columns = ["mood", "created"] }]
[[rule.explode]]
path = "tags"
to = "app.tags"
set = { account = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', parent.id)", n = "position", tag = "item" }
key = ["account", "n"]
references = [{ columns = ["account"], table = "accounts", on_delete = "cascade" }]

[[rule]]
from = "public.orders"
to = "app.orders"
drop = ["lines", "user_id", "cents"]
not_null = ["account"]
types = { total = "numeric(20, 2)" }
set = { account = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', user_id)", total = "cents / 100.0" }
references = [{ columns = ["account"], table = "accounts" }]
[[rule.explode]]
path = "lines"
to = "app.lines"
set = { order_id = "parent.id", sku = "item.sku", qty = "item.qty::int" }

[[rule]]
from = "public.old_a"
to = "app.olds"
set = { origin = "'a'" }
[[rule]]
from = "public.old_b"
to = "app.olds"
set = { origin = "'b'" }
on_existing = "skip"
indexes = [{ columns = ["v"] }]
"#;

/// Target query, source query.
const SAME: [(&str, &str); 6] = [
    (
        "select id, address, mood, created, note, code, legacy_id from app.accounts",
        "select pg_temp.k(id), mail, mood, created, note, code, id from users",
    ),
    (
        "select account, n, tag from app.tags",
        "select pg_temp.k(id), n, t from users, unnest(tags) with ordinality u (t, n)",
    ),
    ("select id, account, total from app.orders", "select id, pg_temp.k(user_id), round(cents / 100.0, 2) from orders"),
    (
        "select order_id, sku, qty from app.lines",
        "select id, l->>'sku', l->>'qty' from orders, jsonb_array_elements(lines) l",
    ),
    (
        "select id, v, a, b, origin from app.olds",
        "select id, v, a, null, 'a' from old_a union all select id, v, null, b, 'b' from old_b",
    ),
    ("select * from plain", "select * from plain"),
];

pub fn same(source: &mut Sql, target: &mut Sql) {
    source.run("create schema if not exists uuid; create extension if not exists \"uuid-ossp\" schema uuid");
    source.run(
        "create or replace function pg_temp.k(x anyelement) returns uuid language sql as
           $$ select uuid.uuid_generate_v5('1f0a4c1e-0000-4000-8000-000000000001'::uuid, x::text) $$",
    );
    for (on_target, on_source) in SAME {
        assert_same_rows(source, on_source, target, on_target);
    }
}

pub fn prepared(what: &str) -> (Database, Sql, Sql, Config) {
    let db = Database::shared(what);
    let (mut source, target) = (db.on_source(), db.on_target());
    source.run(SOURCE);
    let config = db.config().extra(RULES);
    (db, source, target, config)
}

/// Everything that the migration made, one thing a line.
pub fn objects(target: &mut Sql) -> Vec<String> {
    let mut out = Vec::new();
    for sql in [
        "select format('table %s', c.oid::regclass) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'v', 'S') and n.nspname not in ('switchyard', 'information_schema') and n.nspname !~ '^pg_' and c.relkind <> 'S' order by 1",
        "select format('type %s', t.oid::regtype) from pg_type t where t.typtype in ('e', 'd') and t.oid >= 16384 order by 1",
        "select format('column %s %s %s%s%s%s%s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
             (select ' collate ' || collname from pg_collation c join pg_type t on t.oid = a.atttypid where c.oid = a.attcollation and c.oid <> t.typcollation),
             case when a.attnotnull then ' not null' else '' end, case when a.attidentity <> '' then ' identity ' || a.attidentity::text else '' end,
             ' default ' || pg_get_expr(d.adbin, d.adrelid))
         from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind = 'r' join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'app'
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where a.attnum > 0 order by a.attrelid::regclass::text, a.attnum",
        "select format('constraint %s %s %s%s', conrelid::regclass, conname, pg_get_constraintdef(oid), case when convalidated then '' else ' not valid' end)
         from pg_constraint where connamespace = 'app'::regnamespace or conrelid = 'plain'::regclass order by 1",
        "select indexdef from pg_indexes i where schemaname = 'app'
         and not exists (select from pg_constraint where conindid = format('app.%I', indexname)::regclass and contype in ('p', 'u')) order by 1",
    ] {
        out.extend(target.rows(sql).into_iter().map(|mut r| r.swap_remove(0).unwrap_or_default()));
    }
    out
}

pub const OBJECTS: &str = "\
table app.accounts
table app.lines
table app.olds
table app.orders
table app.tags
table plain
type email
type mood
type unused
column app.accounts id uuid not null
column app.accounts address email not null
column app.accounts mood mood not null default 'glad'::mood
column app.accounts created timestamp with time zone not null default CURRENT_TIMESTAMP
column app.accounts note text default 'none'::text
column app.accounts code text collate C
column app.accounts legacy_id integer
column app.lines order_id bigint
column app.lines qty integer
column app.lines sku text
column app.olds id integer not null
column app.olds v text not null
column app.olds a integer
column app.olds origin text
column app.olds b integer
column app.orders id bigint not null identity d
column app.orders account uuid not null
column app.orders total numeric(20,2)
column app.tags account uuid not null
column app.tags n integer not null
column app.tags tag text
constraint app.accounts accounts_pkey PRIMARY KEY (id)
constraint app.accounts one_address UNIQUE (address)
constraint app.olds olds_pkey PRIMARY KEY (id)
constraint app.orders orders_account_fkey FOREIGN KEY (account) REFERENCES app.accounts(id)
constraint app.orders orders_pkey PRIMARY KEY (id)
constraint app.tags tags_account_fkey FOREIGN KEY (account) REFERENCES app.accounts(id) ON DELETE CASCADE
constraint app.tags tags_pkey PRIMARY KEY (account, n)
constraint plain plain_n_key UNIQUE (n)
constraint plain plain_pkey PRIMARY KEY (id)
CREATE INDEX accounts_mood_created_idx ON app.accounts USING btree (mood, created)
CREATE INDEX lines_order_id_idx ON app.lines USING btree (order_id)
CREATE INDEX olds_v_idx ON app.olds USING btree (v)";

#[test]
fn given_tables_that_rules_write_when_the_target_has_none_then_they_are_made_and_filled() {
    let (db, mut source, mut target, config) = prepared("made");
    let check = Daemon::command(&config, &["check", "--all"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.contains("app.accounts is not there and is made, because a rule writes it"), "{said}");
    let row = r#"{"id": 7, "mail": "a@b", "tags": ["x", "y"]}"#;
    let shown = Daemon::command(&config, &["transform", "--table", "users", "--row", row]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("→ app.tags") && shown.contains("address    a@b"), "{shown}");
    assert_eq!(target.number("select count(*) from pg_namespace where nspname in ('app', 'switchyard')"), 0);
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    assert_eq!(objects(&mut target).join("\n"), OBJECTS);
    assert_eq!(target.one("select obj_description('app.accounts'::regclass)"), "Who");
    assert_eq!(target.one("select col_description('app.accounts'::regclass, 2)"), "Where to");
    let log = daemon.log();
    // What hung on a table that is another one now is said, once; nothing else is.
    let left: Vec<&str> = log.lines().filter(|l| l.contains("left out")).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].contains("foreign key plain_user_id_fkey is left out: a rule reshapes public.users"), "{left:?}");
    assert!(left[1].contains("VIEW public.glad"), "{left:?}");
    for sql in CHANGES {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    assert_eq!(daemon.sigterm(), 0);
    // The application goes on with the tables: numbers and references are the server's affair.
    assert_eq!(Daemon::command(&config, &["finish", "--yes"]).status.code(), Some(0));
    let gone = target.one("select id from app.accounts where id in (select account from app.tags) and id not in (select account from app.orders) limit 1");
    target.run(&format!("delete from app.accounts where id = '{gone}'"));
    assert_eq!(target.number(&format!("select count(*) from app.tags where account = '{gone}'")), 0);
    assert_eq!(target.number("select count(*) from pg_namespace where nspname = 'switchyard'"), 0);
}

#[test]
fn given_some_tables_that_exist_when_rules_write_them_then_they_stay_as_they_are_and_the_others_are_made() {
    let (db, mut source, mut target, config) = prepared("made_some");
    target.run("create schema app; create table app.accounts (id uuid primary key, address text, mood text, created timestamptz, note text, code text, legacy_id int, own int default 5)");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    for sql in CHANGES {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    let found = objects(&mut target);
    let of = |what: &str| found.iter().filter(|o| o.contains(what)).cloned().collect::<Vec<_>>();
    assert_eq!(of("column app.accounts own"), ["column app.accounts own integer default 5"]);
    assert_eq!(of("constraint app.accounts"), ["constraint app.accounts accounts_pkey PRIMARY KEY (id)"]);
    assert!(of("INDEX").iter().all(|i| !i.contains("accounts")), "{found:?}");
    // What refers to it is made.
    assert_eq!(of("tags_account_fkey").len() + of("orders_account_fkey").len(), 2);
}

#[test]
fn given_rules_that_cannot_be_made_when_checked_then_rule_key_and_remedy_are_named() {
    let (_db, _source, mut target, config) = prepared("made_bad");
    for (from, to, words) in [
        (
            "[\"account\", \"n\"]",
            "[\"acount\", \"n\"]",
            &["explode[0].key: app.tags gets no column \"acount\"; did you mean \"account\"?"][..],
        ),
        (
            "columns = [\"mood\", \"created\"]",
            "columns = [\"moods\"]",
            &["indexes[1].columns: app.accounts gets no column \"moods\""],
        ),
        (
            "references = [{ columns = [\"account\"], table = \"accounts\" }]",
            "references = [{ columns = [\"account\"], table = \"users\" }]",
            &["references[0].table: the target has no table app.users, and nothing here makes it", "correct the name"],
        ),
        (
            "set = { origin = \"'b'\" }",
            "rename = { b = \"a\" }\nset = { origin = \"'b'\", a = \"1.5\" }",
            &["column \"a\" is written by rename"],
        ),
        (
            "set = { origin = \"'b'\" }",
            "drop = [\"b\"]\nset = { origin = \"'b'\", a = \"b::text\" }",
            &["rule 4", "set.a: column \"a\" is text here and integer in rule 3", "types = { a = \"…\" }"],
        ),
        (
            "types = { total",
            "types = { totals",
            &["types: app.orders gets no column \"totals\"; did you mean \"total\"?"],
        ),
    ] {
        let bad = config.clone().edited(from, to);
        for command in ["check", "run"] {
            let said = Daemon::command(&bad, &[command]);
            let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert!(matches!(said.status.code(), Some(1 | 2)), "{text}");
            for w in words {
                assert!(text.contains(w), "{command}: {w:?} is not in\n{text}");
            }
        }
        assert_eq!(target.number("select count(*) from pg_namespace where nspname in ('app', 'switchyard')"), 0);
    }
    // Without create_schema everything is as it was.
    let said = Daemon::command(&config.schema_exists(), &["check"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.code() == Some(1) && text.contains("app.accounts: the target has no such table"), "{text}");
}

pub const CHANGES: &[&str] = &[
    "insert into users (mail, tags) values ('new@x.org', '{p,q}'); update users set tags = tags || '{more}' where id % 5 = 0",
    "update users set mood = 'sad', mail = 'z' || mail where id < 40; update users set id = 90000 + id where id between 1950 and 1999 and not exists (select from orders where user_id = users.id) and not exists (select from plain where user_id = users.id)",
    "update orders set lines = null, cents = -5 where id % 9 = 0; delete from orders where id % 10 = 1",
    "begin; insert into old_a values (500, 'new', 1); insert into old_b values (2000, 'new', 2); update old_b set v = 'later' where id = 1001; delete from old_a where id = 3; commit",
    "update plain set n = n + 1000; delete from plain where id = 4",
];
