//! The target's books, schema, quiescing, schema changes and checks, on a real server, as superuser and as an ordinary owner.

mod ddl;

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard::error::Class;
use switchyard::finding::{Finding, Severity};
use switchyard::pgwire::conninfo::ConnInfo;
use switchyard::pgwire::control::connect;
use switchyard::position::{Lsn, Position};
use switchyard::sandbox::{self, PgServer};
use switchyard::schema::{RowIdentity, SchemaObject, SchemaScript, Stage, Table, TableName};
use switchyard::source::SourceFacts;
use switchyard::source::{Chunk, LogIdentity, TablePlan};
use switchyard::target::postgres::check;
use switchyard::target::postgres::{bookkeeping, catalog, create, quiesce};
use switchyard::target::{CopyStage, TableCopy};
use tokio_postgres::Client;

/// A server with a database for each role: `root` (superuser) and `app` (owns its database, nothing else).
struct Target {
    server: PgServer,
}

impl Target {
    fn start() -> Target {
        let install = sandbox::find_postgres(None).unwrap();
        let server = PgServer::builder(&install).setting("fsync", "off").start().unwrap();
        server.psql("create role app login password 'pw'").unwrap();
        server.psql("create database app owner app").unwrap();
        server.psql("create database root").unwrap();
        Target { server }
    }
    fn info(&self, role: &str) -> ConnInfo {
        let url = match role {
            "root" => self.server.url("root"),
            role => self.server.url_as(role, "pw", "app"),
        };
        ConnInfo::parse("target.url", &url.into()).unwrap()
    }
    async fn client(&self, role: &str) -> Client {
        connect(&self.info(role), "target").await.unwrap()
    }
}

fn name(t: &str) -> TableName {
    TableName::new("public", t)
}

fn lsn(n: u64) -> Position {
    Position::Lsn(Lsn(n))
}

/// Runs SQL of the test's own, which may leave out `public`; the product's sessions never do.
async fn run(client: &Client, sql: &str) {
    let sql = format!("set search_path = public; {sql}; set search_path = ''");
    client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

async fn ask(client: &Client, sql: &str) -> String {
    client.batch_execute("set search_path = public").await.unwrap();
    let answer = answer(client, sql).await;
    client.batch_execute("set search_path = ''").await.unwrap();
    answer
}

async fn answer(client: &Client, sql: &str) -> String {
    client
        .query_one(&format!("select ({sql})::text"), &[])
        .await
        .unwrap()
        .get::<_, Option<String>>(0)
        .unwrap_or_default()
}

fn copy(t: &str) -> TableCopy {
    let chunk =
        |number| Chunk { number, relation: None, from: Some(0), to: None, estimated_rows: 5, ..Chunk::default() };
    TableCopy {
        rules: "[]".into(),
        table: name(t),
        plan: TablePlan { storage: "16400".into(), chunks: vec![chunk(0), chunk(1)] },
        snapshot_at: lsn(7),
        resumed_at: None,
        done: vec![],
        rows: 0,
        indexed: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_empty_target_when_daemons_take_over_then_epochs_rise_and_old_ones_are_fenced() {
    let target = Target::start();
    for role in ["root", "app"] {
        let mut a = target.client(role).await;
        let mut b = target.client(role).await;
        assert_eq!(bookkeeping::checkpoint(&a, "shop").await.unwrap(), None);
        // Two at once: both must get through, with different epochs.
        let (one, two) = tokio::join!(bookkeeping::take_over(&mut a, "shop"), bookkeeping::take_over(&mut b, "shop"));
        let mut epochs = [one.unwrap().epoch, two.unwrap().epoch];
        epochs.sort_unstable();
        assert_eq!(epochs, [1, 2]);
        let mut mine = bookkeeping::take_over(&mut a, "shop").await.unwrap();
        assert_eq!(mine.epoch, 3);
        assert_eq!(mine.stage, CopyStage::Started);
        mine.stage = CopyStage::Copying;
        mine.log = Some(LogIdentity {
            server_id: "it's \\ 7".into(),
            timeline: Some(1),
            handle: Some("h".into()),
            start: lsn(1),
        });
        mine.position = Some(lsn(0x1_0000_0001));
        mine.committed_at = Some(-5);
        bookkeeping::save(&a, "shop", &mine).await.unwrap();
        assert_eq!(bookkeeping::checkpoint(&b, "shop").await.unwrap().unwrap(), mine);

        bookkeeping::plan_copy(&a, "shop", 3, &copy("Ta'ble")).await.unwrap();
        assert_eq!(
            b.execute(&bookkeeping::chunks_done_sql("shop", 3, &name("Ta'ble"), &[1, 0], 9), &[]).await.unwrap(),
            2
        );
        assert_eq!(
            b.execute(&bookkeeping::chunks_done_sql("shop", 2, &name("Ta'ble"), &[5], 9), &[]).await.unwrap(),
            0
        );
        bookkeeping::mark_indexed(&a, "shop", 3, &name("Ta'ble")).await.unwrap();
        let got = bookkeeping::copies(&a, "shop").await.unwrap();
        assert_eq!(got, vec![TableCopy { done: vec![0, 1], rows: 9, indexed: true, ..copy("Ta'ble") }]);
        // Resumed: what is done stays; planned anew: nothing does.
        let resumed = TableCopy { done: vec![0], resumed_at: Some(lsn(9)), ..copy("Ta'ble") };
        bookkeeping::plan_copy(&a, "shop", 3, &resumed).await.unwrap();
        assert_eq!(bookkeeping::copies(&a, "shop").await.unwrap()[0].done, [0]);
        bookkeeping::plan_copy(&a, "shop", 3, &copy("Ta'ble")).await.unwrap();
        assert!(bookkeeping::copies(&a, "shop").await.unwrap()[0].done.is_empty());

        bookkeeping::take_over(&mut b, "shop").await.unwrap();
        for e in [
            bookkeeping::save(&a, "shop", &mine).await.unwrap_err(),
            bookkeeping::plan_copy(&a, "shop", 3, &copy("t")).await.unwrap_err(),
            bookkeeping::mark_indexed(&a, "shop", 3, &name("Ta'ble")).await.unwrap_err(),
        ] {
            assert_eq!(e.class(), Class::Fenced, "{e}");
        }
        // The last migration takes the schema with it.
        bookkeeping::take_over(&mut a, "other").await.unwrap();
        assert_eq!(bookkeeping::forget(&mut a, "other").await.unwrap().len(), 1);
        assert_eq!(quiesce::finish(&mut a, "shop").await.unwrap().len(), 3);
        assert!(quiesce::finish(&mut a, "shop").await.unwrap().is_empty());
        assert_eq!(ask(&a, "select count(*) from pg_namespace where nspname = 'switchyard'").await, "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_running_daemon_when_another_starts_then_it_is_told_who_holds_the_lock() {
    let target = Target::start();
    let info = target.info("app");
    let held = bookkeeping::lock(&info, "shop").await.unwrap();
    bookkeeping::lock(&info, "other").await.unwrap();
    let began = Instant::now();
    let e = bookkeeping::lock(&info, "shop").await.err().unwrap();
    assert_eq!((e.class(), e.exit_status()), (Class::Fenced, 3));
    assert!(e.message().contains("switchyard lock shop") && e.message().contains("127.0.0.1"), "{e}");
    assert!(began.elapsed() >= Duration::from_secs(3));
    // A predecessor that goes within the patience is waited for.
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(held);
    });
    let held = bookkeeping::lock(&info, "shop").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1500), held.lost()).await.is_err());
    target
        .server
        .psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'switchyard lock shop'")
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), held.lost()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_books_of_another_kind_when_opened_then_it_says_what_to_do() {
    let target = Target::start();
    target.server.psql_in("app", "create role poor login password 'pw'").unwrap();
    let mut poor = target.client("poor").await;
    let e = bookkeeping::take_over(&mut poor, "shop").await.unwrap_err();
    assert_eq!(e.class(), Class::Fatal);
    assert_eq!(e.hint_text(), Some("GRANT CREATE ON DATABASE \"app\" TO \"poor\";"), "{e}");
    let mut app = target.client("app").await;
    bookkeeping::take_over(&mut app, "shop").await.unwrap();
    let e = bookkeeping::take_over(&mut poor, "shop").await.unwrap_err();
    assert!(e.hint_text().unwrap().contains("belongs to another role"), "{e} {:?}", e.hint_text());
    run(&app, "update switchyard.layout set version = 99").await;
    let e = bookkeeping::checkpoint(&app, "shop").await.unwrap_err();
    assert!(e.message().contains("layout 99"), "{e}");
}

fn object(kind: &str, obj: &str, table: Option<&str>, stage: Stage, sql: &str) -> SchemaObject {
    SchemaObject {
        kind: kind.into(),
        schema: "public".into(),
        name: obj.into(),
        table: table.map(name),
        sql: sql.into(),
        stage,
    }
}

fn script() -> SchemaScript {
    use Stage::{BeforeCopy, Consistent, TableCopied};
    SchemaScript {
        dialect: "postgres".into(),
        preamble:
            "SET statement_timeout = 0;\nSET transaction_timeout_of_the_future = 0;\nSET check_function_bodies = false;"
                .into(),
        objects: vec![
            object("EXTENSION", "no_such_extension", None, BeforeCopy, "CREATE EXTENSION no_such_extension"),
            // Out of order on purpose: the view comes before its table.
            object("VIEW", "v", None, BeforeCopy, "CREATE VIEW public.v AS SELECT id FROM public.items"),
            object("VIEW", "w", None, BeforeCopy, "CREATE VIEW public.w AS SELECT 1 FROM public.excluded"),
            object("TYPE", "mood", None, BeforeCopy, "CREATE TYPE public.mood AS ENUM ('a', 'b');"),
            object(
                "FUNCTION",
                "bad()",
                None,
                BeforeCopy,
                "CREATE FUNCTION public.bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;",
            ),
            object(
                "TABLE",
                "items",
                None,
                BeforeCopy,
                "CREATE TABLE public.items (id integer NOT NULL, m public.mood, n text);",
            ),
            object(
                "TABLE",
                "orders",
                None,
                BeforeCopy,
                "CREATE TABLE public.orders (id bigint NOT NULL, item integer);",
            ),
            object(
                "TABLE",
                "parts",
                None,
                BeforeCopy,
                "CREATE TABLE public.parts (id integer NOT NULL, item integer) PARTITION BY RANGE (id);",
            ),
            object(
                "TABLE",
                "parts_1",
                None,
                BeforeCopy,
                "CREATE TABLE public.parts_1 (id integer NOT NULL, item integer);",
            ),
            object(
                "TABLE ATTACH",
                "parts_1",
                None,
                BeforeCopy,
                "ALTER TABLE ONLY public.parts ATTACH PARTITION public.parts_1 FOR VALUES FROM (0) TO (10);",
            ),
            object(
                "CONSTRAINT",
                "items items_pkey",
                Some("items"),
                TableCopied,
                "ALTER TABLE ONLY public.items\n    ADD CONSTRAINT items_pkey PRIMARY KEY (id);",
            ),
            object(
                "CONSTRAINT",
                "parts parts_pkey",
                Some("parts"),
                TableCopied,
                "ALTER TABLE ONLY public.parts\n    ADD CONSTRAINT parts_pkey PRIMARY KEY (id);",
            ),
            object(
                "CONSTRAINT",
                "parts_1 parts_1_pkey",
                Some("parts_1"),
                TableCopied,
                "ALTER TABLE ONLY public.parts_1\n    ADD CONSTRAINT parts_1_pkey PRIMARY KEY (id);",
            ),
            object(
                "INDEX ATTACH",
                "parts_1_pkey",
                Some("parts_1"),
                TableCopied,
                "ALTER INDEX public.parts_pkey ATTACH PARTITION public.parts_1_pkey;",
            ),
            object(
                "INDEX",
                "items_m",
                Some("items"),
                TableCopied,
                "CREATE INDEX items_m ON public.items USING btree (m);",
            ),
            object(
                "INDEX",
                "items_n",
                Some("items"),
                TableCopied,
                "CREATE UNIQUE INDEX items_n ON public.items USING btree (n);",
            ),
            object(
                "INDEX",
                "items_x",
                Some("items"),
                TableCopied,
                "CREATE INDEX items_x ON public.items USING nosuchmethod (n);",
            ),
            object(
                "INDEX",
                "orders_u",
                Some("orders"),
                TableCopied,
                "CREATE UNIQUE INDEX orders_u ON public.orders USING btree (item);",
            ),
            object(
                "INDEX",
                "orders_id",
                Some("orders"),
                TableCopied,
                "CREATE UNIQUE INDEX orders_id ON public.orders USING btree (id);",
            ),
            object(
                "FK CONSTRAINT",
                "orders orders_fk",
                Some("orders"),
                Consistent,
                "ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT orders_fk FOREIGN KEY (item) REFERENCES public.items(id);",
            ),
            object(
                "FK CONSTRAINT",
                "parts parts_fk",
                Some("parts"),
                Consistent,
                "ALTER TABLE public.parts\n    ADD CONSTRAINT parts_fk FOREIGN KEY (item) REFERENCES public.items(id);",
            ),
            object(
                "TRIGGER",
                "items t1",
                Some("items"),
                Consistent,
                "CREATE TRIGGER t1 BEFORE INSERT ON public.items FOR EACH ROW EXECUTE FUNCTION public.bad();",
            ),
            object(
                "TRIGGER",
                "items t2",
                Some("items"),
                Consistent,
                "CREATE TRIGGER t2 BEFORE INSERT ON public.items FOR EACH ROW EXECUTE FUNCTION public.bad();\n\nALTER TABLE public.items ENABLE ALWAYS TRIGGER t2;",
            ),
        ],
        made_by: "test".into(),
        ..SchemaScript::default()
    }
}

const FOREIGN_KEYS: &str = "select string_agg(conname || ' ' || convalidated, ', ' order by conname) from pg_constraint where contype = 'f' and conparentid = 0";
const TRIGGERS: &str =
    "select string_agg(tgname || tgenabled::text, ' ' order by tgname) from pg_trigger where not tgisinternal";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_script_when_created_twice_then_it_stands_once_and_applying_is_undisturbed() {
    let target = Target::start();
    for role in ["root", "app"] {
        let info = target.info(role);
        let mut client = target.client(role).await;
        target.server.psql_in(role, "grant create on schema public to public").unwrap();
        bookkeeping::take_over(&mut client, "shop").await.unwrap();
        let script = script();
        for _ in 0..2 {
            let warnings = create::create(&info, "shop", &script, Stage::BeforeCopy, None).await.unwrap();
            assert_eq!(warnings.len(), 2, "{warnings:?}");
            assert!(
                warnings.iter().any(|w| w.contains("no_such_extension"))
                    && warnings.iter().any(|w| w.contains("VIEW public.w"))
            );
        }
        assert_eq!(ask(&client, "select count(*) from public.v").await, "0");
        // The first unique index has a nullable column: it can find no row, and must not stay.
        create::create_key(&info, "shop", &script, &name("orders")).await.unwrap();
        assert_eq!(
            ask(
                &client,
                "select string_agg(indexrelid::regclass::text, ' ') from pg_index where indrelid = 'orders'::regclass"
            )
            .await,
            "orders_id"
        );
        run(&client, "insert into items values (1, 'a', 'x'), (2, 'b', 'y'); insert into orders values (1, 1); insert into parts values (1, 1)").await;
        for _ in 0..2 {
            let warnings = create::create_table_objects(&info, "shop", &script, &name("items"), 3).await.unwrap();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            create::create_table_objects(&info, "shop", &script, &name("parts"), 1).await.unwrap();
            create::create(&info, "shop", &script, Stage::TableCopied, Some(&name("orders"))).await.unwrap();
        }
        assert_eq!(ask(&client, "select count(*) from pg_index where indrelid in ('items'::regclass, 'parts'::regclass, 'parts_1'::regclass)").await, "5");
        let tables = catalog::tables(&client, &[name("items"), name("nothing"), name("parts")]).await.unwrap();
        assert!(tables[1].is_none());
        let items = tables[0].as_ref().unwrap();
        assert_eq!((items.key(), items.has_secondary_unique), (&[0][..], true));
        assert_eq!(items.columns.iter().map(|c| c.portable_binary).collect::<Vec<_>>(), [true, true, true]);
        assert_eq!(items.columns[1].type_name, "public.mood");
        assert_eq!(tables[2].as_ref().unwrap().identity, RowIdentity::Key(vec![0]));

        for _ in 0..2 {
            create::create(&info, "shop", &script, Stage::Consistent, None).await.unwrap();
            quiesce::quiesce(&mut client, "shop", &[name("items"), name("orders"), name("parts"), name("nothing")])
                .await
                .unwrap();
        }
        let replica = quiesce::replication_role_allowed(&client).await.unwrap();
        assert_eq!(replica, role == "root");
        if replica {
            assert_eq!(ask(&client, FOREIGN_KEYS).await, "orders_fk true, parts_fk true");
            assert_eq!(ask(&client, TRIGGERS).await, "t1O t2D");
            run(&client, "set session_replication_role = replica").await;
        } else {
            assert_eq!(ask(&client, FOREIGN_KEYS).await, "");
            assert_eq!(ask(&client, TRIGGERS).await, "t1D t2D");
        }
        // An order whose item comes later, and a trigger that would refuse: both must pass.
        run(&client, "insert into orders values (3, 3)").await;
        assert_eq!(
            ask(&client, "select current_setting('session_replication_role')").await,
            if replica { "replica" } else { "origin" }
        );
        if !replica {
            // What does not hold is named, and the books stay for another try.
            let e = quiesce::finish(&mut client, "shop").await.unwrap_err();
            assert!(e.message().contains("orders_fk"), "{e}");
            assert!(bookkeeping::checkpoint(&client, "shop").await.unwrap().is_some());
            run(&client, "alter table items disable trigger user").await;
        }
        run(&client, "insert into items values (3, 'a', 'z')").await;
        if !replica {
            run(&client, "alter table items enable trigger t1; alter table items enable always trigger t2").await;
        }
        if replica {
            run(&client, "set session_replication_role = origin").await;
        }
        let said = quiesce::finish(&mut client, "shop").await.unwrap();
        assert!(said.iter().any(|s| s.contains("sequences")), "{said:?}");
        assert_eq!(ask(&client, FOREIGN_KEYS).await, "orders_fk true, parts_fk true");
        assert_eq!(ask(&client, TRIGGERS).await, "t1O t2A");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_different_table_when_created_then_it_is_refused_and_left_alone() {
    let target = Target::start();
    let info = target.info("root");
    let client = target.client("root").await;
    run(&client, "create table items (id integer not null, n text); insert into items values (1, 'x')").await;
    let mut script = script();
    script.objects.retain(|o| o.kind == "TYPE" || o.name == "items");
    let e = create::create(&info, "shop", &script, Stage::BeforeCopy, None).await.unwrap_err();
    assert!(e.message().contains("lacks: m public.mood"), "{e}");
    assert_eq!(ask(&client, "select n from items").await, "x");
    script.dialect = "mysql".into();
    assert_eq!(
        create::create(&info, "shop", &script, Stage::BeforeCopy, None).await.unwrap_err().class(),
        Class::Fatal
    );
    // An index of that name on another table is not the one that was meant.
    script.dialect = "postgres".into();
    script.objects = vec![object(
        "INDEX",
        "items_n",
        Some("items"),
        Stage::TableCopied,
        "CREATE UNIQUE INDEX items_n ON public.items USING btree (n);",
    )];
    run(&client, "create table other (n text); create index items_n on other (n)").await;
    let e = create::create(&info, "shop", &script, Stage::TableCopied, Some(&name("items"))).await.unwrap_err();
    assert!(e.message().contains("another object"), "{e}");
    script = self::script();
    script.objects.retain(|o| o.kind != "VIEW");
    // An ordinary role without the privilege is told the GRANT.
    target.server.psql_in("app", "revoke all on schema public from public, app; create role poor login password 'pw'; grant usage on schema public to poor").unwrap();
    script.dialect = "postgres".into();
    let e = create::create(&target.info("poor"), "shop", &script, Stage::BeforeCopy, None).await.unwrap_err();
    assert_eq!(e.hint_text(), Some("GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"poor\";"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_identity_rules_and_forced_policies_when_quiesced_then_all_come_back() {
    let target = Target::start();
    for role in ["root", "app"] {
        target.server.psql_in(role, "grant create on schema public to public").unwrap();
        let mut client = target.client(role).await;
        bookkeeping::take_over(&mut client, "shop").await.unwrap();
        run(&client, "create table a (id int generated always as identity primary key, \"B c\" int generated always as identity);
                 create rule r as on insert to a do also notify x; alter table a enable always rule r;
                 alter table a enable row level security, force row level security;
                 create table self (id int primary key, up int references self); comment on constraint self_up_fkey on self is 'it''s';
                 create table parted (id int) partition by range (id); create table parted_1 partition of parted for values from (0) to (9);
                 create function f() returns trigger language plpgsql as 'begin return new; end';
                 create trigger pt after insert on parted for each row execute function f();
                 alter table parted_1 enable always trigger pt;").await;
        let state = "select concat((select string_agg(attname || attidentity::text, ' ' order by attnum) from pg_attribute where attidentity <> ''),
             (select ev_enabled::text from pg_rewrite where rulename = 'r'), (select relforcerowsecurity from pg_class where relname = 'a' and relnamespace = 'public'::regnamespace),
             (select string_agg(tgrelid::regclass || tgenabled::text, ' ' order by tgrelid) from pg_trigger where tgname = 'pt'),
             (select pg_get_constraintdef(oid) || convalidated || obj_description(oid) from pg_constraint where conname = 'self_up_fkey'))";
        let state = state.replace("attidentity <> ''", "attidentity <> '' and attrelid = 'a'::regclass");
        let before = ask(&client, &state).await;
        let tables = [name("a"), name("self"), name("parted")];
        for _ in 0..2 {
            quiesce::quiesce(&mut client, "shop", &tables).await.unwrap();
        }
        let quiet = ask(&client, &state).await;
        assert!(quiet.starts_with("idd B cdDf"), "{quiet}");
        run(&client, "insert into a values (5, 6); update a set id = 7").await;
        let (said, failed) = quiesce::restore(&mut client, "shop").await.unwrap();
        assert!(failed.is_empty() && !said.is_empty(), "{failed:?}");
        assert_eq!(ask(&client, &state).await, before);
    }
}

async fn table(client: &Client, t: &str) -> Arc<Table> {
    catalog::table(client, &name(t)).await.unwrap().unwrap()
}

fn codes(found: &[Finding], severity: Severity) -> Vec<&str> {
    found.iter().filter(|f| f.severity == severity).map(|f| f.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_unfit_target_when_checked_then_each_problem_has_its_fix() {
    let target = Target::start();
    target
        .server
        .psql_in("app", "grant create on schema public to public; create role poor login password 'pw'")
        .unwrap();
    let (root, mut app, poor) = (target.client("root").await, target.client("app").await, target.client("poor").await);
    run(&root, "create table t (id int primary key, a text)").await;
    let tables = [table(&root, "t").await];
    let none = SourceFacts::default();
    for c in [&root, &app] {
        let found = check::check(c, "shop", true, &none, &tables, true).await.unwrap();
        assert_eq!(codes(&found, Severity::Problem), Vec::<&str>::new(), "{found:?}");
    }
    let found = check::check(&app, "shop", false, &none, &tables, true).await.unwrap();
    assert_eq!(codes(&found, Severity::Problem), ["missing_table"]);
    assert!(codes(&found, Severity::Note).contains(&"session_replication_role"));
    let found = check::check(&poor, "shop", true, &none, &tables, true).await.unwrap();
    let fix = found.iter().find(|f| f.code == "database_privilege").unwrap().fix.clone().unwrap();
    assert_eq!(fix, "GRANT CREATE ON DATABASE \"app\" TO \"poor\";");

    run(&app, "create table t (id int primary key, a text generated always as ('x') stored, extra int not null); insert into t values (1, default, 2)").await;
    bookkeeping::take_over(&mut app, "shop").await.unwrap();
    let mut c = bookkeeping::checkpoint(&app, "shop").await.unwrap().unwrap();
    c.log = Some(LogIdentity { server_id: "1".into(), timeline: None, handle: None, start: lsn(1) });
    bookkeeping::save(&app, "shop", &c).await.unwrap();
    let facts = SourceFacts {
        identity: Some(check::identity(&app).await.unwrap()),
        encoding: Some("LATIN1".into()),
        server_id: Some("2".into()),
        extensions: vec!["plpgsql".into(), "no_such_extension".into(), "file_fdw".into()],
    };
    let found = check::check(&app, "shop", true, &facts, &tables, true).await.unwrap();
    let problems = codes(&found, Severity::Problem);
    for code in ["same_database", "table_not_empty", "extra_column", "generated_column", "extension", "bookkeeping"] {
        assert!(problems.contains(&code), "{code}: {found:?}");
    }
    assert!(codes(&found, Severity::Warning).contains(&"fsync"));
    for f in found.iter().filter(|f| f.severity == Severity::Problem) {
        assert!(f.fix.is_some(), "{f:?}");
    }
    let found = check::check(&poor, "shop", true, &facts, &tables, true).await.unwrap();
    assert!(codes(&found, Severity::Problem).contains(&"owner"), "{found:?}");
    let mut odd = (*tables[0]).clone();
    odd.columns[1].collation = Some("pg_catalog.\"xx_XX\"".into());
    let found = check::check(&root, "shop", true, &none, &[Arc::new(odd)], false).await.unwrap();
    assert_eq!(codes(&found, Severity::Problem), ["collation"], "{found:?}");
    // PostgreSQL 15 lets an ordinary role have it.
    if ask(&root, "select current_setting('server_version_num')::int >= 150000").await == "true" {
        assert!(!quiesce::replication_role_allowed(&app).await.unwrap());
        target.server.psql("grant set on parameter session_replication_role to app").unwrap();
        assert!(quiesce::replication_role_allowed(&app).await.unwrap());
        assert_eq!(ask(&app, "select current_setting('session_replication_role')").await, "origin");
    }
    let standby = check::check(&root, "shop", true, &facts, &tables, false).await.unwrap();
    assert!(codes(&standby, Severity::Note).contains(&"same_server"), "{standby:?}");
}
