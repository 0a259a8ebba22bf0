//! Wires a migration's parts together and runs it until it is told to stop.

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::status::StatusHandle;

/// Runs the migration until `shutdown` is cancelled (Ok) or an error that waiting does not mend.
pub async fn run(
    _config: Config,
    _status: StatusHandle,
    _metrics: Metrics,
    _shutdown: CancellationToken,
) -> Result<()> {
    Err(Error::fatal("this build has no pipeline"))
}
