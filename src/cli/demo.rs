//! `switchyard demo`: the whole story on private servers.
//!
//! | file | responsibility |
//! |---|---|
//! | `story.rs` | the seven steps |
//! | `side.rs` | a private server of any engine, and connections to it |
//! | `shop.rs` | the database between two PostgreSQL servers, and filling it |
//! | `portable.rs` | the database between any other two that speak SQL |
//! | `documents.rs` | the database in MongoDB, and filling it |
//! | `workload.rs` | the application that writes all the time |
//! | `workload/portable.rs` | its statements in the portable database |
//! | `workload/documents.rs` | its writes in the database of documents |
//! | `ledger.rs` | what the application was promised, and looking it up at the target |
//! | `child.rs` | the daemon as a child process |
//! | `probe.rs` | lag as an application sees it |
//! | `compare.rs` | every row and every definition on both sides |
//! | `canonical.rs` | the same across engines |
//! | `mapped.rs` | the same between documents and the rows that rules make of them |
//! | `summary.rs` | the figures at the end |
//! | `screen.rs` | bars, lines, questions |

mod canonical;
mod child;
mod compare;
mod documents;
mod ledger;
mod mapped;
mod portable;
mod probe;
mod screen;
mod shop;
mod side;
mod story;
mod summary;
mod workload;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use screen::Screen;
use side::Engine;

/// Start private servers, let an application write, copy, follow, compare
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "What it does: starts two private servers, fills one, lets an application write to it all the time, and
runs `switchyard check` and `switchyard run` to copy and follow it. On the way the daemon is killed once, and
a column (of documents: a field) is added. In the end every row and every acknowledged write is looked up on the target.

Examples:
  switchyard demo
  switchyard demo --rows 1000000 --seconds 60
  switchyard demo --rows 3000 --seconds 4 --yes
  switchyard demo --source mysql --target postgres
  switchyard demo --source mongo --target postgres

Everything happens in temporary folders and on loopback, and is removed at the end. Needs the server
programs of both engines (package postgresql; scripts/servers.sh mysql|mariadb|mongo), and about 1 GB of disk with
the default number of rows.

Exit statuses: 0 nothing was lost and nothing differs; 1 otherwise; 2 wrong usage; 130 interrupted."
)]
pub struct DemoArgs {
    /// Engine of the source: postgres, mysql, mariadb; mongo into postgres
    #[arg(long, value_name = "ENGINE", default_value = "postgres")]
    pub source: String,
    /// Engine of the target: postgres, mysql, mariadb
    #[arg(long, value_name = "ENGINE", default_value = "postgres")]
    pub target: String,
    /// Order items that the source begins with; other tables in proportion
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    pub rows: u64,
    /// How long the application is followed once the copy is done
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    pub seconds: u64,
    /// Do not ask before disk space is used
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs the demo. The status is 0 only if nothing was lost and nothing differs.
///
/// # Errors
/// Whatever kept the story from being told to its end.
pub async fn run(args: DemoArgs) -> Result<u8> {
    let engines = (Engine::parse("--source", &args.source)?, Engine::parse("--target", &args.target)?);
    if engines.1 == Engine::Mongo || engines.0 == Engine::Mongo && engines.1 != Engine::Postgres {
        let pair = format!("--source {} --target {}", args.source, args.target);
        return Err(Error::config(format!("{pair}: the demo does not have this pair"))
            .hint("with MongoDB it shows `--source mongo --target postgres`; docs/engines.md says which pairs `switchyard run` migrates"));
    }
    let screen = Screen::new();
    let megabytes = 300 + args.rows * 5 / 2000;
    let question = format!(
        "The demo starts a private {} and a private {} server and uses about\n\
         {megabytes} MB below {} while it runs, for a minute or two. Go on?",
        engines.0.name(),
        engines.1.name(),
        std::env::temp_dir().display()
    );
    if !args.yes && !screen::agreed(&question)? {
        return Ok(1);
    }
    let listen = |kind| signal(kind).map_err(|e| Error::fatal(format!("listening for signals: {e}")));
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut folder = story::Folder::create()?;
    let told = tokio::select! {
        told = story::tell(&args, engines, &screen, &folder) => told,
        _ = int.recv() => return interrupted(),
        _ = term.recv() => return interrupted(),
    };
    let told = match told {
        Ok(told) => told,
        Err(e) => {
            story::explain(&screen, &folder);
            folder.keep = true;
            return Err(e);
        }
    };
    let figures = &told.figures;
    screen.line("");
    screen.line(&figures.text());
    if figures.clean() {
        screen.line(
            "\nNext: docs/demo.md says what this proved and what it did not; with databases of your own,\n\
             `switchyard init --source URL --target URL` prints a configuration to start from.",
        );
        return Ok(0);
    }
    folder.keep = true;
    screen.line(&format!("\nThe daemon's log is kept: {}", folder.log().display()));
    Ok(1)
}

/// By now the story, with servers and daemon in it, has been dropped: they are gone.
fn interrupted() -> Result<u8> {
    eprintln!("interrupted; the private servers are stopped and their folders removed");
    Ok(130)
}
