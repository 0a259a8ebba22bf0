//! Imports run one way: vocabulary ← pure logic ← adapters ← conductors ← daemon, http, cli.
//!
//! Reads every file below `src/` and follows its `crate::`, `super::` and `self::` paths, inside
//! `use` and outside. What stands under `#[cfg(test)]` is left out. A new top-level module has to be
//! given its layer in [`layer`].

mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Token, item_end, lex, paths, says, without_tests};

/// From the bottom up: a file may use its own layer and those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Vocabulary,
    Pure,
    Adapter,
    Conductor,
    Top,
}

const ENGINES: [&str; 3] = ["postgres", "mysql", "mongo"];
const MOST_LINES: usize = 700;

/// The layer of a file, by its path below `src/` without `.rs` and `/mod`.
fn layer(module: &str) -> Option<Layer> {
    let pure = [
        "pipeline/batch",
        "source/postgres/pgoutput",
        "source/postgres/resolve",
        "pgwire/copytext",
        "source/postgres/dump_text",
        "source/postgres/default_value",
        "target/postgres/compatible",
        "target/postgres/fit",
        "target/postgres/foreign",
        "target/postgres/foreign_types",
        "target/postgres/made",
        "pgwire/quote",
        "pgwire/types",
        "mywire/lookup",
        "mywire/packet",
        "mywire/quote",
        "mywire/server",
        "target/mysql/adopt",
        "target/mysql/defaults",
        "target/mysql/forms",
        "target/mysql/made",
        "target/mysql/merge",
        "target/mysql/names",
        "target/mysql/own",
        "target/mysql/statements",
        "target/mysql/types",
        "target/mysql/values",
        "target/mongo/adopt",
        "target/mongo/command",
        "target/mongo/lists",
        "target/mongo/made",
        "target/mongo/merge",
        "target/mongo/shape",
        "target/mongo/steps",
        "target/mongo/values",
        "target/mongo/words",
        "transport/url",
        "pipeline/collect",
        "pipeline/dead",
        "mywire/types",
        "source/mysql/cascade",
        "source/mysql/columns",
        "source/mysql/follow",
        "source/mysql/bounds",
        "source/mysql/ddl",
        "source/mongo/bounds",
        "source/mongo/event",
        "source/mongo/follow",
        "source/mongo/index",
        "source/mongo/known",
        "source/mongo/oplog",
        "source/mongo/token",
        "source/mongo/watch",
        "source/mongo/sample",
        "verify/canon",
        "verify/digest",
        "verify/pair",
        "verify/report",
        "cutover/machine",
        "router/route",
    ];
    // Whole folders of one decoder.
    let pure_folders = ["source/mysql/binlog", "source/mysql/ddl", "mywire/types", "source/mongo/mapping"];
    if pure.contains(&module) || pure_folders.iter().any(|f| module == *f || module.starts_with(&format!("{f}/"))) {
        return Some(Layer::Pure);
    }
    Some(match module.split('/').next()? {
        "error" | "value" | "schema" | "definition" | "gtid" | "change" | "position" | "exchange" | "finding" => {
            Layer::Vocabulary
        }
        "transform" | "documents" => Layer::Pure,
        "source" | "target" | "router" | "pgwire" | "mywire" | "mongowire" | "transport" => Layer::Adapter,
        "cutover" if module == "cutover/journal" => Layer::Adapter,
        // What the conductors tell people and machines.
        "status" | "metrics" | "faults" => Layer::Adapter,
        "pipeline" | "verify" | "cutover" => Layer::Conductor,
        // It hands typed options to both ends, and nothing below the daemon reads it.
        "config" | "logging" => Layer::Top,
        "daemon" | "http" | "cli" | "sandbox" | "main" | "lib" | "bin" => Layer::Top,
        _ => return None,
    })
}

/// What a pure file must not touch: waiting, clocks, chance, the world outside. A path is an offence
/// when it starts with one of these.
const IMPURE: [&str; 19] = [
    "tokio",
    "tokio_postgres",
    "tokio_rustls",
    "tokio_util",
    "futures_util",
    "rand",
    "axum",
    "ureq",
    "libc",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::time::Instant",
    "std::time::SystemTime",
];

#[derive(Debug)]
struct Offence {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[test]
fn given_the_source_tree_when_its_imports_are_read_then_they_run_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    list(&src, &mut paths);
    assert!(!paths.is_empty(), "no source files below {}", src.display());
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let modules: Vec<String> = files.iter().map(|(name, _)| module_of(name)).collect();
    let offences: Vec<String> = files
        .iter()
        .flat_map(|(name, text)| offences(name, text, &modules))
        .map(|offence| offence.to_string())
        .collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// `source/postgres/mod.rs` is `source/postgres`.
fn module_of(file: &str) -> String {
    let module = file.trim_end_matches(".rs");
    module.strip_suffix("/mod").unwrap_or(module).to_owned()
}

fn offences(file: &str, text: &str, modules: &[String]) -> Vec<Offence> {
    let mut found = Vec::new();
    let mut offend = |line: usize, rule: String| {
        let file = file.to_owned();
        found.push(Offence { file, line, rule });
    };
    let lines = text.lines().count();
    if lines > MOST_LINES {
        offend(
            lines,
            format!("{lines} lines; a file has {MOST_LINES} at most: give part of its job a file of its own"),
        );
    }
    let module = module_of(file);
    let Some(own) = layer(&module) else {
        offend(1, "stands in no layer: give its module one in tests/it/layering.rs".into());
        return found;
    };
    let tokens = without_tests(lex(text));
    let folder = module.split('/').next().unwrap_or("");
    for (path, line) in paths(&tokens) {
        let absolute = absolute(&module, &path);
        let Some(inner) = absolute.strip_prefix("crate::") else {
            let impure = IMPURE.iter().any(|bad| starts_with(&absolute, bad))
                || absolute == "std::time"
                || absolute == "std::time::*";
            if own <= Layer::Pure && impure {
                offend(line, format!("{absolute} in a pure file: no waiting, clocks, chance, threads or I/O here"));
            }
            continue;
        };
        let Some(used) = resolve(inner, modules) else {
            continue;
        };
        match layer(&used) {
            Some(theirs) if theirs > own => offend(
                line,
                format!(
                    "crate::{inner}: {own:?} must not use {theirs:?}; imports run vocabulary, config, pure, adapter, conductor, top"
                ),
            ),
            _ => {}
        }
        let used_folder = used.split('/').next().unwrap_or("");
        if matches!((folder, used_folder), ("source", "target") | ("target", "source")) {
            offend(line, format!("crate::{inner}: source and target never know each other"));
        }
        if own == Layer::Conductor
            && matches!(used_folder, "source" | "target")
            && inner.split("::").nth(1).is_some_and(|part| ENGINES.contains(&part))
        {
            offend(line, format!("crate::{inner}: a conductor sees the traits in source and target, never an engine"));
        }
    }
    for (name, line) in engine_names(&module, own, &tokens) {
        offend(line, format!("{name}: an engine's name belongs in its folder, its open() arm and the config"));
    }
    // The points where tests kill the process count how often they were passed; release builds hold none of it.
    for line in if module == "faults" { Vec::new() } else { global_state(&tokens) } {
        offend(line, "global state: hand the value to who needs it".into());
    }
    found
}

fn starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The file's module that a crate path leads to: the longest that exists.
fn resolve(path: &str, modules: &[String]) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    (1..=parts.len()).rev().map(|length| parts[..length].join("/")).find(|candidate| modules.contains(candidate))
}

/// `super::x` in `source/postgres/types` is `crate::source::postgres::x`.
fn absolute(module: &str, path: &str) -> String {
    let mut here: Vec<&str> = match module {
        "lib" | "main" => Vec::new(),
        _ => module.split('/').collect(),
    };
    let mut rest: Vec<&str> = path.split("::").collect();
    match rest[0] {
        // The library's own name, as the binary says it.
        "switchyard" => rest[0] = "crate",
        "self" | "super" => {
            while let Some(&first) = rest.first() {
                match first {
                    "self" => {}
                    "super" => drop(here.pop()),
                    _ => break,
                }
                rest.remove(0);
            }
            return [vec!["crate"], here, rest].concat().join("::");
        }
        _ => {}
    }
    rest.join("::")
}

/// Identifiers with an engine's name in them, where none may be.
fn engine_names(module: &str, own: Layer, tokens: &[Token]) -> Vec<(String, usize)> {
    let parts: Vec<&str> = module.split('/').collect();
    // The command line and the sandbox start and name engines, the wire protocol is one engine's.
    let free = ["config", "cli", "sandbox", "main", "lib", "bin", "pgwire", "mywire", "mongowire"];
    if free.contains(&parts[0]) {
        return Vec::new();
    }
    let mine = parts.iter().find_map(|part| ENGINES.iter().find(|engine| part.contains(*engine)));
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let opens = own == Layer::Adapter
            && token.text == "fn"
            && tokens.get(index + 1).is_some_and(|name| name.text.starts_with("open"));
        let declares = token.text == "mod" && says(tokens, index + 2, &[";"]);
        if opens || declares {
            index = item_end(tokens, index);
            continue;
        }
        let lower = token.text.to_lowercase();
        let named = ENGINES.iter().chain(&["mariadb"]).find(|engine| lower.contains(**engine));
        let same = match (named, mine) {
            (Some(&"mariadb"), Some(mine)) => *mine == "mysql",
            (Some(named), Some(mine)) => named == mine,
            _ => false,
        };
        if named.is_some() && !same {
            found.push((token.text.clone(), token.line));
        }
        index += 1;
    }
    found
}

/// Statics that can change.
fn global_state(tokens: &[Token]) -> Vec<usize> {
    let changeable = |text: &str| matches!(text, "mut" | "Mutex" | "RwLock" | "OnceCell") || text.starts_with("Atomic");
    tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.text == "static")
        .filter(|(index, _)| {
            tokens[*index..]
                .iter()
                .take_while(|token| token.text != "=" && token.text != ";")
                .any(|token| changeable(&token.text))
        })
        .map(|(_, token)| token.line)
        .collect()
}

/// The checker itself, on small files.
mod checker {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let modules = [
            "error",
            "value",
            "transform",
            "pipeline",
            "pipeline/batch",
            "pipeline/apply",
            "source",
            "source/postgres",
            "source/postgres/resolve",
            "pgwire/copytext",
            "source/postgres/dump_text",
            "source/postgres/default_value",
            "target/postgres/foreign",
            "target/postgres/foreign_types",
            "target/postgres/made",
            "pgwire/quote",
            "pgwire/types",
            "pipeline/collect",
            "target",
            "target/postgres",
            "cutover",
        ];
        let modules: Vec<String> = modules.iter().map(|module| (*module).into()).collect();
        offences(file, text, &modules).iter().map(Offence::to_string).collect()
    }

    #[track_caller]
    fn assert_one(file: &str, text: &str, line: usize, rule: &str) {
        let found = found(file, text);
        assert_eq!(found.len(), 1, "{found:?}");
        let place = format!("src/{file}:{line}: ");
        assert!(found[0].starts_with(&place) && found[0].contains(rule), "{found:?}");
    }

    #[test]
    fn given_an_upward_import_when_checked_then_it_is_named() {
        assert_one("value.rs", "\nuse crate::{error::Error, pipeline::batch::Batch};", 2, "must not use Pure");
        assert_one("error.rs", "fn f() -> crate::cutover::Phase {}", 1, "must not use Conductor");
        assert_one("pipeline/batch.rs", "use super::apply::Applier;", 1, "must not use Conductor");
        assert_one("pipeline/batch.rs", "use super::{apply, super::value::{self, Value}};", 1, "must not use");
    }

    #[test]
    fn given_an_impure_name_in_a_pure_file_when_checked_then_it_is_named() {
        assert_one("transform/mod.rs", "use std::time::{Duration, Instant};", 1, "std::time::Instant");
        assert_one("pgwire/types.rs", "fn f() {\n  let x = std::fs::read(\"a\");\n}", 2, "std::fs");
        assert_one("transform/mod.rs", "use tokio::sync::mpsc as m;", 1, "tokio");
        assert_one("transform/mod.rs", "fn f() { let a = rand::random::<u8>(); }", 1, "rand");
        assert!(found("transform/mod.rs", "use std::time::Duration; use crate::value::Value;").is_empty());
    }

    #[test]
    fn given_source_and_target_when_they_meet_then_it_is_named() {
        assert_one("source/postgres/mod.rs", "use crate::target::postgres::statements;", 1, "never know each other");
        assert_one("target/postgres.rs", "use crate::source::postgres::types;", 1, "never know each other");
    }

    #[test]
    fn given_a_conductor_that_names_an_engine_when_checked_then_it_is_named() {
        let found = found("pipeline/apply.rs", "use crate::target::postgres::Writer;");
        assert!(found.iter().any(|offence| offence.contains("sees the traits")), "{found:?}");
        assert_one("cutover/mod.rs", "let x = Engine::MySql;", 1, "engine's name");
        assert_one(
            "source/mod.rs",
            "pub mod postgres;\nfn open() { postgres::open() }\nfn other() { postgres() }",
            3,
            "engine's name",
        );
    }

    #[test]
    fn given_comments_strings_and_tests_when_checked_then_they_do_not_count() {
        let text = "//! use crate::cutover; tokio::spawn\n/* rand::random() /* std::fs */ */\n\
            const A: &str = \"tokio::spawn\\\" std::fs::read\"; const B: &str = r#\"use \"tokio::x\"#;\n\
            fn f<'a>(c: &'a str) -> char { '\"' }\n\
            #[cfg(test)]\nmod tests { use tokio::test; fn g() { std::fs::read(\"x\"); } }\n";
        assert_eq!(found("transform/mod.rs", text), Vec::<String>::new());
        assert_one("transform/mod.rs", &format!("{text}use tokio::test;"), 7, "tokio");
    }

    #[test]
    fn given_long_files_strangers_and_changeable_statics_when_checked_then_they_are_named() {
        assert_one("transform/mod.rs", &"\n".repeat(701), 701, "701 lines");
        assert_one("helpers.rs", "", 1, "no layer");
        assert_one("http/mod.rs", "static COUNT: AtomicU64 = AtomicU64::new(0);", 1, "global state");
        assert!(found("http/mod.rs", "static TABLE: [u8; 2] = [1, 2]; fn f(x: &'static str) {}").is_empty());
    }
}
