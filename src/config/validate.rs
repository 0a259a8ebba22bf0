//! Values that parse but are impossible, and features that this version does not have.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};

use super::document::Places;
use super::{ApiConfig, Config, Microseconds};
use crate::error::Result;
use crate::exchange::CollectionFields;
use crate::pgwire::conninfo::ConnInfo;
use crate::source::mongo::mapping;
use crate::transform::rules::RuleSet;
use crate::transform::select::Pattern;

/// Refuses impossible values.
pub(super) fn possible(config: &Config, places: &Places) -> Result<()> {
    let name_ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if config.name.is_empty() || config.name.len() > 40 || !config.name.chars().all(name_ok) {
        return Err(places.error(
            "name",
            format!("{:?} is not a name; use 1 to 40 letters, digits, _ and - (it names slots and rows)", config.name),
        ));
    }
    let source = server("source.url", &config.source.url, places)?;
    let target = server("target.url", &config.target.url, places)?;
    if let (Some(s), Some(t)) = (&source, &target) {
        let same_host = s.host.eq_ignore_ascii_case(&t.host) || (is_loopback(&s.host) && is_loopback(&t.host));
        if same_host && s.port == t.port && s.database == t.database {
            return Err(places.error(
                "target.url",
                format!("this is the source's own database ({}/{}); name another one", t.address(), t.database),
            ));
        }
    }
    for (side, list) in [("source", &config.source.replicas), ("target", &config.target.replicas)] {
        for (i, url) in list.iter().enumerate() {
            server(&format!("{side}.replicas[{i}]"), url, places)?;
        }
    }
    for (key, list) in [("include", &config.tables.include), ("exclude", &config.tables.exclude)] {
        for (i, pattern) in list.iter().enumerate() {
            Pattern::parse(pattern).map_err(|e| places.error(&format!("tables.{key}[{i}]"), e))?;
        }
    }
    between(places, "snapshot.workers", config.snapshot.workers, 1, 64)?;
    between(places, "router.pool_size", config.router.pool_size, 1, 10_000)?;
    between(places, "log.max_files", config.log.max_files, 1, 1000)?;
    if config.log.max_size < 10_000 {
        return Err(places.error("log.max_size", "a log file this small is useless; write at least \"10kB\""));
    }
    RuleSet::new(&config.rule, config.homes())
        .map_err(|p| places.error(&format!("rule[{}].{}", p.rule, p.key), p.message))?;
    for (i, rule) in config.rule.iter().enumerate().filter(|(_, r)| !r.fields.is_empty()) {
        let fields = CollectionFields { fields: rule.fields.clone(), rest: rule.rest.clone() };
        mapping::fields::check(&fields).map_err(|(key, what)| places.error(&format!("rule[{i}].{key}"), what))?;
    }
    for (i, assert) in config.verify.asserts.iter().enumerate() {
        if assert.sql.trim().is_empty() {
            return Err(places.error(&format!("verify.assert[{i}].sql"), "no statement; write a select with one value"));
        }
    }
    for (i, hook) in config.cutover.hook.iter().enumerate() {
        if hook.run.is_empty() == hook.url.is_none() {
            let key = format!("cutover.hook[{i}]");
            return Err(places.error(&key, "a hook is either a command or a webhook; give one of run and url"));
        }
    }
    for (i, listen) in config.router.listen.iter().enumerate() {
        let key = format!("router.listen[{i}].address");
        host_port(&listen.address).map_err(|e| places.error(&key, e))?;
        if listen.tls_cert.is_some() != listen.tls_key.is_some() {
            let key = format!("router.listen[{i}]");
            return Err(places.error(&key, "a certificate needs its key; give both tls_cert and tls_key"));
        }
    }
    api(&config.api, places)
}

fn api(api: &ApiConfig, places: &Places) -> Result<()> {
    let (host, _) = host_port(&api.listen).map_err(|e| places.error("api.listen", e))?;
    let tokens = [("operator", &api.tokens.operator), ("viewer", &api.tokens.viewer)];
    for (who, token) in tokens {
        if let Some(t) = token {
            let t = t.expose_secret();
            if t.len() < 8 || !t.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(places.error(
                    &format!("api.tokens.{who}"),
                    "too short, or not plain ASCII; use 8 or more letters and digits, `openssl rand -hex 16` makes some",
                ));
            }
        }
    }
    if let (Some(o), Some(v)) = (&api.tokens.operator, &api.tokens.viewer)
        && o.expose_secret() == v.expose_secret()
    {
        let what = "the same token as the operator's, so viewers could change things; choose another one";
        return Err(places.error("api.tokens.viewer", what));
    }
    if !is_loopback(&host) && tokens.iter().all(|(_, t)| t.is_none()) {
        return Err(places.error(
            "api.listen",
            format!(
                "{} can be reached from other machines and there is no token; set api.tokens, or listen on 127.0.0.1",
                api.listen
            ),
        ));
    }
    Ok(())
}

/// Refuses what this version does not have and what would change what happens to data.
pub(super) fn supported(config: &Config, places: &Places) -> Result<()> {
    let no = |key: &str, what: &str, instead: &str| {
        Err(places.error(key, format!("not supported by this version: {what}; {instead}")))
    };
    for (key, url) in [("source.url", &config.source.url), ("target.url", &config.target.url)] {
        let scheme = scheme(url);
        let mysql = matches!(scheme.as_str(), "mysql" | "mariadb");
        let collation = &config.target.collation;
        if key == "target.url" && !collation.is_empty() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !mysql {
                let what = "is for MySQL and MariaDB; collations of PostgreSQL come with the schema";
                return Err(places.error("target.collation", what));
            }
            if !collation.starts_with("utf8mb4_") || !collation.chars().all(plain) {
                return Err(places.error("target.collation", "write a collation of utf8mb4, such as utf8mb4_bin"));
            }
        }
        let mongo = scheme.starts_with("mongodb");
        if key == "target.url" && !mongo && config.target.microseconds != Microseconds::Refuse {
            let what = "is for MongoDB, whose dates have milliseconds; this target holds microseconds";
            return Err(places.error("target.microseconds", what));
        }
        if matches!(scheme.as_str(), "mysql" | "mariadb" | "mongodb" | "mongodb+srv") {
            // What lies in the other side's usual schema belongs to this database.
            let homes = config.homes();
            let named = if key == "target.url" { !homes.target.is_empty() } else { !homes.source.is_empty() };
            if !named {
                let example =
                    if mysql { "mysql://user:password@host:3306" } else { "mongodb://user:password@host:27017" };
                return Err(places.error(key, format!("names no database; write {example}/database")));
            }
            continue;
        }
        if !is_postgres(&scheme) {
            return no(
                key,
                &format!("engine {scheme:?}"),
                "use postgres://user:password@host:5432/database, mysql://… or mongodb://…",
            );
        }
    }
    if is_postgres(&scheme(&config.source.url)) && is_postgres(&scheme(&config.target.url)) {
        let rules = config.rules()?;
        // A rule that reshapes rows has a table of its own; of others the table is the source's.
        let alone = |n: usize| !rules.iter().any(|r| r.number == n);
        if let Some(n) = (0..config.rule.len()).find(|&n| !config.rule[n].types.is_empty() && alone(n)) {
            return no(
                &format!("rule[{n}].types"),
                "other types between two servers of one engine, in a rule that does nothing else",
                "say the table's key, too (key = [\"…\"]), so that the rule makes the table; or make it on the target, and leave types out",
            );
        }
    }
    if !matches!(scheme(&config.source.url).as_str(), "mongodb" | "mongodb+srv")
        && let Some(n) = config.rule.iter().position(|r| !r.fields.is_empty())
    {
        return no(
            &format!("rule[{n}].fields"),
            "fields of a source that has tables",
            "leave fields out: its columns have types already",
        );
    }
    if !config.router.listen.is_empty() {
        return no(
            "router.listen[0]",
            "the router",
            "remove [[router.listen]]; clients connect to the servers themselves",
        );
    }
    if config.api.tls_cert.is_some() || config.api.tls_key.is_some() {
        return no(
            "api.tls_cert",
            "TLS on the API",
            "remove tls_cert and tls_key, and listen on 127.0.0.1 behind a TLS proxy",
        );
    }
    Ok(())
}

/// See [`Config::notices`].
pub(super) fn notices(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let mut unused = |set: bool, key: &str| {
        if set {
            out.push(format!("{key} is set, but this version does not use it yet"));
        }
    };
    unused(!config.source.replicas.is_empty(), "source.replicas");
    unused(!config.target.replicas.is_empty(), "target.replicas");
    unused(!config.cutover.hook.is_empty(), "cutover.hook");
    unused(!config.telemetry.otlp_endpoint.is_empty(), "telemetry.otlp_endpoint");
    out
}

fn scheme(url: &SecretString) -> String {
    match url.expose_secret().split_once("://") {
        Some((s, _)) if s.len() <= 20 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => s.to_owned(),
        // Without a scheme the text may begin with anything, a password included.
        _ => String::new(),
    }
}

fn is_postgres(scheme: &str) -> bool {
    matches!(scheme, "postgres" | "postgresql")
}

/// Reads a server's URL as far as its engine is known here.
fn server(key: &str, url: &SecretString, places: &Places) -> Result<Option<ConnInfo>> {
    match scheme(url).as_str() {
        s if is_postgres(s) => ConnInfo::parse(key, url).map(Some).map_err(|e| places.wrap(key, &e)),
        "mysql" | "mariadb" | "mongodb" | "mongodb+srv" => Ok(None),
        "" => Err(places.error(key, "this is not a URL; write postgres://user:password@host:5432/database")),
        other => {
            Err(places
                .error(key, format!("{other:?} is not an engine; write postgres://user:password@host:5432/database")))
        }
    }
}

fn between(places: &Places, key: &str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(places.error(key, format!("{value} is impossible; write a number from {min} to {max}")))
}

/// Splits `host:port`; an IPv6 address stands in brackets.
///
/// # Errors
/// What is wrong, and after a `; ` what would be right.
pub(crate) fn host_port(address: &str) -> Result<(String, u16), String> {
    let bad = || format!("{address:?} is not an address; write host:port, for example \"127.0.0.1:7654\"");
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?.to_string(),
        None if host.is_empty() || host.contains([':', '/', ' ', '@']) => return Err(bad()),
        None => host.to_owned(),
    };
    Ok((host, port))
}

/// Whether only this machine can reach it.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_addresses_when_split_then_host_and_port_come_apart() {
        assert_eq!(host_port("127.0.0.1:7654"), Ok(("127.0.0.1".into(), 7654)));
        assert_eq!(host_port("[::1]:80"), Ok(("::1".into(), 80)));
        for bad in ["", "7654", ":7654", "host", "host:x", "host:70000", "::1:80", "http://h:80"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
        assert!(is_loopback("localhost") && is_loopback("::1") && is_loopback("127.9.9.9"));
        assert!(!is_loopback("0.0.0.0") && !is_loopback("10.0.0.1"));
    }
}
