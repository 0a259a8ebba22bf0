//! The rules as they are written, and which tables they concern. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::select;
use crate::exchange::CollectionFields;
use crate::schema::TableName;

/// `[[rule]]`: what becomes of one source table's rows in one target table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The source's table.
    pub from: String,
    /// The target's table; without a schema, in the source table's. Default: the same name.
    #[serde(default)]
    pub to: Option<String>,
    /// Which rows: an SQL expression over the source's columns. NULL is no.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// Old name to new name.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Source columns that are left out.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Target column to SQL expression over the source's columns.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Target column to a map of values: old text to new text, `_` for every other value.
    #[serde(default)]
    pub map: BTreeMap<String, BTreeMap<String, String>>,
    /// Source column to the type, in the target's words, that it gets in the table that Switchyard makes there. Alone in a
    /// rule: the table is made and filled as if no rule named it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
    /// Of a collection: path of a field to the type of the column that it becomes, `{ "address.city" = "text not null" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Of a collection with `fields`: the column that gets every field that none of them names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<String>,
    /// What a merge does with a row that is already there.
    #[serde(default)]
    pub on_existing: OnExisting,
    /// Arrays and nested lists that become rows.
    #[serde(default)]
    pub explode: Vec<Explode>,
}

/// `[[rule.explode]]`: every item of a list becomes a row of a child or junction table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Explode {
    /// The column with the array or JSON list.
    pub path: String,
    /// The table its items go to; without a schema, in the rule's target schema.
    pub to: String,
    /// Target column to SQL expression over `item`, `item.field`, `position` (from 1) and `parent.column`.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// What a merge does with a row that is already there. In the order in which new rows of one moment are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// Stops.
    #[default]
    Error,
    /// Keeps the row that is there, and notes the key: its later changes in this source are left out, too.
    Skip,
    /// Takes the new row.
    Replace,
}

/// What is wrong with the rules by themselves, before any server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule's place, from 0.
    pub rule: usize,
    /// The key in it, `explode[0].to`.
    pub key: String,
    /// What is wrong, and after a `; ` what would be right.
    pub message: String,
}

/// A rule with its names read.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its place, from 0.
    pub number: usize,
    /// The source's table.
    pub from: TableName,
    /// The target's table.
    pub to: TableName,
    /// The tables of its `explode` parts, in their order.
    pub children: Vec<TableName>,
    /// As it was written.
    pub rule: Rule,
}

impl Named {
    /// `rule 2 (public.a → public.b)`, for messages; people count from 1.
    pub fn label(&self) -> String {
        format!("rule {} ({} → {})", self.number + 1, self.from, self.to)
    }
}

/// The schemas that the two ends' names without a schema lie in, where they are not of one engine: PostgreSQL's `public`,
/// the database of a MySQL URL. What lies in the one is, without a rule, the same table in the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Homes {
    /// The source's.
    pub source: String,
    /// The target's.
    pub target: String,
    /// Types of columns of tables that are made on the target, where a rule chooses them: source table, column, the target's
    /// type.
    pub types: BTreeMap<TableName, BTreeMap<String, String>>,
}

impl Homes {
    /// The type that a rule chose for a source table's column on the target.
    pub fn type_of(&self, source: &TableName, column: &str) -> Option<&str> {
        self.types.get(source)?.get(column).map(String::as_str)
    }
    /// Whether any table has another name on the target.
    pub fn differ(&self) -> bool {
        self.source != self.target
    }
    /// The target's schema for a schema of the source.
    pub fn schema<'a>(&'a self, source: &'a str) -> &'a str {
        if source == self.source { &self.target } else { source }
    }
    /// The target's table for a table of the source that no rule names.
    pub fn table(&self, source: &TableName) -> TableName {
        TableName::new(self.schema(&source.schema), &source.name)
    }
}

/// All rules of a migration, in their order.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Named>,
    homes: Homes,
    collections: BTreeMap<TableName, CollectionFields>,
}

impl RuleSet {
    /// Reads the names in the rules.
    ///
    /// # Errors
    /// The first rule that cannot be meant.
    pub fn new(rules: &[Rule], mut homes: Homes) -> Result<RuleSet, Problem> {
        let mut named: Vec<Named> = Vec::with_capacity(rules.len());
        let mut collections = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let problem = |key: &str, message: String| Problem { rule: number, key: key.to_owned(), message };
            let from = select::table_name(&rule.from, None).map_err(|e| problem("from", e))?;
            let to = match &rule.to {
                Some(to) => select::table_name(to, Some(homes.schema(&from.schema))).map_err(|e| problem("to", e))?,
                None => homes.table(&from),
            };
            let described = !rule.fields.is_empty();
            if rule.rest.is_some() && !described {
                return Err(problem("rest", "it takes what `fields` do not name, and the rule has none".into()));
            }
            if described {
                let fields = CollectionFields { fields: rule.fields.clone(), rest: rule.rest.clone() };
                if collections.get(&from).is_some_and(|other| *other != fields) {
                    let what = "another rule describes the same collection otherwise; write the same fields in both";
                    return Err(problem("fields", what.into()));
                }
                collections.insert(from.clone(), fields);
                let alone = Rule {
                    from: rule.from.clone(),
                    fields: rule.fields.clone(),
                    rest: rule.rest.clone(),
                    ..Rule::default()
                };
                if to == homes.table(&from) && (Rule { to: None, ..rule.clone() }) == alone {
                    continue;
                }
            }
            if !rule.types.is_empty() {
                if let Some((column, _)) = rule.types.iter().find(|(_, t)| t.trim().is_empty()) {
                    return Err(problem(
                        "types",
                        format!("column {column:?} has no type; write the target's name of one"),
                    ));
                }
                let alone = Rule { from: rule.from.clone(), types: rule.types.clone(), ..Rule::default() };
                if (Rule { to: None, ..rule.clone() }) != alone || to != homes.table(&from) {
                    let what = "types are for a table that is made as the source has it, and this rule reshapes its rows; make the table on the target with the types that are wanted, and leave types out";
                    return Err(problem("types", what.into()));
                }
                if homes.types.contains_key(&from) {
                    return Err(problem("types", format!("another rule gives types to {from}; make one rule of them")));
                }
                homes.types.insert(from, rule.types.clone());
                continue;
            }
            let mut children = Vec::with_capacity(rule.explode.len());
            for (i, e) in rule.explode.iter().enumerate() {
                let key = |k: &str| format!("explode[{i}].{k}");
                let child = select::table_name(&e.to, Some(&to.schema)).map_err(|m| problem(&key("to"), m))?;
                if e.path.is_empty() {
                    return Err(problem(&key("path"), "no column; write the name of the array or JSON column".into()));
                }
                if e.set.is_empty() {
                    let what = "no column is set; write at least the parent's key and the item";
                    return Err(problem(&key("set"), what.into()));
                }
                if child == to {
                    return Err(problem(&key("to"), format!("{child} is the rule's own table; name another one")));
                }
                children.push(child);
            }
            let news: Vec<&String> = rule.rename.values().collect();
            let distinct: BTreeSet<&String> = news.iter().copied().collect();
            if let Some(twice) = news.iter().find(|n| news.iter().filter(|m| m == n).count() > 1) {
                debug_assert!(distinct.len() < news.len());
                return Err(problem("rename", format!("two columns are renamed to {twice:?}; a column has one value")));
            }
            for old in rule.rename.keys() {
                if rule.drop.contains(old) {
                    return Err(problem("drop", format!("column {old:?} is renamed and dropped; keep one of them")));
                }
            }
            for (old, new) in &rule.rename {
                if rule.set.contains_key(new) {
                    let what = format!("column {new:?} is written by rename ({old:?}) and by set; keep one of them");
                    return Err(problem("set", what));
                }
            }
            if let Some(both) = rule.map.keys().find(|c| rule.set.contains_key(*c)) {
                return Err(problem("map", format!("column {both:?} is written by map and by set; keep one of them")));
            }
            if let Some(other) = named.iter().find(|n: &&Named| n.from == from && n.to == to) {
                let what = format!("rule {} reads and writes the same tables; make one rule of them", other.number + 1);
                return Err(problem("to", what));
            }
            named.push(Named { number, from, to, children, rule: rule.clone() });
        }
        if let Some(both) = named.iter().find(|n| homes.types.contains_key(&n.from)) {
            let what = format!("{} is reshaped by this rule and gets types by another; keep one of them", both.from);
            return Err(Problem { rule: both.number, key: "from".into(), message: what });
        }
        Ok(RuleSet { rules: named, homes, collections })
    }

    /// Which schema of the target stands for which of the source.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }
    /// How collections' documents become rows.
    pub fn collections(&self) -> &BTreeMap<TableName, CollectionFields> {
        &self.collections
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Named> {
        self.rules.iter()
    }
    /// Those that read a source table.
    pub fn of(&self, source: &TableName) -> impl Iterator<Item = &Named> {
        self.rules.iter().filter(move |r| r.from == *source)
    }
    /// Whether any rule reads the source table.
    pub fn concern(&self, source: &TableName) -> bool {
        self.of(source).next().is_some()
    }
    /// The target's tables that a source table's rows go to.
    pub fn targets_of(&self, source: &TableName) -> Vec<TableName> {
        if !self.concern(source) {
            return vec![self.homes.table(source)];
        }
        let mut out = Vec::new();
        for r in self.of(source) {
            for t in std::iter::once(&r.to).chain(&r.children) {
                if !out.contains(t) {
                    out.push(t.clone());
                }
            }
        }
        out
    }
    /// The source tables, of `sources`, whose rows go into a target table.
    pub fn writers_of<'a>(
        &self,
        target: &TableName,
        sources: impl Iterator<Item = &'a TableName>,
    ) -> Vec<&'a TableName> {
        sources.filter(|s| self.targets_of(s).contains(target)).collect()
    }
    /// In which turn a source table is copied: after every table of an earlier rule into the same target whose rows it
    /// has to find there.
    pub fn turn(&self, source: &TableName) -> usize {
        self.of(source)
            .filter(|r| r.rule.on_existing != OnExisting::Error)
            .map(|r| {
                let before = self.rules.iter().filter(|b| b.number < r.number && b.to == r.to && b.from != *source);
                // A table of the target's own name, without a rule, comes first, too.
                1 + before.map(|b| self.turn(&b.from)).max().unwrap_or(0)
            })
            .max()
            .unwrap_or(0)
    }
    /// What the copy of a source table depends on, as text: it changes exactly when its rules do.
    pub fn text_of(&self, source: &TableName) -> String {
        let mut rules: Vec<Cow<'_, Rule>> = self.of(source).map(|r| Cow::Borrowed(&r.rule)).collect();
        // Fields alone are no rule that rows pass, and rows depend on them as well.
        if let Some(c) = self.collections.get(source)
            && rules.iter().all(|r| r.fields.is_empty())
        {
            let (fields, rest) = (c.fields.clone(), c.rest.clone());
            rules.push(Cow::Owned(Rule { from: source.to_string(), fields, rest, ..Rule::default() }));
        }
        // Maps are ordered, so the text is the same for the same rules.
        serde_json::to_string(&rules).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: &str) -> Rule {
        Rule { from: from.into(), to: Some(to.into()), ..Rule::default() }
    }

    #[test]
    fn given_rules_when_read_then_names_without_schema_are_the_sources() {
        let set =
            RuleSet::new(&[rule("legacy.a", "b"), rule("legacy.a", "\"Odd\".\"c.d\"")], Homes::default()).unwrap();
        let a = TableName::new("legacy", "a");
        assert_eq!(set.targets_of(&a), [TableName::new("legacy", "b"), TableName::new("Odd", "c.d")]);
        assert_eq!(set.targets_of(&TableName::new("x", "y")), [TableName::new("x", "y")]);
    }

    #[test]
    fn given_merges_that_skip_when_ordered_then_they_come_after_those_before_them() {
        let skip = |from: &str| Rule { on_existing: OnExisting::Skip, ..rule(from, "p.t") };
        let set = RuleSet::new(&[rule("p.a", "p.t"), skip("p.b"), skip("p.c"), rule("p.d", "p.u")], Homes::default())
            .unwrap();
        let turn = |n: &str| set.turn(&TableName::new("p", n));
        assert_eq!((turn("a"), turn("b"), turn("c"), turn("d"), turn("other")), (0, 1, 2, 0, 0));
    }

    #[test]
    fn given_a_rule_of_types_alone_when_read_then_its_table_passes_and_the_types_are_kept() {
        let homes = Homes { source: "shop".into(), target: "public".into(), ..Homes::default() };
        let types = BTreeMap::from([("active".to_owned(), "smallint".to_owned())]);
        let only = Rule { from: "shop.users".into(), types: types.clone(), ..Rule::default() };
        let skip = |from: &str| Rule { on_existing: OnExisting::Skip, ..rule(from, "p.t") };
        let set = RuleSet::new(&[only.clone(), skip("p.b"), skip("p.c")], homes.clone()).unwrap();
        let users = TableName::new("shop", "users");
        assert!(!set.concern(&users));
        assert_eq!(set.targets_of(&users), [TableName::new("public", "users")]);
        assert_eq!(set.homes().type_of(&users, "active"), Some("smallint"));
        assert_eq!((set.homes().type_of(&users, "x"), set.text_of(&users).as_str()), (None, "[]"));
        assert_eq!(set.turn(&TableName::new("p", "c")), 2);
        let home = Rule { to: Some("public.users".into()), ..only.clone() };
        assert!(RuleSet::new(&[home], homes.clone()).is_ok());
        for bad in [
            Rule { to: Some("public.people".into()), ..only.clone() },
            Rule { drop: vec!["x".into()], ..only.clone() },
            Rule { types: BTreeMap::from([("a".into(), " ".into())]), ..only.clone() },
        ] {
            assert_eq!(RuleSet::new(&[bad], homes.clone()).unwrap_err().key, "types");
        }
        let both = [only, rule("shop.users", "people")];
        assert_eq!(RuleSet::new(&both, homes).unwrap_err().key, "from");
    }

    #[test]
    fn given_fields_of_a_collection_when_written_as_text_then_it_is_read_again_and_tells_them_from_others() {
        let homes = Homes { source: "shop".into(), target: "public".into(), ..Homes::default() };
        let fields = |spec: &str| BTreeMap::from([("a".to_owned(), spec.to_owned())]);
        let alone = |spec: &str| Rule { from: "shop.\"Users\"".into(), fields: fields(spec), ..Rule::default() };
        let moved = Rule { from: "shop.\"Users\"".into(), to: Some("people".into()), ..Rule::default() };
        let users = TableName::new("shop", "Users");
        for rules in [
            vec![alone("text")],
            vec![alone("text"), moved.clone()],
            vec![Rule { to: Some("x".into()), ..alone("text") }],
        ] {
            let text = RuleSet::new(&rules, homes.clone()).unwrap().text_of(&users);
            let read: Vec<Rule> = serde_json::from_str(&text).unwrap();
            let again = RuleSet::new(&read, homes.clone()).unwrap();
            assert_eq!(again.collections()[&users].fields, fields("text"));
            let other: Vec<Rule> = rules
                .iter()
                .map(|r| if r.fields.is_empty() { r.clone() } else { Rule { fields: fields("integer"), ..r.clone() } })
                .collect();
            assert_ne!(RuleSet::new(&other, homes.clone()).unwrap().text_of(&users), text);
        }
    }

    #[test]
    fn given_rules_that_cannot_be_meant_when_read_then_the_key_is_named() {
        let bad = |r: Rule| RuleSet::new(&[r], Homes::default()).unwrap_err().key;
        assert_eq!(bad(rule("a.b.c", "t")), "from");
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        assert_eq!(bad(Rule { rename: map(&[("x", "z"), ("y", "z")]), ..rule("p.a", "t") }), "rename");
        assert_eq!(bad(Rule { rename: map(&[("x", "z")]), drop: vec!["x".into()], ..rule("p.a", "t") }), "drop");
        assert_eq!(bad(Rule { rename: map(&[("x", "z")]), set: map(&[("z", "1")]), ..rule("p.a", "t") }), "set");
        let explode = vec![Explode { path: "tags".into(), to: "p.t".into(), set: map(&[("a", "item")]) }];
        assert_eq!(bad(Rule { explode, ..rule("p.a", "p.t") }), "explode[0].to");
        assert_eq!(RuleSet::new(&[rule("p.a", "t"), rule("p.a", "t")], Homes::default()).unwrap_err().rule, 1);
    }
}
