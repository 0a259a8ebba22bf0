//! The whole engine on small rows.

use super::*;

fn inputs() -> Vec<Input> {
    let input = |name: &str, kind, type_name: &str, nullable| Input {
        name: name.into(),
        kind,
        type_name: type_name.into(),
        nullable,
    };
    vec![
        input("id", Kind::Int4, "integer", false),
        input("is_approved", Kind::Bool, "boolean", false),
        input("is_rejected", Kind::Bool, "boolean", true),
        input("note", Kind::Text, "text", true),
        input("item.field", Kind::Text, "text", true),
    ]
}

fn eval(sql: &str, row: [Option<&str>; 5]) -> Option<String> {
    let expr = Expr::compile(sql, &inputs()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let row = Row::from_texts(row);
    let mut scratch = Scratch::default();
    match expr.eval(&row, &mut scratch).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        Datum::Null => None,
        Datum::Unsent => panic!("unsent"),
        Datum::Text(t) => Some(String::from_utf8(t.to_vec()).unwrap()),
    }
}

const ROW: [Option<&str>; 5] = [Some("7"), Some("f"), Some("t"), None, Some("x")];

#[test]
fn given_simple_rules_when_evaluated_then_they_say_what_sql_says() {
    let status = "case when is_approved then 'approved' when is_rejected then 'rejected' else 'suggested' end";
    assert_eq!(eval(status, ROW).as_deref(), Some("rejected"));
    assert_eq!(eval("coalesce(note, 'none') || '-' || id", ROW).as_deref(), Some("none-7"));
    assert_eq!(eval("note is null and id > 3", ROW).as_deref(), Some("t"));
    assert_eq!(eval("id * 2 + 1.50", ROW).as_deref(), Some("15.50"));
    assert_eq!(eval("Item.FIELD", ROW).as_deref(), Some("x"));
    assert_eq!(eval("case id when 1 then 'a' when 7 then 'b' end", ROW).as_deref(), Some("b"));
    assert_eq!(eval("id in (1, '7')", ROW).as_deref(), Some("t"));
    assert_eq!(eval("null", ROW), None);
}

#[test]
fn given_mistakes_when_compiled_then_the_error_says_where_and_what_would_be_right() {
    let error = |sql: &str| Expr::compile(sql, &inputs()).map(|_| ()).unwrap_err();
    let e = error("id +\n nots");
    assert_eq!((e.line, e.column), (2, 2));
    assert!(e.message.contains("did you mean \"note\""), "{e}");
    assert!(error("id + ").message.contains("Expected"), "{}", error("id + "));
    assert!(error("id id").message.contains("ends before"));
    assert!(error("nope(id)").message.contains("there is no function nope"));
    assert!(error("note = id").message.contains("no operator text = integer"));
    assert!(error("'x'::int").message.contains("invalid input syntax"));
}

#[test]
fn given_expressions_when_asked_for_their_shape_then_they_know_it() {
    let compiled = |sql: &str| Expr::compile(sql, &inputs()).unwrap();
    let e = compiled("coalesce(note, 'x') || id");
    assert_eq!((e.kind(), e.type_name(), e.nullable(), e.inputs()), (Kind::Text, "text", false, &[0, 3][..]));
    assert_eq!(compiled("(note)").as_column(), Some(3));
    assert_eq!(compiled("1 + 2").as_constant(), Some(Some(&b"3"[..])));
    assert_eq!(compiled("null").as_constant(), Some(None));
    assert!(!format!("{e:?}").is_empty());
}

#[test]
fn given_expressions_when_turned_round_then_what_is_lost_is_said() {
    let inverse = |sql: &str| Expr::compile(sql, &inputs()).unwrap().inverse();
    let exact = |sql: &str, result: &str| match inverse(sql) {
        Inverse::Exact { input, expr } => {
            let mut scratch = Scratch::default();
            let datum = Datum::Text(result.as_bytes());
            let Datum::Text(t) = expr.eval(&datum, &mut scratch).unwrap() else { panic!() };
            (input, String::from_utf8(t.to_vec()).unwrap())
        }
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(exact("id", "5"), (0, "5".into()));
    assert_eq!(exact("id::bigint", "5"), (0, "5".into()));
    assert_eq!(exact("id::text", "5"), (0, "5".into()));
    let swapped = "case note when 'one' then 'two' when 'two' then 'one' else note end";
    assert_eq!(exact(swapped, "two"), (3, "one".into()));
    assert_eq!(exact(swapped, "three"), (3, "three".into()));
    let forgets = inverse("case id when 1 then 'one' when 2 then 'two' end");
    assert!(matches!(forgets, Inverse::Lossy(why) if why.contains("becomes NULL")));
    assert!(
        matches!(inverse("case id when 1 then 'a' when 2 then 'a' end"), Inverse::Lossy(why) if why.contains("both become 'a'"))
    );
    assert!(matches!(inverse("case id when 1 then 'a' else 'b' end"), Inverse::Lossy(_)));
    assert!(matches!(inverse("'x'"), Inverse::None(_)));
    assert!(matches!(inverse("id + 1"), Inverse::None(_)));
    assert!(matches!(inverse("id::smallint"), Inverse::Lossy(_)));
}

#[test]
fn given_results_when_assigned_to_columns_then_they_become_what_the_column_stores() {
    let assigned = |sql: &str, kind, type_name: &str| {
        let expr = Expr::compile(sql, &inputs()).unwrap().assign_to(kind, type_name)?;
        let row = Row::from_texts(ROW);
        let mut scratch = Scratch::default();
        match expr.eval(&row, &mut scratch) {
            Ok(Datum::Text(t)) => Ok::<_, ExprError>(Some(String::from_utf8(t.to_vec()).unwrap())),
            Ok(_) => Ok(None),
            Err(_) => Ok(Some("failed".into())),
        }
    };
    let is = |sql: &str, kind, type_name: &str, result: &str| {
        assert_eq!(assigned(sql, kind, type_name), Ok(Some(result.into())), "{sql} as {type_name}");
    };
    is("'12'", Kind::Int4, "integer", "12");
    is("id", Kind::Text, "text", "7");
    is("id", Kind::Text, "character(3)", "7  ");
    is("id", Kind::Numeric, "numeric(5,2)", "7.00");
    is("is_approved", Kind::Text, "character varying(5)", "false");
    is("'abcdef' || id", Kind::Text, "character varying(3)", "failed");
    is("'good'", Kind::Text, "public.mood", "good");
    is("2.5", Kind::Int4, "integer", "3");
    assert_eq!(assigned("null", Kind::Date, "date"), Ok(None));
    for (sql, kind, type_name) in [
        ("coalesce(note, '1')", Kind::Int4, "integer"),
        ("'x'", Kind::Int4, "integer"),
        ("id", Kind::Date, "date"),
        ("is_approved", Kind::Int4, "integer"),
    ] {
        assert!(assigned(sql, kind, type_name).is_err(), "{sql} as {type_name}");
    }
}

#[test]
fn given_a_namespace_when_hashed_then_the_uuid_is_the_standards() {
    let dns = "uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'www.example.com')";
    assert_eq!(eval(dns, ROW).as_deref(), Some("2ed6657d-e927-568b-95e1-2665a8aea6a2"));
    let of_id = Expr::compile("uuid5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', id)", &inputs()).unwrap();
    assert!(matches!(of_id.inverse(), Inverse::None(why) if why.contains("one-way")));
    let wrong = Expr::compile("uuid5(note, id)", &inputs()).unwrap_err();
    assert!(wrong.message.contains("literal uuid"), "{wrong}");
}

#[test]
fn given_fields_that_were_not_sent_when_read_then_they_are_named_and_otherwise_do_not_matter() {
    struct Partial;
    impl Fields for Partial {
        fn get(&self, index: usize) -> Datum<'_> {
            if index == 3 { Datum::Unsent } else { Datum::Text(b"t") }
        }
    }
    let mut scratch = Scratch::default();
    let compiled = |sql: &str| Expr::compile(sql, &inputs()).unwrap();
    assert_eq!(compiled("note").eval(&Partial, &mut scratch), Ok(Datum::Unsent));
    assert_eq!(compiled("upper(note)").eval(&Partial, &mut scratch), Err(EvalError::Unsent { input: 3 }));
    let other = compiled("case when is_approved then 'a' else note end");
    assert_eq!(other.eval(&Partial, &mut scratch), Ok(Datum::Text(b"a")));
    assert_eq!(compiled("is_approved").test(&Partial, &mut scratch), Ok(true));
}

#[test]
fn given_deep_or_long_expressions_when_compiled_then_nothing_overflows() {
    let nested = format!("{}id{}", "(".repeat(40), ")".repeat(40));
    assert!(Expr::compile(&nested, &inputs()).is_ok());
    assert!(Expr::compile(&format!("{}id{}", "(".repeat(4000), ")".repeat(4000)), &inputs()).is_err());
    let cases = format!("{}id{}", "case when is_approved then ".repeat(20), " else 0 end".repeat(20));
    assert!(Expr::compile(&cases, &inputs()).is_ok(), "{:?}", Expr::compile(&cases, &inputs()));
    let _ = Expr::compile(&format!("{}id{}", "case when is_approved then ".repeat(200), " end".repeat(200)), &inputs());
    let _ = Expr::compile(&format!("{}id", "- ".repeat(200)), &inputs());
    let _ = Expr::compile(&format!("{}is_approved", "not ".repeat(200)), &inputs());
    let _ = Expr::compile(&format!("{}note{}", "upper(".repeat(200), ")".repeat(200)), &inputs());
    let _ = Expr::compile(&format!("id{}", "::text::int".repeat(200)), &inputs());
    let long = vec!["id = 1"; 500].join(" or ");
    assert!(Expr::compile(&long, &inputs()).is_ok());
    assert!(Expr::compile(&vec!["id"; 500].join(" + "), &inputs()).is_err());
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Expr>();
}
