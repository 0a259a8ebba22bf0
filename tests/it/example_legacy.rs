//! `config/legacy.toml` on real servers: what docs/example-legacy.md promises.

use crate::support::{Config, Daemon, Database, Sql, assert_same_rows, documented_pairs};

const SOURCE: &str = include_str!("fixtures/legacy_source.sql");
const TARGET: &str = include_str!("fixtures/legacy_target.sql");

/// Each target table: its columns, and the query on the source that computes them. `k(n, x)` is the key that namespace n
/// gives to x, by the source server's own uuid-ossp.
const TABLES: [(&str, &str, &str); 11] = [
    (
        "users",
        "id, legacy_id, username, email, full_name, is_active, created_at, settings",
        "select k(1, id), id, username, lower(nullif(btrim(email), '')), coalesce(nullif(btrim(concat_ws(' ', first_name, last_name)), ''), username),
           is_active, date_joined, '{}'::jsonb from auth_user",
    ),
    (
        "offices",
        "id, legacy_id, name, address",
        "select k(2, id), id, name, jsonb_build_object('street', street, 'city', city) from offices",
    ),
    (
        "profiles",
        "id, office, role, phone",
        "select k(1, user_id), k(2, office_id), case role when 'D' then 'doctor' when 'N' then 'nurse' else case when role is not null then 'staff' end end, phone from profiles",
    ),
    ("doctors", "id, legacy_id, profile, license", "select k(3, id), id, k(1, profile_id), license from doctors"),
    (
        "doctor_specialties",
        "doctor, position, specialty",
        "select k(3, id), n, s from doctors, unnest(specialties) with ordinality u (s, n)",
    ),
    (
        "patients",
        "id, legacy_patient_id, doctor, name, born, notes",
        "select k(4, id), id, k(3, doctor_id), name, nullif(born, '1900-01-01'), notes from patients",
    ),
    (
        "orders",
        "id, legacy_id, patient, doctor, state, total, placed",
        "select k(5, id), id, k(4, patient_id), k(3, doctor_id), case state when 0 then 'draft' when 1 then 'placed' when 2 then 'shipped' else 'closed' end,
           round(cents / 100.0, 2), placed at time zone 'UTC' from orders",
    ),
    (
        "order_lines",
        "order_id, line, sku, quantity, extra",
        "select k(5, id), n, l->>'sku', coalesce((l->>'qty')::int, 1), l from orders, jsonb_array_elements(lines) with ordinality u (l, n)",
    ),
    (
        "dispatch_runs",
        "id, legacy_id, driver, day, vehicle",
        "select k(6, id), id, k(1, driver_id), day, vehicle from dispatch_runs",
    ),
    (
        "dispatch_stops",
        "id, run, legacy_run_id, seq, order_id, arrived",
        "select k(7, run_id || ':' || seq), k(6, run_id), run_id, seq, k(5, order_id), arrived from dispatch_stops where not voided",
    ),
    (
        "comments",
        "id, legacy_id, parent, order_id, author, body",
        "select k(8, id), id, k(8, parent_id), k(5, order_id), k(1, author_id), body from comments",
    ),
];

/// Every table of the target holds what the source's server computes for it.
fn same(source: &mut Sql, target: &mut Sql) {
    source.run("set search_path = public, pg_temp");
    // Only this session has it: the source itself stays as it is.
    source.run(
        "create or replace function pg_temp.k(n int, x anyelement) returns uuid language sql as
           $$ select uuid.uuid_generate_v5((n || 'f0a4c1e-0000-4000-8000-00000000000' || n)::uuid, x::text) $$",
    );
    for (table, columns, expected) in TABLES {
        let expected = expected.replace("k(", "pg_temp.k(");
        assert_same_rows(source, &expected, target, &format!("select {columns} from app.{table}"));
    }
    // What the page tells people to count.
    let pairs = documented_pairs("example-legacy.md");
    assert_eq!(pairs.len(), 7);
    for (what, on_source, on_target) in pairs {
        assert_eq!(source.rows(&on_source), target.rows(&on_target), "{what}");
    }
}

fn prepared(what: &str) -> (Database, Sql, Sql, Config) {
    let db = Database::shared(what);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("create schema uuid; create extension \"uuid-ossp\" schema uuid");
    source.run(SOURCE);
    target.run(TARGET);
    let config = db.config().shipped("legacy.toml");
    (db, source, target, config)
}

/// What an application does all day, and what hurts.
const CHANGES: &[&str] = &[
    "begin; insert into auth_user (username, email) values ('neu 🦊', 'NEU@x.ch'), ('weg', ''); insert into profiles (user_id, office_id, role) select id, 3, 'D' from auth_user where username = 'neu 🦊'; delete from auth_user where username = 'weg'; commit",
    "update auth_user set first_name = 'Ærøskøbing', email = '' where id % 10 = 0; update profiles set office_id = null, role = 'N' where user_id % 11 = 0",
    // Lists: reordered, emptied, filled, and a change that leaves them alone.
    "update doctors set specialties = array_append(specialties, 'neu') where id % 3 = 0; update doctors set specialties = '{b,a,null}' where id = 4",
    "update doctors set specialties = null where id = 7; update doctors set license = 'L' where id % 2 = 0",
    "update orders set lines = jsonb_build_array(lines->1, lines->0, '{\"sku\": \"mitte\", \"qty\": 7}'::jsonb) where id between 100 and 200 and jsonb_array_length(lines) = 2",
    "update orders set state = 4, cents = -1 where id % 50 = 0; update orders set lines = '[{\"qty\": 2}]' where lines is null and id < 300",
    // A filter's column, a key of two columns, both at once.
    "update dispatch_stops set voided = not voided where run_id % 9 = 0; update dispatch_stops set seq = seq + 100 where run_id % 10 = 1",
    "begin; update dispatch_stops set run_id = 2, seq = 500, voided = false where run_id = 5 and seq = 3; delete from dispatch_stops where run_id = 6 and seq < 4; insert into dispatch_stops values (6, 3, 1, false, null); commit",
    // The tree: branches move, a subtree goes with what hangs on it.
    "update comments set parent_id = null where id % 17 = 0; update comments set parent_id = 60 where id between 4000 and 4050; delete from comments where id = 61",
    "begin; insert into comments (id, order_id, parent_id, body) values (90001, 1, null, 'root'); insert into comments (id, order_id, parent_id, body) values (90002, 1, 90001, 'child'); update comments set id = 90003 where id = 90002; commit",
    // Keys change, and everything that refers to them.
    "begin; insert into patients (id, doctor_id, name) values (70001, 1, 'neu 🧑‍🦰'); update orders set patient_id = 70001 where patient_id = 2; delete from patients where id = 2; commit",
    "begin; update orders set id = 80001 where id = 19999 and not exists (select from dispatch_stops where order_id = 19999); update orders set id = id where id = 80001; commit",
    "delete from doctors where id in (11, 12, 13); delete from orders where id > 19900 and not exists (select from dispatch_stops s where s.order_id = orders.id)",
    "insert into django_session values ('t', 'left out')",
];

#[test]
fn given_a_legacy_schema_when_moved_into_a_fresh_one_then_every_row_and_reference_is_where_it_belongs() {
    let (db, mut source, mut target, config) = prepared("legacy");
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    for sql in CHANGES {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    // Another rule for one table in the middle of the others: it alone is copied again, and references to it hold.
    assert_eq!(daemon.sigterm(), 0);
    source.run("update patients set notes = 'while it stood still' where id = 77");
    let other = config.edited(
        "born = \"nullif(born, '1900-01-01'::date)\"",
        "born = \"nullif(born, '1900-01-01'::date)\"\nnotes = \"coalesce(notes, '')\"",
    );
    let mut daemon = Daemon::spawn(&other);
    daemon.wait_level(&db.source);
    let copied = |label: &str| daemon.metric("switchyard_rows_copied_total", label);
    assert_eq!((copied(""), copied("public.patients")), (6000.0, 6000.0));
    assert_eq!(target.number("select count(*) from app.patients where notes is null"), 0);
    source.run("update patients set notes = '' where notes is null");
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    source.run("begin; truncate comments; insert into comments values (1, 1, null, 1, 'alone'); commit");
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
}

#[test]
fn given_a_legacy_copy_killed_in_the_middle_when_resumed_then_less_than_five_percent_is_done_again() {
    let (db, mut source, mut target, config) = prepared("legacy_resumed");
    let config = config.env("SWITCHYARD_CHUNK_BYTES", 4 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", 70));
    daemon.wait_crash();
    // Rows of the source that are on the target, by the tables that hold one row for each.
    let tables = "auth_user offices profiles doctors patients orders dispatch_runs dispatch_stops comments";
    let mut done = 0;
    for table in tables.split(' ') {
        done += target.number(&format!("select count(*) from app.{}", table.replace("auth_user", "users")));
    }
    if target.number("select count(*) from app.dispatch_stops") > 0 {
        done += source.number("select count(*) from dispatch_stops where voided");
    }
    let total: i64 = tables.split(' ').map(|t| source.number(&format!("select count(*) from {t}"))).sum();
    assert!(done > total / 4 && done < total, "{done} of {total} rows were done");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let copied = daemon.metric("switchyard_rows_copied_total", "");
    let again = copied - (total - done) as f64;
    assert!(again < 0.05 * done as f64, "{again} of {done} rows that were done were copied again");
    same(&mut source, &mut target);
}

#[test]
fn given_a_legacy_copy_killed_in_the_middle_when_the_source_changes_meanwhile_then_both_sides_are_level() {
    let (db, mut source, mut target, config) = prepared("legacy_changed");
    let config = config.env("SWITCHYARD_CHUNK_BYTES", 4 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", 70));
    daemon.wait_crash();
    for sql in CHANGES {
        source.run(sql);
    }
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    source.run("update orders set cents = cents + 1 where id % 3 = 0; delete from comments where id % 40 = 0");
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
}

/// What the rules say besides, so that they make the tables: behind a line of the file.
const MADE: [(&str, &str); 12] = [
    (
        "to = \"app.users\"",
        "indexes = [{ columns = [\"username\"], unique = true }, { columns = [\"legacy_id\"], unique = true }]\nnot_null = [\"full_name\"]",
    ),
    (
        "full_name = \"coalesce(nullif(btrim(concat_ws(' ', first_name, last_name)), ''), username)\"",
        "settings = \"'{}'::jsonb\"",
    ),
    ("to = \"app.offices\"", "indexes = [{ columns = [\"legacy_id\"], unique = true }]"),
    (
        "to = \"app.profiles\"",
        "references = [{ columns = [\"id\"], table = \"users\", on_delete = \"cascade\" }, { columns = [\"office\"], table = \"offices\" }]",
    ),
    (
        "to = \"app.doctors\"",
        "not_null = [\"profile\"]\nindexes = [{ columns = [\"profile\"], unique = true }]\nreferences = [{ columns = [\"profile\"], table = \"profiles\", on_delete = \"cascade\" }]",
    ),
    (
        "to = \"app.doctor_specialties\"",
        "key = [\"doctor\", \"position\"]\nreferences = [{ columns = [\"doctor\"], table = \"doctors\", on_delete = \"cascade\" }]",
    ),
    (
        "to = \"app.patients\"",
        "types = { legacy_patient_id = \"bigint\" }\nindexes = [{ columns = [\"legacy_patient_id\"], unique = true }]\nreferences = [{ columns = [\"doctor\"], table = \"doctors\" }]",
    ),
    (
        "to = \"app.orders\"",
        "types = { placed = \"timestamptz\" }\nnot_null = [\"patient\", \"total\"]\nreferences = [{ columns = [\"patient\"], table = \"patients\" }, { columns = [\"doctor\"], table = \"doctors\" }]",
    ),
    (
        "to = \"app.order_lines\"",
        "key = [\"order_id\", \"line\"]\nnot_null = [\"quantity\"]\nreferences = [{ columns = [\"order_id\"], table = \"orders\", on_delete = \"cascade\" }]",
    ),
    (
        "to = \"app.dispatch_runs\"",
        "references = [{ columns = [\"driver\"], table = \"users\", on_delete = \"set null\" }]",
    ),
    (
        "to = \"app.dispatch_stops\"",
        "key = [\"id\"]\nindexes = [{ columns = [\"run\", \"seq\"], unique = true }]\nreferences = [{ columns = [\"run\"], table = \"dispatch_runs\" }, { columns = [\"order_id\"], table = \"orders\" }]",
    ),
    (
        "to = \"app.comments\"",
        "references = [{ columns = [\"parent\"], table = \"comments\" }, { columns = [\"author\"], table = \"users\" }]",
    ),
];

#[test]
fn given_no_tables_on_the_target_when_a_legacy_schema_is_moved_then_the_rules_make_them() {
    let db = Database::shared("legacy_made");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run("create schema uuid; create extension \"uuid-ossp\" schema uuid");
    source.run(SOURCE);
    let mut config = db.config().shipped("legacy.toml").schema_made();
    for (line, more) in MADE {
        config = config.edited(&format!("{line}\n"), &format!("{line}\n{more}\n"));
    }
    // Without the key the two columns that the source's became would find a row; with it, its own.
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let config = config.env("SWITCHYARD_CHUNK_BYTES", 8 * 8192).env("SWITCHYARD_WHOLE_TABLE_BYTES", 0);
    let mut daemon = Daemon::spawn(&config.clone().crash_at("copy.chunk_committed", 30));
    daemon.wait_crash();
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    let keys = |target: &mut Sql| {
        target.one("select string_agg(conname || contype::text || case when convalidated then '' else '?' end, ' ' order by conname) from pg_constraint where connamespace = 'app'::regnamespace and contype in ('p', 'u', 'f')")
    };
    let want = "comments_author_fkeyf comments_parent_fkeyf comments_pkeyp dispatch_runs_driver_fkeyf dispatch_runs_pkeyp dispatch_stops_order_id_fkeyf \
        dispatch_stops_pkeyp dispatch_stops_run_fkeyf dispatch_stops_run_seq_keyu doctor_specialties_doctor_fkeyf doctor_specialties_pkeyp doctors_pkeyp \
        doctors_profile_fkeyf doctors_profile_keyu offices_legacy_id_keyu offices_pkeyp order_lines_order_id_fkeyf order_lines_pkeyp orders_doctor_fkeyf \
        orders_patient_fkeyf orders_pkeyp patients_doctor_fkeyf patients_legacy_patient_id_keyu patients_pkeyp profiles_id_fkeyf profiles_office_fkeyf \
        profiles_pkeyp users_legacy_id_keyu users_pkeyp users_username_keyu";
    assert_eq!(keys(&mut target), want);
    for sql in CHANGES {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    // What the source has besides tables stays there.
    assert_eq!(target.number("select count(*) from pg_namespace where nspname = 'uuid'"), 0);
}
