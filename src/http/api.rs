//! Routes, tokens and answers of the API. Every answer but `/` and `/metrics` is JSON, errors included.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::metrics::{CONTENT_TYPE, render};
use crate::metrics::Metrics;
use crate::status::{Phase, Status, StatusHandle};

/// Who may read and who may change. Without any token everybody who reaches the address may do both: the configuration
/// sees to it that only this machine reaches it then.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// May read and change.
    pub operator: Option<SecretString>,
    /// May read.
    pub viewer: Option<SecretString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Nobody,
    Viewer,
    Operator,
}

impl Access {
    fn role(&self, headers: &HeaderMap) -> Role {
        if self.operator.is_none() && self.viewer.is_none() {
            return Role::Operator;
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| {
            let (scheme, token) = v.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(given) = given else { return Role::Nobody };
        let is =
            |t: &Option<SecretString>| t.as_ref().is_some_and(|t| same(t.expose_secret().as_bytes(), given.as_bytes()));
        // Both are always compared, so that time says nothing about which it was.
        match (is(&self.operator), is(&self.viewer)) {
            (true, _) => Role::Operator,
            (_, true) => Role::Viewer,
            _ => Role::Nobody,
        }
    }
}

/// Compares in a time that depends on the length of `given` only.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    for (i, g) in given.iter().enumerate() {
        let s = secret.get(i % secret.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(black_box(s ^ g));
    }
    black_box(difference) == 0
}

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// Read, and paused.
    pub status: StatusHandle,
    /// Printed.
    pub metrics: Metrics,
    /// Checked.
    pub access: Access,
}

/// The routes.
pub fn router(api: Api) -> Router {
    let open = Router::new().route("/health/live", get(live)).route("/health/ready", get(ready));
    let reading = Router::new()
        .route("/health/migration", get(migration))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status));
    let changing = Router::new().route("/api/v1/pause", post(pause)).route("/api/v1/resume", post(resume));
    let guard = |least: Role| {
        let access = api.access.clone();
        middleware::from_fn(move |request: Request, next: Next| {
            let role = access.role(request.headers());
            async move { if role >= least { next.run(request).await } else { refuse(role) } }
        })
    };
    let reading = reading.route_layer(guard(Role::Viewer));
    let changing = changing.route_layer(guard(Role::Operator));
    Router::new()
        .route("/", get(page))
        .merge(open)
        .merge(reading)
        .merge(changing)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(api)
}

fn answer(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(json!({"error": error, "hint": hint}))).into_response()
}

fn refuse(role: Role) -> Response {
    match role {
        Role::Nobody => {
            let hint = "send Authorization: Bearer TOKEN with a token of [api] tokens (--token, SWITCHYARD_TOKEN)";
            let mut response = answer(StatusCode::UNAUTHORIZED, "a token is needed, or this one is not known", hint);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
        _ => answer(StatusCode::FORBIDDEN, "this token may only read", "use the operator's token"),
    }
}

async fn not_found(method: Method, uri: Uri) -> Response {
    let error = format!("there is no {method} {}", uri.path());
    answer(
        StatusCode::NOT_FOUND,
        &error,
        "see /health/live, /health/ready, /health/migration, /metrics, /api/v1/status",
    )
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    let error = format!("{} does not answer {method}", uri.path());
    answer(StatusCode::METHOD_NOT_ALLOWED, &error, "read with GET; /api/v1/pause and /api/v1/resume want POST")
}

async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

async fn ready(State(api): State<Api>) -> Response {
    let s = api.status.get();
    let ready = s.stream.consistent && s.phase != Phase::Failed;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"ready": ready, "phase": s.phase, "consistent": s.stream.consistent}))).into_response()
}

async fn migration(State(api): State<Api>) -> Response {
    let s = api.status.get();
    let code = if s.phase == Phase::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({
        "name": s.name, "phase": s.phase, "paused": s.paused, "snapshot_percent": s.snapshot.percent,
        "consistent": s.stream.consistent, "lag_seconds": s.stream.lag_seconds, "waiting_for": s.waiting_for,
        "last_error": s.last_error,
    });
    (code, Json(body)).into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    match render(&api.metrics, &api.status.get()) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be printed", "this is a bug: please report it")
        }
    }
}

async fn status(State(api): State<Api>) -> Json<Status> {
    Json(api.status.get())
}

async fn pause(State(api): State<Api>) -> Json<Value> {
    let changed = api.status.set_paused(true);
    tracing::info!(changed, "paused by an operator");
    Json(json!({"paused": true, "changed": changed}))
}

async fn resume(State(api): State<Api>) -> Json<Value> {
    let changed = api.status.set_paused(false);
    tracing::info!(changed, "resumed by an operator");
    Json(json!({"paused": false, "changed": changed}))
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert(header::AUTHORIZATION, value.parse().unwrap());
        h
    }

    #[test]
    fn given_tokens_when_a_request_comes_then_its_role_is_the_tokens() {
        let access = Access { operator: Some("operator-1".into()), viewer: Some("viewer-12".into()) };
        assert_eq!(access.role(&HeaderMap::new()), Role::Nobody);
        assert_eq!(access.role(&headers("Bearer operator-1")), Role::Operator);
        assert_eq!(access.role(&headers("bearer viewer-12")), Role::Viewer);
        for bad in ["Bearer", "Bearer ", "Bearer operator-", "Bearer operator-11", "Basic operator-1", "operator-1"] {
            assert_eq!(access.role(&headers(bad)), Role::Nobody, "{bad}");
        }
        assert_eq!(Access::default().role(&HeaderMap::new()), Role::Operator);
        let one = Access { operator: Some("operator-1".into()), viewer: None };
        assert_eq!(one.role(&headers("Bearer ")), Role::Nobody);
    }
}
