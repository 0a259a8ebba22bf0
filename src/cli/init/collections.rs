//! Rules for collections, as `init` suggests them: off, with what was seen beside every line.

use std::fmt::Write;

use super::quoted;
use crate::schema::TableName;
use crate::source::mongo::mapping::fields::REST;
use crate::source::mongo::sample::{CollectionGuess, ListGuess, ListItems};

/// Names of fields that stay in the rest: so many are listed.
const LISTED: usize = 12;

/// What stands in front of all of them.
pub(super) const HEAD: &str = "
# Without a rule a collection becomes a table of two columns, _id and doc (jsonb). The rules below make columns of fields; they
# are what a sample of the documents suggests. Take the # away from those that are wanted. A document that does not fit its
# rule stops the migration, and is named, or is set aside with apply.on_error = \"dead-letter\": widen the type, or jsonb.
";

/// The rule for one collection.
pub(super) fn rule(name: &TableName, guess: &CollectionGuess) -> String {
    let mut out = format!("\n# {}: {} documents were looked at", plain(&name.to_string()), guess.documents);
    if guess.unreadable > 0 {
        let _ = write!(out, "; {} of them could not be read", guess.unreadable);
    }
    out.push_str(".\n");
    if guess.fields.is_empty() {
        return out;
    }
    let table = column_of(&name.name);
    let _ = writeln!(out, "#[[rule]]\n#from = {}\n#to = {}", quoted(&name.to_string()), quoted(&table));
    if guess.fields.iter().any(|f| f.path == REST) {
        out.push_str("#rest = \"other_fields\"\n");
    }
    for (path, times) in guess.rest.iter().take(LISTED) {
        let _ = writeln!(out, "# In {}: {}, in {times}", REST, plain(path));
    }
    if guess.rest.len() > LISTED {
        let _ = writeln!(out, "# … and {} more", guess.rest.len() - LISTED);
    }
    let renamed: Vec<String> = guess
        .fields
        .iter()
        .filter(|f| f.path.contains('.'))
        .map(|f| format!("{} = {}", quoted(&f.path), quoted(&column_of(&f.path))))
        .collect();
    if !renamed.is_empty() {
        let _ = writeln!(out, "#rename = {{ {} }}", renamed.join(", "));
    }
    if !guess.lists.is_empty() {
        let drop: Vec<String> = guess.lists.iter().map(|l| quoted(&l.path)).collect();
        let _ = writeln!(out, "#drop = [{}]                # they become tables below", drop.join(", "));
    }
    if guess.fields.iter().any(|f| f.path == "_id") {
        let _ = writeln!(
            out,
            "# For keys of another kind, the old ones kept beside them, with \"_id\" in drop, and parent._id hashed alike in the lists below:\n#set = {{ id = \"uuid5('00000000-0000-0000-0000-000000000000', _id)\", legacy_id = \"_id\" }}"
        );
    }
    out.push_str("#[rule.fields]\n");
    for field in &guess.fields {
        let line = format!("#{} = {}", key(&field.path), quoted(&field.spec));
        let _ = writeln!(out, "{line:<40} # {}", plain(&field.note));
    }
    for list in &guess.lists {
        explode(&mut out, &table, list);
    }
    out
}

/// The rule that makes a table of a list.
fn explode(out: &mut String, table: &str, list: &ListGuess) {
    let own = column_of(&list.path);
    let child = format!("{table}_{own}");
    let parent = format!("{table}_id");
    let _ = writeln!(out, "#[[rule.explode]]                        # {}", plain(&list.note));
    let _ = writeln!(out, "#path = {}\n#to = {}", quoted(&list.path), quoted(&child));
    let mut set = vec![(parent.clone(), "parent._id".to_owned()), ("position".to_owned(), "position".to_owned())];
    match &list.items {
        ListItems::References(_) => set.push(("item_id".into(), "item".into())),
        ListItems::Documents(columns) => {
            for (name, expression) in columns {
                let mut column = column_of(name);
                while set.iter().any(|(n, _)| *n == column) {
                    column.push_str("_2");
                }
                set.push((column, expression.clone()));
            }
        }
    }
    let set: Vec<String> = set.iter().map(|(n, e)| format!("{} = {}", key(n), quoted(e))).collect();
    let _ = writeln!(out, "#set = {{ {} }}", set.join(", "));
    let _ = writeln!(out, "#key = [{}, \"position\"]", quoted(&parent));
    let _ = writeln!(out, "#references = [{{ columns = [{}], table = {} }}]", quoted(&parent), quoted(table));
    if let ListItems::References(_) = list.items {
        let _ = writeln!(
            out,
            "# and {{ columns = [\"item_id\"], table = … }} for the collection that the items are keys of"
        );
    }
}

/// A name for a column or table: what no database quotes.
fn column_of(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut before = '_';
    for c in path.chars() {
        // `userName` has two words, `URL` one.
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        before = c;
        match c {
            c if c.is_alphanumeric() => out.extend(c.to_lowercase()),
            _ => out.push('_'),
        }
    }
    out
}

/// A key as TOML has it.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { quoted(name) }
}

/// Without what could end a comment's line.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Lookup};
    use crate::source::mongo::sample::FieldGuess;

    struct Nothing;
    impl Lookup for Nothing {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }
        fn file(&self, _: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn field(path: &str, spec: &str) -> FieldGuess {
        FieldGuess { path: path.into(), spec: spec.into(), note: "in all 5".into() }
    }

    #[test]
    fn given_a_suggestion_when_the_signs_are_taken_away_then_it_is_a_configuration() {
        let columns =
            vec![("sku".to_owned(), "item.sku".to_owned()), ("position".to_owned(), "item.position".to_owned())];
        let guess = CollectionGuess {
            documents: 5,
            fields: vec![
                field("_id", "objectid"),
                field("userName", "text"),
                field("address.city", "text"),
                field("odd \"name\"", "bigint"),
                field("friends", "objectid[]"),
                field("items", "jsonb"),
            ],
            rest: vec![("rare".into(), 1)],
            lists: vec![
                ListGuess {
                    path: "friends".into(),
                    items: ListItems::References("objectid".into()),
                    note: "in 3".into(),
                },
                ListGuess { path: "items".into(), items: ListItems::Documents(columns), note: "in 3".into() },
            ],
            unreadable: 0,
        };
        let text = rule(&TableName::new("shop", "userAccounts"), &guess);
        let on: String = text
            .lines()
            .filter(|l| l.starts_with('#') && !l.starts_with("# "))
            // Keys of tables that are made belong to a part of the program of their own.
            .filter(|l| !l.starts_with("#key") && !l.starts_with("#references") && !l.starts_with("#set = { id"))
            .map(|l| format!("{}\n", &l[1..]))
            .collect();
        let head = "name = \"a\"\n[source]\nurl = \"mongodb://h/shop\"\n[target]\nurl = \"postgres://u@h/shop\"\n";
        let config = Config::parse("f", &format!("{head}{on}"), &Nothing).unwrap_or_else(|e| panic!("{e}\n{on}"));
        let rule = &config.rule[0];
        assert_eq!((rule.from.as_str(), rule.to.as_deref()), ("shop.\"userAccounts\"", Some("user_accounts")));
        assert_eq!(rule.rename["address.city"], "address_city");
        assert_eq!(rule.fields.len(), 6);
        assert_eq!(rule.drop, ["friends", "items"]);
        assert_eq!(rule.explode[1].set["position_2"], "item.position");
        assert_eq!(rule.explode[0].to, "user_accounts_friends");
    }

    #[test]
    fn given_names_when_made_columns_then_they_need_no_quotes() {
        for (name, want) in [
            ("userName", "user_name"),
            ("address.city", "address_city"),
            ("a b-c", "a_b_c"),
            ("URL", "url"),
            ("X1Y", "x1_y"),
        ] {
            assert_eq!(column_of(name), want);
        }
    }
}
