//! Copies between engines: MariaDB into PostgreSQL beside pgloader, PostgreSQL into MySQL beside LOAD DATA.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use switchyard::sandbox::{self, MyServer, PgServer};

use super::Args;
use super::daemon::Migration;
use super::my_rig::{self, MySql, forget_log, version};
use super::my_table::{self, TABLE};
use super::report::{Series, Table, cells, ratio};
use super::rig::{self, DATABASE, Rig, run as run_program, say};

const PATIENCE: Duration = Duration::from_secs(1800);

/// MariaDB into PostgreSQL.
pub fn into_postgres(rig: &Rig, args: &Args) -> Result<Table> {
    if !args.alone && Command::new("pgloader").arg("--version").output().is_err() {
        bail!("pgloader is not installed: run `scripts/servers.sh bench`, or leave the peers out with --alone");
    }
    let install = sandbox::find_mariadb()?;
    let source = my_rig::server_with_database(&install, &[])?;
    my_table::make_in_mariadb(&source, args.my_rows)?;
    let target = rig.server()?;
    let wanted = my_table::in_mysql(&source, DATABASE)?;
    let mut peer = Series::new("pgloader, as it is by itself");
    let mut ours = Series::new("Switchyard");
    let mut made: Vec<String> = Vec::new();
    // A round that is not counted warms the source's buffers and the files' space.
    for round in 0..=args.rounds {
        // In turn, each round beginning with the other one.
        for turn in 0..2 {
            let is_peer = (turn + round) % 2 == 0;
            if is_peer && args.alone {
                continue;
            }
            let database = format!("my_copy_{round}_{turn}");
            target.psql(&format!("CREATE DATABASE {database}"))?;
            rig::settle(&[&target])?;
            my_rig::settle(&[&source])?;
            let took = match is_peer {
                true => pgloader(rig, &source, &target, &database)?,
                false => switchyard(rig, &database, &source.url(DATABASE), &target.url(&database))?,
            };
            let series = if is_peer { &mut peer } else { &mut ours };
            say(&format!("my-copy, round {round}: {} {:.2} s", series.name, took.as_secs_f64()));
            let got = my_table::in_postgres(&target, &database, "public")?;
            ensure!(got == wanted, "{}: the copy holds {got} instead of {wanted}", series.name);
            made.push(indexes(&target, &database)?);
            // pgloader takes MariaDB's JSON for the text that it is stored as.
            let made: Vec<String> = made.iter().map(|m| m.replace("details json|", "details text|")).collect();
            ensure!(made.iter().all(|m| *m == made[0]), "the copies have different columns or indexes: {made:?}");
            target.psql(&format!("DROP DATABASE {database}"))?;
            if round > 0 {
                series.values.push(took.as_secs_f64());
            }
        }
    }
    let title = format!(
        "my-copy: {} into PostgreSQL, {} rows, {} rounds, seconds",
        version(&install),
        args.my_rows,
        args.rounds
    );
    let mut table =
        Table::new(title, &["", "median", "min–max", "rows/s, median", "Switchyard ÷ it, median (min–max)"]);
    row(&mut table, &peer, &ours, args.my_rows);
    row(&mut table, &ours, &ours, args.my_rows);
    table.note("Target: at most 0.40 of pgloader.");
    Ok(table)
}

/// PostgreSQL into MySQL.
pub fn into_mysql(rig: &Rig, args: &Args) -> Result<Table> {
    let install = sandbox::find_mysql()?;
    let source = rig.server()?;
    my_table::make_in_postgres(&source, args.my_rows)?;
    let file = rig.folder.join("rows.txt");
    my_table::export(&source, &file)?;
    let target = my_rig::server(&install, &[])?;
    let wanted = my_table::in_postgres(&source, DATABASE, "public")?;
    let mut indexed = Series::new("LOAD DATA LOCAL from a file, into the table with its index");
    let mut after = Series::new("the same into the table with its key, then the index");
    let mut ours = Series::new("Switchyard");
    let mut definition = String::new();
    for round in 0..=args.rounds {
        for turn in 0..3 {
            // Switchyard is first in the round that is not counted: the others load into the table that it made.
            let contender = (turn + round) % 3;
            if contender > 0 && args.alone {
                continue;
            }
            let database = format!("pg_my_copy_{round}_{turn}");
            target.sql(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"))?;
            rig::settle(&[&source])?;
            my_rig::settle(&[&target])?;
            let (series, took) = match contender {
                0 => {
                    let took = switchyard(rig, &database, &source.url(DATABASE), &target.url(&database))?;
                    if definition.is_empty() {
                        definition =
                            MySql::connect(&target, &database)?.field(&format!("SHOW CREATE TABLE {TABLE}"), 1)?;
                    }
                    (&mut ours, took)
                }
                n => {
                    target.sql_in(&database, &definition)?;
                    let took = load(&target, &database, &file, n == 2)?;
                    (if n == 1 { &mut indexed } else { &mut after }, took)
                }
            };
            say(&format!("pg-my-copy, round {round}: {} {:.2} s", series.name, took.as_secs_f64()));
            let got = my_table::in_mysql(&target, &database)?;
            ensure!(got == wanted, "{}: the copy holds {got} instead of {wanted}", series.name);
            let indexes =
                "SELECT count(DISTINCT index_name) FROM information_schema.statistics WHERE table_schema = DATABASE()";
            let indexes = target.sql_in(&database, indexes)?;
            ensure!(indexes == "2", "{}: the copy has {indexes} indexes instead of 2", series.name);
            target.sql(&format!("DROP DATABASE {database}"))?;
            forget_log(&target)?;
            if round > 0 {
                series.values.push(took.as_secs_f64());
            }
        }
    }
    let title = format!(
        "pg-my-copy: PostgreSQL into {}, {} rows, {} rounds, seconds",
        version(&install),
        args.my_rows,
        args.rounds
    );
    let mut table =
        Table::new(title, &["", "median", "min–max", "rows/s, median", "Switchyard ÷ it, median (min–max)"]);
    for peer in [&indexed, &after, &ours] {
        row(&mut table, peer, &ours, args.my_rows);
    }
    table.note("Target: at most 1.10 of LOAD DATA LOCAL.");
    Ok(table)
}

fn row(table: &mut Table, it: &Series, ours: &Series, rows: u64) {
    if it.values.is_empty() {
        return;
    }
    let rates: Vec<f64> = it.values.iter().map(|s| rows as f64 / s).collect();
    let rate = cells(&rates);
    let rate = rate.split(" | ").next().unwrap_or_default();
    table.row(format!("{} | {} | {rate} | {}", it.name, cells(&it.values), ratio(&ours.values, &it.values)));
}

/// From the start of the process until the target is consistent and followed.
fn switchyard(rig: &Rig, name: &str, source: &str, target: &str) -> Result<Duration> {
    let migration = Migration::new(&rig.folder, name, source, target)?;
    let mut daemon = migration.start()?;
    let done = daemon.wait_until("consistent", PATIENCE, |s| {
        (s["phase"] == "tailing" || s["phase"] == "ready") && s["stream"]["consistent"] == true
    })?;
    let took = done - daemon.begun;
    daemon.stop()?;
    migration.finish()?;
    Ok(took)
}

/// The whole program. It is told to make columns of the types that Switchyard makes, and nothing else.
fn pgloader(rig: &Rig, source: &MyServer, target: &PgServer, database: &str) -> Result<Duration> {
    let script = rig.folder.join(format!("{database}.load"));
    let address = |url: String| url.replace("postgres://", "postgresql://");
    fs::write(
        &script,
        format!(
            "LOAD DATABASE FROM {} INTO {}\n \
             CAST type datetime to timestamp drop default keep typemod using zero-dates-to-null\n \
             ALTER SCHEMA '{DATABASE}' RENAME TO 'public';\n",
            source.url(DATABASE),
            address(target.url(database)),
        ),
    )?;
    let root = rig.folder.join(format!("pgloader-{database}"));
    let took = run_program(Command::new("pgloader").arg("--root-dir").arg(&root).arg(&script))?;
    let _ = fs::remove_dir_all(&root);
    Ok(took)
}

/// Types, keys and indexes of a copy in PostgreSQL, without their names.
fn indexes(server: &PgServer, database: &str) -> Result<String> {
    server.psql_in(
        database,
        &format!(
            "SELECT (SELECT string_agg(attname || ' ' || format_type(atttypid, NULL), ', ' ORDER BY attnum) FROM pg_attribute \
               WHERE attrelid = 'public.{TABLE}'::regclass AND attnum > 0), \
             (SELECT string_agg(indkey::text || indisprimary::text, ', ' ORDER BY indkey::text) FROM pg_index \
               WHERE indrelid = 'public.{TABLE}'::regclass)"
        ),
    )
}

/// What a person with the `mysql` program does.
fn load(target: &MyServer, database: &str, file: &std::path::Path, index_after: bool) -> Result<Duration> {
    let sql = MySql::connect(target, database)?;
    let find = format!(
        "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = '{TABLE}' AND index_name <> 'PRIMARY'"
    );
    let index = sql.text(&find)?;
    ensure!(!index.is_empty(), "the copied table has no second index");
    let path = file.to_str().context("the folder for temporary files has a name that is no text")?;
    let mut statements = format!("LOAD DATA LOCAL INFILE '{path}' INTO TABLE {TABLE} CHARACTER SET utf8mb4");
    if index_after {
        sql.execute(&format!("DROP INDEX `{index}` ON {TABLE}"))?;
        statements.push_str(&format!("; CREATE INDEX `{index}` ON {TABLE} (quantity)"));
    }
    let begun = Instant::now();
    my_table::by_client(target, database, &statements)?;
    Ok(begun.elapsed())
}
