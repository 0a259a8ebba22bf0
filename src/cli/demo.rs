//! `switchyard demo`: the whole story on private servers.

use clap::Args;

use crate::error::{Error, Result};

/// Start private servers, let an application write, copy, follow, compare
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  switchyard demo
  switchyard demo --rows 1000000 --seconds 60

Everything happens in a temporary directory and on loopback; it is removed at the end.

Exit statuses: 0 nothing was lost; 1 otherwise; 2 wrong usage.")]
pub struct DemoArgs {
    /// Engine of the source
    #[arg(long, value_name = "ENGINE", default_value = "postgres")]
    pub source: String,
    /// Engine of the target
    #[arg(long, value_name = "ENGINE", default_value = "postgres")]
    pub target: String,
    /// Rows that the source begins with
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    pub rows: u64,
    /// How long the application writes while it is being followed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub seconds: u64,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs the demo. The status is 0 only if nothing was lost.
///
/// # Errors
/// Whatever kept the story from being told to its end.
pub async fn run(_args: DemoArgs) -> Result<u8> {
    Err(Error::fatal("this build has no demo"))
}
