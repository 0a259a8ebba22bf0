//! Rules on real servers, one matter a test: what the copy made of rows, and what the stream made of every kind of change.

mod changed;
mod conversions;
mod merges;
mod skipped_lists;

use crate::support::{Config, Daemon, Database, Sql, assert_same_rows};

/// A migration under rules: a source, a target whose tables exist, and the daemon between them.
struct Ruled {
    config: Config,
    url: String,
    source: Sql,
    target: Sql,
    daemon: Daemon,
}

impl Ruled {
    /// Makes both schemas and copies under `rules` until both sides are level.
    fn start(what: &str, source: &str, target: &str, rules: &str) -> Ruled {
        let db = Database::shared(what);
        let mut on_source = db.on_source();
        on_source.run(source);
        let mut on_target = db.on_target();
        on_target.run(target);
        let config = db.config().schema_exists().extra(rules);
        let mut daemon = Daemon::spawn(&config);
        daemon.wait_level(&db.source);
        Ruled { config, url: db.source, source: on_source, target: on_target, daemon }
    }

    /// Changes the source, each text one transaction, and waits until the target has it.
    fn change(&mut self, transactions: &[&str]) {
        for sql in transactions {
            self.source.run(sql);
        }
        self.daemon.wait_level(&self.url);
    }

    /// Expects the rows of `on_source` to be the rows of `on_target`.
    #[track_caller]
    fn same(&mut self, on_source: &str, on_target: &str) {
        assert_same_rows(&mut self.source, on_source, &mut self.target, on_target);
    }

    /// The first column of a query on the target, in its order; NULL as `-`.
    #[track_caller]
    fn target(&mut self, sql: &str) -> Vec<String> {
        self.target.rows(sql).into_iter().map(|mut r| r.swap_remove(0).unwrap_or("-".into())).collect()
    }

    /// Changes the source, and expects the daemon to end with status 1 and all of `words` in its log.
    #[track_caller]
    fn stops(mut self, sql: &str, words: &[&str]) -> Ruled {
        self.source.run(sql);
        assert_eq!(self.daemon.exit_status(), 1);
        has(&self.daemon.log(), words);
        self
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for w in words {
        assert!(text.contains(w), "{w:?} is not in\n{text}");
    }
}

#[test]
fn given_a_table_split_by_a_filter_when_rows_change_sides_then_each_is_where_it_belongs() {
    let mut r = Ruled::start(
        "split",
        "create table tasks (id int primary key, kind text, title text, n int);
         alter table tasks replica identity full;
         insert into tasks select i, (array['bug', 'todo', null])[1 + i % 3], 'title ' || i, i from generate_series(1, 3000) i",
        "create table bugs (id int primary key, title text, n int);
         create table todos (id int primary key, kind text, title text, n int)",
        r#"[[rule]]
           from = "public.tasks"
           to = "bugs"
           where = "kind = 'bug'"
           drop = ["kind"]
           [[rule]]
           from = "public.tasks"
           to = "todos"
           where = "kind is distinct from 'bug'""#,
    );
    let look = |r: &mut Ruled| {
        r.same("select id, title, n from tasks where kind = 'bug'", "select * from bugs");
        r.same("select * from tasks where kind is distinct from 'bug'", "select * from todos");
    };
    look(&mut r);
    r.change(&[
        "update tasks set kind = 'todo' where id % 9 = 0",
        "update tasks set kind = 'bug', n = -n where id % 7 = 0",
        // There and back, and a key that another row had on the other side.
        "begin; update tasks set kind = 'bug' where id = 2; update tasks set kind = null where id = 2; commit",
        "begin; delete from tasks where id = 3; update tasks set id = 3, kind = 'bug' where id = 4; commit",
        "update tasks set id = id + 10000, kind = case when kind = 'bug' then null else 'bug' end where id % 11 = 0",
        "delete from tasks where id % 13 = 0; insert into tasks values (-1, 'bug', null, null), (-2, null, 'x', 1)",
        "begin; insert into tasks values (-3, 'bug', 'made', 1); update tasks set kind = 'x' where id = -3; delete from tasks where id = -3; commit",
    ]);
    look(&mut r);
    r.change(&["truncate tasks; insert into tasks values (1, 'bug', 'new', 1), (2, 'x', 'new', 2)"]);
    look(&mut r);
}

#[test]
fn given_lists_when_taken_apart_then_their_items_follow_every_change() {
    let mut r = Ruled::start(
        "explode",
        r#"create table tasks (id int primary key, title text, tags text[], watchers jsonb);
         insert into tasks values
           (1, 'one', '{a,b,c}', '[{"user": 5, "role": "owner"}, {"user": 6, "role": null}]'),
           (2, 'odd', array['', 'NULL', null, 'x,"y"\z', '🐘 ü', '{}'], '[{"user": 7, "role": "a \"quoted\" 🦀"}]'),
           (3, 'empty', '{}', '[]'), (4, 'null', null, null), (5, 'json null', '{z}', 'null');
         insert into tasks select i, 't', array[i::text, 'even'], jsonb_build_array(jsonb_build_object('user', i)) from generate_series(6, 500) i"#,
        "create table tasks (id int primary key, title text);
         create table task_tags (task_id int, n int, tag text, primary key (task_id, n));
         create table task_watchers (task_id int, user_id int, role text, raw jsonb, primary key (task_id, user_id))",
        r#"[[rule]]
           from = "public.tasks"
           drop = ["tags", "watchers"]
           [[rule.explode]]
           path = "tags"
           to = "task_tags"
           set = { task_id = "parent.id", n = "position", tag = "item" }
           [[rule.explode]]
           path = "watchers"
           to = "task_watchers"
           set = { task_id = "parent.id", user_id = "item.user::int", role = "item.role", raw = "item" }"#,
    );
    let look = |r: &mut Ruled| {
        r.same("select id, title from tasks", "select * from tasks");
        r.same(
            "select id, n, tag from tasks, unnest(tags) with ordinality as u (tag, n)",
            "select task_id, n, tag from task_tags",
        );
        r.same(
            "select id, w->>'user', w->>'role', w from tasks, jsonb_array_elements(case when watchers <> 'null' then watchers end) w",
            "select task_id, user_id, role, raw from task_watchers",
        );
    };
    look(&mut r);
    r.change(&[
        "update tasks set tags = '{c,b,a}' where id = 1; update tasks set title = 'lists stay' where id = 2",
        "update tasks set tags = tags || '{more}' where id % 3 = 0",
        "update tasks set tags = null where id = 7; update tasks set tags = '{}' where id = 8; update tasks set tags = '{new}' where id = 4",
        "update tasks set watchers = jsonb_build_array(watchers->1, watchers->0) where id = 1",
        "update tasks set watchers = watchers || '[{\"user\": 1000}]' where id % 5 = 0 and id <> 5",
        "update tasks set id = id + 1000 where id between 20 and 30",
        "begin; update tasks set id = 2000, tags = '{moved}' where id = 40; insert into tasks values (40, 'other', '{o}', '[]'); commit",
        "delete from tasks where id % 4 = 1",
        "begin; insert into tasks values (-1, 'x', '{p,q}', '[]'); update tasks set tags = '{q}' where id = -1; commit",
        "begin; insert into tasks values (-2, 'x', '{p,q}', '[{\"user\": 1}]'); delete from tasks where id = -2; commit",
        "begin; delete from tasks where id = 10; insert into tasks values (10, 'back', '{r}', '[{\"user\": 2}]'); commit",
    ]);
    look(&mut r);
    r.change(&["truncate tasks; insert into tasks values (1, 'x', '{a}', null)"]);
    look(&mut r);
}

#[test]
fn given_a_list_of_a_filtered_table_when_its_rows_come_and_go_then_so_do_the_items() {
    let mut r = Ruled::start(
        "explode_where",
        "create table tasks (id int primary key, done bool, tags text[]); alter table tasks replica identity full;
         insert into tasks select i, i % 2 = 0, array['a', i::text] from generate_series(1, 100) i",
        "create table tasks (id int primary key); create table tags (task_id int, tag text)",
        r#"[[rule]]
           from = "public.tasks"
           where = "not done"
           drop = ["done", "tags"]
           [[rule.explode]]
           path = "tags"
           to = "tags"
           set = { task_id = "parent.id", tag = "item" }"#,
    );
    let look = |r: &mut Ruled| {
        r.same("select id from tasks where not done", "select * from tasks");
        r.same("select id, unnest(tags) from tasks where not done", "select * from tags");
    };
    look(&mut r);
    r.change(&[
        "update tasks set done = not done where id % 3 = 0; update tasks set done = null where id = 5",
        "update tasks set tags = tags || '{same,same}' where id % 5 = 0 and id <> 5",
        "update tasks set id = id + 500, done = not done where id % 7 = 0",
        "delete from tasks where id % 11 = 0",
    ]);
    look(&mut r);
}

#[test]
fn given_a_rule_that_only_renames_when_copied_then_values_of_every_kind_arrive() {
    let mut r = Ruled::start(
        "renames",
        r#"create type mood as enum ('ok', 'so so');
         create table old (a int primary key, b text, c numeric, d timestamptz, e bytea, f jsonb, g text[], h mood, i float8, j uuid);
         insert into old values (1, E'tab\t\\N "🐘"', 'NaN', '2024-02-29 12:00:00.123456+02', '\x00ff', '{"a": [1, null]}', '{a,NULL,"b,c"}', 'so so', 'infinity', '00000000-0000-0000-0000-000000000001'); insert into old values (2);
         insert into old (a, b, c) select i, repeat('x', i % 300), i::numeric / 7 from generate_series(3, 5000) i"#,
        "create type mood as enum ('ok', 'so so');
         create schema other;
         create table other.\"New\" (\"K\" int primary key, text text, c numeric, d timestamptz, e bytea, f jsonb, g text[], h mood, i float8, j uuid)",
        r#"[[rule]]
           from = "public.old"
           to = "other.\"New\""
           rename = { a = "K", b = "text" }"#,
    );
    let look = |r: &mut Ruled| r.same("select * from old", "select * from other.\"New\"");
    look(&mut r);
    r.change(&[
        "update old set b = E'\\n', h = 'ok' where a = 1; update old set a = -a where a % 10 = 0; delete from old where a % 17 = 0",
        "insert into old (a, f) values (100000, 'null'), (100001, '\"x\"')",
    ]);
    look(&mut r);
}

#[test]
fn given_a_map_of_values_and_dropped_columns_when_followed_then_they_hold() {
    let mut r = Ruled::start(
        "value_map",
        "create table t (id int primary key, status text, level int, secret text, is_mock bool);
         insert into t values (1, 'open', 1, 's', true), (2, 'it''s', 2, 's', false), (3, 'else', 3, null, null), (4, null, null, null, null)",
        "create type state as enum ('o', 'quoted', 'other');
         create table t (id int primary key, status state, level text)",
        r#"[[rule]]
           from = "public.t"
           drop = ["secret", "is_mock"]
           map.status = { open = "o", "it's" = "quoted", _ = "other" }
           map.level = { 1 = "low", 2 = "high" }"#,
    );
    let look = |r: &mut Ruled| {
        r.same(
            "select id, case status when 'open' then 'o' when 'it''s' then 'quoted' else case when status is not null then 'other' end end,
               case level when 1 then 'low' when 2 then 'high' else level::text end from t",
            "select * from t",
        )
    };
    look(&mut r);
    r.change(&[
        "update t set status = 'open', secret = 'new' where id = 3; insert into t values (5, 'x', 2, 'y', true)",
    ]);
    look(&mut r);
}

#[test]
fn given_a_table_without_a_key_when_reshaped_then_duplicates_are_kept_apart() {
    let mut r = Ruled::start(
        "keyless_rule",
        "create table t (a int, b text, c text); alter table t replica identity full;
         insert into t select i % 5, 'x', null from generate_series(1, 50) i",
        "create table u (b text, a int, c text)",
        "[[rule]]\nfrom = \"public.t\"\nto = \"u\"",
    );
    r.same("select a, b, c from t", "select a, b, c from u");
    r.change(&[
        "delete from t where ctid = (select ctid from t where a = 3 limit 1)",
        "update t set c = 'y' where ctid in (select ctid from t where a = 4 limit 3); insert into t values (null, null, null)",
    ]);
    r.same("select a, b, c from t", "select a, b, c from u");
}

#[test]
fn given_a_composite_key_when_reshaped_then_every_change_finds_its_row() {
    let mut r = Ruled::start(
        "composite",
        "create table t (region text, id int, v text, primary key (region, id));
         insert into t select r, i, r || i from unnest(array['eu', 'us']) r, generate_series(1, 500) i",
        "create table u (number int, v text, area text, primary key (number, area))",
        "[[rule]]\nfrom = \"public.t\"\nto = \"u\"\nrename = { region = \"area\", id = \"number\" }",
    );
    let look = |r: &mut Ruled| r.same("select region, id, v from t", "select area, number, v from u");
    look(&mut r);
    r.change(&[
        "update t set v = 'new' where id % 3 = 0; delete from t where region = 'eu' and id % 5 = 0",
        "update t set region = 'ap' where id % 7 = 0 and region = 'us'; update t set id = id + 1000 where region = 'ap'",
        // Two rows change keys with each other.
        "begin; update t set id = -1 where region = 'eu' and id = 1; update t set id = 1 where region = 'eu' and id = 2;
         update t set id = 2 where region = 'eu' and id = -1; commit",
    ]);
    look(&mut r);
}

#[test]
fn given_changed_columns_under_rules_when_the_target_cannot_hold_them_then_it_stops_until_it_can() {
    let r = Ruled::start(
        "rule_ddl",
        "create table t (id int primary key, v text); insert into t values (1, 'x')",
        "create table u (id int primary key, w text)",
        "[[rule]]\nfrom = \"public.t\"\nto = \"u\"\nrename = { v = \"w\" }",
    );
    let mut r = r.stops(
        "alter table t add column extra int; insert into t values (2, 'y', 7)",
        &[
            "rule 1 (public.t → public.u)",
            "public.u has no column \"extra\"",
            "drop or rename it in the rule, or add the column",
        ],
    );
    r.target.run("alter table u add column extra int");
    r.daemon = Daemon::spawn(&r.config);
    r.change(&["update t set extra = 8 where id = 1"]);
    r.same("select id, v, extra from t", "select id, w, extra from u");
    r.stops(
        "alter table t add column d int not null default 5",
        &["column \"d\" got a default", "rules reshape this table"],
    );
}

#[test]
fn given_a_rule_changed_between_two_starts_then_its_table_alone_is_copied_again() {
    let rules = |filter: &str| {
        format!(
            "[[rule]]\nfrom = \"public.t\"\nto = \"u\"\nwhere = \"{filter}\"\n[[rule]]\nfrom = \"public.s\"\nto = \"w\"\n"
        )
    };
    let source = "create table t (id int primary key, v int); create table s (id int primary key, v int); create table plain (id int primary key);
        insert into t select i, i from generate_series(1, 1000) i; insert into s select * from t; insert into plain select id from t";
    let target = "create table u (id int primary key, v int); create table w (id int primary key, v int); create table plain (id int primary key)";
    let mut r = Ruled::start("rule_changed", source, target, &rules("id <= 500"));
    assert_eq!(r.target("select count(*) from u"), ["500"]);
    assert_eq!(r.daemon.sigterm(), 0);
    r.source.run("update t set v = -v where id % 2 = 0; delete from s where id = 1; insert into plain values (0)");
    let db = r.config.clone();
    r.daemon = Daemon::spawn(&db.without_extra().extra(&rules("id > 300")));
    r.daemon.wait_level(&r.url);
    r.same("select * from t where id > 300", "select * from u");
    r.same("select * from s", "select * from w");
    r.same("select * from plain", "select * from plain");
    let copied = |t: &str| r.daemon.metric("switchyard_rows_copied_total", &format!("\"public.{t}\""));
    assert_eq!((copied("t"), copied("s"), copied("plain")), (1000.0, 0.0, 0.0));
    assert!(r.daemon.log().contains("the rules of public.t changed: the table is copied again"));
    r.change(&["update t set v = 0 where id > 990; delete from t where id < 400", "insert into s values (-5, 5)"]);
    r.same("select * from t where id > 300", "select * from u");
    r.same("select * from s", "select * from w");
}

/// Runs `check` and `run` with rules that cannot be carried out; both say why.
#[track_caller]
fn refused(db: &Database, rules: &str, words: &[&str]) {
    let config = db.config().schema_exists().extra(rules);
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(1), "{rules}: {check:?}");
    has(&String::from_utf8_lossy(&check.stdout), words);
    let mut daemon = Daemon::spawn(&config);
    assert_eq!(daemon.exit_status(), 1, "{rules}");
    has(&daemon.log(), words);
    let slots = format!("select count(*) from pg_replication_slots where database = '{}'", db.name);
    assert_eq!(db.on_source().number(&slots), 0, "{rules}: something was made");
}

#[test]
fn given_rules_that_cannot_be_carried_out_when_started_then_each_is_refused_with_its_remedy() {
    let db = Database::shared("bad_rules");
    db.on_source().run(
        "create table t (id int primary key, name text, kind text, other text); insert into t values (1, 'x', 'y', 'z');
         create table pair (a int, b int, v text, primary key (a, b))",
    );
    db.on_target().run(
        "create table u (id int primary key, name text); create table must (id int primary key, name text, need int not null);
         create table one (a int primary key, v text); create table full_one (a int primary key, b int, v text);
         create table items (id int, item text); create table keyless (id int)",
    );
    let tables = "[tables]\ninclude = [\"public.t\"]\n";
    let t = |rest: &str| format!("{tables}[[rule]]\nfrom = \"public.t\"\nto = \"u\"\n{rest}");
    let good = "drop = [\"kind\", \"other\"]";
    for (rules, words) in [
        (
            format!("{}\n[[rule]]\nfrom = \"public.nix\"\nto = \"u\"", t(good)),
            &["rule 2 (public.nix → public.u): the source has no table public.nix, or [tables] leaves it out"][..],
        ),
        (t(good).replace("\"u\"", "\"nix\""), &["public.nix: the target has no such table"]),
        (t("drop = [\"kind\", \"othr\"]"), &["drop: public.t has no column \"othr\"", "did you mean \"other\"?"]),
        (t("drop = [\"kind\"]"), &["public.u has no column \"other\"", "drop or rename it in the rule"]),
        (
            t("drop = [\"kind\"]\nrename = { other = \"name\" }"),
            &["column \"name\" is written by", "drop or rename one of them"],
        ),
        (
            t("drop = [\"kind\", \"other\"]\nset = { nam = \"id\" }"),
            &["set.nam: public.u has no column \"nam\"", "did you mean \"name\"?"],
        ),
        (t("drop = [\"kind\", \"other\"]\nset = { name = \"nix\" }"), &["set.name", "nix"]),
        (t("drop = [\"kind\", \"other\"]\nset = { name = \"case when\" }"), &["set.name"]),
        (t("drop = [\"kind\", \"other\"]\nwhere = \"id\""), &["where: it is integer, not a condition"]),
        (
            t("drop = [\"kind\", \"other\"]\nwhere = \"name = 'x'\""),
            &[
                "where: it reads column \"name\", whose old value is not in the source's log",
                "ALTER TABLE public.t REPLICA IDENTITY FULL;",
            ],
        ),
        (
            t(good).replace("\"u\"", "\"must\""),
            &["public.must needs column \"need\", and the rule gives it no value", "or give the column a default"],
        ),
        (
            t("drop = [\"kind\", \"other\"]\nset = { need = \"null\" }").replace("\"u\"", "\"must\""),
            &["set.need: column \"need\" of public.must cannot be NULL"],
        ),
        (
            "[tables]\ninclude = [\"public.pair\"]\n[[rule]]\nfrom = \"public.pair\"\nto = \"one\"\ndrop = [\"b\"]"
                .into(),
            &["the key of public.one (a) does not hold \"b\" of the source's key", "on_existing = \"replace\""],
        ),
        (
            t("drop = [\"kind\", \"other\", \"name\"]\non_existing = \"skip\"").replace("\"u\"", "\"keyless\""),
            &[
                "on_existing: nothing tells which row of public.keyless is there already",
                "give public.keyless a primary key",
            ],
        ),
        (
            t(
                "drop = [\"kind\", \"other\"]\n[[rule.explode]]\npath = \"kind\"\nto = \"items\"\nset = { id = \"parent.id\", item = \"item\" }",
            ),
            &["explode[0].path: column \"kind\" is text, no array and no JSON"],
        ),
    ] {
        refused(&db, &rules, words);
    }
}

#[test]
fn given_a_row_whose_key_becomes_null_when_copied_or_followed_then_the_row_is_named() {
    let rules =
        "[[rule]]\nfrom = \"public.t\"\nto = \"u\"\ndrop = [\"v\"]\nset = { id = \"case when id < 100 then id end\" }";
    let source = "create table t (id int primary key, v text); insert into t values (1, 'secret')";
    let target = "create table u (id int primary key)";
    let r = Ruled::start("null_key", source, target, rules);
    let r = r.stops(
        "insert into t values (2, 'x'), (100, 'secret')",
        &[
            "rule 1 (public.t → public.u), column id, row id=100: the key is NULL",
            "nothing of its transaction was applied",
        ],
    );
    assert!(!r.daemon.log().contains("secret"));
    let mut r = r;
    assert_eq!(r.target("select count(*) from u"), ["1"]);
    let db = Database::shared("null_key_copy");
    db.on_source().run(&source.replace("(1,", "(200,"));
    db.on_target().run(target);
    let mut daemon = Daemon::spawn(&db.config().schema_exists().extra(rules));
    assert_eq!(daemon.exit_status(), 1);
    has(&daemon.log(), &["copying public.t: ", "column id, row id=200: the key is NULL"]);
}

#[test]
fn given_large_values_under_rules_when_rows_change_then_what_was_not_sent_stays() {
    let mut r = Ruled::start(
        "rule_toast",
        "create table t (id int primary key, n int, big text, list jsonb);
         alter table t alter big set storage external; alter table t alter list set storage external;
         create table f (like t including all); alter table f replica identity full;
         insert into t select i, i, repeat(md5(i::text), 120), (select jsonb_agg(md5(i::text || k)) from generate_series(1, 90) k) from generate_series(1, 30) i;
         insert into f select * from t",
        "create table t (id int primary key, n int, big text); create table t_items (t int, k int, v text, primary key (t, k));
         create table f (key text primary key, big text); create table f_items (f int, n int, v text)",
        r#"[[rule]]
           from = "public.t"
           drop = ["list"]
           [[rule.explode]]
           path = "list"
           to = "t_items"
           set = { t = "parent.id", k = "position", v = "item::text" }
           [[rule]]
           from = "public.f"
           drop = ["list", "id", "n"]
           where = "n <> 13"
           set = { key = "id || '/' || n", big = "big || coalesce(n::text, '')" }
           [[rule.explode]]
           path = "list"
           to = "f_items"
           set = { f = "parent.id", n = "parent.n", v = "item::text" }"#,
    );
    let look = |r: &mut Ruled| {
        r.same("select id, n, big from t", "select * from t");
        r.same("select id, k, i from t, jsonb_array_elements(list) with ordinality u (i, k)", "select * from t_items");
        r.same("select id || '/' || n, big || coalesce(n::text, '') from f where n <> 13", "select * from f");
        r.same("select id, n, jsonb_array_elements(list) from f where n <> 13", "select * from f_items");
    };
    look(&mut r);
    r.change(&[
        "update t set n = -n where id % 2 = 0; update f set n = n + 100 where id % 2 = 0",
        "update f set n = 13 where id in (3, 5); update f set n = 14 where id in (13, 5); update f set id = id + 1000 where id % 7 = 0",
        "update t set list = list - 0 where id % 3 = 0; update f set list = list || '[1]' where id % 3 = 0; update t set big = null where id = 4",
        "delete from f where id % 11 = 0; delete from t where id % 11 = 0",
    ]);
    look(&mut r);
    // Without whole old rows the list of a row whose key changes is not known.
    r.stops(
        "update t set id = 500 where id = 1",
        &["explode 1 (public.t → public.t_items)", "ALTER TABLE public.t REPLICA IDENTITY FULL"],
    );
}

#[test]
fn given_unique_columns_on_the_target_when_values_are_exchanged_then_the_sources_order_is_kept() {
    let mut r = Ruled::start(
        "rule_unique",
        "create table t (id int primary key, u int not null, kind text not null); alter table t replica identity full;
         insert into t select i, i, case when i % 2 = 0 then 'a' else 'b' end from generate_series(1, 400) i",
        "create table a (key text primary key, code int unique); create table b (id int primary key, u int unique)",
        r#"[[rule]]
           from = "public.t"
           to = "a"
           where = "kind = 'a'"
           drop = ["id", "u", "kind"]
           set = { key = "'k' || id", code = "u" }
           [[rule]]
           from = "public.t"
           to = "b"
           where = "kind = 'b'"
           drop = ["kind"]"#,
    );
    let look = |r: &mut Ruled| {
        r.same("select 'k' || id, u from t where kind = 'a'", "select * from a");
        r.same("select id, u from t where kind = 'b'", "select * from b");
    };
    look(&mut r);
    r.change(&[
        "begin; update t set u = -u where id < 100; update t set u = 100 - id where id < 100; commit",
        "begin; update t set u = -1 where id = 200; update t set u = 200 where id = 202; update t set u = 202 where id = 200; commit",
        "begin; delete from t where id = 300; insert into t values (1000, 300, 'a'); update t set kind = 'b' where id = 302; insert into t values (1001, 302, 'a'); commit",
        "begin; update t set id = 2000 where id = 350; update t set id = 350 where id = 352; insert into t values (352, 7000, 'a'); commit",
    ]);
    look(&mut r);
}

#[test]
fn given_an_expression_of_the_key_and_a_large_value_when_the_key_changes_then_it_stops_instead_of_keeping_the_old() {
    let mut r = Ruled::start(
        "rule_toast_key",
        "create table t (id int primary key, n int, big text); alter table t alter big set storage external;
         insert into t select i, i, repeat(md5(i::text), 120) from generate_series(1, 5) i",
        "create table t (id int primary key, n int, label text)",
        "[[rule]]\nfrom = \"public.t\"\ndrop = [\"big\"]\nset = { label = \"big || id\" }",
    );
    r.change(&["update t set n = 7 where id = 2", "update t set id = 30, big = 'small' where id = 3"]);
    r.same("select id, n, big || id from t", "select * from t");
    r.stops(
        "update t set id = 10 where id = 1",
        &["column big, row id=10", "ALTER TABLE public.t REPLICA IDENTITY FULL"],
    );
}
