//! Schemas between engines on a real PostgreSQL: what a source says of its tables, and what a target makes of another engine's.

use switchyard::definition::{
    ColumnDef, DataType, DefaultValue, ForeignAction, ForeignKeyDef, IndexDef, KeyColumn, TableDef,
};
use switchyard::finding::Severity;
use switchyard::schema::{Column, Kind, RowIdentity, SchemaScript, Stage, Table, TableId, TableName};
use switchyard::source::SourceOptions;
use switchyard::target::TargetOptions;
use switchyard::transform::rules::Homes;
use switchyard::transform::select::Selection;

use crate::source_catalog::start;

const EVERYTHING: &str = r#"
create type mood as enum ('sad', 'it''s ok');
create domain email as varchar(80) check (value like '%@%');
create table parent (a int, b int, primary key (b, a));
comment on table parent is 'it''s a parent';
create table elsewhere (id int primary key);
create table t (
  id serial primary key, ident bigint generated always as identity, wide numeric(12,2) default 1.50, word varchar(20) default 'it''s',
  flag boolean not null default true, m mood default 'sad', moods mood[], mail email, ints int[] default '{}', at timestamptz(3) default now(),
  day date default current_date, key uuid default gen_random_uuid(), doc jsonb default '{}', bits bit(3), span interval, ip inet, shape point,
  twice int generated always as (pa * 2) stored, pa int, pb int, other int references elsewhere, said text default lower('X'),
  constraint positive check (wide > 0), constraint words unique (word, m),
  constraint up foreign key (pb, pa) references parent (b, a) on delete cascade on update set null,
  exclude using gist (int4range(pa, pb) with &&));
comment on column t.word is 'a word';
create index part on t (day) where flag;
create index expr on t (lower(word));
create index down on t (day desc, at);
create index doc on t using gin (doc);
create unique index late on t (ident) include (word);
create function nothing() returns trigger language plpgsql as 'begin return new; end';
create trigger trig before insert on t for each row execute function nothing();
create table parts (id int primary key, v text) partition by range (id);
create table parts1 partition of parts for values from (0) to (100);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_schema_with_everything_when_a_source_describes_it_then_other_engines_can_read_it() {
    let server = start();
    server.psql(EVERYTHING).unwrap();
    let source = switchyard::source::open(SourceOptions {
        name: "x".into(),
        url: server.url("postgres").into(),
        selection: Selection::new(&["public.t", "public.parent", "public.parts"], &[] as &[&str]).unwrap(),
        workers: 1,
        whole_rows: Vec::new(),
        zero_dates: Default::default(),
        collections: Default::default(),
        documents: Default::default(),
        nul_text: Default::default(),
        follow: Default::default(),
    })
    .unwrap();
    let tables = source.tables().await.unwrap();
    let script = source.schema_script(&tables, None).await.unwrap();
    assert!(!script.objects.is_empty());
    let names: Vec<String> = script.tables.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["public.parent", "public.parts", "public.t"]);
    let [parent, parts, t] = script.tables.as_slice() else { unreachable!() };
    let keys = |k: &[KeyColumn]| k.iter().map(|k| k.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (keys(&parent.primary_key), parent.comment.as_deref()),
        (vec!["b".into(), "a".into()], Some("it's a parent"))
    );
    assert_eq!(parts.left_behind, ["it is partitioned by RANGE (id)"]);
    let c = |name: &str| t.column(name).unwrap();
    let lit = |v: &str| DefaultValue::Literal(v.into());
    let mood =
        DataType::Enum { name: Some(TableName::new("public", "mood")), labels: vec!["sad".into(), "it's ok".into()] };
    for (name, data, default) in [
        ("wide", DataType::Decimal { precision: Some(12), scale: 2 }, lit("1.50")),
        ("word", DataType::Varchar { length: 20 }, lit("it's")),
        ("flag", DataType::Bool, lit("t")),
        ("m", mood.clone(), lit("sad")),
        ("moods", DataType::Array { element: Box::new(mood) }, DefaultValue::None),
        ("mail", DataType::Varchar { length: 80 }, DefaultValue::None),
        ("ints", DataType::Array { element: Box::new(c("pa").data.clone()) }, lit("{}")),
        ("at", DataType::TimestampTz { fraction: 3 }, DefaultValue::Now { on_update: false }),
        ("day", DataType::Date, DefaultValue::Today),
        ("key", DataType::Uuid, DefaultValue::RandomUuid),
        ("doc", DataType::Json { verbatim: false }, lit("{}")),
        ("bits", DataType::Bits { length: Some(3), varying: false }, DefaultValue::None),
        ("span", DataType::Interval, DefaultValue::None),
        ("ip", DataType::Network, DefaultValue::None),
        ("shape", DataType::Other, DefaultValue::None),
        ("said", DataType::Text { bytes: None }, DefaultValue::Expression("lower('X'::text)".into())),
    ] {
        assert_eq!((&c(name).data, &c(name).default), (&data, &default), "{name}");
    }
    assert!(c("id").numbered && c("ident").numbered && !c("pa").numbered && c("id").default == DefaultValue::None);
    assert_eq!((c("twice").travels, c("twice").generated.as_deref()), (false, Some("(pa * 2)")));
    assert_eq!((c("word").comment.as_deref(), c("flag").nullable), (Some("a word"), false));
    assert_eq!(t.checks, [("positive".to_owned(), "(wide > (0)::numeric)".to_owned())]);
    let i = |name: &str| t.indexes.iter().find(|i| i.name == name).unwrap();
    assert!(i("words").unique && keys(&i("words").columns) == ["word", "m"] && i("words").peculiar.is_none());
    assert_eq!(i("part").peculiar.as_deref(), Some("WHERE flag"));
    assert!(i("expr").peculiar.is_some());
    assert!(i("down").columns[0].descending && !i("down").columns[1].descending);
    assert_eq!(i("doc").method.as_deref(), Some("gin"));
    assert_eq!(keys(&i("late").columns), ["ident"]);
    let [up] = t.foreign_keys.as_slice() else { panic!("{:?}", t.foreign_keys) };
    assert_eq!((up.columns.join(","), up.referenced.join(",")), ("pb,pa".into(), "b,a".into()));
    assert_eq!((up.on_delete, up.on_update), (ForeignAction::Cascade, ForeignAction::SetNull));
    for what in ["trigger trig", "exclusion constraint", "public.elsewhere"] {
        assert!(t.left_behind.iter().any(|l| l.contains(what)), "{what}: {:?}", t.left_behind);
    }
}

fn column(name: &str, data: DataType) -> ColumnDef {
    ColumnDef {
        name: name.into(),
        data,
        type_name: "theirs".into(),
        nullable: true,
        default: DefaultValue::None,
        numbered: false,
        generated: None,
        travels: true,
        comment: None,
    }
}

fn index(name: &str, column: &str, unique: bool, prefix: Option<u32>) -> IndexDef {
    let columns = vec![KeyColumn { name: column.into(), descending: false, prefix }];
    IndexDef { name: name.into(), columns, unique, nulls_equal: false, method: None, peculiar: None }
}

/// Two tables as a MySQL source describes them.
pub fn shop() -> Vec<TableDef> {
    let big = || DataType::Int { bits: 64, unsigned: true, truth: false };
    let lit = |v: &str| DefaultValue::Literal(v.into());
    let key = |name: &str| vec![KeyColumn { name: name.into(), descending: false, prefix: None }];
    let users = TableDef {
        name: TableName::new("shop", "users"),
        columns: vec![
            ColumnDef { numbered: true, nullable: false, ..column("id", big()) },
            ColumnDef {
                default: lit("1"),
                comment: Some("it's on".into()),
                ..column("active", DataType::Int { bits: 8, unsigned: false, truth: true })
            },
            column("name", DataType::Varchar { length: 100 }),
            column("bio", DataType::Text { bytes: Some(65_535) }),
            column("price", DataType::Decimal { precision: Some(65), scale: 30 }),
            ColumnDef {
                default: lit("a\\b"),
                ..column("state", DataType::Enum { name: None, labels: vec!["new".into(), "a\\b".into()] })
            },
            column("tags", DataType::Set { labels: vec!["x".into(), "y".into()] }),
            column("raw", DataType::Bytes { length: Some(16), fixed: true }),
            column("bits", DataType::Bits { length: Some(9), varying: false }),
            column("time", DataType::Time { fraction: 3, span: true, zone: false }),
            ColumnDef {
                default: DefaultValue::Now { on_update: true },
                ..column("changed", DataType::Timestamp { fraction: 0 })
            },
            ColumnDef {
                default: DefaultValue::Now { on_update: false },
                ..column("made", DataType::TimestampTz { fraction: 6 })
            },
            column("year", DataType::Year),
            column("doc", DataType::Json { verbatim: false }),
            column("place", DataType::Geometry),
            column("f", DataType::Float { bits: 32 }),
        ],
        primary_key: key("id"),
        indexes: vec![
            index("name", "name", true, None),
            index("bio", "bio", true, Some(50)),
            index("price", "price", false, None),
            index("raw", "raw", false, Some(4)),
        ],
        foreign_keys: Vec::new(),
        checks: Vec::new(),
        comment: Some("people".into()),
        left_behind: vec!["trigger t".into()],
    };
    let orders = TableDef {
        name: TableName::new("shop", "orders"),
        columns: vec![ColumnDef { nullable: false, ..column("id", big()) }, column("user", big())],
        primary_key: key("id"),
        indexes: vec![index("name", "user", false, None)],
        foreign_keys: vec![ForeignKeyDef {
            name: "of_user".into(),
            columns: vec!["user".into()],
            references: TableName::new("shop", "users"),
            referenced: vec!["id".into()],
            on_delete: ForeignAction::Cascade,
            on_update: ForeignAction::NoAction,
        }],
        checks: Vec::new(),
        comment: None,
        left_behind: Vec::new(),
    };
    vec![users, orders]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_tables_of_another_engine_when_made_twice_then_they_are_there_once_with_all_that_belongs_to_them() {
    let server = start();
    server.psql("create role app login password 'pw'").unwrap();
    server.psql("create database app owner app").unwrap();
    server.psql("create database root").unwrap();
    let homes = Homes { source: "shop".into(), target: "store".into(), ..Homes::default() };
    for (url, database) in [(server.url("root"), "root"), (server.url_as("app", "pw", "app"), "app")] {
        let options = TargetOptions {
            name: "x".into(),
            url: url.into(),
            create_schema: true,
            collation: None,
            microseconds: Default::default(),
            lists: Vec::new(),
        };
        let target = switchyard::target::open(options).unwrap();
        target.take_over().await.unwrap();
        let theirs = SchemaScript { dialect: "mysql".into(), tables: shop(), ..SchemaScript::default() };
        let script = target.adopt(theirs, &homes).await.unwrap();
        let names: Vec<TableName> = script.tables.iter().map(|t| t.name.clone()).collect();
        for _ in 0..2 {
            assert_eq!(target.create(&script, Stage::BeforeCopy, None).await.unwrap(), Vec::<String>::new());
            server.psql_in(database, "insert into store.orders values (1, 7) on conflict do nothing").ok();
            for name in &names {
                target.create_key(&script, name).await.unwrap();
                let said = target.create(&script, Stage::TableCopied, Some(name)).await.unwrap();
                assert_eq!(said, Vec::<String>::new());
            }
        }
        let said = target.create(&script, Stage::Consistent, None).await.unwrap();
        let made = target.tables(&[TableName::new("store", "users")]).await.unwrap().pop().flatten().unwrap();
        let types: Vec<&str> = made.columns.iter().map(|c| c.type_name.as_str()).collect();
        assert_eq!(
            types,
            [
                "bigint",
                "boolean",
                "character varying(100)",
                "text",
                "numeric(65,30)",
                "text",
                "text",
                "bytea",
                "bit(9)",
                "time(3) without time zone",
                "timestamp(0) without time zone",
                "timestamp with time zone",
                "smallint",
                "jsonb",
                "bytea",
                "real"
            ]
        );
        assert_eq!(made.key(), [0]);
        let ask = |sql: &str| server.psql_in(database, sql).unwrap().trim().to_owned();
        let indexes =
            ask("select string_agg(indexname, ',' order by indexname) from pg_indexes where schemaname = 'store'");
        assert_eq!(indexes, "orders_name,orders_pkey,users_bio,users_name,users_pkey,users_price,users_raw");
        let key = "select convalidated from pg_constraint where conname = 'of_user'";
        match database {
            "root" => {
                // The order refers to nobody: the key is there, its validation is a warning.
                assert_eq!(ask(key), "f");
                assert!(said.len() == 1 && said[0].contains("of_user"), "{said:?}");
                server.psql_in(database, "delete from store.orders").unwrap();
                assert_eq!(target.create(&script, Stage::Consistent, None).await.unwrap(), Vec::<String>::new());
                assert_eq!(ask(key), "t");
            }
            _ => {
                assert!(said.len() == 1 && said[0].contains("end of the migration"), "{said:?}");
                assert_eq!(ask(key), "");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_table_that_exists_otherwise_when_made_then_what_it_lacks_is_named() {
    let server = start();
    server.psql("create table users (id bigint)").unwrap();
    let homes = Homes { source: "shop".into(), target: "public".into(), ..Homes::default() };
    let options = TargetOptions {
        name: "x".into(),
        url: server.url("postgres").into(),
        create_schema: true,
        collation: None,
        microseconds: Default::default(),
        lists: Vec::new(),
    };
    let target = switchyard::target::open(options).unwrap();
    let theirs = SchemaScript { dialect: "mariadb".into(), tables: shop(), ..SchemaScript::default() };
    let script = target.adopt(theirs, &homes).await.unwrap();
    let e = target.create(&script, Stage::BeforeCopy, None).await.unwrap_err();
    assert!(e.message().contains("public.users") && e.message().contains("active boolean"), "{e}");
}

/// The table of rows that belongs to a definition, as a MySQL source gives it.
fn rows_of(def: &TableDef) -> Table {
    let column = |(i, c): (usize, &ColumnDef)| Column {
        name: c.name.clone(),
        number: i as i32 + 1,
        type_name: c.type_name.clone(),
        kind: Kind::Other,
        data: c.data.clone(),
        nullable: c.nullable,
        identity: None,
        default: None,
        collation: None,
        portable_binary: false,
    };
    Table {
        id: TableId(0),
        name: def.name.clone(),
        columns: def.columns.iter().enumerate().map(column).collect(),
        generated: Vec::new(),
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: true,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_tables_that_exist_for_another_engine_when_checked_then_types_that_cannot_hold_its_rows_are_problems() {
    let server = start();
    server
        .psql(
            "create table users (id numeric primary key, active int, name varchar(50), bio text, price numeric, state text,
               tags text[], raw uuid, bits bit(9), time interval, changed timestamptz, made date, year int, doc jsonb, place bytea, f int)",
        )
        .unwrap();
    let homes = Homes { source: "shop".into(), target: "public".into(), ..Homes::default() };
    let options = TargetOptions {
        name: "x".into(),
        url: server.url("postgres").into(),
        create_schema: false,
        collation: None,
        microseconds: Default::default(),
        lists: Vec::new(),
    };
    let target = switchyard::target::open(options).unwrap();
    let theirs = rows_of(&shop()[0]);
    let here = std::sync::Arc::new(target.adopt_table("mysql", &theirs, &homes).unwrap());
    let found = target.check(&Default::default(), &[here], true).await.unwrap();
    let types = |severity| {
        let of = found.iter().filter(|f| f.code == "column_type" && f.severity == severity);
        of.map(|f| f.message.split('"').nth(1).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(types(Severity::Problem), ["made", "f"], "{found:?}");
    assert_eq!(types(Severity::Note), ["name", "tags", "changed"], "{found:?}");
    let fix = found.iter().find(|f| f.severity == Severity::Problem && f.code == "column_type").unwrap();
    assert!(fix.fix.as_deref().unwrap().starts_with("ALTER TABLE \"public\".\"users\" ALTER COLUMN \"made\" TYPE"));
}
