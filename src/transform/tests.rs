use proptest::prelude::*;

use super::expr::Scratch;
use super::output::Produced;
use super::rules::Rule;
use super::*;
use crate::change::{Change, Op};
use crate::schema::{Column, Kind, TableId};
use crate::value::{Datum, RowBuilder};

fn column(name: &str, type_name: &str, kind: Kind, nullable: bool) -> Column {
    Column {
        name: name.into(),
        number: 0,
        type_name: type_name.into(),
        kind,
        nullable,
        identity: None,
        default: None,
        collation: None,
        data: Default::default(),
        portable_binary: true,
    }
}

fn table(name: &str, columns: Vec<Column>, full: bool) -> Arc<Table> {
    Arc::new(Table {
        id: TableId(1),
        name: TableName::new("public", name),
        columns,
        generated: vec![],
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: full,
        full_old_rows_by: "ALTER TABLE public.a REPLICA IDENTITY FULL;".into(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    })
}

fn source(full: bool) -> Arc<Table> {
    table(
        "a",
        vec![
            column("id", "integer", Kind::Int4, false),
            column("name", "text", Kind::Text, true),
            column("kind", "text", Kind::Text, true),
            column("n", "smallint", Kind::Int2, true),
            column("flag", "boolean", Kind::Bool, true),
        ],
        full,
    )
}

fn target() -> Arc<Table> {
    table(
        "b",
        vec![
            column("key", "bigint", Kind::Int8, false),
            column("label", "text", Kind::Text, true),
            column("state", "text", Kind::Text, true),
            column("n", "bigint", Kind::Int8, true),
            column("both", "text", Kind::Text, true),
        ],
        false,
    )
}

const RULE: &str = r#"
from = "public.a"
to = "b"
rename = { id = "key", name = "label", kind = "state" }
drop = ["flag"]
[set]
both = "coalesce(name, '-') || case when flag then '!' else '?' end"
"#;

fn compile(rule: &str, source: &Arc<Table>) -> Result<Compiled> {
    let rule: Rule = toml::from_str(rule).unwrap();
    let rules = RuleSet::new(&[rule], Default::default()).unwrap();
    let targets = |name: &TableName| (name.name == "b").then(target);
    Compiled::with_rules(&rules, source, std::slice::from_ref(&source.name), &targets)
}

fn row(fields: &[Option<String>]) -> Row {
    let mut b = RowBuilder::default();
    for f in fields {
        b.push(f.as_ref().map_or(Datum::Null, |t| Datum::Text(t.as_bytes())));
    }
    b.finish()
}

fn rows() -> impl Strategy<Value = Vec<Option<String>>> {
    let text = || proptest::option::of("[ -~äß😀\n]{0,12}");
    let kind = proptest::option::of(prop_oneof![Just("x".to_owned()), Just("y".to_owned()), Just("z".to_owned())]);
    let flag = proptest::option::of(prop_oneof![Just("t".to_owned()), Just("f".to_owned())]);
    (any::<i32>(), text(), kind, proptest::option::of(any::<i16>()), flag)
        .prop_map(|(id, name, kind, n, flag)| vec![Some(id.to_string()), name, kind, n.map(|n| n.to_string()), flag])
}

proptest! {
    #[test]
    fn given_any_row_when_copied_or_followed_then_the_target_gets_the_same(fields in rows(), later in rows()) {
        let compiled = compile(RULE, &source(true)).unwrap();
        let output = &compiled.outputs[0];
        let mut scratch = Scratch::default();
        let (old, mut next) = (row(&fields), later);
        next[0] = fields[0].clone();
        let new = row(&next);
        let mut copied = Vec::new();
        output.rows(&old, &mut scratch, &mut copied).unwrap();
        output.rows(&new, &mut scratch, &mut copied).unwrap();
        let mut followed = Vec::new();
        let table = TableId(1);
        let insert = Change { table, op: Op::Insert, old: None, new: Some(old.clone()) };
        let update = Change { table, op: Op::Update, old: Some(old), new: Some(new) };
        output.change(insert, &mut scratch, &mut followed).unwrap();
        output.change(update, &mut scratch, &mut followed).unwrap();
        let followed: Vec<Row> = followed
            .into_iter()
            .map(|p| match p {
                Produced::Change(Change { new: Some(new), .. }) => new,
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert!(copied == followed);
    }

    #[test]
    fn given_any_row_when_undone_then_what_can_come_back_is_as_it_was(fields in rows()) {
        let compiled = compile(RULE, &source(true)).unwrap();
        let output = &compiled.outputs[0];
        let mut scratch = Scratch::default();
        let before = row(&fields);
        let mut made = Vec::new();
        output.rows(&before, &mut scratch, &mut made).unwrap();
        let back = output.undo(&made[0], 5, &mut scratch).unwrap();
        for i in 0..4 {
            prop_assert_eq!(back.get(i), before.get(i));
        }
        prop_assert_eq!(back.get(4), Datum::Unsent);
    }
}

#[test]
fn given_rules_when_asked_what_is_lost_then_each_column_is_named_with_the_reason() {
    let losses = compile(RULE, &source(true)).unwrap().losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0].contains("cannot bring back flag (it cannot be told"), "{losses:?}");
    // A value that is not listed stays, and may be one that a listed one becomes.
    let mapped = format!("map = {{ state = {{ x = \"first\" }} }}\n{RULE}");
    let losses = compile(&mapped, &source(true)).unwrap().losses();
    assert!(losses[0].contains("kind, flag"), "{losses:?}");
}

#[test]
fn given_rules_that_do_not_fit_when_compiled_then_the_key_and_the_remedy_are_named() {
    let says = |rule: &str, what: &str| {
        let e = compile(&format!("from = \"public.a\"\nto = \"b\"\n{rule}"), &source(false)).unwrap_err();
        let text = format!("{e} {}", e.hint_text().unwrap_or_default());
        assert!(text.contains(what), "{rule}: {text}");
    };
    let rest = "rename = { id = \"key\", name = \"label\", kind = \"state\" }\n";
    says("rename = { nme = \"label\" }", "rename: public.a has no column \"nme\"; did you mean \"name\"?");
    says("drop = [\"x\"]", "drop: public.a has no column \"x\"");
    says(rest, "column flag: public.b has no column \"flag\"");
    says(
        "rename = { name = \"label\", kind = \"state\" }\ndrop = [\"flag\", \"id\"]\nset = { key = \"n\" }",
        "the key of public.b (key) does not hold \"id\"",
    );
    says(&format!("{rest}drop = [\"flag\"]\nwhere = \"flag\""), "ALTER TABLE public.a REPLICA IDENTITY FULL");
    says(&format!("{rest}drop = [\"flag\"]\nwhere = \"n\""), "not a condition");
    says(&format!("{rest}drop = [\"flag\"]\nset = {{ both = \"name +\" }}"), "set.both");
    says(&format!("{rest}drop = [\"flag\"]\nset = {{ n = \"flag\" }}"), "set.n");
    says("rename = { name = \"n\" }\ndrop = [\"flag\", \"kind\"]", "column \"n\" is written by");
    says("drop = [\"flag\", \"id\"]\nrename = { name = \"label\", kind = \"state\" }", "public.b needs column \"key\"");
}

#[test]
fn given_a_filter_when_rows_move_in_and_out_then_they_are_inserted_and_deleted() {
    let rule = format!("where = \"kind = 'x'\"\n{RULE}");
    let compiled = compile(&rule, &source(true)).unwrap();
    let of = |kind: &str| row(&[Some("1".into()), None, Some(kind.into()), None, None]);
    let op = |from: &str, to: &str| {
        let change = Change { table: TableId(1), op: Op::Update, old: Some(of(from)), new: Some(of(to)) };
        let mut out = Vec::new();
        compiled.outputs[0].change(change, &mut Scratch::default(), &mut out).unwrap();
        out.into_iter()
            .map(|p| match p {
                Produced::Change(c) => c.op,
                other => panic!("{other:?}"),
            })
            .next()
    };
    assert_eq!(op("x", "x"), Some(Op::Update));
    assert_eq!(op("x", "y"), Some(Op::Delete));
    assert_eq!(op("y", "x"), Some(Op::Insert));
    assert_eq!(op("y", "z"), None);
}

#[test]
fn given_a_hashed_key_when_it_is_of_the_column_itself_then_it_finds_the_row() {
    let rule = |key: &str| {
        format!(
            "from = \"public.a\"\nto = \"b\"\nrename = {{ name = \"label\", kind = \"state\" }}\ndrop = [\"flag\", \"id\"]\nset = {{ both = \"{key}\" }}"
        )
    };
    // A target without a key of its own.
    let keyless = || {
        Arc::new(Table { identity: RowIdentity::None, columns: target().columns[1..].to_vec(), ..(*target()).clone() })
    };
    let compile = |key: &str| {
        let rules = RuleSet::new(&[toml::from_str(&rule(key)).unwrap()], Default::default()).unwrap();
        Compiled::with_rules(&rules, &source(true), &[], &|_| Some(keyless()))
    };
    let found = compile("uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', id)::text").unwrap();
    assert_eq!(found.outputs[0].target.identity, RowIdentity::Key(vec![3]));
    assert!(compile("md5((id / 2)::text)").is_err(), "two ids in one");
}
