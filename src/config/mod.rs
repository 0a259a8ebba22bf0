//! The configuration file: every key, its type and its default.
//!
//! Unknown keys, missing variables and impossible values are errors of [`crate::error::Class::Config`] that name the file,
//! the line, the key and what would be right.

mod document;
pub mod secrets;
pub mod units;
pub(crate) mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::exchange::DocumentForm;
use crate::source::SourceOptions;
pub use crate::source::{Follow, NulText, ZeroDates};
pub use crate::target::Microseconds;
use crate::target::TargetOptions;
pub use crate::transform::rules::{Explode as ExplodeConfig, OnExisting, Rule as RuleConfig};
use crate::transform::rules::{Homes, RuleSet};
use crate::transform::select::Selection;
pub use secrets::{Lookup, ProcessEnvironment};

/// One migration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the slot, publication, checkpoint row and the label of metrics: 1 to 40 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// Where rows come from.
    pub source: SourceConfig,
    /// Where rows go.
    pub target: TargetConfig,
    /// Which tables take part.
    #[serde(default)]
    pub tables: TablesConfig,
    /// Transforms.
    #[serde(default)]
    pub rule: Vec<RuleConfig>,
    /// The first copy.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// Following.
    #[serde(default)]
    pub apply: ApplyConfig,
    /// Switching over.
    #[serde(default)]
    pub cutover: CutoverConfig,
    /// Comparing.
    #[serde(default)]
    pub verify: VerifyConfig,
    /// The proxy.
    #[serde(default)]
    pub router: RouterConfig,
    /// The HTTP server.
    #[serde(default)]
    pub api: ApiConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// Traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// `[source]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Connection URL, password included.
    #[serde(deserialize_with = "secret")]
    pub url: SecretString,
    /// URLs of read replicas, for the router.
    #[serde(default, deserialize_with = "secret_list")]
    pub replicas: Vec<SecretString>,
    /// What becomes of MySQL's dates that are none (`0000-00-00`).
    #[serde(default)]
    pub zero_dates: ZeroDates,
    /// What becomes of the character U+0000 in MongoDB's texts.
    #[serde(default)]
    pub nul_text: NulText,
    /// How MongoDB is followed: by change streams or by its oplog.
    #[serde(default)]
    pub follow: Follow,
}

/// `[target]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Connection URL, password included.
    #[serde(deserialize_with = "secret")]
    pub url: SecretString,
    /// URLs of read replicas, for the router.
    #[serde(default, deserialize_with = "secret_list")]
    pub replicas: Vec<SecretString>,
    /// Whether tables, keys, indexes, constraints and sequences are made as the source has them.
    #[serde(default = "yes")]
    pub create_schema: bool,
    /// The collation of tables that are made, of the character set utf8mb4; for MySQL and MariaDB. Empty: the database's.
    #[serde(default)]
    pub collation: String,
    /// What becomes of microseconds where the target's times have milliseconds (MongoDB's).
    #[serde(default)]
    pub microseconds: Microseconds,
}

/// `[tables]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesConfig {
    /// Patterns of tables that take part; none: all user tables.
    pub include: Vec<String>,
    /// Patterns of tables that do not.
    pub exclude: Vec<String>,
}

/// `[snapshot]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Parallel readers and loaders of the copy, 1 to 64.
    pub workers: usize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        SnapshotConfig { workers: 2 }
    }
}

/// `[apply]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyConfig {
    /// Extra wait to fill a batch. Batches form during the previous commit anyway.
    #[serde(deserialize_with = "units::duration")]
    pub max_delay: Duration,
    /// What happens to a row that a rule cannot carry.
    pub on_error: OnError,
}

/// What happens to a row that a rule cannot carry: a cast that fails, a key that becomes NULL. What the target itself
/// refuses always stops the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The stream stops and says so.
    #[default]
    Stop,
    /// It is set aside, with every later change of its key.
    DeadLetter,
}

/// `[cutover]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutoverConfig {
    /// Gate before it starts.
    #[serde(deserialize_with = "units::duration")]
    pub max_lag: Duration,
    /// For open transactions at the router.
    #[serde(deserialize_with = "units::duration")]
    pub drain_budget: Duration,
    /// From hold to release; past it, abort.
    #[serde(deserialize_with = "units::duration")]
    pub pause_budget: Duration,
    /// How long an unsealed fence outlives its holder.
    #[serde(deserialize_with = "units::duration")]
    pub fence_lease: Duration,
    /// What is compared under the fence.
    pub verify: CutoverVerify,
    /// Whether a stream from target to source starts.
    pub reverse: bool,
    /// Commands and webhooks on entering a phase.
    pub hook: Vec<HookConfig>,
}

impl Default for CutoverConfig {
    fn default() -> Self {
        CutoverConfig {
            max_lag: Duration::from_secs(1),
            drain_budget: Duration::from_secs(2),
            pause_budget: Duration::from_secs(10),
            fence_lease: Duration::from_secs(30),
            verify: CutoverVerify::Changed,
            reverse: true,
            hook: Vec::new(),
        }
    }
}

/// What is compared under the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverVerify {
    /// Keys that changed since the last verification.
    Changed,
    /// Everything.
    Full,
    /// Nothing.
    None,
}

/// `[[cutover.hook]]`: a command or a webhook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// On entering this phase.
    pub phase: HookPhase,
    /// A command and its arguments.
    #[serde(default)]
    pub run: Vec<String>,
    /// A URL that is posted to.
    #[serde(default)]
    pub url: Option<String>,
}

/// Phases that hooks can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HookPhase {
    Fencing,
    Draining,
    Verifying,
    Switching,
    Switched,
    Done,
    Aborting,
    Aborted,
}

/// `[verify]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyConfig {
    /// Rows per second; 0: as fast as the servers like.
    #[serde(deserialize_with = "units::rate")]
    pub max_rate: u64,
    /// Questions of the operator's own.
    #[serde(rename = "assert")]
    pub asserts: Vec<AssertConfig>,
}

/// `[[verify.assert]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssertConfig {
    /// Which side is asked.
    pub side: AssertSide,
    /// The question.
    pub sql: String,
    /// The answer, as text.
    pub expect: String,
}

/// Which side is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum AssertSide {
    Source,
    Target,
}

/// `[router]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// Whether reads may go to replicas.
    pub read_routing: bool,
    /// Whether the primary answers when no replica may.
    pub fallback: bool,
    /// Replicas further behind get no reads.
    #[serde(deserialize_with = "units::duration")]
    pub max_replica_lag: Duration,
    /// How long a held session waits at most.
    #[serde(deserialize_with = "units::duration")]
    pub hold_budget: Duration,
    /// Connections to each replica.
    pub pool_size: usize,
    /// How long a read waits for one of them.
    #[serde(deserialize_with = "units::duration")]
    pub pool_timeout: Duration,
    /// How old one of them becomes.
    #[serde(deserialize_with = "units::duration")]
    pub pool_recycle: Duration,
    /// Where clients connect.
    pub listen: Vec<ListenConfig>,
}

impl Default for RouterConfig {
    fn default() -> Self {
        RouterConfig {
            read_routing: true,
            fallback: true,
            max_replica_lag: Duration::from_secs(1),
            hold_budget: Duration::from_secs(15),
            pool_size: 20,
            pool_timeout: Duration::from_secs(5),
            pool_recycle: Duration::from_secs(1800),
            listen: Vec::new(),
        }
    }
}

/// `[[router.listen]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// `host:port`.
    pub address: String,
    /// What clients speak there.
    pub protocol: ListenProtocol,
    /// Whether they may or must encrypt.
    #[serde(default)]
    pub tls: ListenTls,
    /// PEM file.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// PEM file.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
}

/// What clients of the router speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ListenProtocol {
    Postgres,
    Mysql,
}

/// Whether clients of the router may or must encrypt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ListenTls {
    Off,
    #[default]
    Prefer,
    Require,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// `host:port`.
    pub listen: String,
    /// Who may read and who may change.
    pub tokens: TokensConfig,
    /// PEM file.
    pub tls_cert: Option<PathBuf>,
    /// PEM file.
    pub tls_key: Option<PathBuf>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        ApiConfig { listen: "127.0.0.1:7654".into(), tokens: TokensConfig::default(), tls_cert: None, tls_key: None }
    }
}

/// `api.tokens`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensConfig {
    /// May read and change.
    #[serde(deserialize_with = "secret_option")]
    pub operator: Option<SecretString>,
    /// May read.
    #[serde(deserialize_with = "secret_option")]
    pub viewer: Option<SecretString>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// Written besides stderr.
    pub file: Option<PathBuf>,
    /// Bytes at which the file is put aside.
    #[serde(deserialize_with = "units::size")]
    pub max_size: u64,
    /// Files kept, the one being written included.
    pub max_files: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Text, file: None, max_size: 100_000_000, max_files: 10 }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where traces go; empty: nowhere.
    pub otlp_endpoint: String,
}

impl Config {
    /// Reads and validates a file, and refuses what this version cannot do.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`].
    pub fn load(path: &Path) -> Result<Config> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("{file}: the configuration file cannot be read: {e}"))
                .hint("give its path with -c; `switchyard init --source URL --target URL` prints one to start from")
        })?;
        Config::parse(&file, &text, &ProcessEnvironment)
    }

    /// Like [`Config::load`] for a text. `file` is its name in errors.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`].
    pub fn parse(file: &str, text: &str, lookup: &dyn Lookup) -> Result<Config> {
        let (config, places) = document::read::<Config>(file, text, lookup)?;
        validate::possible(&config, &places)?;
        validate::supported(&config, &places)?;
        Ok(config)
    }

    /// Like [`Config::parse`], but lets pass what this version cannot do yet.
    ///
    /// # Errors
    /// [`crate::error::Class::Config`].
    pub fn parse_any_version(file: &str, text: &str, lookup: &dyn Lookup) -> Result<Config> {
        let (config, places) = document::read::<Config>(file, text, lookup)?;
        validate::possible(&config, &places)?;
        Ok(config)
    }

    /// Keys that are set and that this version reads but does not use, as sentences for a log.
    pub fn notices(&self) -> Vec<String> {
        validate::notices(self)
    }

    /// The compiled `[tables]` section.
    ///
    /// # Errors
    /// None for a validated configuration.
    pub fn selection(&self) -> Result<Selection> {
        let include = included(&self.source.url, &self.tables.include);
        Selection::new(&include, &self.tables.exclude).map_err(|e| Error::config(format!("tables: {e}")))
    }

    /// Which schema of the target stands for which of the source.
    pub fn homes(&self) -> Homes {
        homes(&self.source.url, &self.target.url)
    }

    /// What becomes of rows on their way.
    ///
    /// # Errors
    /// None for a validated configuration.
    pub fn rules(&self) -> Result<RuleSet> {
        RuleSet::new(&self.rule, self.homes())
            .map_err(|p| Error::config(format!("rule[{}].{}: {}", p.rule, p.key, p.message)))
    }

    /// What the source is opened with.
    ///
    /// # Errors
    /// None for a validated configuration.
    pub fn source_options(&self) -> Result<SourceOptions> {
        let rules = self.rules()?;
        Ok(SourceOptions {
            name: self.name.clone(),
            url: self.source.url.clone(),
            selection: self.selection()?,
            workers: self.snapshot.workers,
            whole_rows: rules.iter().map(|r| r.from.clone()).collect(),
            zero_dates: self.source.zero_dates,
            collections: rules.collections().clone(),
            documents: match is_mongo(&self.target.url) {
                true => DocumentForm::Bson,
                false => DocumentForm::Json,
            },
            nul_text: self.source.nul_text,
            follow: self.source.follow,
        })
    }

    /// What the target is opened with.
    pub fn target_options(&self) -> TargetOptions {
        TargetOptions {
            name: self.name.clone(),
            url: self.target.url.clone(),
            create_schema: self.target.create_schema,
            collation: Some(self.target.collation.clone()).filter(|c| !c.is_empty()),
            microseconds: self.target.microseconds,
            // The configuration was validated with its rules.
            lists: self.rules().map(|r| r.lists().cloned().collect()).unwrap_or_default(),
        }
    }
}

/// The patterns of tables that take part, where a source has this URL and a file these patterns: a URL that names one of a
/// server's databases means that one.
pub(crate) fn included(source: &SecretString, include: &[String]) -> Vec<String> {
    let home = homes(source, source).source;
    let scheme = source.expose_secret().split(':').next().unwrap_or("");
    if matches!(scheme, "postgres" | "postgresql") || !include.is_empty() || home.is_empty() {
        return include.to_vec();
    }
    vec![format!("\"{}\".*", home.replace('"', "\"\""))]
}

/// Whether the URL names a server that keeps documents.
fn is_mongo(url: &SecretString) -> bool {
    matches!(url.expose_secret().split_once(':'), Some(("mongodb" | "mongodb+srv", _)))
}

/// Where names without a schema lie on either side. Between two servers of one engine whose databases hold schemas, names
/// stay what they are.
fn homes(source: &SecretString, target: &SecretString) -> Homes {
    let home = |url: &SecretString| {
        let url = url.expose_secret();
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" => "public".to_owned(),
            _ => {
                let path = rest.trim_start_matches('/').split_once('/').map_or("", |(_, path)| path);
                let database = path.split(['?', '#']).next().unwrap_or("");
                crate::transport::url::percent_decode(database).unwrap_or_default()
            }
        }
    };
    Homes { source: home(source), target: home(target), ..Homes::default() }
}

fn yes() -> bool {
    true
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<SecretString, D::Error> {
    String::deserialize(d).map(SecretString::from)
}

fn secret_option<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SecretString>, D::Error> {
    secret(d).map(Some)
}

fn secret_list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<SecretString>, D::Error> {
    Ok(Vec::<String>::deserialize(d)?.into_iter().map(SecretString::from).collect())
}
