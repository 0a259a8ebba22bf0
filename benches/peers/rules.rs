//! What rules cost: a table with ten renamed columns and three expressions, copied and followed, beside the same table
//! without rules.

use std::time::Duration;

use anyhow::{Result, ensure};
use switchyard::sandbox::PgServer;

use super::Args;
use super::daemon::Migration;
use super::report::{Series, Table, cells, ratio};
use super::rig::{DATABASE, Rig, Sql, say, settle};

const PATIENCE: Duration = Duration::from_secs(600);
/// Rows of the table that is copied.
const ROWS: u64 = 1_000_000;

const COLUMNS: &str = "id bigint PRIMARY KEY, a int, b text, c numeric(12,2), d timestamptz, e boolean, f text, g date, h uuid, \
    i double precision, j text, approved boolean, rejected boolean, first text, last text";
const RENAMED: &str = "id bigint PRIMARY KEY, new_a int, new_b text, new_c numeric(12,2), new_d timestamptz, new_e boolean, new_f text, \
    new_g date, new_h uuid, new_i double precision, new_j text, status text, name text, ref uuid";
const RULE: &str = r#"
[[rule]]
from = "public.wide"
to = "wide_new"
rename = { a = "new_a", b = "new_b", c = "new_c", d = "new_d", e = "new_e", f = "new_f", g = "new_g", h = "new_h", i = "new_i", j = "new_j" }
drop = ["approved", "rejected", "first", "last"]
[rule.set]
status = "case when approved then 'approved' when rejected then 'rejected' else 'suggested' end"
name = "coalesce(first || ' ' || last, last, 'nobody')"
ref = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', id)"
"#;

fn values(from: u64, to: u64) -> String {
    format!(
        "SELECT n, n % 1000, 'text number ' || n, n / 7.0, timestamptz '2024-01-01' + n * interval '1 s', n % 2 = 0, repeat('f', (n % 30)::int), \
         date '2020-01-01' + (n % 1000)::int, md5(n::text)::uuid, n / 3.0, 'j' || n % 17, n % 3 = 0, n % 3 = 1, \
         CASE WHEN n % 5 > 0 THEN 'first' || n END, 'last' || n FROM generate_series({from}, {to}) n"
    )
}

pub fn run(rig: &Rig, args: &Args) -> Result<Table> {
    let source = rig.server()?;
    let target = rig.server()?;
    source.psql(&format!("CREATE DATABASE {DATABASE}"))?;
    let sql = Sql::connect(&source, DATABASE)?;
    say(&format!("rules: making a table of {ROWS} rows"));
    sql.execute(&format!(
        "CREATE TABLE wide ({COLUMNS}); CREATE TABLE probe (id bigint PRIMARY KEY); INSERT INTO wide {}",
        values(1, ROWS)
    ))?;
    sql.execute("VACUUM ANALYZE wide")?;
    let names = ["without rules", "ten renames, three expressions"];
    let mut copy: Vec<Series> = names.iter().map(|n| Series::new(format!("copy, one worker, {n}"))).collect();
    let mut stream: Vec<Series> = names.iter().map(|n| Series::new(format!("stream, {n}"))).collect();
    let mut processor: Vec<Series> = names
        .iter()
        .map(|n| Series::new(format!("copy: rows a second of Switchyard's own processor time, {n}")))
        .collect();
    let mut followed: Vec<Migration> = Vec::new();
    for round in 0..=args.rounds {
        for turn in 0..2 {
            let which = (turn + round) % 2;
            let name = format!("rules_{which}_{round}");
            let migration = migration(rig, &source, &target, &name, which == 1)?;
            settle(&[&source, &target])?;
            let mut daemon = migration.start()?;
            // The rows are there before the key and the rest: that is what the rules have a part in.
            let loaded = daemon
                .wait_until("loaded", PATIENCE, |s| s["snapshot"]["rows_copied"].as_u64().is_some_and(|n| n >= ROWS))?;
            let took = (loaded - daemon.begun).as_secs_f64();
            let own = daemon.processor_seconds()?;
            daemon.wait_until_ready(PATIENCE)?;
            daemon.stop()?;
            say(&format!("rules, round {round}: copy {}: {took:.2} s, {own:.2} s of its processor", names[which]));
            if round > 0 {
                copy[which].values.push(took);
                processor[which].values.push(ROWS as f64 / own);
            }
            if round == args.rounds { followed.push(migration) } else { migration.finish()? }
        }
    }
    // The last round's turns decide the order in which they were pushed.
    if args.rounds % 2 == 1 {
        followed.swap(0, 1);
    }
    // A block that commits must be sent alone.
    sql.execute("SET synchronous_commit = off")?;
    let transactions = args.transactions / 4;
    let mut next = ROWS;
    for round in 0..=args.rounds {
        say(&format!("rules, round {round}: making a backlog of {transactions} transactions"));
        sql.execute(&format!(
            "DO $$ BEGIN FOR k IN 1..{transactions} LOOP \
               UPDATE wide SET a = a + 1, approved = NOT approved WHERE id = 1 + (k * 7919 + {round}) % {ROWS}; \
               INSERT INTO wide SELECT {next} + k, k, 'new', 1.5, now(), true, 'f', current_date, NULL, 0.5, 'j', false, false, 'a', 'b'; COMMIT; \
             END LOOP; END $$"
        ))?;
        next += transactions;
        sql.execute(&format!("INSERT INTO probe VALUES ({round})"))?;
        for turn in 0..2 {
            let which = (turn + round) % 2;
            settle(&[&source, &target])?;
            let there = Sql::connect(&target, &format!("rules_{which}_{}", args.rounds))?;
            let daemon = followed[which].start()?;
            let level = there.wait_for(
                &format!("SELECT count(*) FROM probe WHERE id = {round}"),
                "1",
                Duration::from_millis(5),
                PATIENCE,
            )?;
            let took = (level - daemon.begun).as_secs_f64();
            say(&format!("rules, round {round}: stream {}: {took:.2} s", names[which]));
            daemon.stop()?;
            if round > 0 {
                stream[which].values.push(took);
            }
        }
    }
    compare(&source, &target, args.rounds)?;
    for m in &followed {
        m.finish()?;
    }
    let mut table = Table::new(
        format!(
            "rules: {ROWS} rows of 15 columns copied; {} row changes followed; {} rounds",
            transactions * 2,
            args.rounds
        ),
        &["", "seconds, median", "min–max", "rows/s, median", "min–max", "time with rules ÷ without"],
    );
    for (all, rows) in [(&copy, ROWS), (&stream, transactions * 2)] {
        for series in all.iter() {
            let rates: Vec<f64> = series.values.iter().map(|s| rows as f64 / s).collect();
            let ratio = ratio(&series.values, &all[0].values);
            table.row(format!("{} | {} | {} | {ratio}", series.name, cells(&series.values), cells(&rates)));
        }
    }
    for series in &processor {
        table.row(format!("{} | | | {} | ", series.name, cells(&series.values)));
    }
    table.note(
        "Targets: the stream at 70 % of the rate without rules or better (1.43 at most), the copy at 250 000 rows/s.",
    );
    Ok(table)
}

fn migration(rig: &Rig, source: &PgServer, target: &PgServer, name: &str, ruled: bool) -> Result<Migration> {
    target.psql(&format!("CREATE DATABASE {name}"))?;
    let there = Sql::connect(target, name)?;
    let columns = if ruled { RENAMED } else { COLUMNS };
    let table = if ruled { "wide_new" } else { "wide" };
    there.execute(&format!("CREATE TABLE {table} ({columns}); CREATE TABLE probe (id bigint PRIMARY KEY)"))?;
    let rule = if ruled { RULE } else { "" };
    let extra = format!("[snapshot]\nworkers = 1\n{rule}");
    Migration::with(&rig.folder, name, &source.url(DATABASE), &target.url(name), "create_schema = false", &extra)
}

/// Both targets hold what the source holds, the one as the rules say.
fn compare(source: &PgServer, target: &PgServer, rounds: usize) -> Result<()> {
    let here = source.psql_in(
        DATABASE,
        "SELECT count(*), sum(a), sum(c), count(*) FILTER (WHERE approved), min(coalesce(first || ' ' || last, last, 'nobody')) FROM wide",
    )?;
    let plain = target.psql_in(
        &format!("rules_0_{rounds}"),
        "SELECT count(*), sum(a), sum(c), count(*) FILTER (WHERE approved), min(coalesce(first || ' ' || last, last, 'nobody')) FROM wide",
    )?;
    let ruled = target.psql_in(
        &format!("rules_1_{rounds}"),
        "SELECT count(*), sum(new_a), sum(new_c), count(*) FILTER (WHERE status = 'approved'), min(name) FROM wide_new",
    )?;
    ensure!(here == plain && here == ruled, "the targets do not hold what the source holds:\n{here}\n{plain}\n{ruled}");
    Ok(())
}
