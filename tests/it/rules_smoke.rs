//! x
use crate::support::{Daemon, Database};

#[test]
fn given_rules_when_copied_and_followed_then_smoke() {
    let db = Database::shared("rules");
    let mut s = db.on_source();
    let mut t = db.on_target();
    s.run("create type st as enum ('a','b');
      create table items (id int primary key, name text, flag boolean, kind text not null, tags text[], meta jsonb, s st, secret text);
      alter table items replica identity full;
      insert into items select n, case when n % 5 = 0 then null else 'n' || n end, n % 2 = 0, case when n % 3 = 0 then 'x' else 'y' end, array['t' || n % 4, 'u'], jsonb_build_array(n, n+1), 'a', 'sec' from generate_series(1, 1000) n;
      create table plain (id int primary key, v text); insert into plain values (1,'one')");
    t.run(
        "create type st as enum ('a','b');
      create table things (id bigint primary key, label varchar(40) not null, state text, s st);
      create table xs (id int primary key, name text);
      create table thing_tags (thing_id bigint, pos int, tag text);
      create table thing_nums (thing_id bigint, n text)",
    );
    let config = db.config().extra(
        r#"
[[rule]]
from = "public.items"
to = "things"
rename = { name = "label" }
drop = ["kind", "tags", "meta", "secret", "flag", "name"]
set = { label = "coalesce(name, 'none')", state = "case when flag then 'on' else 'off' end" }
[[rule.explode]]
path = "tags"
to = "thing_tags"
set = { thing_id = "parent.id", pos = "position", tag = "item || '!'" }
[[rule.explode]]
path = "meta"
to = "thing_nums"
set = { thing_id = "parent.id", n = "item::text" }
[[rule]]
from = "public.items"
to = "xs"
where = "kind = 'x'"
drop = ["kind", "tags", "meta", "secret", "flag", "s"]
"#
        .replace("rename = { name = \"label\" }\n", "")
        .as_str(),
    );
    let check = Daemon::command(&config, &["check"]);
    println!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    let tr = Daemon::command(
        &config,
        &[
            "transform",
            "--table",
            "items",
            "--row",
            "{\"id\": 7, \"kind\":\"x\", \"tags\":[\"a\",null], \"meta\": [1,2]}",
        ],
    );
    println!("{}{}", String::from_utf8_lossy(&tr.stdout), String::from_utf8_lossy(&tr.stderr));
    let mut daemon = Daemon::spawn(&config);
    let same = |s: &mut crate::support::Sql, t: &mut crate::support::Sql| {
        for (a, b) in [
            (
                "select id, coalesce(name,'none'), case when flag then 'on' else 'off' end, s from items order by 1",
                "select id, label, state, s from things order by 1",
            ),
            ("select id, name from items where kind = 'x' order by 1", "select id, name from xs order by 1"),
            (
                "select id, o, x || '!' from items, unnest(tags) with ordinality u(x, o) order by 1, 2",
                "select thing_id, pos, tag from thing_tags order by 1, 2",
            ),
            (
                "select id, x from items, jsonb_array_elements_text(meta) u(x) order by 1, 2",
                "select thing_id, n from thing_nums order by 1, 2",
            ),
            ("select * from plain", "select * from plain"),
        ] {
            assert_eq!(s.rows(a), t.rows(b), "{a}");
        }
    };
    daemon.wait_level(&db.source);
    same(&mut s, &mut t);
    s.run("update items set kind = 'x' where id < 50; update items set kind = 'y' where id between 300 and 350; delete from items where id % 7 = 0;
      update items set tags = tags || 'more'::text where id % 10 = 1; update items set tags = null where id = 2; update items set meta = '[]' where id = 3; update items set id = id + 5000 where id between 900 and 920;
      insert into items values (10001, 'new', true, 'x', '{a,b,c}', '[9,8]', 'b', null); update items set name = 'zz' where id = 10001; update plain set v = 'two'");
    daemon.wait_level(&db.source);
    same(&mut s, &mut t);
}
