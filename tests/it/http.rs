//! The API over a real socket: routes, tokens, health.

use std::time::Duration;

use switchyard::http::{self, Access, Api};
use switchyard::metrics::Metrics;
use switchyard::status::{Phase, StatusHandle, StreamUpdate};
use tokio_util::sync::CancellationToken;

use crate::support::daemon::PATIENCE;
use crate::support::{Daemon, Database, wait_until};

struct Answer {
    status: u16,
    kind: String,
    body: String,
}

fn ask(method: &str, url: &str, token: Option<&str>) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let auth = token.map(|t| format!("Bearer {t}"));
    let mut response = match (method, auth) {
        ("GET", None) => agent.get(url).call(),
        ("GET", Some(a)) => agent.get(url).header("authorization", a).call(),
        (_, None) => agent.post(url).send_empty(),
        (_, Some(a)) => agent.post(url).header("authorization", a).send_empty(),
    }
    .unwrap();
    let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    Answer { status: response.status().as_u16(), kind, body: response.body_mut().read_to_string().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_running_api_when_asked_then_tokens_and_health_are_kept() {
    let status = StatusHandle::new("shop");
    let access = Access { operator: Some("operator-token".into()), viewer: Some("viewer-token".into()) };
    let api = Api { status: status.clone(), metrics: Metrics::new(), access };
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    assert!(http::bind(&base[7..]).await.is_err_and(|e| e.hint_text().is_some_and(|h| h.contains("another program"))));
    let stop = CancellationToken::new();
    let server = tokio::spawn(http::serve(listener, api, stop.clone().cancelled_owned()));

    let handle = status.clone();
    tokio::task::spawn_blocking(move || {
        let get = |path: &str, token| ask("GET", &format!("{base}{path}"), token);
        let post = |path: &str, token| ask("POST", &format!("{base}{path}"), token);
        let json = |a: &Answer| serde_json::from_str::<serde_json::Value>(&a.body).unwrap();
        assert_eq!(get("/health/live", None).status, 200);
        assert_eq!(get("/health/ready", None).status, 503);
        handle.set_phase(Phase::Ready);
        handle.set_stream(StreamUpdate { consistent: Some(true), level: Some(true), ..Default::default() });
        assert_eq!(get("/health/ready", None).status, 200);
        for path in ["/api/v1/status", "/metrics", "/health/migration"] {
            let a = get(path, None);
            assert_eq!(a.status, 401, "{path}");
            assert!(json(&a)["hint"].is_string());
            assert_eq!(get(path, Some("wrong-token")).status, 401, "{path}");
            assert_eq!(get(path, Some("viewer-token")).status, 200, "{path}");
            assert_eq!(get(path, Some("operator-token")).status, 200, "{path}");
        }
        assert!(get("/metrics", Some("viewer-token")).kind.starts_with("application/openmetrics-text"));
        assert_eq!(json(&get("/api/v1/status", Some("viewer-token")))["stream"]["lag_seconds"], 0.0);
        let command = |token: &str, json: bool| {
            let mut c = std::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
            c.args(["status", "--api", &base, "--token", token]).env_remove("RUST_LOG");
            c.args(json.then_some("--json")).output().unwrap()
        };
        let o = command("viewer-token", false);
        assert!(o.status.success());
        assert!(String::from_utf8_lossy(&o.stdout).contains("ready"));
        let o = command("viewer-token", true);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&o.stdout).unwrap()["name"], "shop");
        let o = command("wrong-token", false);
        assert_eq!(o.status.code(), Some(1));
        let said = String::from_utf8_lossy(&o.stderr).into_owned();
        assert!(said.contains("401") && said.contains("hint: ") && !said.contains("wrong-token"), "{said}");
        assert_eq!(post("/api/v1/pause", None).status, 401);
        assert_eq!(post("/api/v1/pause", Some("viewer-token")).status, 403);
        assert!(!handle.get().paused);
        assert_eq!(post("/api/v1/pause", Some("operator-token")).status, 200);
        assert!(handle.get().paused);
        assert_eq!(post("/api/v1/resume", Some("operator-token")).status, 200);
        assert!(!handle.get().paused);
        let a = get("/nowhere", None);
        assert_eq!((a.status, a.kind.as_str()), (404, "application/json"));
        assert!(json(&a)["error"].as_str().unwrap().contains("/nowhere"));
        assert_eq!(get("/api/v1/pause", Some("operator-token")).status, 405);
        assert!(get("/", None).body.contains("<title>Switchyard"));
        handle.set_error(&switchyard::Error::fatal("broken").hint("mend it"));
        let a = get("/health/migration", Some("viewer-token"));
        assert_eq!(a.status, 503);
        assert_eq!(json(&a)["last_error"]["hint"], "mend it");
        assert_eq!(get("/health/ready", None).status, 503);
    })
    .await
    .unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
}

#[test]
fn given_a_running_migration_when_metrics_are_read_then_sessions_and_durations_are_counted() {
    let db = Database::shared("metrics");
    let mut source = db.on_source();
    source.run("create table t (id int primary key); insert into t values (1)");
    let mut daemon = Daemon::spawn(&db.config());
    daemon.ready();
    source.run("insert into t values (2)");
    daemon.wait_level(&db.source);
    let sessions = |side: &str, state: &str| {
        daemon.metric("switchyard_pool_connections", &format!("side=\"{side}\",state=\"{state}\""))
    };
    // Questions and the stream; questions, the lock and the applier. The copy's are gone.
    wait_until("the copy's sessions are gone", PATIENCE, || sessions("source", "size") == 2.0);
    assert_eq!((sessions("source", "available"), sessions("source", "waiting")), (1.0, 0.0));
    assert_eq!((sessions("target", "size"), sessions("target", "waiting")), (3.0, 0.0));
    let asked = |side: &str| daemon.metric("switchyard_query_duration_seconds_count", side);
    // A chunk and a look at the log; a chunk and a batch.
    wait_until("the log was looked at", PATIENCE, || asked("source") >= 2.0);
    assert!(asked("target") >= 2.0);
    assert_eq!(daemon.sigterm(), 0);
    db.drop();
}
