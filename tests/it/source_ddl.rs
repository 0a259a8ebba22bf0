//! The DDL trigger on a real server: what it writes into the log, in order, and what it never disturbs.

use std::sync::Arc;
use switchyard::change::DdlEffect;

use switchyard::source::postgres::catalog::{self, TableIds, Wanted};
use switchyard::source::postgres::pgoutput::{Relation, RelationColumn};
use switchyard::source::postgres::replication::RelationResolver;
use switchyard::source::postgres::{ddl, slot};
use switchyard::transform::select::Selection;

use crate::source_catalog::{connect, start};

/// The trigger's messages since the last call, as JSON.
fn messages(server: &switchyard::sandbox::PgServer) -> Vec<String> {
    let sql =
        "select data from pg_logical_slot_get_changes('look', null, null) where data like 'message:%switchyard.ddl%'";
    server.psql(sql).unwrap().lines().map(|l| l.split_once("content:").unwrap().1.to_owned()).collect()
}

fn show(effect: &DdlEffect) -> String {
    match effect {
        DdlEffect::Table { after, missing_values, rewritten } => {
            let columns: Vec<&str> = after.columns.iter().map(|c| &*c.name).collect();
            let missing: Vec<String> = missing_values.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!(
                "{}({}) {}{}",
                after.name,
                columns.join(","),
                missing.join(","),
                if *rewritten { " rewritten" } else { "" }
            )
        }
        DdlEffect::Index { table, name, definition } => format!("index {name} on {table}: {definition}"),
        DdlEffect::Dropped { table } => format!("dropped {table}"),
        DdlEffect::Other => "other".into(),
        more => format!("{more:?}"),
    }
}

#[tokio::test]
async fn given_the_trigger_when_the_schema_changes_then_the_log_says_what_came_of_it() {
    let server = start();
    let (client, _) = connect(&server, "postgres").await;
    assert!(ddl::install(&client).await.unwrap());
    assert!(ddl::install(&client).await.unwrap());
    server.psql("select pg_create_logical_replication_slot('look', 'test_decoding')").unwrap();
    let ids = TableIds::default();
    let said = |sql: &str| -> Vec<String> {
        server.psql(&format!("set datestyle = 'German'; {sql}")).unwrap();
        messages(&server).iter().map(|m| show(&ddl::parse_ddl(m.as_bytes(), &ids).unwrap().effect)).collect()
    };
    assert_eq!(said("create table t (id int primary key, a text)").first().unwrap(), "public.t(id,a) ");
    said("insert into t values (1, 'x')");
    assert_eq!(said("alter table t add b int default 7"), ["public.t(id,a,b) b=7"]);
    assert_eq!(said("alter table t add d date default '2024-02-03'"), ["public.t(id,a,b,d) b=7,d=2024-02-03"]);
    let at = said("alter table t add at timestamptz default now()");
    assert!(at[0].contains("at=2") && at[0].ends_with("+00"), "{at:?}");
    let volatile = said("alter table t add r float8 default random()");
    assert!(volatile[0].starts_with("public.t(id,a,b,d,at,r) ") && volatile[0].ends_with("rewritten"), "{volatile:?}");
    assert_eq!(said("alter table t drop at, drop r, drop d"), ["public.t(id,a,b) "]);
    assert_eq!(said("alter table t rename b to \"B\"\"x\""), ["public.t(id,a,B\"x) "]);
    assert_eq!(said("alter table t alter \"B\"\"x\" type bigint"), ["public.t(id,a,B\"x)  rewritten"]);
    // Nothing of an earlier rewrite sticks.
    assert_eq!(said("alter table t alter a set not null"), ["public.t(id,a,B\"x) "]);
    assert_eq!(
        said("create unique index t_a on t (lower(a))"),
        ["index t_a on public.t: CREATE UNIQUE INDEX t_a ON public.t USING btree (lower(a))"]
    );
    assert_eq!(said("create view v as select 1 as x"), ["other"]);
    assert_eq!(said("create temp table tmp (a int)"), Vec::<String>::new());
    assert_eq!(
        said(
            "begin; alter table t add c1 int; insert into t values (2, 'y'); alter table t add c2 int[] default '{1,2}'; create table u (); drop table u; rollback"
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        said(
            "begin; alter table t add c1 int; insert into t values (2, 'y'); alter table t add c2 int[] default '{1,2}'; create table u (); drop table u; commit"
        ),
        ["public.t(id,a,B\"x,c1) ", "public.t(id,a,B\"x,c1,c2) c2={1,2}", "public.u() ", "dropped public.u"]
    );
    assert_eq!(said("drop table t cascade"), ["dropped public.t"]);

    // A role without any right is not disturbed, and its changes are seen, too.
    server.psql("create role app login; grant create on schema public to app").unwrap();
    messages(&server);
    assert_eq!(said("set role app; create table mine (id int)"), ["public.mine(id) "]);

    // A broken trigger says that it is broken, and the application goes on.
    server.psql("drop function switchyard.describe_table(oid)").unwrap();
    server.psql("create table after (id int)").unwrap();
    let broken = messages(&server);
    let e = ddl::parse_ddl(broken.last().unwrap().as_bytes(), &ids).unwrap_err();
    assert!(e.message().contains("could not be described") && e.hint_text().is_some(), "{e}");

    server.psql("select pg_drop_replication_slot('look')").unwrap();
    let removed = slot::finish(&client, &slot::Names::of("shop")).await.unwrap();
    assert_eq!(removed.last().unwrap(), "schema switchyard");
    assert!(slot::finish(&client, &slot::Names::of("shop")).await.unwrap().is_empty());
    server.psql("create table last (id int)").unwrap();
}

#[tokio::test]
async fn given_relations_when_resolved_then_the_log_decides_and_changes_are_named() {
    let server = start();
    server.psql("create table t (id int primary key, a text)").unwrap();
    let (client, info) = connect(&server, "postgres").await;
    let ids = Arc::new(TableIds::default());
    let everything = Selection::default();
    let tables = catalog::tables(&client, &everything, &ids).await.unwrap();
    let name = tables[0].name.clone();
    let d = catalog::table(&client, Wanted::Name(&name), &ids).await.unwrap().unwrap();
    let relation = |columns: &[(&str, u32)]| Relation {
        oid: d.oid,
        schema: "public".into(),
        name: "t".into(),
        replica_identity: b'd',
        columns: columns
            .iter()
            .map(|(name, type_oid)| RelationColumn {
                key: false,
                name: (*name).into(),
                type_oid: *type_oid,
                type_modifier: -1,
            })
            .collect(),
    };
    let mut resolver = ddl::CatalogResolver::new(info, everything, ids, &tables);
    // The log is older than the catalog: what the copy knew counts.
    server.psql("alter table t add b int").unwrap();
    let old = resolver.resolve(&relation(&[("id", 23), ("a", 25)])).await.unwrap();
    assert_eq!(*old, *tables[0]);
    // Without a message of the trigger the catalog is asked, and must agree with the log.
    let new = resolver.resolve(&relation(&[("id", 23), ("a", 25), ("b", 23)])).await.unwrap();
    assert_eq!((new.columns.len(), new.id), (3, old.id));
    // The catalog has moved on: the log's own description counts, and what is certain of the catalog's.
    let then = resolver.resolve(&relation(&[("id", 20), ("c", 1700), ("b", 23)])).await.unwrap();
    let columns: Vec<_> = then.columns.iter().map(|c| (&*c.name, &*c.type_name, c.number > 0)).collect();
    assert_eq!(columns[1..], [("c", "numeric", false), ("b", "integer", true)]);
}

#[test]
fn given_odd_messages_when_read_then_they_are_errors() {
    for odd in ["", "{}", "[1]", "{\"tag\":\"x\",\"statement\":\"s\",\"object\":\"\",\"effect\":\"table\"}"] {
        assert!(ddl::parse_ddl(odd.as_bytes(), &TableIds::default()).is_err(), "{odd}");
    }
}
