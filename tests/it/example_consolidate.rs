//! `config/consolidate.toml` on real servers: what docs/example-consolidate.md promises.

use crate::support::{Config, Daemon, Database, Sql, assert_same_rows, documented_pairs};

const SOURCE: &str = include_str!("fixtures/consolidate_source.sql");
const TARGET: &str = include_str!("fixtures/consolidate_target.sql");

/// Each target table: the query on the source that computes its rows, its columns, and the keys that were there before.
const TABLES: [(&str, &str, &str, &str); 4] = [
    (
        "data_imports",
        "select id, flow_id, source_filename, file_size_bytes, file_type, user_id,
           case status when 'new' then 'pending' when 'running' then 'processing' when 'done' then 'completed' else 'failed' end,
           '{\"version\": 1}'::jsonb, created_at, finished_at at time zone 'UTC'
         from v3_data_imports where not is_mock",
        "id, master_flow_id, filename, file_size, mime_type, imported_by, status, options, created_at, finished_at",
        "select md5('import' || i)::uuid from generate_series(1, 5) i union all select md5('own')::uuid",
    ),
    (
        "discovery_flows",
        "select id, id as master, data_import_id, name, coalesce(phase_state, '{}'), '[]'::jsonb, progress::float8
         from v3_discovery_flows where not is_mock",
        "id, master_flow_id, data_import_id, flow_name, phase_state, agent_insights, progress",
        "select md5('flow' || i)::uuid from generate_series(1, 5) i union all select md5('own')::uuid",
    ),
    (
        "import_field_mappings",
        "select id, data_import_id, flow_id, source_field, target_field,
           case mapping_type when 'exact' then 'direct' when 'ai' then 'inferred' else case when mapping_type is not null then 'manual' end end,
           confidence::real, case when is_approved then 'approved' when is_rejected then 'rejected' else 'suggested' end, '{}'::jsonb
         from v3_field_mappings where not is_mock",
        "id, data_import_id, master_flow_id, source_field, target_field, match_type, confidence, status, transformation",
        "select md5('mapping' || i)::uuid from generate_series(1, 20) i",
    ),
    (
        "raw_import_records",
        "select id, data_import_id, flow_id, row_no, raw_data, error is null, error, '{\"checked\": false}'::jsonb
         from v3_raw_import_records where not is_mock",
        "id, data_import_id, master_flow_id, record_index, raw_data, is_valid, error, validation",
        "select md5('record' || i)::uuid from generate_series(1, 50) i",
    ),
];

/// Every row of every target table is what the source's row makes of it, or was there before and is as it was.
fn same(source: &mut Sql, target: &mut Sql) {
    for (table, expected, columns, before) in TABLES {
        assert_same_rows(
            source,
            &format!("select * from ({expected}) e where id not in ({before})"),
            target,
            &format!("select {columns} from {table} where id not in ({before})"),
        );
        let changed = format!(
            "select count(*) from (select * from {table} where id in ({before}) except select * from before.{table}) x"
        );
        assert_eq!(target.number(&changed), 0, "rows of {table} that were there before changed");
        let kept = format!(
            "select (select count(*) from {table} where id in ({before})) - (select count(*) from before.{table})"
        );
        assert_eq!(target.number(&kept), 0, "{table}");
    }
}

/// What the page tells people to count.
fn audited(source: &mut Sql, target: &mut Sql) {
    let pairs = documented_pairs("example-consolidate.md");
    assert!(pairs.len() == 4, "{pairs:?}");
    for (what, on_source, on_target) in pairs {
        assert_eq!(source.rows(&on_source), target.rows(&on_target), "{what}");
    }
}

fn prepared(what: &str) -> (Database, Sql, Sql, Config) {
    let db = Database::shared(what);
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(SOURCE);
    target.run(TARGET);
    target.run("create schema before");
    for (table, ..) in TABLES {
        target.run(&format!("create table before.{table} as table {table}"));
    }
    let config = db.config().shipped("consolidate.toml");
    (db, source, target, config)
}

#[test]
fn given_a_schema_in_use_when_consolidated_then_its_rows_stay_and_the_others_come() {
    let (db, mut source, mut target, config) = prepared("consolidate");
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let row = r#"{"id": "6f1c0000-0000-0000-0000-000000000001", "source_field": "host", "mapping_type": "ai", "is_rejected": true, "is_mock": false}"#;
    let shown = Daemon::command(&config, &["transform", "--table", "v3_field_mappings", "--row", row]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("match_type      inferred") && shown.contains("status          rejected"), "{shown}");
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    audited(&mut source, &mut target);
    // What the source says later of rows that were there, and of others.
    for sql in [
        "update v3_data_imports set source_filename = 'later 🐘', status = 'lost' where id in (select md5('import' || i)::uuid from generate_series(1, 40) i)",
        "update v3_field_mappings set is_approved = not is_approved, is_rejected = null where id in (select md5('mapping' || i)::uuid from generate_series(1, 300) i)",
        "delete from v3_raw_import_records where id in (select md5('record' || i)::uuid from generate_series(40, 90) i)",
        "begin; delete from v3_field_mappings where id = md5('mapping7')::uuid;
         insert into v3_field_mappings (id, data_import_id, source_field) values (md5('mapping7')::uuid, md5('import8')::uuid, 'again'); commit",
        "begin; insert into v3_field_mappings (id, data_import_id, source_field) values (md5('new')::uuid, md5('import8')::uuid, 'new');
         update v3_field_mappings set mapping_type = 'ai' where id = md5('new')::uuid; commit",
        "begin; update v3_raw_import_records set id = md5('moved')::uuid where id = md5('record100')::uuid;
         update v3_raw_import_records set error = 'neu', raw_data = raw_data || '{\"x\": [1.50, null]}' where id = md5('moved')::uuid; commit",
        // A row that was there gets another key, which is free on the target.
        "update v3_raw_import_records set id = md5('freed')::uuid where id = md5('record10')::uuid",
        "insert into v3_raw_import_records values (md5('own record')::uuid, md5('import20')::uuid, null, -1, 'null', 'x', true)",
    ] {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    // Mocks become real and the other way round, with all that hangs on them.
    for (n, mock) in [(10, false), (20, false), (31, true), (4, true), (33, true), (33, false)] {
        let of = |table: &str, column: &str, name: &str| {
            format!("update {table} set is_mock = {mock} where {column} = md5('{name}{n}')::uuid;")
        };
        source.run(&format!(
            "begin; {} {} {} {} commit",
            of("v3_data_imports", "id", "import"),
            of("v3_discovery_flows", "id", "flow"),
            of("v3_field_mappings", "data_import_id", "import"),
            of("v3_raw_import_records", "data_import_id", "import"),
        ));
    }
    source.run("update v3_discovery_flows set phase_state = null, progress = 33.33 where name is null; delete from v3_field_mappings where confidence > 0.9");
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
    audited(&mut source, &mut target);
    assert_eq!(daemon.sigterm(), 0);
    assert_eq!(Daemon::command(&config, &["finish", "--yes"]).status.code(), Some(0));
    same(&mut source, &mut target);
}

/// What the rules say besides, so that they make the tables.
const MADE: [(&str, &str); 7] = [
    (
        "to = \"data_imports\"",
        "set = { options = \"'{\\\"version\\\": 1}'::jsonb\" }
         types = { file_size = \"bigint\", finished_at = \"timestamptz\" }
         references = [{ columns = [\"master_flow_id\"], table = \"discovery_flows\", to = [\"master_flow_id\"] }]
         indexes = [{ columns = [\"imported_by\", \"created_at\"], name = \"imports_by_user\" }]",
    ),
    (
        "to = \"discovery_flows\"",
        "types = { progress = \"double precision\" }
         not_null = [\"master_flow_id\", \"phase_state\"]
         indexes = [{ columns = [\"master_flow_id\"], unique = true }]
         references = [{ columns = [\"data_import_id\"], table = \"data_imports\" }]",
    ),
    ("set = { master_flow_id = \"id\",", "set = { agent_insights = \"'[]'::jsonb\", master_flow_id = \"id\","),
    (
        "to = \"import_field_mappings\"",
        "types = { confidence = \"real\", source_field = \"varchar(100)\" }
         references = [{ columns = [\"data_import_id\"], table = \"data_imports\", on_delete = \"cascade\" },
                       { columns = [\"master_flow_id\"], table = \"discovery_flows\", to = [\"master_flow_id\"] }]",
    ),
    (
        "set = { status = \"case when is_approved",
        "set = { transformation = \"'{}'::jsonb\", status = \"case when is_approved",
    ),
    (
        "to = \"raw_import_records\"",
        "key = [\"id\"]
         references = [{ columns = [\"data_import_id\"], table = \"data_imports\" }]",
    ),
    ("set = { is_valid = ", "set = { validation = \"'{\\\"checked\\\": false}'::jsonb\", is_valid = "),
];

#[test]
fn given_no_tables_on_the_target_when_consolidated_then_the_rules_make_them() {
    let db = Database::shared("consolidate_made");
    let (mut source, mut target) = (db.on_source(), db.on_target());
    source.run(SOURCE);
    let mut config = db.config().shipped("consolidate.toml").schema_made();
    for (from, more) in MADE {
        let to = if from.starts_with("to = ") { format!("{from}\n{more}") } else { more.to_owned() };
        config = config.edited(from, &to);
    }
    let check = Daemon::command(&config, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_level(&db.source);
    let same = |source: &mut Sql, target: &mut Sql| {
        for (table, expected, columns, _) in TABLES {
            assert_same_rows(source, expected, target, &format!("select {columns} from {table}"));
        }
    };
    same(&mut source, &mut target);
    let constraints = "select string_agg(conname || case when convalidated then '' else '?' end, ' ' order by conname) from pg_constraint where contype <> 'c' and connamespace = 'public'::regnamespace";
    assert_eq!(
        target.one(constraints),
        "data_imports_master_flow_id_fkey data_imports_pkey discovery_flows_data_import_id_fkey discovery_flows_master_flow_id_key discovery_flows_pkey \
         import_field_mappings_data_import_id_fkey import_field_mappings_master_flow_id_fkey import_field_mappings_pkey raw_import_records_data_import_id_fkey raw_import_records_pkey"
    );
    // Only what is needed comes along: the source's enum became a text.
    assert_eq!(target.number("select count(*) from pg_type where typname = 'v3_status'"), 0);
    assert_eq!(target.number("select count(*) from pg_indexes where indexname = 'imports_by_user'"), 1);
    for sql in [
        "update v3_data_imports set source_filename = 'later 🐘', status = 'lost' where id in (select md5('import' || i)::uuid from generate_series(1, 40) i)",
        "update v3_field_mappings set is_approved = not is_approved, is_rejected = null where id in (select md5('mapping' || i)::uuid from generate_series(1, 300) i)",
        "begin; delete from v3_field_mappings where id = md5('mapping7')::uuid;
         insert into v3_field_mappings (id, data_import_id, source_field) values (md5('mapping7')::uuid, md5('import8')::uuid, 'again'); commit",
        "begin; update v3_raw_import_records set id = md5('moved')::uuid where id = md5('record100')::uuid;
         update v3_raw_import_records set error = 'neu', raw_data = raw_data || '{\"x\": [1.50, null]}' where id = md5('moved')::uuid; commit",
    ] {
        source.run(sql);
    }
    daemon.wait_level(&db.source);
    same(&mut source, &mut target);
}
