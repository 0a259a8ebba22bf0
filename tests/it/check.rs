//! The source's preflight on real servers that are wrong in every way it knows.

use switchyard::finding::{Finding, Severity};
use switchyard::pgwire::conninfo::ConnInfo;
use switchyard::pgwire::control;
use switchyard::sandbox::{self, PgServer};
use switchyard::source::postgres::catalog::TableIds;
use switchyard::source::postgres::check::check;
use switchyard::transform::select::Selection;

use crate::source_catalog::{AWKWARD, start};
use crate::support::{Daemon, Database};

async fn look(url: String, include: &[&str], exclude: &[&str]) -> Vec<Finding> {
    let info = ConnInfo::parse("source.url", &url.into()).unwrap();
    let client = control::connect(&info, "source").await.unwrap();
    let selection = Selection::new(include, exclude).unwrap();
    check(&client, &info, "shop", &selection, &TableIds::default()).await.unwrap()
}

#[track_caller]
fn has(findings: &[Finding], severity: Severity, code: &str, fix: &str) {
    let found = findings
        .iter()
        .any(|f| f.severity == severity && f.code == code && f.fix.as_deref().unwrap_or_default().contains(fix));
    assert!(found, "no {severity:?} {code} with {fix:?} in {findings:#?}");
}

fn problems(findings: &[Finding]) -> Vec<&str> {
    findings.iter().filter(|f| f.severity == Severity::Problem).map(|f| &*f.code).collect()
}

fn psql(server: &PgServer, sql: &str) {
    server.psql(sql).unwrap();
}

#[tokio::test]
async fn given_a_good_source_when_checked_then_nothing_is_a_problem() {
    let server = start();
    psql(&server, "create table t (id int primary key)");
    let findings = look(server.url("postgres"), &[], &[]).await;
    assert!(problems(&findings).is_empty(), "{findings:#?}");
    has(&findings, Severity::Ok, "wal_level", "");
}

#[tokio::test]
async fn given_an_awkward_schema_when_checked_then_each_table_has_its_statement() {
    let server = start();
    psql(&server, AWKWARD);
    psql(&server, "select lo_create(0)");
    let findings = look(server.url("postgres"), &[], &[]).await;
    use Severity::{Problem, Warning};
    has(&findings, Problem, "replica_identity", "ALTER TABLE public.nokey REPLICA IDENTITY FULL");
    has(&findings, Problem, "replica_identity", "ALTER TABLE public.nothing REPLICA IDENTITY USING INDEX nothing_pkey");
    has(&findings, Problem, "replica_identity", "ALTER TABLE public.deferrable REPLICA IDENTITY FULL");
    has(&findings, Warning, "unlogged", "ALTER TABLE public.unlogged SET LOGGED");
    has(&findings, Warning, "no_key", "public.fullnokey");
    has(&findings, Warning, "types", "");
    has(&findings, Problem, "large_objects", "");
    let chosen = look(server.url("postgres"), &["public.items", "nix.*"], &[]).await;
    assert_eq!(problems(&chosen), ["include"]);
    has(&chosen, Warning, "large_objects", "");
    let nothing = look(server.url("postgres"), &["nix.*"], &[]).await;
    has(&nothing, Problem, "tables", "");
    let partition = look(server.url("postgres"), &["public.events"], &["public.events_1"]).await;
    has(&partition, Problem, "partition", "");
}

#[tokio::test]
async fn given_a_role_without_rights_when_checked_then_the_exact_statements_are_said() {
    let server = start();
    psql(
        &server,
        "create schema s; create table s.t (id int primary key); create table s.hidden (id int primary key); alter table s.hidden enable row level security; create role \"App-1\" login",
    );
    let findings = look(server.url_as("App-1", "", "postgres"), &[], &[]).await;
    use Severity::{Note, Problem};
    has(&findings, Problem, "replication", "ALTER ROLE \"App-1\" REPLICATION");
    has(&findings, Problem, "create", "GRANT CREATE ON DATABASE postgres TO \"App-1\"");
    has(&findings, Problem, "usage", "GRANT USAGE ON SCHEMA s TO \"App-1\"");
    has(&findings, Problem, "select", "GRANT SELECT ON s.t TO \"App-1\"");
    has(&findings, Problem, "ownership", "ALTER TABLE s.t OWNER TO \"App-1\"");
    has(&findings, Problem, "row_security", "ALTER ROLE \"App-1\" BYPASSRLS");
    has(&findings, Note, "ddl", "superuser");
    // With what it says done, nothing remains.
    psql(
        &server,
        "alter role \"App-1\" replication bypassrls; grant create on database postgres to \"App-1\"; grant usage on schema s to \"App-1\"; alter table s.t owner to \"App-1\"; alter table s.hidden owner to \"App-1\"",
    );
    let findings = look(server.url_as("App-1", "", "postgres"), &[], &[]).await;
    assert!(problems(&findings).is_empty(), "{findings:#?}");
}

#[tokio::test]
async fn given_wrong_settings_when_checked_then_each_is_said() {
    let install = sandbox::find_postgres(None).unwrap();
    let server = PgServer::builder(&install)
        .setting("fsync", "off")
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("max_slot_wal_keep_size", "64MB")
        .setting("wal_sender_timeout", "2s")
        .setting("max_prepared_transactions", "2")
        .start()
        .unwrap();
    psql(&server, "create table t (id int primary key); select pg_create_physical_replication_slot('switchyard_shop')");
    psql(&server, "begin; insert into t values (1); prepare transaction 'x'");
    let findings = look(server.url("postgres"), &[], &[]).await;
    use Severity::{Problem, Warning};
    has(&findings, Problem, "wal_level", "ALTER SYSTEM SET wal_level = logical");
    has(&findings, Problem, "max_replication_slots", "ALTER SYSTEM SET max_replication_slots = 5");
    has(&findings, Problem, "slot", "pg_drop_replication_slot('switchyard_shop')");
    has(&findings, Warning, "max_slot_wal_keep_size", "ALTER SYSTEM");
    has(&findings, Warning, "wal_sender_timeout", "60s");
    has(&findings, Warning, "prepared_transactions", "COMMIT PREPARED");
    psql(&server, "select pg_drop_replication_slot('switchyard_shop')");
    let standby = server.base_backup(&[("hot_standby", "on")]).unwrap();
    let findings = look(standby.url("postgres"), &[], &[]).await;
    has(&findings, Problem, "standby", "primary");
}

#[test]
fn given_a_partial_selection_when_checked_and_run_then_what_stays_behind_is_named() {
    let db = Database::shared("behind");
    let mut source = db.on_source();
    source.run(
        "create table u (id int primary key); create table elsewhere (id int primary key);
         create function used() returns int language sql as 'select 1'; create function checks(int) returns bool language sql as 'select true';
         create function unused(int) returns int language sql as 'select 1'; create function touch() returns trigger language plpgsql as 'begin return new; end';
         create domain d as int check (checks(value));
         create table t (id int primary key default used(), u int constraint t_u references u, e int constraint t_e references elsewhere, v d) partition by range (id);
         create table t_1 partition of t default; create trigger touch before insert on t for each row execute function touch();
         create view shows as select id from t; create view \"Shows more\" as select s.id, e.id as e from shows s, elsewhere e; create view of_leaf as select 1 as one from t_1;
         create materialized view kept as select id from t; create view other as select id from elsewhere; insert into t values (1)",
    );
    let config = db.config().extra("[tables]\ninclude = [\"public.t\", \"public.u\"]");
    let said = "these stay behind: foreign keys t_e of public.t; functions public.unused; materialized views public.kept; views public.\"Shows more\", public.of_leaf, public.shows";
    let out = Daemon::command(&config, &["check"]);
    let text = String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned();
    assert!(text.contains(said), "{text}");
    let mut daemon = Daemon::spawn(&config);
    daemon.ready();
    let warnings = daemon.says("/warnings").to_string().replace("\\\"", "\"");
    assert_eq!(warnings.matches(said).count(), 1, "{warnings}");
    assert_eq!(daemon.log().matches("these stay behind").count(), 1);
    // As it says.
    let names = "select string_agg(relname, ' ' order by relname) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')";
    assert_eq!(db.on_target().one(names), "");
    let names =
        "select string_agg(proname, ' ' order by proname) from pg_proc where pronamespace = 'public'::regnamespace";
    assert_eq!(db.on_target().one(names), "checks touch used");
    let names = "select string_agg(conname, ' ') from pg_constraint where contype = 'f' and conparentid = 0";
    assert_eq!(db.on_target().one(names), "t_u");
    assert_eq!(daemon.sigterm(), 0);
    // With everything nothing stays behind.
    let out = Daemon::command(&db.config().name("whole"), &["check"]);
    assert!(!String::from_utf8_lossy(&out.stdout).contains("stay behind"));
    db.drop();
}
