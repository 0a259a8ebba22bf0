//! Asks the API of a running daemon.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::Global;
use crate::config::validate::{host_port, is_loopback};
use crate::error::{Error, Result};

/// Where the daemon is and with which token.
pub struct Client {
    base: String,
    token: Option<String>,
}

impl Client {
    /// From `--api` and `--token`, else from the configuration file, else the default address.
    pub fn new(global: &Global) -> Result<Client> {
        let mut base = global.api.clone();
        let mut token = global.token.clone();
        if let (Some(path), true) = (&global.config, base.is_none() || token.is_none()) {
            let config = crate::config::Config::load(path)?;
            if base.is_none() {
                base = Some(reachable(&config.api.listen));
            }
            let known = config.api.tokens.operator.or(config.api.tokens.viewer);
            token = token.or(known.map(|t| t.expose_secret().to_owned()));
        }
        let base = base.unwrap_or_else(|| "http://127.0.0.1:7654".to_owned());
        let base = base.trim_end_matches('/').to_owned();
        let base = if base.contains("://") { base } else { format!("http://{base}") };
        if !base.starts_with("http://") {
            return Err(Error::config(format!("--api {base}: only http:// is supported by this version"))
                .hint("write http://host:port"));
        }
        Ok(Client { base, token })
    }

    /// The answer's body.
    ///
    /// # Errors
    /// `Fatal` when nobody answers, or with an error.
    pub fn get(&self, path: &str) -> Result<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            // A proxy meant for the world has no business between two programs of one machine.
            .proxy(None)
            .build()
            .into();
        let url = format!("{}{path}", self.base);
        let mut request = agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let unreachable = |e: ureq::Error| {
            Error::fatal(format!("no daemon answers at {}: {e}", self.base)).hint(
                "is `switchyard run` running? Its address is [api] listen: give the same file with -c, or the address with --api",
            )
        };
        let mut response = request.call().map_err(unreachable)?;
        let status = response.status();
        let body = response.body_mut().read_to_string().map_err(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let what = said["error"].as_str().unwrap_or("no reason was given");
        let e = Error::fatal(format!("{} answered {}: {what}", self.base, status.as_u16()));
        Err(match said["hint"].as_str() {
            Some(h) => e.hint(h.to_owned()),
            None => e.hint("is that address really a Switchyard daemon's?"),
        })
    }
}

/// A daemon that listens on every address is asked on this machine's own.
fn reachable(listen: &str) -> String {
    match host_port(listen) {
        Ok((host, port)) if host == "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        Ok((host, port)) if host == "::" => format!("http://[::1]:{port}"),
        Ok((host, port)) if host.contains(':') => format!("http://[{host}]:{port}"),
        Ok((host, port)) if is_loopback(&host) => format!("http://{host}:{port}"),
        _ => format!("http://{listen}"),
    }
}
