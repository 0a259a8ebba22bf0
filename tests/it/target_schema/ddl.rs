//! Schema changes of the source, repeated on the target.

use switchyard::change::{Ddl, DdlEffect};
use switchyard::schema::Table;
use switchyard::target::DdlOutcome;
use switchyard::target::postgres::{bookkeeping, ddl};
use tokio_postgres::Client;

use super::{Target, ask, name, run, table};

/// Changes a table at the "source", and lets the target repeat it inside a transaction.
async fn repeat(
    src: &Client,
    dst: &mut Client,
    t: &str,
    sql: &str,
    missing: &[(&str, &str)],
    rewritten: bool,
) -> DdlOutcome {
    let before = table(src, t).await;
    run(src, sql).await;
    let after = table(src, t).await;
    let missing_values = missing.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let change = Ddl {
        tag: "ALTER TABLE".into(),
        statement: sql.into(),
        object: format!("public.{t}"),
        effect: DdlEffect::Table { after, missing_values, rewritten },
        before: None,
    };
    let tx = dst.transaction().await.unwrap();
    tx.batch_execute("select 1").await.unwrap();
    let outcome = ddl::apply_ddl(tx.client(), "shop", &change, Some(&before)).await.unwrap();
    // The transaction must still be good.
    tx.batch_execute("select 1").await.unwrap();
    tx.commit().await.unwrap();
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_schema_changes_when_repeated_then_the_target_is_the_same_or_says_how_to_go_on() {
    let target = Target::start();
    target.server.psql_in("app", "grant create on schema public to public").unwrap();
    let (src, mut dst) = (target.client("root").await, target.client("app").await);
    bookkeeping::take_over(&mut dst, "shop").await.unwrap();
    let made =
        "create table t (id int primary key, a varchar(10), b int not null default 1, c numeric(8,2), \"D d\" text);
                insert into t values (1, 'x', 2, 3.5, 'y')";
    run(&src, made).await;
    run(&dst, made).await;
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
    let safe: &[Case<'_>] = &[
        ("alter table t add e text", &[], false),
        ("alter table t add f timestamptz not null default now()", &[("f", "2020-01-02 03:04:05.000006+00")], false),
        ("alter table t add g text default 'it''s'", &[("g", "it's")], false),
        ("alter table t rename a to \"A a\"", &[], false),
        ("alter table t alter \"A a\" type varchar(20)", &[], false),
        ("alter table t alter \"A a\" type text", &[], false),
        ("alter table t alter b type bigint", &[], true),
        ("alter table t alter b drop not null, alter b drop default, alter c type numeric", &[], false),
        ("alter table t alter e set default 'q', alter \"D d\" set not null", &[], false),
        ("alter table t drop e", &[], false),
        ("alter table t add h bigint generated always as (b * 2) stored", &[], true),
        ("alter table t set unlogged", &[], true),
        ("alter table t drop h, drop \"D d\"", &[], false),
    ];
    for (sql, missing, rewritten) in safe {
        let outcome = repeat(&src, &mut dst, "t", sql, missing, *rewritten).await;
        assert!(matches!(outcome, DdlOutcome::Applied(_)), "{sql}: {outcome:?}");
        let shape = |t: &Table| {
            let all: Vec<_> = t.columns.iter().chain(&t.generated).cloned().collect();
            all.into_iter().map(|c| (c.name, c.type_name, c.nullable, c.default)).collect::<Vec<_>>()
        };
        let (s, d) = (table(&src, "t").await, table(&dst, "t").await);
        assert_eq!(shape(&s), shape(&d), "{sql}");
    }
    assert_eq!(ask(&dst, "select f::text || g from t").await, "2020-01-02 03:04:05.000006+00it's");

    let cases: &[(&str, &str, bool)] = &[
        ("alter table t add z uuid default gen_random_uuid()", "computed row by row", true),
        ("alter table t add y serial", "computed row by row", true),
        ("alter table t alter b type int using b + 1", "can change values", true),
        ("alter table t alter g type varchar(10)", "can change values", true),
    ];
    for (sql, why, rewritten) in cases {
        let before = format!("{:?}", table(&dst, "t").await);
        run(&src, "begin").await;
        let outcome = repeat(&src, &mut dst, "t", sql, &[], *rewritten).await;
        run(&src, "rollback").await;
        assert!(matches!(&outcome, DdlOutcome::Unsafe(u) if u.contains(why) && u.contains(sql)), "{sql}: {outcome:?}");
        assert_eq!(before, format!("{:?}", table(&dst, "t").await), "{sql}");
    }
    // Done by hand, it counts as done.
    run(&dst, "alter table t add x uuid").await;
    let outcome = repeat(&src, &mut dst, "t", "alter table t add x uuid default gen_random_uuid()", &[], true).await;
    assert!(matches!(&outcome, DdlOutcome::Applied(u) if u.contains("already so")), "{outcome:?}");
    // A daemon that started after the change knows only the new definition.
    for (sql, safe) in [
        ("alter table t add w int default 5", true),
        ("alter table t rename w to ww", false),
        ("alter table t rename ww to w", true),
        ("alter table t alter id type bigint", true),
        ("alter table t alter f drop not null", true),
    ] {
        run(&src, sql).await;
        let after = table(&src, "t").await;
        let missing = if sql.contains(" add ") { vec![("w".to_owned(), "5".to_owned())] } else { vec![] };
        let effect =
            DdlEffect::Table { after: after.clone(), missing_values: missing, rewritten: sql.contains("bigint") };
        let change =
            Ddl { tag: "ALTER TABLE".into(), statement: sql.into(), object: "public.t".into(), effect, before: None };
        let tx = dst.transaction().await.unwrap();
        let outcome = ddl::apply_ddl(tx.client(), "shop", &change, Some(&after)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(matches!(outcome, DdlOutcome::Applied(_)), safe, "{sql}: {outcome:?}");
    }
    let id = table(&dst, "t").await.columns[0].clone();
    assert_eq!((ask(&dst, "select w from t").await.as_str(), id.type_name.as_str()), ("5", "bigint"));
    // Hidden in a function: rows rewritten, nothing to see.
    run(
        &src,
        "create function change() returns void language sql as 'alter table public.t alter id type bigint using id + 1'",
    )
    .await;
    let outcome = repeat(&src, &mut dst, "t", "select change()", &[], true).await;
    assert!(matches!(&outcome, DdlOutcome::Unsafe(u) if u.contains("rewrote")), "{outcome:?}");
    // A view on the target hangs on the column.
    run(&dst, "create view vf as select f from t").await;
    let outcome = repeat(&src, &mut dst, "t", "alter table t drop f", &[], false).await;
    assert!(matches!(&outcome, DdlOutcome::Unsafe(u) if u.contains("DROP COLUMN")), "{outcome:?}");

    // A new table, an index on it (twice), its drop.
    run(&src, "create table fresh (id bigint generated always as identity primary key, a text collate \"C\" not null default 'x')").await;
    let after = table(&src, "fresh").await;
    let fresh = |effect| Ddl {
        tag: "CREATE TABLE".into(),
        statement: "create table fresh …".into(),
        object: "public.fresh".into(),
        effect,
        before: None,
    };
    let effects = [
        DdlEffect::Table { after: after.clone(), missing_values: vec![], rewritten: false },
        DdlEffect::Table { after: after.clone(), missing_values: vec![], rewritten: false },
        DdlEffect::Index {
            table: name("fresh"),
            name: "fresh_pkey".into(),
            definition: "CREATE UNIQUE INDEX fresh_pkey ON public.fresh USING btree (id)".into(),
        },
        DdlEffect::Index {
            table: name("fresh"),
            name: "fresh_pkey".into(),
            definition: "CREATE UNIQUE INDEX fresh_pkey ON public.fresh USING btree (id)".into(),
        },
    ];
    for effect in effects {
        let tx = dst.transaction().await.unwrap();
        let outcome = ddl::apply_ddl(tx.client(), "shop", &fresh(effect), None).await.unwrap();
        assert!(matches!(outcome, DdlOutcome::Applied(_)), "{outcome:?}");
        tx.commit().await.unwrap();
    }
    let made = table(&dst, "fresh").await;
    assert_eq!((made.key(), made.columns[1].collation.as_deref()), (&[0][..], Some("pg_catalog.\"C\"")));
    let tx = dst.transaction().await.unwrap();
    let drop = fresh(DdlEffect::Dropped { table: name("fresh") });
    let outcome = ddl::apply_ddl(tx.client(), "shop", &drop, None).await.unwrap();
    assert!(matches!(&outcome, DdlOutcome::Applied(a) if a.contains("empty")), "{outcome:?}");
    let outcome = ddl::apply_ddl(tx.client(), "shop", &drop, None).await.unwrap();
    assert!(matches!(&outcome, DdlOutcome::Applied(a) if a.contains("already so")), "{outcome:?}");
    tx.commit().await.unwrap();
    // Rows are never thrown away.
    dst.batch_execute("create table public.fresh as select 1 as id").await.unwrap();
    let tx = dst.transaction().await.unwrap();
    let outcome = ddl::apply_ddl(tx.client(), "shop", &drop, None).await.unwrap();
    assert!(matches!(&outcome, DdlOutcome::Unsafe(u) if u.contains("DROP TABLE")), "{outcome:?}");
    tx.commit().await.unwrap();
    // A lock that somebody holds: later again, and the transaction lives on.
    let mut other = target.client("app").await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("lock table public.t in access share mode").await.unwrap();
    let before = table(&src, "t").await;
    run(&src, "alter table t add late int").await;
    let after = table(&src, "t").await;
    let tx = dst.transaction().await.unwrap();
    let change = fresh(DdlEffect::Table { after, missing_values: vec![], rewritten: false });
    let e = ddl::apply_ddl(tx.client(), "shop", &change, Some(&before)).await.unwrap_err();
    assert!(e.is_retry(), "{e}");
    tx.batch_execute("select 1").await.unwrap();
}
