//! Schemas: what a target lost is named, and a target that has everything is not blamed.

use serde_json::{Value, json};

use super::{Engine, MARIADB, MYSQL, POSTGRES, Sides};
use crate::support::Daemon;

/// Tables that bring everything that a schema can have there.
fn tables(from: Engine) -> &'static str {
    if from == POSTGRES {
        "create table people (id bigserial primary key, email text unique, age int default 3 check (age > 0), token uuid default gen_random_uuid(), made timestamptz default now());
         create table orders (id int primary key, person_id bigint references people (id), note varchar(200) not null, big text, flags boolean[], at timestamp(3), unique (note, at));
         create index orders_note_idx on orders (note); create index by_big on orders (big); create index lower_idx on orders (lower(note));
         create table keyless (n numeric, t text); alter table keyless replica identity full;
         insert into people (email) select 'e' || i from generate_series(1, 20) i; insert into orders select i, i, 'n' || i from generate_series(1, 20) i"
    } else {
        "create table people (id bigint unsigned auto_increment primary key, email varchar(200) unique, age int default 3, kind enum('a','it''s') not null default 'a', labels set('x','y'),
            made timestamp default current_timestamp on update current_timestamp, born date not null default '0000-00-00', is_new tinyint(1) default 1, check (age > 0));
         create table orders (id int primary key, person_id bigint unsigned, note varchar(200) character set latin1 not null, big text, j json, at datetime(3), b bit(3) default b'101', amount decimal(10,2) unsigned,
            unique key note_at (note, at), key orders_note_idx (note), key big_beginning (big(20)), fulltext key words (big), constraint orders_person_id_fkey foreign key (person_id) references people (id));
         create table keyless (n decimal(20,5), t text, f float(7,3));
         create table counted (k int, n int auto_increment, key by_n (n));
         insert into people (email) values ('e1'), ('e2'), ('e3'), ('e4'), ('e5'); insert into orders (id, person_id, note) select id, id, concat('n', id) from people"
    }
}

fn lost_parts(from: Engine, to: Engine) {
    let s = Sides::start(from, to);
    s.prepare();
    s.source(tables(from));
    let config = if to == POSTGRES { s.config.clone().zero_dates_as_null() } else { s.config.clone() };
    let s = Sides { config, ..s };
    let mut daemon = Daemon::spawn(&s.config);
    s.level(&mut daemon);
    s.assert_equal();
    let email_key = match (from, to) {
        (_, POSTGRES) => s.target("select conname from pg_constraint where contype = 'u' and conrelid = 'people'::regclass"),
        _ => s.target("select index_name from information_schema.statistics where table_schema = database() and table_name = 'people' and column_name = 'email'"),
    };
    let mut wanted = vec![
        "orders different_column note".to_owned(),
        "orders missing_foreign_key orders_person_id_fkey".to_owned(),
        "orders missing_index orders_note_idx".to_owned(),
        "people different_column age".to_owned(),
        "people extra_column mine".to_owned(),
        "people extra_index extra_idx".to_owned(),
    ];
    if to == POSTGRES {
        s.target(&format!(
            "alter table orders drop constraint orders_person_id_fkey; drop index orders_note_idx; alter table people drop constraint {email_key}; \
             alter table orders alter note type varchar(250); alter table people alter age set not null; alter table people add mine int; create index extra_idx on people (age); \
             alter table people drop constraint people_kind_check; update orders set person_id = 77 where id = 5"
        ));
        wanted.push(format!("people missing_constraint {email_key}"));
        wanted.push("people missing_constraint people_kind_check".to_owned());
    } else {
        s.target(&format!(
            "alter table orders drop foreign key orders_person_id_fkey; alter table orders drop index orders_note_idx; alter table people drop index `{email_key}`; \
             alter table orders modify note varchar(250) not null; alter table people modify age int not null; alter table people add mine int; create index extra_idx on people (age); \
             update orders set person_id = 77 where id = 5"
        ));
        wanted.push(format!("people missing_index {email_key}"));
    }
    wanted.sort();
    let (status, document) = s.verify(&["--table", "orders"]);
    let of = |d: &Value| {
        let table = d["table"].as_str().unwrap();
        format!(
            "{} {} {}",
            table.strip_prefix(s.home.as_str()).unwrap_or(table),
            d["kind"].as_str().unwrap(),
            d["name"].as_str().unwrap()
        )
    };
    let mut schema: Vec<String> = document["schema"].as_array().unwrap().iter().map(of).collect();
    schema.sort();
    assert_eq!(schema, wanted, "{from:?} to {to:?}");
    assert_eq!(status, 1);
    let orphan =
        json!([{"table": format!("{}orders", s.home), "constraint": "orders_person_id_fkey", "key": {"id": 5}}]);
    assert_eq!(document["relationships"], orphan, "{from:?} to {to:?}");
    assert_eq!(super::found(&document), [format!(r#"{}orders {{"id":5}} different ["person_id"]"#, s.home)]);
    assert_eq!(daemon.sigterm(), 0);
}

#[test]
fn given_a_schema_from_postgres_that_lost_parts_in_mysql_when_verified_then_they_are_named() {
    lost_parts(POSTGRES, MYSQL);
}

#[test]
fn given_a_schema_from_postgres_that_lost_parts_in_mariadb_when_verified_then_they_are_named() {
    lost_parts(POSTGRES, MARIADB);
}

#[test]
fn given_a_schema_from_mysql_that_lost_parts_in_postgres_when_verified_then_they_are_named() {
    lost_parts(MYSQL, POSTGRES);
}

#[test]
fn given_a_schema_from_mariadb_that_lost_parts_in_postgres_when_verified_then_they_are_named() {
    lost_parts(MARIADB, POSTGRES);
}

#[test]
fn given_a_schema_from_mysql_that_lost_parts_in_mysql_when_verified_then_they_are_named() {
    lost_parts(MYSQL, MYSQL);
}

#[test]
fn given_a_schema_from_mariadb_that_lost_parts_in_mysql_when_verified_then_they_are_named() {
    lost_parts(MARIADB, MYSQL);
}

#[test]
fn given_a_schema_from_mysql_that_lost_parts_in_mariadb_when_verified_then_they_are_named() {
    lost_parts(MYSQL, MARIADB);
}
