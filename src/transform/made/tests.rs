use super::*;
use crate::definition::{ColumnDef, DefaultValue, TableDef};
use crate::transform::rules::{Homes, Rule};

fn column(name: &str, type_name: &str, nullable: bool) -> Column {
    let (kind, data) = typename::named(type_name);
    Column {
        name: name.into(),
        number: 0,
        type_name: type_name.into(),
        kind,
        data,
        nullable,
        identity: None,
        default: None,
        collation: None,
        portable_binary: true,
    }
}

fn table(name: &str, columns: Vec<Column>) -> Arc<Table> {
    Arc::new(Table {
        id: TableId(1),
        name: TableName::new("public", name),
        columns,
        generated: vec![],
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: true,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    })
}

fn sources() -> Vec<Arc<Table>> {
    let mut mood = column("mood", "public.mood", false);
    let (name, labels) = (Some(TableName::new("public", "mood")), vec!["a".into(), "b".into()]);
    mood.data = DataType::Enum { name, labels };
    vec![
        table(
            "users",
            vec![
                column("id", "integer", false),
                column("email", "character varying(60)", false),
                mood,
                column("tags", "text[]", true),
                column("lines", "jsonb", true),
            ],
        ),
        table("people", vec![column("id", "integer", false), column("email", "character varying(60)", true)]),
        table("plain", vec![column("code", "text", false), column("n", "integer", true)]),
    ]
}

fn derived(rules: &str, there: &[Arc<Table>]) -> Derived {
    #[derive(serde::Deserialize)]
    struct File {
        rule: Vec<Rule>,
    }
    let file: File = toml::from_str(rules).unwrap();
    let set = RuleSet::new(&file.rule, Homes { source: "public".into(), target: "public".into(), ..Homes::default() })
        .unwrap_or_else(|p| panic!("{}: {}", p.key, p.message));
    derive(&set, &sources(), &|name| there.iter().find(|t| t.name == *name).cloned())
}

#[track_caller]
fn made(rules: &str) -> Vec<MadeTable> {
    let derived = derived(rules, &[]);
    assert!(derived.errors.is_empty(), "{:?}", derived.errors);
    derived.tables
}

/// `name type`, with `!` behind what cannot be NULL.
fn shape(t: &MadeTable) -> Vec<String> {
    let one = |c: &Column| format!("{} {}{}", c.name, c.type_name, if c.nullable { "" } else { "!" });
    t.table.columns.iter().map(one).collect()
}

#[track_caller]
fn fails(rules: &str, words: &[&str]) {
    let derived = derived(rules, &[]);
    let [(_, e)] = derived.errors.as_slice() else { panic!("{:?}", derived.errors) };
    let said = format!("{} {}", e.message(), e.hint_text().unwrap_or_default());
    for w in words {
        assert!(said.contains(w), "{w:?} is not in {said}");
    }
}

#[test]
fn given_a_rule_when_its_table_is_derived_then_types_nulls_and_key_follow_the_source() {
    let all = made(
        r#"[[rule]]
           from = "public.users"
           to = "app.accounts"
           rename = { email = "mail" }
           drop = ["tags", "lines"]
           set = { id = "uuid5('1f0a4c1e-0000-4000-8000-000000000001', id)", legacy_id = "id", n = "1.5::numeric(10,2)", mood_now = "mood" }
           map = { mood = { a = "x", b = "y" } }"#,
    );
    let t = &all[0];
    assert_eq!(t.table.name, TableName::new("app", "accounts"));
    // What a map makes of an enum are labels of no enum.
    assert_eq!(
        shape(t),
        [
            "id uuid!",
            "mail character varying(60)!",
            "mood text",
            "legacy_id integer",
            "mood_now public.mood",
            "n numeric(10,2)"
        ]
    );
    assert_eq!((t.key(), t.indexes.len(), t.merged), (vec!["id"], 0, false));
    assert_eq!(t.table.columns[5].data, DataType::Decimal { precision: Some(10), scale: 2 });
    assert!(matches!(t.table.columns[4].data, DataType::Enum { .. }));
    assert_eq!(t.origins[1], Origin::Passes(vec![(TableName::new("public", "users"), "email".into())]));
    assert_eq!(t.origins[0], Origin::Computed);
}

#[test]
fn given_what_a_rule_says_of_its_table_when_derived_then_key_indexes_references_and_types_are_there() {
    let all = made(
        r#"[[rule]]
           from = "public.users"
           to = "accounts"
           key = ["email", "id"]
           not_null = ["upper"]
           types = { upper = "varchar(60)" }
           indexes = [{ columns = ["email"], unique = true }, { columns = ["mood", "id"], name = "by_mood" }]
           references = [{ columns = ["id"], table = "plain", to = ["n"], on_delete = "cascade" }, { columns = ["upper"], table = "plain" },
                         { columns = ["email", "id"], table = "accounts" }]
           drop = ["tags", "lines"]
           set = { upper = "upper(email)" }"#,
    );
    let t = &all[0];
    assert_eq!(shape(t), ["email character varying(60)!", "id integer!", "mood public.mood!", "upper text!"]);
    assert_eq!(t.key(), ["email", "id"]);
    let indexes: Vec<(&str, bool)> = t.indexes.iter().map(|i| (i.name.as_str(), i.unique)).collect();
    assert_eq!(indexes, [("accounts_email_key", true), ("by_mood", false)]);
    assert!(t.table.has_secondary_unique);
    let keys: Vec<(&str, String, Vec<String>, ForeignAction)> = (t.foreign_keys.iter())
        .map(|f| (f.name.as_str(), f.references.to_string(), f.referenced.clone(), f.on_delete))
        .collect();
    assert_eq!(
        keys,
        [
            ("accounts_id_fkey", "public.plain".to_owned(), vec!["n".to_owned()], ForeignAction::Cascade),
            ("accounts_upper_fkey", "public.plain".to_owned(), vec!["code".to_owned()], ForeignAction::NoAction),
            (
                "accounts_email_id_fkey",
                "public.accounts".to_owned(),
                vec!["email".to_owned(), "id".to_owned()],
                ForeignAction::NoAction
            ),
        ]
    );
    assert_eq!(t.types["upper"], "varchar(60)");
}

#[test]
fn given_lists_when_their_tables_are_derived_then_they_have_a_key_or_an_index_over_the_parents() {
    let rule = r#"[[rule]]
           from = "public.users"
           to = "accounts"
           drop = ["tags", "lines"]
           [[rule.explode]]
           path = "tags"
           to = "tags"
           set = { user_id = "parent.id", tag = "item", n = "position" }
           KEY
           references = [{ columns = ["user_id"], table = "accounts", on_delete = "cascade" }]
           [[rule.explode]]
           path = "lines"
           to = "lines"
           set = { user_id = "parent.id", sku = "item.sku", raw = "item", qty = "item.qty::int" }"#;
    let all = made(&rule.replace("KEY", ""));
    assert_eq!(shape(&all[1]), ["user_id integer", "n integer", "tag text"]);
    assert_eq!((all[1].key(), all[1].indexes[0].name.as_str()), (vec![], "tags_user_id_idx"));
    assert_eq!(all[1].foreign_keys[0].referenced, ["id"]);
    assert_eq!(shape(&all[2]), ["user_id integer", "qty integer", "raw jsonb", "sku text"]);
    let keyed = made(&rule.replace("KEY", "key = [\"user_id\", \"n\"]"));
    assert_eq!(shape(&keyed[1]), ["user_id integer!", "n integer!", "tag text"]);
    assert_eq!((keyed[1].key().len(), keyed[1].indexes.len()), (2, 0));
    // A key that does not begin with the parent finds its rows by reading all of them.
    let other = made(&rule.replace("KEY", "key = [\"n\", \"user_id\"]"));
    assert_eq!(other[1].indexes.len(), 1);
}

#[test]
fn given_a_merge_when_derived_then_it_has_all_columns_and_what_not_all_write_can_be_null() {
    let rules = r#"[[rule]]
           from = "public.users"
           to = "all"
           drop = ["mood", "tags", "lines"]
           set = { origin = "'u'", kind = "'x'" }
           [[rule]]
           from = "public.people"
           to = "all"
           set = { origin = "'p'" }
           on_existing = "skip""#;
    let t = &made(rules)[0];
    assert_eq!(shape(t), ["id integer!", "email character varying(60)", "kind text", "origin text"]);
    assert_eq!((t.merged, t.writers.len(), t.key()), (true, 2, vec!["id"]));
    assert_eq!(t.stands_for, None);
    let said = format!("{rules}\nnot_null = [\"kind\"]");
    fails(&said, &["rule 2", "\"kind\" of public.all cannot be NULL", "set it in every rule"]);
}

#[test]
fn given_rules_that_disagree_when_derived_then_both_are_named() {
    let rules = |first: &str, second: &str| {
        format!(
            "[[rule]]\nfrom = \"public.users\"\nto = \"all\"\ndrop = [\"mood\", \"tags\", \"lines\"]\n{first}\n\
             [[rule]]\nfrom = \"public.people\"\nto = \"all\"\n{second}"
        )
    };
    fails(
        &rules("", "set = { email = \"email::text\" }"),
        &["rule 2", "set.email", "is text here and character varying(60) in rule 1", "types = { email"],
    );
    let chosen = rules("types = { email = \"text\" }", "set = { email = \"email::text\" }");
    assert_eq!(made(&chosen)[0].types["email"], "text");
    fails(
        &rules("types = { email = \"text\" }", "types = { email = \"varchar(9)\" }"),
        &["rule 2", "types", "varchar(9) here and text in rule 1"],
    );
    fails(&rules("key = [\"id\"]", "key = [\"email\"]"), &["rule 2", "key", "[\"id\"] in rule 1"]);
    fails(&rules("", "rename = { id = \"other\" }"), &["rule 2", "becomes [\"other\"] here and [\"id\"] in rule 1"]);
}

#[test]
fn given_names_that_do_not_exist_when_derived_then_key_and_rule_are_named() {
    let rule = |more: &str| format!("[[rule]]\nfrom = \"public.people\"\nto = \"t\"\n{more}\n");
    fails(&rule("key = [\"emial\"]"), &["rule 1", "key: public.t gets no column \"emial\"; did you mean \"email\"?"]);
    fails(&rule("indexes = [{ columns = [\"x\"] }]"), &["indexes[0].columns", "no column \"x\""]);
    fails(&rule("types = { x = \"text\" }\ndrop = [\"email\"]"), &["types", "no column \"x\""]);
    fails(&rule("not_null = [\"x\"]"), &["not_null", "no column \"x\""]);
    fails(&rule("references = [{ columns = [\"x\"], table = \"plain\" }]"), &["references[0].columns"]);
    fails(
        &rule("references = [{ columns = [\"id\"], table = \"nowhere\" }]"),
        &["references[0].table", "no table public.nowhere, and nothing here makes it"],
    );
    fails(&rule("references = [{ columns = [\"id\"], table = \"plain\", to = [\"m\"] }]"), &["no column \"m\""]);
    fails(
        &rule("references = [{ columns = [\"id\", \"email\"], table = \"plain\" }]"),
        &["references[0].columns", "the key [\"code\"]"],
    );
    fails(
        &rule("references = [{ columns = [\"id\"], table = \"plain\", on_delete = \"set null\" }]"),
        &["on_delete", "\"id\" cannot become NULL"],
    );
}

#[test]
fn given_a_table_that_is_there_when_derived_then_nothing_is_made_and_names_are_still_looked_at() {
    let there = table("t", vec![column("id", "integer", false), column("own", "text", true)]);
    let rule = |more: &str| format!("[[rule]]\nfrom = \"public.people\"\nto = \"t\"\n{more}\n");
    let out = derived(&rule("indexes = [{ columns = [\"own\"] }]\nkey = [\"email\"]"), std::slice::from_ref(&there));
    assert!(out.tables.is_empty() && out.errors.is_empty(), "{:?}", out.errors);
    let out = derived(&rule("key = [\"nobody\"]"), &[there]);
    assert_eq!((out.tables.len(), out.errors.len()), (0, 1));
    // The table of a source's table that passes as it is comes with that one.
    let beside =
        derived("[[rule]]\nfrom = \"public.people\"\nto = \"plain\"\nrename = { id = \"n\", email = \"code\" }", &[]);
    assert!(beside.tables.is_empty() && beside.errors.is_empty());
}

#[test]
fn given_the_sources_definitions_when_a_table_is_defined_then_defaults_numbers_and_comments_pass() {
    let def = |t: &Table| TableDef {
        name: t.name.clone(),
        columns: (t.columns.iter())
            .map(|c| ColumnDef {
                name: c.name.clone(),
                data: c.data.clone(),
                type_name: c.type_name.clone(),
                nullable: c.nullable,
                default: DefaultValue::Literal(format!("{}?", c.name)),
                numbered: c.name == "id",
                generated: None,
                travels: true,
                comment: Some(format!("the {}", c.name)),
            })
            .collect(),
        primary_key: vec![],
        indexes: vec![],
        foreign_keys: vec![],
        checks: vec![],
        comment: Some("people".into()),
        left_behind: vec![],
    };
    let defs: Vec<TableDef> = sources().iter().map(|t| def(t)).collect();
    let t =
        &made("[[rule]]\nfrom = \"public.people\"\nto = \"t\"\nrename = { email = \"mail\" }\nset = { x = \"email\" }")
            [0];
    let made_def = t.def(&defs);
    let [id, mail, x] = made_def.columns.as_slice() else { panic!("{made_def:?}") };
    assert!(id.numbered && !mail.numbered && !x.numbered);
    assert_eq!((&mail.default, mail.comment.as_deref()), (&DefaultValue::Literal("email?".into()), Some("the email")));
    assert_eq!(
        (&x.default, x.comment.as_deref(), made_def.comment.as_deref()),
        (&DefaultValue::None, None, Some("people"))
    );
    assert_eq!(made_def.primary_key[0].name, "id");
}
