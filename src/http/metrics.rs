//! `/metrics`: the pipeline's counters, and gauges read from the status when somebody asks.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use crate::metrics::Metrics;
use crate::status::{Phase, Status, table_percent};

/// What is said in `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type F64 = Gauge<f64, AtomicU64>;
type Labels = Vec<(&'static str, String)>;

/// Prints everything in the OpenMetrics text form.
///
/// # Errors
/// None in practice: writing into a string does not fail.
pub fn render(metrics: &Metrics, status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("switchyard");
    metrics.register(&mut registry);

    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let g = F64::default();
            g.set(value);
            registry.register(name, help, g);
        }
    };
    let stream = &status.stream;
    gauge("lag_seconds", "Now minus the commit time of the newest applied commit; 0 when level", stream.lag_seconds);
    gauge("lag_bytes", "Log between the source's end and what is applied", stream.lag_bytes.map(|b| b as f64));
    gauge("retained_log_bytes", "Log the source keeps for this migration", Some(stream.retained_log_bytes as f64));
    gauge("snapshot_percent", "How much of the copy is done", Some(status.snapshot.percent));

    let progress = Family::<Labels, F64>::default();
    for t in &status.snapshot.tables {
        progress.get_or_create(&vec![("table", t.name.clone())]).set(table_percent(t));
    }
    registry.register("progress_percent", "How much of a table's copy is done", progress);

    let phase = Family::<Labels, Gauge>::default();
    for p in Phase::ALL {
        phase.get_or_create(&vec![("phase", p.label().to_owned())]).set(i64::from(p == status.phase));
    }
    registry.register("phase", "1 for the phase the migration is in", phase);

    let build = Family::<Labels, Gauge>::default();
    build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("name", status.name.clone())]).set(1);
    registry.register("build_info", "Version of this program and the migration's name", build);

    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::metrics::{AppliedRows, Side};
    use crate::status::{StatusHandle, TableState};

    #[test]
    fn given_counts_when_rendered_then_the_documented_names_are_there() {
        let metrics = Metrics::new();
        metrics.rows_copied("public.items", 10);
        metrics.rows_applied("public.items", AppliedRows { inserts: 1, deletes: 2, ..Default::default() });
        metrics.batch_applied(3, 3);
        metrics.error(Class::Retry);
        metrics.asked(Side::Source, std::time::Duration::from_millis(20));
        let session = metrics.opened(Side::Target);
        let idle = metrics.opened(Side::Target);
        drop(session.ask());
        let work = session.work();
        let status = StatusHandle::new("shop");
        status.set_phase(Phase::Tailing);
        status.update_table("public.items", 10, 20, TableState::Copying);
        let text = render(&metrics, &status.get()).unwrap();
        for line in [
            "switchyard_rows_copied_total{table=\"public.items\"} 10",
            "switchyard_rows_applied_total{table=\"public.items\",op=\"delete\"} 2",
            "switchyard_transactions_applied_total 3",
            "switchyard_apply_batch_rows_count 1",
            "switchyard_query_duration_seconds_count{side=\"source\"} 1",
            "switchyard_query_duration_seconds_bucket{le=\"0.01\",side=\"source\"} 0",
            "switchyard_query_duration_seconds_bucket{le=\"0.025\",side=\"source\"} 1",
            "switchyard_query_duration_seconds_count{side=\"target\"} 1",
            "switchyard_pool_connections{side=\"target\",state=\"size\"} 2",
            "switchyard_pool_connections{side=\"target\",state=\"available\"} 1",
            "switchyard_pool_connections{side=\"target\",state=\"waiting\"} 0",
            "switchyard_pool_connections{side=\"source\",state=\"size\"} 0",
            "switchyard_errors_total{class=\"retry\"} 1",
            "switchyard_errors_total{class=\"fatal\"} 0",
            "switchyard_phase{phase=\"tailing\"} 1",
            "switchyard_phase{phase=\"ready\"} 0",
            "switchyard_progress_percent{table=\"public.items\"} 50",
            "switchyard_snapshot_percent 50",
            "switchyard_retained_log_bytes 0",
        ] {
            assert!(text.lines().any(|l| l.starts_with(line)), "{line} is not in:\n{text}");
        }
        assert!(text.contains("switchyard_build_info{version="));
        drop((work, idle));
        drop(session);
        let text = render(&metrics, &status.get()).unwrap();
        for state in ["size", "available", "waiting"] {
            let line = format!("switchyard_pool_connections{{side=\"target\",state=\"{state}\"}} 0");
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
}
