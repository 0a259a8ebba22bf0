//! One source with two targets kept level: native logical replication's and Switchyard's.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use switchyard::sandbox::PgServer;

use super::daemon::{Daemon, Migration};
use super::rig::{DATABASE, Rig, Sql, copy_schema, say};

const PATIENCE: Duration = Duration::from_secs(600);
/// The subscription's and its slot's name.
const NATIVE: &str = "native";

/// The servers. Both targets have everything; nothing runs between the two.
pub struct Pair {
    pub source: PgServer,
    pub native: PgServer,
    pub ours: PgServer,
    migration: Migration,
    with_native: bool,
}

/// Who carries changes from the source to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Native,
    Switchyard,
}

impl Carrier {
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Native => "native logical replication (binary, streaming)",
            Carrier::Switchyard => "Switchyard",
        }
    }
}

/// A carrier that runs.
pub struct Running {
    carrier: Carrier,
    /// When it was told to.
    pub begun: Instant,
    /// The process, if it is ours.
    pub daemon: Option<Daemon>,
}

impl Pair {
    /// Makes the servers, copies everything to both targets, and stops both carriers.
    pub fn new(rig: &Rig, scale: u32, with_native: bool) -> Result<Pair> {
        let source = rig.source(scale)?;
        source.psql_in(DATABASE, "CREATE TABLE bench_probe (id bigint PRIMARY KEY)")?;
        let (native, ours) = (rig.server()?, rig.server()?);
        for target in [&native, &ours] {
            target.psql(&format!("CREATE DATABASE {DATABASE}"))?;
        }
        let migration = Migration::new(&rig.folder, "pair", &source.url(DATABASE), &ours.url(DATABASE))?;
        let pair = Pair { source, native, ours, migration, with_native };
        if with_native {
            say("copying to the target of native logical replication");
            pair.subscribe()?;
        }
        say("copying to the target of Switchyard");
        let mut running = pair.start(Carrier::Switchyard)?;
        if let Some(daemon) = &mut running.daemon {
            daemon.wait_until_ready(PATIENCE)?;
        }
        pair.stop(running)?;
        Ok(pair)
    }

    /// Both carriers, or Switchyard alone.
    pub fn carriers(&self) -> Vec<Carrier> {
        if self.with_native { vec![Carrier::Native, Carrier::Switchyard] } else { vec![Carrier::Switchyard] }
    }

    pub fn target(&self, carrier: Carrier) -> &PgServer {
        match carrier {
            Carrier::Native => &self.native,
            Carrier::Switchyard => &self.ours,
        }
    }

    fn subscribe(&self) -> Result<()> {
        for section in ["pre-data", "post-data"] {
            copy_schema(&self.source, &self.native, DATABASE, section)?;
        }
        self.source.psql_in(
            DATABASE,
            &format!(
                "CREATE PUBLICATION {NATIVE} FOR TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers, bench_probe"
            ),
        )?;
        let target = Sql::connect(&self.native, DATABASE)?;
        target.execute(&format!(
            "CREATE SUBSCRIPTION {NATIVE} CONNECTION '{}' PUBLICATION {NATIVE} WITH (binary = true, streaming = on)",
            self.source.url(DATABASE)
        ))?;
        let unfinished = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        target.wait_for(unfinished, "0", Duration::from_millis(100), PATIENCE)?;
        target.execute(&format!("ALTER SUBSCRIPTION {NATIVE} DISABLE"))?;
        self.wait_until_slot(Carrier::Native, false)?;
        Ok(())
    }

    /// The slot that a carrier reads from.
    fn slot(&self, carrier: Carrier) -> String {
        match carrier {
            Carrier::Native => NATIVE.to_owned(),
            Carrier::Switchyard => format!("switchyard_{}", self.migration.name),
        }
    }

    /// Waits until a carrier's stream has begun (or ended); when it had.
    pub fn wait_until_slot(&self, carrier: Carrier, active: bool) -> Result<Instant> {
        let sql = Sql::connect(&self.source, DATABASE)?;
        let asked = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", self.slot(carrier));
        sql.wait_for(&asked, if active { "t" } else { "f" }, Duration::from_millis(2), PATIENCE)
    }

    /// Lets a carrier run.
    pub fn start(&self, carrier: Carrier) -> Result<Running> {
        match carrier {
            Carrier::Native => {
                let target = Sql::connect(&self.native, DATABASE)?;
                let begun = Instant::now();
                target.execute(&format!("ALTER SUBSCRIPTION {NATIVE} ENABLE"))?;
                Ok(Running { carrier, begun, daemon: None })
            }
            Carrier::Switchyard => {
                let daemon = self.migration.start()?;
                Ok(Running { carrier, begun: daemon.begun, daemon: Some(daemon) })
            }
        }
    }

    /// Stops a carrier, and waits until nobody uses its slot.
    pub fn stop(&self, running: Running) -> Result<()> {
        match running.daemon {
            None => Sql::connect(&self.native, DATABASE)?.execute(&format!("ALTER SUBSCRIPTION {NATIVE} DISABLE"))?,
            Some(daemon) => daemon.stop()?,
        }
        self.wait_until_slot(running.carrier, false).map(drop)
    }

    /// Commits a row with this number at the source, after everything else.
    pub fn probe(&self, id: u64) -> Result<()> {
        self.source.psql_in(DATABASE, &format!("INSERT INTO bench_probe VALUES ({id})")).map(drop)
    }

    /// Waits until the row is visible at the carrier's target; when it was. Both carriers apply in commit order, so
    /// everything before it is there too.
    pub fn wait_for_probe(&self, running: &mut Running, id: u64) -> Result<Instant> {
        let sql = Sql::connect(self.target(running.carrier), DATABASE)?;
        let asked = format!("SELECT EXISTS (SELECT FROM bench_probe WHERE id = {id})");
        let begun = Instant::now();
        loop {
            if sql.text(&asked)? == "t" {
                return Ok(Instant::now());
            }
            if let Some(daemon) = &mut running.daemon {
                daemon.alive("applying a backlog")?;
            }
            ensure!(begun.elapsed() < PATIENCE, "{} is not level after {PATIENCE:?}", running.carrier.name());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails unless both targets hold what the source holds.
    pub fn compare(&self) -> Result<()> {
        let sql = "SELECT (SELECT count(*) FROM pgbench_accounts), (SELECT sum(aid::bigint * abalance) FROM pgbench_accounts), \
                   (SELECT count(*) FROM pgbench_history), (SELECT sum(aid::bigint * delta) FROM pgbench_history), \
                   (SELECT count(*) FROM bench_probe)";
        let wanted = self.source.psql_in(DATABASE, sql)?;
        for carrier in self.carriers() {
            let got = self.target(carrier).psql_in(DATABASE, sql)?;
            ensure!(got == wanted, "{}: the target holds {got} instead of {wanted}", carrier.name());
        }
        Ok(())
    }

    /// The servers in use.
    pub fn servers(&self) -> Vec<&PgServer> {
        vec![&self.source, &self.native, &self.ours]
    }

    /// Takes dead rows away, so that each round finds tables as the one before did.
    pub fn vacuum(&self) -> Result<()> {
        for server in self.servers() {
            if server.psql_in(DATABASE, "SELECT to_regclass('pgbench_accounts') IS NOT NULL")? == "t" {
                server.psql_in(DATABASE, "VACUUM")?;
            }
        }
        Ok(())
    }
}
