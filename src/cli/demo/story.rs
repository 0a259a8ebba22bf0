//! The seven steps of the demo, from nothing to a comparison.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::child::{self, Daemon, Program};
use super::probe::{Probe, Sample};
use super::screen::Screen;
use super::shop::Shop;
use super::side::{DATABASE, Engine, Origin, Server, Session};
use super::summary::{Figures, millis, percentile};
use super::workload::{Application, WRITERS};
use super::{DemoArgs, canonical, compare, documents, ledger, mapped};
use crate::cli::output::thousands;
use crate::error::{Error, Result, ResultExt};
use crate::status::{Phase, Status};

/// Between two looks at the daemon's status.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the target may take to be level once nobody writes any more.
const LEVEL_PATIENCE: Duration = Duration::from_secs(180);
/// How long the daemon may take to answer for the first time.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The demo's own folder for the configuration and the daemon's log.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whether it stays when the value is dropped: a log of something that went wrong is worth keeping.
    pub keep: bool,
}

impl Folder {
    /// Makes it, for this user's eyes only.
    pub fn create() -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("switchyard-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Folder { path, keep: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's log in it.
    pub fn log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A story that was told to its end.
#[derive(Debug)]
pub struct Told {
    /// What was measured.
    pub figures: Figures,
    /// Stopped, and their folders removed, when the value is dropped: that can take longer than to read the figures.
    _servers: (Server, Server),
}

/// Tells the whole story; whether nothing was lost is in the figures.
///
/// # Errors
/// Whatever kept it from being told to its end.
pub async fn tell(args: &DemoArgs, engines: (Engine, Engine), screen: &Screen, folder: &Folder) -> Result<Told> {
    let begin = Instant::now();
    let shop = Shop::of(engines.0, engines.1);
    screen.step(1, "starting a private source and a private target");
    let (source, target) = servers(engines)?;
    let log = source.engine().log();
    screen.say(&format!("{} on 127.0.0.1:{}, with {log} and passwords,", source.title(), source.port()));
    screen.say(&format!("{} on 127.0.0.1:{}", target.title(), target.port()));
    for server in [&source, &target] {
        server.create_database().await?;
    }

    screen.step(2, "filling the source: a shop with the types and habits that make replication hard");
    let mut look_source = source.origin().await?;
    let rows = {
        let mut live = screen.live(None);
        live.update(0, 0, &format!("inserting about {} rows …", thousands(args.rows * 7 / 3)));
        look_source.fill(shop, args.rows).await?
    };
    let noun = if shop == Shop::Documents { "documents" } else { "rows" };
    screen.say(&format!("{} {noun}: {}", thousands(rows), shop.describe(source.engine())));

    screen.step(3, &format!("starting an application that writes on {WRITERS} connections until the end"));
    let mut application = match &look_source {
        Origin::Documents(documents) => Application::over_documents(documents, args.rows),
        Origin::Sql(_) => {
            let mut connections = Vec::new();
            for _ in 0..WRITERS {
                connections.push(source.connect().await?);
            }
            Application::start(connections, shop, args.rows)
        }
    };
    screen.say(match shop {
        Shop::Documents => {
            "inserts, $set, $push, $pull, $unset, replacements, deletes, transactions over collections,\n\
             aborted ones; every acknowledged write has a unique id, which the application remembers"
        }
        _ => {
            "inserts, updates, deletes, changed keys, swapped unique values, savepoints, rollbacks; every\n\
             acknowledged write has a unique id, which the application remembers"
        }
    });

    screen.step(4, "switchyard check: what would stand in the way?");
    let program = configure(folder, &source, &target)?;
    let config = std::fs::read_to_string(&program.config).context("reading the configuration back")?;
    screen.say("the configuration (both passwords come from the environment):\n");
    for line in config.lines() {
        screen.line(format!("    {line}").trim_end());
    }
    screen.line("");
    let (said, ready) = program.run(&["check"]).await?;
    screen.say(&said);
    if !ready {
        return Err(Error::fatal("`switchyard check` found problems on the demo's own servers"));
    }

    screen.step(5, "switchyard run: copying, while the application writes");
    let started = Instant::now();
    let daemon = program.start()?;
    let mut scene =
        Scene { screen, daemon, program: program.clone(), application: &mut application, figures: Figures::default() };
    scene.copy(started).await?;

    screen.step(6, &format!("following for {} seconds; half-way the daemon is killed", args.seconds));
    let look_target = target.connect().await?;
    let probe = Probe::start(source.origin().await?, target.connect().await?);
    let length = Duration::from_secs(args.seconds);
    let (probe, mut figures, daemon) = scene.follow(probe, length, &mut look_source).await?;

    screen.step(7, "stopping the application, waiting until the target is level, comparing everything");
    let mut sides = Sides { shop, source: look_source, target: look_target };
    let daemon = level(screen, application, probe, daemon, &mut figures, &mut sides).await?;
    daemon.stop().await?;
    clear_up(screen, &program, &mut figures, &mut sides).await?;
    screen.say(&format!("done, {:.0} seconds after the start", begin.elapsed().as_secs_f64()));
    Ok(Told { figures, _servers: (source, target) })
}

/// The source and the target, started at the same time.
fn servers(engines: (Engine, Engine)) -> Result<(Server, Server)> {
    // Staying on this thread: a server that is still being started must not outlive an interrupted story.
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let target = scope.spawn(|| Server::start(engines.1));
            let source = Server::start(engines.0);
            let target = target.join().unwrap_or_else(|_| Err(Error::fatal("starting the target panicked")));
            Ok((source?, target?))
        })
    })
}

/// Writes the configuration. The passwords are not in it.
fn configure(folder: &Folder, source: &Server, target: &Server) -> Result<Program> {
    // The daemon binds it a moment later; whoever takes it in between makes the demo fail loudly.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr());
    let api = free.context("looking for a free port")?;
    let url = |variable: &str, server: &Server| {
        let (engine, port) = (server.engine(), server.port());
        let (scheme, parameters) = (engine.scheme(), server.parameters());
        format!("{scheme}://{}:${{{variable}}}@127.0.0.1:{port}/{DATABASE}{parameters}", engine.account())
    };
    let (from, to) = ("SOURCE_PASSWORD", "TARGET_PASSWORD");
    let (made, rules) = match source.engine() {
        Engine::Mongo => ("create_schema = true\n", documents::rules()),
        _ => ("", String::new()),
    };
    let text = format!(
        "name = \"demo\"\n\n[source]\nurl = \"{}\"\n\n[target]\nurl = \"{}\"\n{made}\n[api]\nlisten = \"{api}\"\n{rules}",
        url(from, source),
        url(to, target)
    );
    let config = folder.path().join("switchyard.toml");
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let variables = vec![(from, source.password().to_owned()), (to, target.password().to_owned())];
    Ok(Program { config, log: folder.log(), api: format!("http://{api}"), variables })
}

/// Sessions that look at both sides in the end.
struct Sides {
    shop: Shop,
    source: Origin,
    target: Session,
}

/// What takes part in steps 5 and 6.
struct Scene<'a> {
    screen: &'a Screen,
    daemon: Daemon,
    program: Program,
    application: &'a mut Application,
    figures: Figures,
}

impl Scene<'_> {
    fn committed(&self) -> u64 {
        self.application.counters.committed.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn alive(&self) -> Result<()> {
        if self.application.broken() {
            return Err(Error::fatal("a connection of the application ended early"));
        }
        Ok(())
    }

    /// Watches the copy until the target is being kept level.
    async fn copy(&mut self, started: Instant) -> Result<()> {
        self.screen.say(&format!(
            "pid {}; its API and a page with the same figures: {}",
            self.daemon.pid().unwrap_or(0),
            self.program.api
        ));
        let mut live = self.screen.live(Some(1));
        let status = loop {
            self.alive()?;
            match self.daemon.status().await? {
                Some(status) if matches!(status.phase, Phase::Tailing | Phase::Ready) => break status,
                Some(status) => {
                    let s = &status.snapshot;
                    live.update(s.rows_copied, s.rows_estimated, &copying(&status));
                }
                None if started.elapsed() > START_PATIENCE && self.figures.rows_copied == 0 => {
                    return Err(Error::fatal("the daemon's API does not answer"));
                }
                None => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        drop(live);
        self.figures.copy = started.elapsed();
        self.figures.rows_copied = status.snapshot.rows_copied;
        let seconds = self.figures.copy.as_secs_f64();
        self.screen.say(&format!(
            "{} rows in {} tables in {seconds:.1} s, schema, keys and indexes included; meanwhile\n\
             the application committed {} transactions",
            thousands(status.snapshot.rows_copied),
            status.snapshot.tables.len(),
            thousands(self.committed())
        ));
        Ok(())
    }

    /// Follows for `length`, with the kill in the middle.
    async fn follow(
        mut self,
        mut probe: Probe,
        length: Duration,
        source: &mut Origin,
    ) -> Result<(Probe, Figures, Daemon)> {
        let caught_up = self.until_level(&mut probe, Instant::now(), "catching up, making foreign keys").await?;
        self.screen.say(&format!("level {} after the copy", millis(caught_up)));
        // Only what was committed once the target was level tells how it is kept level.
        let begin = Instant::now();
        let before = self.watch(&mut probe, length / 2).await?;

        self.screen.say("kill -9, and started again at once, with nobody's help:");
        let Scene { screen, daemon, program, application, mut figures } = self;
        daemon.kill9().await?;
        let killed = Instant::now();
        let daemon = program.start()?;
        count(&mut figures, before.as_ref());
        let mut scene = Scene { screen, daemon, program: program.clone(), application, figures };
        let outage = scene.until_level(&mut probe, killed, "the new daemon takes over").await?;
        scene.screen.say(&format!("level again {} after the kill; nothing to repair", millis(outage)));
        scene.figures.outage = Some(outage);
        scene.screen.say(&source.alter().await?);
        scene.application.altered();
        scene.watch(&mut probe, length.saturating_sub(begin.elapsed()).max(length / 4)).await?;
        scene.figures.tail = begin.elapsed();

        let outage_end = killed + outage;
        let quiet = |s: &&Sample| s.committed >= begin && (s.visible < killed || s.committed > outage_end);
        scene.figures.lags = probe.samples().iter().filter(quiet).map(Sample::lag).collect();
        Ok((probe, scene.figures, scene.daemon))
    }

    /// Waits until everything that was committed has been seen at the target after `since`.
    async fn until_level(&mut self, probe: &mut Probe, since: Instant, what: &str) -> Result<Duration> {
        let mut live = self.screen.live(None);
        let mut shown = Instant::now();
        loop {
            self.alive()?;
            probe.check().await?;
            if let Some(at) = probe.level_since(since) {
                return Ok(at.duration_since(since));
            }
            if since.elapsed() > LEVEL_PATIENCE {
                return Err(Error::fatal(format!("{what}: not level after {} seconds", LEVEL_PATIENCE.as_secs())));
            }
            if shown.elapsed() > LOOK_EVERY * 2 {
                shown = Instant::now();
                let status = self.daemon.status().await?;
                let behind = probe.oldest().unwrap_or_default();
                let rate = status.map_or(0.0, |s| s.stream.rows_per_second);
                live.update(0, 0, &format!("{what}: {} behind, {} changes/s", millis(behind), thousands(rate as u64)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Shows the live lag for a while; returns the last status.
    async fn watch(&mut self, probe: &mut Probe, length: Duration) -> Result<Option<Status>> {
        let begin = Instant::now();
        let first = self.committed();
        let mut live = self.screen.live(Some(1));
        let mut last: Option<Status> = None;
        let mut applied = None;
        while begin.elapsed() < length {
            tokio::time::sleep(LOOK_EVERY.min(length.saturating_sub(begin.elapsed()))).await;
            self.alive()?;
            probe.check().await?;
            let Some(status) = self.daemon.status().await? else { continue };
            self.figures.said.extend(status.stream.lag_seconds);
            let mut lags = probe.recent(80, begin);
            lags.sort();
            let at = |share| percentile(&lags, share).map_or("-".to_owned(), millis);
            let per_second =
                |n: u64, since: Instant| thousands((n as f64 / since.elapsed().as_secs_f64().max(0.1)) as u64);
            let (before, since) = *applied.get_or_insert((status.stream.rows_applied, Instant::now()));
            let changes = per_second(status.stream.rows_applied.saturating_sub(before), since);
            last = Some(status);
            if begin.elapsed() < Duration::from_millis(900) {
                continue;
            }
            live.update(
                begin.elapsed().as_millis() as u64,
                length.as_millis() as u64,
                &format!(
                    "lag {}, p95 {} · {changes} changes/s · {} tx/s",
                    at(0.5),
                    at(0.95),
                    per_second(self.committed() - first, begin)
                ),
            );
        }
        live.leave(self.screen);
        Ok(last)
    }
}

/// Adds what a daemon applied, by its last word; both numbers begin anew with every daemon.
fn count(figures: &mut Figures, status: Option<&Status>) {
    if let Some(status) = status {
        figures.changes += status.stream.rows_applied;
        figures.transactions += status.stream.transactions_applied;
    }
}

fn copying(status: &Status) -> String {
    let s = &status.snapshot;
    let eta = s.eta_seconds.map_or(String::new(), |n| format!(", {n} s left"));
    match status.phase {
        Phase::Copying if s.rows_estimated > 0 => {
            format!(
                "{:.0} % · {} of about {} rows{eta}",
                s.percent,
                thousands(s.rows_copied),
                thousands(s.rows_estimated)
            )
        }
        _ => "connecting, making the tables".to_owned(),
    }
}

/// Stops the writers, waits until the target is level, and compares everything.
async fn level(
    screen: &Screen,
    application: Application,
    probe: Probe,
    mut daemon: Daemon,
    figures: &mut Figures,
    sides: &mut Sides,
) -> Result<Daemon> {
    let counters = application.counters.clone();
    let ledger = application.stop().await?;
    let stopped = Instant::now();
    let read = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    figures.committed = read(&counters.committed);
    figures.rolled_back = read(&counters.rolled_back) + read(&counters.refused);
    screen.say(&format!(
        "{} transactions were acknowledged, {} rolled back",
        thousands(figures.committed),
        thousands(figures.rolled_back)
    ));
    probe.finish(LEVEL_PATIENCE).await?;
    let took = stopped.elapsed();
    // The daemon counts a batch after its commit; the probe saw the commit itself.
    tokio::time::sleep(LOOK_EVERY).await;
    count(figures, daemon.status().await?.as_ref());
    screen.say(&format!("level {} after the last write; comparing every row as text:", millis(took)));

    let tell = |table: &compare::Compared| {
        let (here, there) = (table.source_rows.unsigned_abs(), table.target_rows.unsigned_abs());
        let equal = if table.differences.is_empty() { "equal" } else { "DIFFERENT" };
        screen.say(&format!("{:<30}{:>10} rows  {equal}", table.table, thousands(here)));
        if !table.differences.is_empty() {
            screen.say(&format!("  the target has {} rows", thousands(there)));
            table.differences.iter().for_each(|d| screen.say(&format!("  {d}")));
        }
    };
    let (source, target) = (&mut sides.source, &mut sides.target);
    let compared = match (sides.shop, source) {
        (_, Origin::Documents(documents)) => mapped::tables(documents, target, tell).await?,
        (Shop::Native, Origin::Sql(source)) => compare::tables(source, target, tell).await?,
        (_, Origin::Sql(source)) => canonical::tables(source, target, tell).await?,
    };
    figures.tables = compared.len();
    figures.rows_compared = compared.iter().map(|t| t.source_rows.unsigned_abs()).sum();
    figures.tables_different = compared.iter().filter(|t| !t.differences.is_empty()).count();
    let audit = ledger::look_up(&ledger, sides.shop, target).await?;
    figures.looked_up = audit.looked_up;
    figures.lost = audit.lost;
    figures.phantoms = audit.phantoms;
    Ok(daemon)
}

/// Ends the migration as an operator would, and looks at what that leaves: definitions alike on both sides, and nothing of
/// ours. Until then some of the target's are set aside on purpose.
async fn clear_up(
    screen: &Screen,
    program: &Program,
    figures: &mut Figures,
    Sides { shop, source, target }: &mut Sides,
) -> Result<()> {
    screen.say("\nswitchyard finish: taking away what the migration made on both servers");
    let (said, done) = program.run(&["finish", "--yes"]).await?;
    screen.say(&said);
    if !done {
        return Err(Error::fatal("`switchyard finish` failed"));
    }
    let (definitions, left) = match (shop, source) {
        (_, Origin::Documents(documents)) => (mapped::definitions(target).await?, documents.leftovers().await?),
        (Shop::Native, Origin::Sql(source)) => {
            (compare::definitions(source, target).await?, compare::leftovers(source, "source").await?)
        }
        (_, Origin::Sql(source)) => {
            (canonical::definitions(source, target).await?, compare::leftovers(source, "source").await?)
        }
    };
    figures.definitions = (definitions.count, definitions.missing.len() + definitions.extra.len());
    for (what, list) in [("missing", &definitions.missing), ("extra", &definitions.extra)] {
        list.iter().take(10).for_each(|d| screen.say(&format!("{what} at the target: {d}")));
    }
    figures.leftovers = left;
    figures.leftovers.extend(compare::leftovers(target, "target").await?);
    figures.leftovers.iter().for_each(|l| screen.say(&format!("left behind: {l}")));
    Ok(())
}

/// What the daemon said last, for whoever has to find out why the story broke off.
pub fn explain(screen: &Screen, folder: &Folder) {
    let lines = child::tail(&folder.log(), 15);
    if lines.is_empty() {
        return;
    }
    screen.line("");
    screen.line(&format!("the daemon's log, {}, ends with:", folder.log().display()));
    lines.iter().for_each(|line| screen.say(line));
}
