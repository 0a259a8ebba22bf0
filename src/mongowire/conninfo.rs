//! A MongoDB connection URL, and the client that it leads to.

use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, ConnectionString, HostInfo, Tls};
use secrecy::{ExposeSecret, SecretString};

use super::{command, errors};
use crate::error::{Error, Result};

/// How long is waited for a server that takes the command, unless the URL says otherwise (`serverSelectionTimeoutMS`).
/// The driver's own 30 s would hide an outage from the status for that long.
const SELECTION_PATIENCE: Duration = Duration::from_secs(10);
const FORM: &str = "write mongodb://user:password@host:27017/database?authSource=admin&replicaSet=rs0 (or mongodb+srv://…); in user and password write %40 for @, %3A for :, %2F for /";

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct MongoConnInfo {
    url: SecretString,
    key: String,
    database: Option<String>,
    address: String,
}

impl MongoConnInfo {
    /// Reads `mongodb://user:password@host:port,host:port/database?tls=true&tlsCAFile=…` or `mongodb+srv://…`. `key` names the
    /// configuration key in errors. Parameters are those of the "Connection String Options" of MongoDB's manual, as far as
    /// the driver knows them; `tls`, `tlsCAFile`, `tlsCertificateKeyFile`, `authSource`, `authMechanism`, `replicaSet`,
    /// `readPreference`, `directConnection`, `compressors` among them.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`]; the message never holds user or password.
    pub fn parse(key: &str, url: &SecretString) -> Result<MongoConnInfo> {
        let bad = |what: String| Error::config(format!("{key}: {what}")).hint(FORM);
        let text = url.expose_secret();
        // The driver quotes parts of what it cannot read, so it reads the URL without its secrets first.
        let (plain, has_user) = without_credentials(text);
        ConnectionString::parse(&plain).map_err(|e| bad(said(&e)))?;
        let parsed = ConnectionString::parse(text)
            .map_err(|_| bad("user or password is not written as a URL needs it".into()))?;
        if has_user && parsed.credential.is_none() {
            return Err(bad("user or password is not written as a URL needs it".into()));
        }
        let (srv, address) = match &parsed.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                (false, hosts.iter().map(|h| h.to_string()).collect::<Vec<_>>().join(","))
            }
            HostInfo::DnsRecord(host) => (true, host.clone()),
            _ => (false, String::new()),
        };
        // The driver takes these as they are and fails at the first connection only.
        if let Some(Tls::Enabled(tls)) = &parsed.tls {
            for (name, path) in [("tlsCAFile", &tls.ca_file_path), ("tlsCertificateKeyFile", &tls.cert_key_file_path)] {
                if let Some(path) = path
                    && !path.exists()
                {
                    return Err(Error::config(format!("{key}: {name} {} does not exist", path.display()))
                        .hint("write the path of a PEM file as this machine has it; tlsCertificateKeyFile holds certificate and key, one after the other"));
                }
            }
        }
        if srv && text.contains("directConnection=true") {
            return Err(bad("directConnection=true does not go with mongodb+srv".into()));
        }
        Ok(MongoConnInfo {
            url: url.clone(),
            key: key.to_owned(),
            database: parsed.default_database.clone().filter(|d| !d.is_empty()),
            address,
        })
    }

    /// The database that the URL names.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Hosts and ports as the URL has them, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The driver's options. `program` is what the server's log and `currentOp` show as `appName`. Asks the name service where
    /// the URL is a `mongodb+srv` one.
    ///
    /// # Errors
    /// `Retry` where the name service does not answer, `Config` for what cannot be meant.
    pub async fn options(&self, program: &str) -> Result<ClientOptions> {
        let url = self.url.expose_secret().to_owned();
        let doing = format!("reading {}", self.key);
        let mut options = command::finished(&doing, async move { ClientOptions::parse(&url).await }).await?;
        // At most 128 bytes (MongoDB Handshake specification, `client.application.name`).
        let mut name = program.to_owned();
        while name.len() > 128 {
            name.pop();
        }
        options.app_name = Some(name);
        options.server_selection_timeout.get_or_insert(SELECTION_PATIENCE);
        Ok(options)
    }

    /// A client that has reached its server once. `side` is `source` or `target`, for messages.
    ///
    /// # Errors
    /// `Retry` where nobody answers; `Fatal` for credentials and certificates that are refused.
    pub async fn connect(&self, side: &str, program: &str) -> Result<Client> {
        let options = self.options(program).await?;
        let doing = format!("connecting to the {side} at {}", self.address);
        let client = Client::with_options(options).map_err(|e| errors::wrap(&doing, &e))?;
        command::run(&client, "admin", &doing, bson::doc! { "ping": 1 }).await?;
        Ok(client)
    }
}

fn said(e: &mongodb::error::Error) -> String {
    match &*e.kind {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The URL with others in place of user and password, and whether it had any. Everything before the last `@` counts as such:
/// a password may hold an `@` that should have been escaped.
fn without_credentials(url: &str) -> (String, bool) {
    let Some((scheme, rest)) = url.split_once("://") else { return ("(no URL)".into(), false) };
    match rest.rsplit_once('@') {
        Some((_, hosts)) => (format!("{scheme}://user:password@{hosts}"), true),
        None => (url.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<MongoConnInfo> {
        MongoConnInfo::parse("source.url", &SecretString::from(url.to_owned()))
    }

    #[test]
    fn given_urls_when_parsed_then_hosts_and_database_are_read() {
        let info =
            parse("mongodb://re%40pl:p%3Aw%2F@a.example:27018,b.example/shop?authSource=admin&tls=true").unwrap();
        assert_eq!((info.database(), info.address()), (Some("shop"), "a.example:27018,b.example:27017"));
        let info = parse("mongodb+srv://u:p@cluster.example.net").unwrap();
        assert_eq!((info.database(), info.address()), (None, "cluster.example.net"));
        assert_eq!(parse("mongodb://127.0.0.1:1").unwrap().address(), "127.0.0.1:1");
    }

    #[test]
    fn given_a_broken_url_when_parsed_then_the_password_is_not_in_the_error() {
        for url in [
            "mongodb://u:sesame@h:x/d",
            "mongodb://u:ses@ame@h/d",
            "mongodb://u:sesame/x@h/d",
            "mongodb://u:sesame%zz@h/d",
            "mongodb://u:sesame@h/d?tls=perhaps",
            "mongodb://u:sesame@h/d?connectTimeoutMS=soon",
            "mongodb://u:sesame@h/d?tlsCAFile=/no/such/file&tls=true",
            "http://u:sesame@h/d",
            "mongodb://",
            "u:sesame",
        ] {
            let e = parse(url).unwrap_err();
            assert_eq!(e.class(), crate::error::Class::Config, "{url}: {e}");
            let all = format!("{e} {:?}", e.hint_text());
            assert!(!all.contains("sesame") && !all.contains("ame@"), "{e}");
        }
        assert!(!format!("{:?}", parse("mongodb://u:sesame@h/d").unwrap()).contains("sesame"));
    }
}
