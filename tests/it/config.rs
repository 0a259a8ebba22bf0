//! The configuration file: what is read, and what is refused with which words.

use std::io;
use std::time::Duration;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use switchyard::config::{self, Config, Lookup};
use switchyard::error::Class;

struct Secrets;

impl Lookup for Secrets {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "UNSET" => None,
            "PW" => Some("hunter2!/@".into()),
            n => Some(format!("value-of-{n}")),
        }
    }
    fn file(&self, path: &str) -> io::Result<String> {
        if path == "/secret" { Ok("from-file\n".into()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

const GOOD: &str = r#"name = "shop"
[source]
url = "postgres://u:${PW}@127.0.0.1:1/a"
[target]
url = "postgres://u:${file:/secret}@127.0.0.1:2/b"
"#;

fn parse(text: &str) -> switchyard::Result<Config> {
    Config::parse("f.toml", text, &Secrets)
}

/// The whole error as a person sees it.
fn refused(text: &str) -> String {
    let e = parse(text).expect_err(text);
    assert_eq!(e.class(), Class::Config, "{e}");
    let all = format!("{e}\n{}", e.hint_text().unwrap_or(""));
    assert!(!all.contains("hunter2"), "a password is in {all}");
    assert!(e.message().starts_with("f.toml"), "no file in {all}");
    all
}

#[test]
fn given_a_short_file_when_parsed_then_defaults_hold_and_secrets_are_expanded() {
    use secrecy::ExposeSecret;
    let c = parse(GOOD).unwrap();
    assert_eq!(c.source.url.expose_secret(), "postgres://u:hunter2!%2F%40@127.0.0.1:1/a");
    assert_eq!(c.target.url.expose_secret(), "postgres://u:from-file@127.0.0.1:2/b");
    assert!(c.target.create_schema);
    assert_eq!(c.snapshot.workers, 2);
    assert_eq!(c.apply.max_delay, Duration::ZERO);
    assert_eq!(c.api.listen, "127.0.0.1:7654");
    assert_eq!((c.log.max_size, c.log.max_files), (100_000_000, 10));
    assert!(c.selection().unwrap().is_everything());
    assert!(c.notices().is_empty());
    let shown = format!("{c:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("from-file"), "{shown}");
}

#[test]
fn given_bad_files_when_parsed_then_line_key_and_remedy_are_named() {
    for (extra, wants) in [
        ("[snapshot]\nworker = 3", &["f.toml:7: snapshot.worker: unknown key", "did you mean \"workers\"?"][..]),
        ("[snapshots]\nworkers = 3", &["f.toml:6: snapshots: unknown key", "\"snapshot\""]),
        ("[snapshot]\nworkers = 0", &["f.toml:7: snapshot.workers: 0 is impossible", "from 1 to 64"]),
        ("[snapshot]\nworkers = \"two\"", &["f.toml:7: snapshot.workers", "whole number"]),
        (
            "[apply]\nmax_delay = \"5 parsecs\"",
            &["f.toml:7: apply.max_delay: \"5 parsecs\" is not a duration", "250ms"],
        ),
        ("[apply]\nmax_delay = 5", &["f.toml:7: apply.max_delay", "250ms"]),
        ("[apply]\non_error = \"ignore\"", &["f.toml:7: apply.on_error: \"ignore\" is not possible", "\"stop\""]),
        ("[log]\nmax_size = \"100 lines\"", &["f.toml:7: log.max_size", "100MB"]),
        ("[log]\nmax_files = 0", &["f.toml:7: log.max_files"]),
        ("[tables]\ninclude = [\"items\"]", &["f.toml:7: tables.include[0]", "schema.table"]),
        ("[tables]\ninclude = \"public.*\"", &["f.toml:7: tables.include", "a list"]),
        ("[api]\nlisten = \"7654\"", &["f.toml:7: api.listen", "host:port"]),
        ("[api]\nlisten = \"0.0.0.0:7654\"", &["f.toml:7: api.listen", "no token"]),
        ("[api]\ntokens = { operator = \"x\" }", &["f.toml:7: api.tokens.operator", "8 or more"]),
        ("[api]\ntokens = { operator = \"${UNSET}\" }", &["f.toml:7: api.tokens.operator", "UNSET is not set"]),
        ("[api]\ntls_cert = \"a\"", &["f.toml:7: api.tls_cert: not supported by this version"]),
        ("[[rule]]\nfrom = \"public.*\"", &["f.toml:7: rule[0].from", "without wildcards"]),
        (
            "[[rule]]\nfrom = \"public.a\"\nwere = \"id > 1\"",
            &["f.toml:8: rule[0].were: unknown key", "did you mean \"where\"?"],
        ),
        ("[[rule]]\nfrom = \"public.a\"\non_existing = \"keep\"", &["f.toml:8: rule[0].on_existing", "\"skip\""]),
        ("[[rule]]\nfrom = \"public.a\"\nrename = { b = \"d\", c = \"d\" }", &["f.toml:8: rule[0].rename", "\"d\""]),
        (
            "[[rule]]\nfrom = \"public.a\"\nto = \"b\"\n[[rule.explode]]\npath = \"c\"\nto = \"b\"\nset = { d = \"item\" }",
            &["f.toml:11: rule[0].explode[0].to", "the rule's own table"],
        ),
        (
            "[[rule]]\nfrom = \"public.a\"\n[[rule]]\nfrom = \"public.a\"\nto = \"a\"",
            &["f.toml:10: rule[1].to: rule 1 reads and writes the same tables"],
        ),
        ("[[router.listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"postgres\"", &["router.listen[0]: not supported"]),
        ("[[cutover.hook]]\nphase = \"done\"", &["cutover.hook[0]", "one of run and url"]),
        ("[[verify.assert]]\nside = \"both\"\nsql = \"x\"\nexpect = \"\"", &["f.toml:7: verify.assert[0].side"]),
        ("[source.more]\nx = 1", &["f.toml:6: source.more: unknown key"]),
        ("x = [", &["f.toml:", "not TOML"]),
    ] {
        let text = format!("{GOOD}{extra}\n");
        let got = refused(&text);
        for want in wants {
            assert!(got.contains(want), "{extra:?}: {want:?} is not in {got:?}");
        }
    }
}

#[test]
fn given_bad_servers_when_parsed_then_the_password_is_not_shown() {
    let with = |source: &str, target: &str| {
        refused(&format!("name = \"shop\"\n[source]\nurl = \"{source}\"\n[target]\nurl = \"{target}\"\n"))
    };
    let ok = "postgres://u:${PW}@127.0.0.1:2/b";
    for (source, target, want) in [
        ("mysql://u:${PW}@h", ok, "source.url: names no database"),
        (ok, "mongodb://u:hunter2@h", "target.url: names no database"),
        ("oracle://u:hunter2@h/d", ok, "\"oracle\" is not an engine"),
        ("hunter2", ok, "f.toml:3: source.url: this is not a URL"),
        ("postgres://u:hunter2@h:port/d", ok, "f.toml:3: source.url"),
        ("postgres://u:hunter2@h/d?sslmode=maybe", ok, "sslmode \"maybe\" is unknown"),
        ("postgres://u:hunter2@h/d?password=hunter2", ok, "\"password\" is unknown"),
        ("postgres://u:${PW}@localhost:2/b", ok, "f.toml:5: target.url: this is the source's own database"),
        ("postgres://u:${UNSET}@h/d", ok, "f.toml:3: source.url: the environment variable UNSET is not set"),
        ("postgres://u:${file:/nope}@h/d", ok, "/nope"),
        ("postgres://u:${PW@h/d", ok, "no closing }"),
    ] {
        let got = with(source, target);
        assert!(got.contains(want), "{source} {target}: {want:?} is not in {got:?}");
    }
    // A URL where a section belongs.
    let got = refused("name = \"shop\"\nsource = \"postgres://u:hunter2@h/d\"\n[target]\nurl = \"postgres://h/d\"\n");
    assert!(got.contains("f.toml:2: source"), "{got}");
}

#[test]
fn given_missing_keys_when_parsed_then_they_are_named() {
    assert!(refused("").contains("this key is missing"));
    assert!(refused(&GOOD.replace("name = \"shop\"\n", "")).contains("name: this key is missing"));
    assert!(refused("name = \"shop\"\n[source]\nreplicas = []\n").contains("source.url: this key is missing"));
    for bad in ["", "a b", "ü", &"x".repeat(41)] {
        let got = refused(&GOOD.replace("\"shop\"", &format!("{bad:?}")));
        assert!(got.contains("f.toml:1: name"), "{got}");
    }
}

#[test]
fn given_an_open_address_when_it_has_a_token_then_it_is_accepted() {
    let c = parse(&format!("{GOOD}[api]\nlisten = \"0.0.0.0:1\"\ntokens = {{ viewer = \"${{TOKEN}}\" }}\n")).unwrap();
    assert!(c.api.tokens.viewer.is_some() && c.api.tokens.operator.is_none());
}

#[test]
fn given_types_for_a_server_of_the_same_engine_when_read_then_they_are_refused() {
    let text = format!("{GOOD}[[rule]]\nfrom = \"public.t\"\ntypes = {{ a = \"text\" }}\n");
    let e = parse(&text).unwrap_err();
    assert!(e.message().contains("rule[0].types") && e.hint_text().is_some(), "{e}");
}

#[test]
fn given_the_shipped_examples_when_parsed_then_they_are_good() {
    let read = |name: &str| std::fs::read_to_string(format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for name in [
        "example.toml",
        "postgres-to-postgres.toml",
        "mysql-to-postgres.toml",
        "postgres-to-mysql.toml",
        "mysql-to-mysql.toml",
        "mongo-to-postgres.toml",
        "consolidate.toml",
        "legacy.toml",
    ] {
        parse(&read(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // Keys that are off begin with # and no space: switched on they must parse, too.
    let on = with_everything_on(&read("example.toml"));
    let c = Config::parse_any_version("example.toml", &on, &Secrets).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(c.rule.len(), 5);
    assert_eq!(c.cutover.hook.len(), 2);
}

#[test]
fn given_the_example_when_compared_with_the_structs_then_every_key_is_in_it() {
    let path = format!("{}/config/example.toml", env!("CARGO_MANIFEST_DIR"));
    let document: toml::Value = toml::from_str(&with_everything_on(&std::fs::read_to_string(path).unwrap())).unwrap();
    fn has<T: DeserializeOwned>(document: &toml::Value, path: &str) {
        let mut places = vec![document];
        for step in path.split('.').filter(|s| !s.is_empty()) {
            places = places
                .iter()
                .filter_map(|p| p.get(step))
                .flat_map(|p| p.as_array().map_or_else(|| vec![p], |a| a.iter().collect()))
                .collect();
        }
        let keys = fields::<T>();
        assert!(!keys.is_empty(), "{path}");
        for key in keys {
            assert!(places.iter().any(|p| p.get(key).is_some()), "config/example.toml lacks {path}.{key}");
        }
    }
    has::<Config>(&document, "");
    has::<config::SourceConfig>(&document, "source");
    has::<config::TargetConfig>(&document, "target");
    has::<config::TablesConfig>(&document, "tables");
    has::<config::RuleConfig>(&document, "rule");
    has::<config::ExplodeConfig>(&document, "rule.explode");
    has::<switchyard::transform::embed::Embed>(&document, "rule.embed");
    has::<config::SnapshotConfig>(&document, "snapshot");
    has::<config::ApplyConfig>(&document, "apply");
    has::<config::CutoverConfig>(&document, "cutover");
    has::<config::HookConfig>(&document, "cutover.hook");
    has::<config::VerifyConfig>(&document, "verify");
    has::<config::AssertConfig>(&document, "verify.assert");
    has::<config::RouterConfig>(&document, "router");
    has::<config::ListenConfig>(&document, "router.listen");
    has::<config::ApiConfig>(&document, "api");
    has::<config::TokensConfig>(&document, "api.tokens");
    has::<config::LogConfig>(&document, "log");
    has::<config::TelemetryConfig>(&document, "telemetry");
}

fn with_everything_on(text: &str) -> String {
    text.lines()
        .map(|l| match l.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => l,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The keys that a struct takes, as its derived `Deserialize` tells a format.
fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Ask<'a>(&'a mut Vec<&'static str>);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = serde::de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not a struct"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend_from_slice(fields);
            Err(serde::de::Error::custom("told"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut out = Vec::new();
    let _ = T::deserialize(Ask(&mut out));
    out
}

#[test]
fn given_fields_of_a_collection_when_they_cannot_be_meant_then_line_and_path_are_named() {
    let with = |fields: &str| {
        format!(
            "name = \"shop\"\n[source]\nurl = \"mongodb://h/shop\"\n[target]\nurl = \"postgres://u@h/shop\"\n\n[[rule]]\nfrom = \"shop.users\"\n{fields}\n"
        )
    };
    assert!(
        parse(&with("[rule.fields]\nemail = \"text not null\"\n\"address.city\" = \"varchar(80) default 'x'\""))
            .is_ok()
    );
    let e = refused(&with("[rule.fields]\nemail = \"text\"\n\"address.city\" = \"sting\""));
    assert!(e.contains("f.toml:11: rule[0].fields.\"address.city\": \"sting\" is not a type"), "{e}");
    let e = refused(&with("rest = \"email\"\n[rule.fields]\nemail = \"text\""));
    assert!(e.contains("rule[0].rest: ") && e.contains("other_fields"), "{e}");
    let e = refused(
        "name = \"shop\"\n[source]\nurl = \"mongodb://h/shop\"\nnul_text = \"drop\"\n[target]\nurl = \"postgres://u@h/shop\"\n",
    );
    assert!(e.contains("source.nul_text") && e.contains("\"refuse\", \"replace\""), "{e}");
}
