//! Tables that rules write, made between engines.

use switchyard::sandbox::Flavour;

use crate::mysql_pairs::Twins;
use crate::mysql_source::installs;
use crate::mysql_target::Mixed;
use crate::mysql_to_postgres::Pair;
use crate::support::{Daemon, wait_until};

const RULES: &str = r#"
[[rule]]
from = "HOME.users"
to = "accounts"
rename = { mail = "address" }
drop = ["tags"]
set = { id = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', id)", legacy_id = "id", flag = "active" }
types = { note = "varchar(40)" }
indexes = [{ columns = ["address"], unique = true }]
[[rule.explode]]
path = "tags"
to = "tags"
set = { account = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', parent.id)", n = "position", tag = "TAG" }
types = { tag = "varchar(100)" }
key = ["account", "n"]
references = [{ columns = ["account"], table = "accounts", on_delete = "cascade" }]

[[rule]]
from = "HOME.orders"
to = "purchases"
drop = ["user_id"]
set = { account = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', user_id)" }
references = [{ columns = ["account"], table = "accounts" }, { columns = ["plain"], table = "plain" }]

[[rule]]
from = "HOME.old_a"
to = "olds"
set = { origin = "'a'" }
types = { origin = "char(1)" }
[[rule]]
from = "HOME.old_b"
to = "olds"
set = { origin = "'b'" }
on_existing = "skip"
"#;

fn rules(home: &str, tag: &str) -> String {
    RULES.replace("HOME", home).replace("TAG", tag)
}

#[test]
fn given_rules_from_postgres_when_mysql_has_no_tables_then_they_are_made_in_its_words() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let m = Mixed::start(flavour);
        m.on_source().run(
            "create table plain (id int primary key);
             create table users (id serial primary key, mail varchar(60) not null, active bool not null default true, tags text[], note text default 'x', at timestamptz(3) default now());
             create table orders (id bigint generated always as identity primary key, user_id int not null references users, cents numeric(10,2) not null default 1.5, plain int references plain);
             create table old_a (id int primary key, v varchar(20), a int); create table old_b (id int primary key, v varchar(20), b int);
             insert into plain values (1), (2);
             insert into users (mail, tags) select i || '@x.org', case when i % 3 > 0 then array['a' || i, 'ü'] end from generate_series(1, 300) i;
             insert into orders (user_id, plain) select 1 + i % 300, 1 + i % 2 from generate_series(1, 1000) i;
             insert into old_a select i, 'a', i from generate_series(1, 20) i; insert into old_b select i, 'b', i from generate_series(10, 30) i",
        );
        let config = m
            .config()
            .extra(&rules("public", "item").replace("table = \"plain\"", &format!("table = \"{}.plain\"", m.name)));
        let config = config.edited("to = \"accounts\"", "to = \"accounts\"");
        let check = Daemon::command(&config, &["check"]);
        assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
        let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.indexed", 2));
        daemon.wait_crash();
        let mut daemon = Daemon::spawn(&config);
        daemon.wait_level(&m.source_url());
        let look = |m: &Mixed| {
            m.assert_same(
                "select id, mail, active::int, active::int, note from users order by id",
                "select legacy_id, address, active, flag, note from accounts order by legacy_id",
            );
            m.assert_same(
                "select u.id, n, t from users u, unnest(tags) with ordinality x (t, n) order by 1, 2",
                "select a.legacy_id, n, tag from tags t join accounts a on a.id = t.account order by 1, 2",
            );
            m.assert_same("select id, user_id, cents, plain from orders order by id", "select p.id, a.legacy_id, cents, plain from purchases p join accounts a on a.id = p.account order by p.id");
            m.assert_same(
                "select id, v, a, null, 'a' from old_a union all select id, v, null, b, 'b' from old_b where id not in (select id from old_a) order by id",
                "select id, v, a, b, origin from olds order by id",
            );
        };
        look(&m);
        let columns = "select concat_ws(' ', table_name, column_name, lower(column_type), is_nullable, extra) from information_schema.columns
            where table_schema = database() and table_name <> 'plain' order by table_name, ordinal_position";
        let made = m
            .on_target(columns)
            .replace("int(11)", "int")
            .replace("bigint(20)", "bigint")
            .replace(" DEFAULT_GENERATED", "");
        let made: Vec<&str> = made.lines().map(str::trim).collect();
        assert_eq!(
            made,
            [
                "accounts id char(36) NO",
                "accounts address varchar(60) NO",
                "accounts active tinyint(1) NO",
                "accounts note varchar(40) YES",
                "accounts at datetime(3) YES",
                "accounts flag tinyint(1) YES",
                "accounts legacy_id int YES",
                "olds id int NO",
                "olds v varchar(20) YES",
                "olds a int YES",
                "olds origin char(1) YES",
                "olds b int YES",
                "purchases id bigint NO auto_increment",
                "purchases cents decimal(10,2) NO",
                "purchases plain int YES",
                "purchases account char(36) YES",
                "tags account char(36) NO",
                "tags n int NO",
                "tags tag varchar(100) YES",
            ]
        );
        let keys = m.on_target(
            "select concat_ws(' ', table_name, constraint_type, constraint_name) from information_schema.table_constraints
             where table_schema = database() and constraint_type <> 'CHECK' order by 1",
        );
        assert_eq!(
            keys.lines().collect::<Vec<_>>(),
            [
                "accounts PRIMARY KEY PRIMARY",
                "accounts UNIQUE accounts_address_key",
                "olds PRIMARY KEY PRIMARY",
                "plain PRIMARY KEY PRIMARY",
                "purchases FOREIGN KEY purchases_account_fkey",
                "purchases FOREIGN KEY purchases_plain_fkey",
                "purchases PRIMARY KEY PRIMARY",
                "tags FOREIGN KEY tags_account_fkey",
                "tags PRIMARY KEY PRIMARY",
            ]
        );
        for sql in [
            "insert into users (mail, tags) values ('new@x.org', '{p,q}'); update users set tags = tags || '{more}', active = not active where id % 5 = 0",
            "begin; update users set mail = 'w' where id = 7; update users set mail = '7@x.org' where id = 8; update users set mail = '8@x.org' where id = 7; commit",
            "delete from orders where id % 10 = 1; update orders set cents = -5.25, user_id = 9 where id % 9 = 0",
            "insert into old_b values (5, 'skipped', 1), (100, 'own', 1); delete from old_a where id = 1",
        ] {
            m.on_source().run(sql);
        }
        daemon.wait_level(&m.source_url());
        look(&m);
    }
}

const SHOP: &str = "create table plain (id int primary key);
    create table users (id int auto_increment primary key, mail varchar(60) not null, active tinyint(1) not null default 1, tags json, note text, at timestamp(3) null default current_timestamp(3));
    create table orders (id bigint unsigned auto_increment primary key, user_id int not null, cents decimal(10,2) not null default 1.5, plain int,
        foreign key (user_id) references users (id), foreign key (plain) references plain (id));
    create table old_a (id int primary key, v varchar(20) character set utf8mb4 collate utf8mb4_bin, a int); create table old_b (id int primary key, v varchar(20) character set utf8mb4 collate utf8mb4_bin, b int);
    insert into plain values (1), (2);
    insert into users (mail, tags) values ('1@x.org', '[\"a\", \"ü\"]'), ('2@x.org', null), ('3@x.org', '[]'), ('4@x.org', '[\"x\"]');
    insert into orders (user_id, plain) values (1, 1), (2, 2), (4, null); insert into old_a values (1, 'a', 1), (2, 'a', 2); insert into old_b values (2, 'b', 2), (3, 'b', 3)";

const LATER: &str = "insert into users (mail, tags) values ('new@x.org', '[\"p\"]'); update users set tags = '[\"z\", \"y\"]', active = 0 where id = 1; \
    delete from orders where id = 2; update orders set cents = -5.25 where id = 1; insert into old_b values (1, 'skipped', 9), (4, 'own', 4); update old_b set v = 'late' where id = 3";

#[test]
fn given_rules_from_mysql_when_postgres_has_no_tables_then_they_are_made_in_its_words() {
    for install in installs() {
        let pair = Pair::start(&install);
        pair.source.sql_in("shop", SHOP).unwrap();
        let config =
            pair.config().extra(&rules("shop", "item #>> '{}'")).edited("to = \"accounts\"", "to = \"app.accounts\"");
        let config = config
            .edited("to = \"purchases\"", "to = \"app.purchases\"")
            .edited("table = \"plain\"", "table = \"public.plain\"");
        let check = Daemon::command(&config, &["check"]);
        assert_eq!(
            check.status.code(),
            Some(0),
            "{}{}",
            String::from_utf8_lossy(&check.stdout),
            String::from_utf8_lossy(&check.stderr)
        );
        let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.schema_made", 1));
        daemon.wait_crash();
        let mut daemon = Daemon::spawn(&config);
        daemon.ready();
        pair.source.sql_in("shop", LATER).unwrap();
        let mut sql = pair.on_target();
        wait_until("the last row has come", crate::mysql_pairs::PATIENCE, || {
            sql.try_rows("select 1 from olds where v = 'late'").is_ok_and(|r| r.len() == 1)
        });
        assert_eq!(
            sql.one(
                "select string_agg(legacy_id || address || active || flag, ' ' order by legacy_id) from app.accounts"
            ),
            "11@x.orgfalse0 22@x.orgtrue1 33@x.orgtrue1 44@x.orgtrue1 5new@x.orgtrue1"
        );
        assert_eq!(sql.one("select string_agg(legacy_id || ':' || n || tag, ' ' order by legacy_id, n) from app.tags join app.accounts a on a.id = account"), "1:1z 1:2y 4:1x 5:1p");
        assert_eq!(sql.one("select string_agg(p.id::text || a.legacy_id || cents || coalesce(plain, 0), ' ' order by p.id) from app.purchases p join app.accounts a on a.id = account"), "11-5.251 341.500");
        assert_eq!(
            sql.one(
                "select string_agg(id || v || origin || coalesce(a, 0) || coalesce(b, 0), ' ' order by id) from olds"
            ),
            "1aa10 2aa20 3lateb03 4ownb04"
        );
        let columns = sql.one(
            "select string_agg(format('%s %s %s%s%s', attrelid::regclass, attname, format_type(atttypid, atttypmod), case when attnotnull then '!' else '' end,
                 case when attidentity <> '' then ' i' else '' end), E'\\n' order by attrelid::regclass::text, attnum)
             from pg_attribute join pg_class c on c.oid = attrelid and relkind = 'r' where attnum > 0 and relnamespace in ('app'::regnamespace, 'public'::regnamespace)",
        );
        assert_eq!(
            columns,
            "app.accounts id uuid!\napp.accounts address character varying(60)!\napp.accounts active boolean!\napp.accounts note character varying(40)\n\
             app.accounts at timestamp(3) with time zone\napp.accounts flag smallint\napp.accounts legacy_id integer\n\
             app.purchases id bigint! i\napp.purchases cents numeric(10,2)!\napp.purchases plain integer\napp.purchases account uuid\n\
             app.tags account uuid!\napp.tags n integer!\napp.tags tag character varying(100)\n\
             olds id integer!\nolds v character varying(20)\nolds a integer\nolds origin character(1)\nolds b integer\nplain id integer!"
        );
        let keys = sql.one("select string_agg(conname || contype::text || convalidated, ' ' order by conname) from pg_constraint where contype in ('p', 'u', 'f') and connamespace in ('app'::regnamespace, 'public'::regnamespace)");
        assert_eq!(
            keys,
            "accounts_address_keyutrue accounts_pkeyptrue olds_pkeyptrue plain_pkeyptrue purchases_account_fkeyftrue purchases_pkeyptrue purchases_plain_fkeyftrue tags_account_fkeyftrue tags_pkeyptrue"
        );
        assert_eq!(daemon.sigterm(), 0);
    }
}

#[test]
fn given_rules_between_servers_of_one_flavour_when_tables_are_made_then_types_and_collations_are_the_sources() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        let twins = Twins::start(flavour, flavour);
        twins.at_source(SHOP);
        let mut daemon = Daemon::spawn(&twins.config().extra(&rules("shop", "item #>> '{}'")));
        daemon.ready();
        twins.at_source(LATER);
        twins.level(&mut daemon);
        assert_eq!(twins.on_target("select group_concat(id, v, origin order by id) from olds"), "1aa,2aa,3lateb,4ownb");
        assert_eq!(twins.on_target("select group_concat(legacy_id, ':', n, tag order by legacy_id, n) from tags join accounts a on a.id = account"), "1:1z,1:2y,4:1x,5:1p");
        assert_eq!(twins.on_target("select collation_name from information_schema.columns where table_schema = 'store' and table_name = 'olds' and column_name = 'v'"), "utf8mb4_bin");
        assert_eq!(
            twins.on_target(
                "select count(*) from information_schema.referential_constraints where constraint_schema = 'store'"
            ),
            "3"
        );
        assert_eq!(twins.on_target("select column_type from information_schema.columns where table_schema = 'store' and table_name = 'accounts' and column_name = 'at'"), "timestamp(3)");
        assert_eq!(twins.on_target("select lower(extra) from information_schema.columns where table_schema = 'store' and table_name = 'purchases' and column_name = 'id'"), "auto_increment");
        assert_eq!(daemon.sigterm(), 0);
    }
}
