//! Wires a migration's parts together and runs it until it is told to stop.

use tokio_util::sync::CancellationToken;

use crate::config::{Config, OnError};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::source;
use crate::status::StatusHandle;
use crate::target;

/// Runs the migration until `shutdown` is cancelled (Ok) or an error that waiting does not mend.
pub async fn run(config: Config, status: StatusHandle, metrics: Metrics, shutdown: CancellationToken) -> Result<()> {
    let options = config.source_options()?;
    let selection = options.selection.clone();
    let rules = config.rules()?;
    let source = source::open(options)?;
    let target = target::open(config.target_options())?;
    let pipeline = Pipeline {
        source,
        target,
        selection,
        rules,
        workers: config.snapshot.workers,
        max_delay: config.apply.max_delay,
        set_aside: config.apply.on_error == OnError::DeadLetter,
        create_schema: config.target.create_schema,
        status,
        metrics,
        stop: shutdown,
    };
    pipeline.run().await
}
