//! `switchyard init`: prints a configuration to start from.

mod collections;

use clap::Args;
use secrecy::SecretString;

use super::Global;
use super::output::{print_json, print_text, thousands};
use crate::config::secrets::{password_of, without_password};
use crate::config::units::show_size;
use crate::error::{Error, Result, ResultExt};
use crate::finding::Severity;
use crate::source::SourceOptions;
use crate::target::TargetOptions;
use crate::transform::select::Selection;

/// Print a commented configuration, made by looking at the source
#[derive(Args, Clone)]
#[command(
    after_help = "Passwords are not printed: they are replaced by ${SOURCE_PASSWORD} and ${TARGET_PASSWORD}, which you
export before `check` and `run`. A password on the command line can be seen by other users of the machine while
this command runs: ${NAME} in single quotes is expanded from the environment here, too.

Examples:
  switchyard init --source postgres://repl@10.0.0.1/shop --target postgres://app@10.0.0.2/shop > switchyard.toml
  switchyard init --source 'postgres://repl:${SOURCE_PASSWORD}@old/shop' --target 'postgres://app:${TARGET_PASSWORD}@new/shop'
  switchyard init --source mongodb://repl@10.0.0.1/shop --target postgres://app@10.0.0.2/shop > switchyard.toml

From MongoDB, up to 1 000 documents of each collection are read, and rules that make columns of their fields are suggested.

Exit statuses: 0; 1 the source cannot be reached; 2 wrong usage."
)]
pub struct InitArgs {
    /// Where rows come from: postgres://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    source: String,
    /// Where rows go
    #[arg(long, value_name = "URL")]
    target: String,
    /// Name of the migration [default: the source's database]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl std::fmt::Debug for InitArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitArgs").field("name", &self.name).finish_non_exhaustive()
    }
}

pub async fn run(global: &Global, args: &InitArgs) -> Result<u8> {
    global.log_to_stderr()?;
    let source_url = expanded("--source", &args.source)?;
    let target_url = expanded("--target", &args.target)?;
    // Checks the target's URL; whether its server can be reached is `check`'s matter.
    if target_url.starts_with("postgres") {
        crate::pgwire::conninfo::ConnInfo::parse("--target", &SecretString::from(target_url.clone()))?;
    }
    crate::target::open(TargetOptions {
        name: "init".into(),
        url: target_url.clone().into(),
        create_schema: true,
        collation: None,
        microseconds: Default::default(),
        lists: Vec::new(),
    })?;
    let include = crate::config::included(&source_url.clone().into(), &[]);
    let selection = Selection::new(&include, &[]).map_err(|e| Error::config(format!("--source: {e}")))?;
    let source = crate::source::open(SourceOptions {
        name: "init".into(),
        url: source_url.clone().into(),
        selection,
        workers: 2,
        whole_rows: Vec::new(),
        zero_dates: Default::default(),
        collections: Default::default(),
        documents: Default::default(),
        nul_text: Default::default(),
        follow: Default::default(),
    })?;
    let server = source.server().await.context("looking at the source")?;
    let tables = source.tables().await.context("listing the source's tables")?;
    let findings = source.check().await.context("checking the source")?;

    let mut out = String::from("# A migration for Switchyard. Every key is described in config/example.toml.\n");
    out.push_str(&format!("# Source: {} {} at {}\n", server.engine, server.version, server.address));
    let name = args.name.clone().unwrap_or_else(|| name_from(&server.database));
    out.push_str(&format!("name = {}\n\n[source]\n", quoted(&name)));
    out.push_str(&url_line("SOURCE_PASSWORD", &args.source));
    out.push_str("\n[target]\n");
    out.push_str(&url_line("TARGET_PASSWORD", &args.target));
    out.push_str("create_schema = true                # false: tables are there already\n\n[tables]\n");
    let schemas: std::collections::BTreeSet<String> =
        tables.iter().map(|t| format!("{}.*", crate::schema::Ident(&t.name.schema))).collect();
    let patterns: Vec<String> = schemas.iter().map(|s| quoted(s)).collect();
    // Off, because patterns are a choice: what the chosen tables do not need (views, functions) then stays behind.
    out.push_str("# All tables, and all that is beside them. With patterns here: those tables, and what they need.\n");
    out.push_str(&format!("#include = [{}]\n#exclude = []\n", patterns.join(", ")));
    out.push_str(&format!("# {} tables, about:\n", tables.len()));
    for t in &tables {
        let name = t.name.to_string();
        let name = name.replace(char::is_control, " ");
        out.push_str(&format!("#   {name:<40} {:>14} rows  {:>10}\n", thousands(t.estimated_rows), show_size(t.bytes)));
    }
    if server.engine == "mongo" && !target_url.starts_with("mongodb") {
        let names: Vec<_> = tables.iter().map(|t| t.name.clone()).collect();
        out.push_str(collections::HEAD);
        for (name, guess) in crate::source::mongo::sampling::guesses(&source_url.clone().into(), &names).await? {
            match guess {
                Ok(guess) => out.push_str(&collections::rule(&name, &guess)),
                Err(e) => out.push_str(&format!("\n{}", comment(&format!("{name}: {e}")))),
            }
        }
    }
    out.push_str("\n[snapshot]\nworkers = 2\n\n[api]\nlisten = \"127.0.0.1:7654\"\n");
    let worth: Vec<_> = findings.iter().filter(|f| f.severity > Severity::Ok).collect();
    if !worth.is_empty() {
        out.push_str("\n# What a look at the source found (`switchyard check` says it all, for both sides):\n");
        for f in worth {
            let severity = match f.severity {
                Severity::Problem => "PROBLEM",
                Severity::Warning => "warning",
                _ => "note",
            };
            out.push_str(&comment(&format!("{severity}: {}", f.message)));
            if let Some(fix) = &f.fix {
                out.push_str(&comment(&format!("  → {fix}")));
            }
        }
    }
    if global.json {
        print_json(&serde_json::json!({"config": out, "tables": tables.len(), "findings": findings}));
    } else {
        print_text(&out);
    }
    Ok(0)
}

fn expanded(flag: &str, url: &str) -> Result<String> {
    let expanded = crate::config::secrets::expand(url, &crate::config::ProcessEnvironment, &mut Vec::new());
    match expanded {
        Ok(Some(new)) => Ok(new),
        Ok(None) => Ok(url.to_owned()),
        Err(e) => Err(Error::config(format!("{flag}: {e}"))),
    }
}

fn url_line(variable: &str, url: &str) -> String {
    let line = |url: &str| format!("url = {}\n", quoted(url));
    match password_of(url) {
        Some(p) if p.starts_with("${") => line(url),
        Some(_) => format!("# export {variable}=…\n{}", line(&without_password(url, &format!("${{{variable}}}")))),
        None => line(url),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn comment(text: &str) -> String {
    text.lines().map(|l| format!("# {l}\n")).collect()
}

fn name_from(database: &str) -> String {
    let ok = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    match database.chars().map(ok).take(40).collect::<String>() {
        s if s.is_empty() => "migration".into(),
        s => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_urls_when_printed_then_no_password_is_in_them() {
        let line = url_line("SOURCE_PASSWORD", "postgres://u:hunter2@h/d");
        assert!(!line.contains("hunter2") && line.contains("u:${SOURCE_PASSWORD}@h/d"), "{line}");
        assert_eq!(url_line("X", "postgres://u:${Y}@h/d"), "url = \"postgres://u:${Y}@h/d\"\n");
        assert_eq!(name_from("größe 1"), "gr__e_1");
    }
}
