//! The source's catalog, slot and schema script against a real server with an awkward schema.

use std::sync::Arc;
use std::time::Duration;

use switchyard::Class;
use switchyard::pgwire::conninfo::ConnInfo;
use switchyard::pgwire::control;
use switchyard::position::Position;
use switchyard::sandbox::{self, PgServer};
use switchyard::schema::{Kind, RowIdentity, Stage, Table, TableName};
use switchyard::source::postgres::catalog::{self, LeftOut, TableIds, Wanted};
use switchyard::source::postgres::{dump, slot};
use switchyard::transform::select::Selection;
use tokio_postgres::Client;

pub fn start() -> PgServer {
    let install = sandbox::find_postgres(None).unwrap();
    PgServer::builder(&install).setting("fsync", "off").start().unwrap()
}

pub async fn connect(server: &PgServer, database: &str) -> (Client, ConnInfo) {
    let info = ConnInfo::parse("source.url", &server.url(database).into()).unwrap();
    (control::connect(&info, "source").await.unwrap(), info)
}

fn select(include: &[&str], exclude: &[&str]) -> Selection {
    Selection::new(include, exclude).unwrap()
}

fn names(tables: &[Arc<Table>]) -> Vec<String> {
    tables.iter().map(|t| t.name.to_string()).collect()
}

fn find<'a>(tables: &'a [Arc<Table>], name: &str) -> &'a Table {
    tables.iter().find(|t| t.name.to_string() == name).unwrap_or_else(|| panic!("no {name} in {:?}", names(tables)))
}

pub const AWKWARD: &str = include_str!("../fixtures/awkward.sql");

#[tokio::test]
async fn given_an_awkward_schema_when_read_then_every_field_is_right() {
    let server = start();
    server.psql(AWKWARD).unwrap();
    let (client, _) = connect(&server, "postgres").await;
    let ids = TableIds::default();
    let all = catalog::read(&client, &select(&[], &[]), &ids).await.unwrap();
    let tables: Vec<Arc<Table>> = all.tables.iter().map(|d| d.table.clone()).collect();
    assert_eq!(all.left_out, [(TableName::new("public", "unlogged"), LeftOut::Unlogged)],);
    let mut want = vec![
        "\"Odd Schema\".\"Größe \"\"x\"\"; Type: TABLE\"",
        "other.e",
        "public.byindex",
        "public.child",
        "public.deferrable",
        "public.empty",
        "public.events",
        "public.families",
        "public.fullkey",
        "public.fullnokey",
        "public.hashed",
        "public.items",
        "public.listed",
        "public.nokey",
        "public.nothing",
        "public.parent",
    ];
    want.sort_unstable();
    let mut have = names(&tables);
    have.sort_unstable();
    assert_eq!(have, want);
    let items = find(&tables, "public.items");
    let column = |name: &str| &items.columns[items.column(name).unwrap()];
    assert_eq!(items.identity, RowIdentity::Key(vec![0]));
    assert!(items.has_secondary_unique && !items.full_old_rows);
    assert!(items.column("dropped").is_none());
    assert_eq!(column("price").type_name, "numeric(10,2)");
    assert_eq!((column("price").kind, column("price").portable_binary), (Kind::Numeric, true));
    assert_eq!((column("m").kind, column("m").portable_binary), (Kind::Text, true));
    assert_eq!(column("m").type_name, "public.mood");
    assert!(!column("ms").portable_binary);
    assert_eq!(column("c").collation.as_deref(), Some("pg_catalog.\"C\""));
    assert_eq!(column("price").number, 4);
    assert_eq!(items.generated.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["twice"]);
    assert_eq!(column("id").identity, Some(switchyard::schema::Identity::Always));
    assert!(column("at").default.as_deref().unwrap().contains("now()"));

    assert_eq!(find(&tables, "public.fullkey").identity, RowIdentity::Key(vec![1]));
    assert!(find(&tables, "public.fullkey").full_old_rows);
    assert_eq!(find(&tables, "public.fullnokey").identity, RowIdentity::AllColumns);
    assert_eq!(find(&tables, "public.byindex").identity, RowIdentity::Key(vec![1, 0]));
    for none in ["public.nokey", "public.nothing", "public.deferrable"] {
        assert_eq!(find(&tables, none).identity, RowIdentity::None, "{none}");
    }
    assert!(find(&tables, "public.empty").columns.is_empty());
    let events = all.tables.iter().find(|d| d.table.name.name == "events").unwrap();
    assert!(events.partitioned && events.leaves.len() == 3);
    assert_eq!(events.table.identity, RowIdentity::Key(vec![0, 1]));

    // The same name has the same number, whatever else was read in between.
    let again = catalog::table(&client, Wanted::Name(&items.name), &ids).await.unwrap().unwrap();
    assert_eq!(*again.table, *items);
    assert_eq!(catalog::table(&client, Wanted::Oid(again.oid), &ids).await.unwrap().unwrap().oid, again.oid);
    assert!(catalog::table(&client, Wanted::Name(&TableName::new("public", "nix")), &ids).await.unwrap().is_none());

    // A partition stands for itself where its parent does not take part, and not where the parent was taken out.
    let only = catalog::tables(&client, &select(&["public.events_*"], &[]), &ids).await.unwrap();
    assert_eq!(names(&only), ["public.events_1", "public.events_2", "public.events_rest"]);
    let without = catalog::tables(&client, &select(&["public.e*"], &["public.events"]), &ids).await.unwrap();
    assert_eq!(names(&without), ["public.empty"]);
}

#[tokio::test]
async fn given_ten_thousand_tables_when_read_then_it_takes_seconds() {
    let server = start();
    for part in 0..20 {
        let sql = format!(
            "do $$ begin for i in {}..{} loop execute format('create table t%s (id int primary key, a text, b numeric)', i); end loop; end $$",
            part * 500 + 1,
            (part + 1) * 500
        );
        server.psql(&sql).unwrap();
    }
    let (client, _) = connect(&server, "postgres").await;
    let started = std::time::Instant::now();
    let tables = catalog::tables(&client, &select(&[], &[]), &TableIds::default()).await.unwrap();
    assert_eq!(tables.len(), 10_000);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let names = slot::Names::of("many");
    slot::create_publication(&client, &names, &tables).await.unwrap();
    assert_eq!(slot::published(&client, &names).await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn given_a_publication_when_tables_change_then_it_has_exactly_these() {
    let server = start();
    server.psql(AWKWARD).unwrap();
    let (client, _) = connect(&server, "postgres").await;
    let ids = TableIds::default();
    let names = slot::Names::of("shop");
    let all = catalog::tables(&client, &select(&[], &[]), &ids).await.unwrap();
    let refused = slot::create_publication(&client, &names, &all).await.unwrap_err();
    assert!(refused.message().contains("public.nokey") && refused.hint_text().is_some(), "{refused}");
    assert!(slot::published(&client, &names).await.unwrap().is_empty());

    let good: Vec<_> = all.iter().filter(|t| t.identity != RowIdentity::None).cloned().collect();
    slot::create_publication(&client, &names, &good).await.unwrap();
    assert_eq!(slot::published(&client, &names).await.unwrap().len(), good.len());
    // What the selection leaves out by now goes, what it lacks comes.
    slot::unpublish_excluded(&client, &names, &select(&[], &["public.items"])).await.unwrap();
    let have = slot::published(&client, &names).await.unwrap();
    assert_eq!((have.len(), have.contains(&TableName::new("public", "items"))), (good.len() - 1, false));
    slot::publish_missing(&client, &names, &good).await.unwrap();
    assert_eq!(slot::published(&client, &names).await.unwrap().len(), good.len());
}

#[tokio::test]
async fn given_a_slot_when_the_log_does_not_fit_the_checkpoint_then_each_reason_is_said() {
    let server = start();
    server.psql("create table t (id int primary key)").unwrap();
    let (client, _) = connect(&server, "postgres").await;
    let names = slot::Names::of("shop");
    let make = |name: &str, plugin: &str| {
        server.psql(&format!("select lsn from pg_create_logical_replication_slot('{name}', '{plugin}')")).unwrap()
    };
    let start = make(&names.slot, "pgoutput").parse().unwrap();
    let identity = slot::identity(&client, &names, start).await.unwrap();
    let at = Position::Lsn(start);
    slot::verify_log(&client, &identity, &at).await.unwrap();
    let health = slot::health(&client, &identity).await.unwrap();
    assert_eq!(health.state, "reserved");
    assert!(health.end.reached(&at) && health.now > 1_700_000_000_000_000);

    let said = async |identity: &switchyard::source::LogIdentity, at: &Position, what: &str| {
        let e = slot::verify_log(&client, identity, at).await.unwrap_err();
        assert_eq!(e.class(), Class::Fatal, "{e}");
        assert!(e.message().contains(what) && e.hint_text().is_some(), "{e}");
    };
    let mut other = identity.clone();
    other.server_id = "1".into();
    said(&other, &at, "another server").await;
    let mut other = identity.clone();
    other.timeline = Some(7);
    said(&other, &at, "timeline").await;
    said(&identity, &"FFFF/0".parse().unwrap(), "log ends at").await;
    said(&identity, &"0/1".parse().unwrap(), "already confirmed").await;

    server.psql(&format!("select pg_drop_replication_slot('{}')", names.slot)).unwrap();
    said(&identity, &at, "does not exist").await;
    assert!(slot::health(&client, &identity).await.is_err());
    make(&names.slot, "test_decoding");
    said(&identity, &at, "test_decoding").await;
    server.psql(&format!("select pg_drop_replication_slot('{}')", names.slot)).unwrap();
    server.psql("create database elsewhere").unwrap();
    server
        .psql_in("elsewhere", &format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", names.slot))
        .unwrap();
    said(&identity, &at, "elsewhere").await;
    server.psql_in("elsewhere", &format!("select pg_drop_replication_slot('{}')", names.slot)).unwrap();

    // The log was thrown away under it.
    make(&names.slot, "pgoutput");
    server
        .psql("alter system set max_slot_wal_keep_size = '1MB'")
        .and_then(|_| server.psql("select pg_reload_conf()"))
        .unwrap();
    for _ in 0..4 {
        server.psql("create table if not exists w (a int)").unwrap();
        server.psql("insert into w values (1)").unwrap();
        server.psql("select pg_switch_wal()").unwrap();
    }
    server.psql("checkpoint").unwrap();
    said(&identity, &at, "is lost").await;

    let tables = catalog::tables(&client, &select(&["public.t"], &[]), &TableIds::default()).await.unwrap();
    slot::create_publication(&client, &names, &tables).await.unwrap();
    let removed = slot::finish(&client, &names).await.unwrap();
    assert_eq!(removed, ["replication slot switchyard_shop", "publication switchyard_shop"]);
    assert!(slot::finish(&client, &names).await.unwrap().is_empty());
}

/// What two databases must have in common.
const CATALOG: &str = r#"
    select 'column ' || a.attrelid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
        || a.attnotnull || a.attidentity::text || a.attgenerated::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' '
        || coalesce((select collname from pg_collation where oid = a.attcollation), '') || c.relkind::text || c.relreplident::text || c.relpersistence::text
        || coalesce(pg_get_expr(c.relpartbound, c.oid), '') || coalesce(pg_get_partkeydef(c.oid), '') as x
      from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
     where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all select 'constraint ' || coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || ' ' || conname || ' ' || pg_get_constraintdef(oid)
      from pg_constraint where connamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all select 'index ' || pg_get_indexdef(i.indexrelid) || i.indisvalid::text || i.indisreplident::text from pg_index i join pg_class c on c.oid = i.indrelid
     where c.relnamespace::regnamespace::text !~ '^pg_'
    union all select 'inherits ' || inhrelid::regclass || ' ' || inhparent::regclass from pg_inherits
    union all select 'enum ' || enumtypid::regtype || ' ' || enumlabel || ' ' || rank() over (partition by enumtypid order by enumsortorder) from pg_enum
    union all select 'type ' || oid::regtype || typtype::text || typnotnull || coalesce(typdefault, '') from pg_type
     where typtype in ('d', 'r', 'c') and typnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all select 'sequence ' || seqrelid::regclass || ' ' || seqtypid::regtype || seqstart || ' ' || seqincrement || ' ' || seqmax || ' ' || seqmin || ' ' || seqcache || seqcycle
        || coalesce((select string_agg(refobjid::regclass || '.' || (select attname from pg_attribute where attrelid = refobjid and attnum = refobjsubid), ',') from pg_depend where objid = seqrelid and classid = 'pg_class'::regclass and deptype in ('a', 'i') and refclassid = 'pg_class'::regclass), '') from pg_sequence
    union all select 'comment ' || objoid::regclass || '.' || coalesce((select attname from pg_attribute where attrelid = objoid and attnum = objsubid and objsubid > 0), '') || ' ' || description from pg_description
     where classoid = 'pg_class'::regclass and objoid >= 16384
    union all select 'extension ' || extname from pg_extension
    order by 1"#;

const EXTRAS: &str = "select 'trigger ' || pg_get_triggerdef(oid) as x from pg_trigger where not tgisinternal \
    union all select 'policy ' || polrelid::regclass || polname || pg_get_expr(polqual, polrelid) from pg_policy \
    union all select 'rls ' || oid::regclass from pg_class where relrowsecurity \
    union all select 'view ' || oid::regclass || pg_get_viewdef(oid) || relispopulated from pg_class where relkind in ('v', 'm') and relnamespace::regnamespace::text !~ '^(pg_|information_schema)' \
    union all select 'function ' || pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace and prokind = 'f' and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e') \
    union all select 'statistics ' || pg_get_statisticsobjdef(oid) from pg_statistic_ext \
    order by 1";

/// Runs a script in stages, as a target does.
fn restore(server: &PgServer, database: &str, script: &switchyard::schema::SchemaScript) {
    for stage in [Stage::BeforeCopy, Stage::TableCopied, Stage::Consistent] {
        let sql: Vec<&str> = script.objects.iter().filter(|o| o.stage == stage).map(|o| &*o.sql).collect();
        let sql = format!("{}\n{}", script.preamble, sql.join("\n"));
        server.psql_in(database, &sql).unwrap_or_else(|e| panic!("{stage:?}: {e:#}\n{sql}"));
    }
}

fn assert_same(server: &PgServer, database: &str, query: &str) {
    let text = |d| server.psql_in(d, &format!("set search_path = ''; {query}")).unwrap();
    let (have, want) = (text(database), text("postgres"));
    let missing: Vec<_> = want.lines().filter(|l| !have.lines().any(|h| h == *l)).collect();
    let extra: Vec<_> = have.lines().filter(|l| !want.lines().any(|w| w == *l)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[tokio::test]
async fn given_an_awkward_schema_when_dumped_and_restored_then_the_catalogs_are_equal() {
    let server = start();
    server.psql(AWKWARD).unwrap();
    server.psql(include_str!("../fixtures/awkward_extras.sql")).unwrap();
    let (client, info) = connect(&server, "postgres").await;
    let tables = catalog::tables(&client, &select(&[], &[]), &TableIds::default()).await.unwrap();
    let wanted: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    let pg_dump = dump::find(15).await.expect("pg_dump");
    assert!(dump::find(99).await.is_none());
    let script = dump::dump(&pg_dump, &client, &info, None, &wanted, true).await.unwrap();
    assert!(script.made_by.starts_with("pg_dump "));
    server.psql("create database restored").unwrap();
    restore(&server, "restored", &script);
    assert_same(&server, "restored", CATALOG);
    assert_same(&server, "restored", EXTRAS);
    assert!(!server.psql(CATALOG).unwrap().is_empty());
    for o in script.objects.iter().filter(|o| o.stage == Stage::TableCopied) {
        assert!(o.table.as_ref().is_some_and(|t| wanted.contains(t)), "{o:?}");
    }
}

#[tokio::test]
async fn given_a_partial_selection_when_dumped_then_it_restores_alone() {
    let server = start();
    server.psql(AWKWARD).unwrap();
    server.psql(include_str!("../fixtures/awkward_extras.sql")).unwrap();
    let (client, info) = connect(&server, "postgres").await;
    let wanted = [TableName::new("public", "items"), TableName::new("public", "events")];
    let pg_dump = dump::find(15).await.expect("pg_dump");
    let script = dump::dump(&pg_dump, &client, &info, None, &wanted, false).await.unwrap();
    server.psql("create database restored").unwrap();
    restore(&server, "restored", &script);
    let have = server
        .psql_in("restored", "select string_agg(relname, ' ' order by relname) from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace")
        .unwrap();
    assert_eq!(have, "events events_1 events_2 events_rest items");
    let types = server
        .psql_in("restored", "select string_agg(typname, ' ' order by typname) from pg_type where typtype in ('e', 'd')  and typnamespace = 'public'::regnamespace")
        .unwrap();
    assert_eq!(types, "mood price");
}

#[tokio::test]
async fn given_an_awkward_schema_when_written_from_the_catalog_then_the_catalogs_are_equal() {
    let server = start();
    server.psql(AWKWARD).unwrap();
    server.psql("drop table public.unlogged").unwrap();
    let (client, _) = connect(&server, "postgres").await;
    let all = catalog::read(&client, &select(&[], &[]), &TableIds::default()).await.unwrap();
    let script = switchyard::source::postgres::script::script(&client, &all, true).await.unwrap();
    server.psql("create database restored").unwrap();
    restore(&server, "restored", &script);
    assert_same(&server, "restored", CATALOG);
}
