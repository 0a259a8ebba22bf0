//! Columns whose types differ on both sides, with rules and without, through the copy and the stream.

use super::{Ruled, has};
use crate::support::{Daemon, Database};

const COLUMNS: &str = "ints int[], words text[], flags bool[], docs jsonb[], nums numeric[], floats float8[], list jsonb, on_ bool, b bytea";

#[test]
fn given_columns_of_other_types_when_copied_and_followed_then_every_value_is_the_same_in_the_targets_form() {
    let mut r = Ruled::start(
        "convert",
        &format!(
            r#"create table t (id bytea primary key, {COLUMNS}, big text[]);
            alter table t alter big set storage external;
            create table nokey ({COLUMNS}); alter table nokey replica identity full;
            create table ruled (like t including all);
            insert into t select decode(md5(i::text), 'hex'), array[i, null, -i], array['', 'NULL', null, 'x,"y"\z', '🐘' || i, E'a\nb'],
              array[true, null, false], array['{{"a": [1, "x"]}}'::jsonb, 'null', null], array[1.50, 'NaN', 1e30], array[0.1, 'Infinity', 1e20, -0.0],
              jsonb_build_array(i, 'a "quoted" 🦀', null), i % 2 = 0, decode(md5('b' || i::text), 'hex'), array[repeat(md5(i::text), 100), 'z']
              from generate_series(1, 2000) i;
            insert into t (id) values ('\x00112233445566778899aabbccddeeff');
            insert into t (id, ints, words) values ('\x01112233445566778899aabbccddeeff', '{{{{1,2}},{{3,4}}}}', '{{}}');
            insert into nokey select ints, words, flags, docs, nums, floats, list, on_, b from t;
            insert into ruled select * from t"#
        ),
        "create table t (id uuid primary key, ints jsonb, words jsonb, flags jsonb, docs jsonb, nums jsonb, floats jsonb, list text[], on_ int, b uuid, big jsonb);
         alter table t alter big set storage external;
         create table nokey (ints jsonb, words jsonb, flags jsonb, docs jsonb, nums jsonb, floats jsonb, list text[], on_ smallint, b uuid);
         create table ruled (id uuid primary key, numbers jsonb, words json, flags jsonb, docs jsonb, nums jsonb, floats jsonb, list text[], on_ numeric, b uuid, big jsonb)",
        r#"[[rule]]
           from = "public.ruled"
           rename = { ints = "numbers" }"#,
    );
    let look = |r: &mut Ruled| {
        let json = |c: &str| format!("to_jsonb({c})");
        let jsons = ["ints", "words", "flags", "docs", "nums", "floats"].map(json).join(", ");
        let rest = "case when list is not null then array(select jsonb_array_elements_text(list)) end, on_::int, encode(b, 'hex')::uuid";
        r.same(&format!("select encode(id, 'hex')::uuid, {jsons}, {rest}, to_jsonb(big) from t"), "select * from t");
        r.same(&format!("select {jsons}, {rest} from nokey"), "select * from nokey");
        r.same(
            &format!("select encode(id, 'hex')::uuid, {jsons}, {rest}, to_jsonb(big) from ruled"),
            "select id, numbers, words::jsonb, flags, docs, nums, floats, list, on_, b, big from ruled",
        );
    };
    look(&mut r);
    r.change(&[
        "update t set ints = ints || 7, on_ = not on_ where array_ndims(ints) = 1; update ruled set ints = null; update nokey set words = '{new}' where b < '\\x40'",
        "update t set id = decode(md5(encode(id, 'hex')), 'hex'), b = null where id < '\\x30' and big is null",
        "update t set big = big || array['more'] where id > '\\xa0'; update t set list = '[]' where id > '\\xc0'",
        "delete from t where id < '\\x10'; delete from ruled where id < '\\x10'; delete from nokey where b < '\\x20'",
        "insert into t (id, ints, list) values ('\\xffffffffffffffffffffffffffffffff', '[0:1]={1,2}', '[[\"a\"], [\"b\"]]')",
        "delete from t where id = '\\xffffffffffffffffffffffffffffffff'",
        "begin; delete from ruled where id < '\\x50'; insert into ruled (id, on_) values ('\\x00112233445566778899aabbccddeeff', true); commit",
    ]);
    look(&mut r);
    r.stops("insert into t (id) values ('\\x00')", &["column id", "16 bytes", "row id=\\x00"]);
}

#[test]
fn given_a_value_without_a_counterpart_when_copied_then_row_and_column_are_named() {
    let db = Database::shared("convert_bad");
    db.on_source().run("create table t (id int primary key, list jsonb); insert into t values (7, '{\"secret\": 1}')");
    db.on_target().run("create table t (id int primary key, list text[])");
    let mut daemon = Daemon::spawn(&db.config().schema_exists());
    assert_eq!(daemon.exit_status(), 1);
    has(&daemon.log(), &["public.t → public.t, column list, row id=7: the JSON value is no list"]);
    assert!(!daemon.log().contains("secret"));
}

#[test]
fn given_values_that_the_targets_type_lacks_when_carried_then_row_column_and_remedy_are_named() {
    let mut r = Ruled::start(
        "misfits",
        "create table t (id int primary key, active smallint, day text, at text, tm text);
         insert into t select i, i % 2, '2020-01-01', '2020-01-01 00:00:00', '24:00:00' from generate_series(1, 1000) i",
        "create table t (id int primary key, active boolean, day date, at timestamp, tm time)",
        "",
    );
    let ours = "select id, active = 1, day::date, at::timestamp, tm::time from t";
    r.same(ours, "select * from t");
    r.change(&[
        "update t set active = 1 - active",
        "insert into t select i, 1, '0001-12-31', null, '00:00:00' from generate_series(2000, 3000) i",
    ]);
    r.same(ours, "select * from t");
    let r = r.stops(
        "update t set active = 2 where id = 7",
        &["row id=7, column active (boolean)", "types = { active = \"smallint\" }"],
    );
    drop(r);
    for (value, words) in [
        ("1, '0000-00-00', null, null", ["row id=5, column day (date)", "source.zero_dates"]),
        (
            "1, null, '2020-00-01 00:00:00', null",
            ["row id=5, column at (timestamp without time zone)", "source.zero_dates"],
        ),
        ("1, null, null, '838:59:59'", ["row id=5, column tm (time without time zone)", "TYPE interval"]),
        ("3, null, null, null", ["row id=5, column active (boolean)", "TYPE smallint USING active::int"]),
        // What only the server finds, it says with the column.
        ("1, 'yesteryear', null, null", ["column day, invalid input syntax for type date", "a value does not fit"]),
    ] {
        let db = Database::shared("misfit");
        db.on_source().run(&format!(
            "create table t (id int primary key, active smallint, day text, at text, tm text); insert into t values (5, {value})"
        ));
        db.on_target().run("create table t (id int primary key, active boolean, day date, at timestamp, tm time)");
        let mut daemon = Daemon::spawn(&db.config().schema_exists());
        assert_eq!(daemon.exit_status(), 1, "{value}");
        has(&daemon.log(), &words);
        assert!(!daemon.log().contains("yesteryear") && !daemon.log().contains("838:"), "{value}");
    }
}
