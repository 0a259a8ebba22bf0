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
    let fitted = compiled("'12'").assign_to(Kind::Int4, "integer");
    assert!(fitted.is_err(), "a text needs a cast");
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
    assert_eq!(exact("case id when 1 then 'one' when 2 then 'two' end", "two"), (0, "2".into()));
    assert!(
        matches!(inverse("case id when 1 then 'a' when 2 then 'a' end"), Inverse::Lossy(why) if why.contains("both become 'a'"))
    );
    assert!(matches!(inverse("case id when 1 then 'a' else 'b' end"), Inverse::Lossy(_)));
    assert!(matches!(inverse("'x'"), Inverse::None(_)));
    assert!(matches!(inverse("id + 1"), Inverse::None(_)));
    assert!(matches!(inverse("id::smallint"), Inverse::Lossy(_)));
}
