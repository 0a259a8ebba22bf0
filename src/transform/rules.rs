//! The rules as they are written, and which tables they concern. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::embed::{self, Embed, EmbeddedList, WithoutParent};
use super::select;
use crate::definition::ForeignAction;
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
    /// Target column to its type, in the target's words, in a table that Switchyard makes there. Beside `from` alone: the
    /// table is made and filled as if no rule named it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
    /// Primary key of the target's table, if Switchyard makes it. Default: what the source's key becomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Indexes of the target's table, if Switchyard makes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// Foreign keys of the target's table, if Switchyard makes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Columns of the target's table, if Switchyard makes it, that are NOT NULL besides those that are so at the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
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
    /// The rows become lists in the documents of their parents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<Embed>,
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
    /// As [`Rule::types`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
    /// Primary key of the table, if Switchyard makes it. Default: none, and an index over what finds a parent's rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// As [`Rule::indexes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// As [`Rule::references`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// As [`Rule::not_null`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
}

/// An index of a table that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Its columns, in their order.
    pub columns: Vec<String>,
    /// Whether no two rows may be equal in them.
    #[serde(default)]
    pub unique: bool,
    /// Its name; default: made of the table's and the columns' names.
    #[serde(default)]
    pub name: Option<String>,
}

/// A foreign key of a table that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The columns, in their order.
    pub columns: Vec<String>,
    /// The target's table that they refer to; without a schema, in the rule's target schema.
    pub table: String,
    /// The columns there. Default: that table's key.
    #[serde(default)]
    pub to: Vec<String>,
    /// When the other row goes away.
    #[serde(default)]
    pub on_delete: ForeignAction,
}

/// What a rule, or one of its `explode` parts, says of a table in case that it is made.
#[derive(Clone, Copy, Debug)]
pub struct Wishes<'a> {
    /// [`Rule::key`]
    pub key: &'a [String],
    /// [`Rule::indexes`]
    pub indexes: &'a [Index],
    /// [`Rule::references`]
    pub references: &'a [Reference],
    /// [`Rule::types`]
    pub types: &'a BTreeMap<String, String>,
    /// [`Rule::not_null`]
    pub not_null: &'a [String],
}

impl Wishes<'_> {
    /// What is wrong with them by themselves: the key, and why.
    fn problem(&self, schema: &str) -> Option<(String, String)> {
        if let Some((column, _)) = self.types.iter().find(|(_, t)| t.trim().is_empty()) {
            return Some(("types".into(), format!("column {column:?} has no type; write the target's name of one")));
        }
        let twice = |names: &[String]| names.iter().find(|n| names.iter().filter(|m| m == n).count() > 1).cloned();
        if let Some(column) = twice(self.key) {
            return Some(("key".into(), format!("column {column:?} stands in it twice; leave one out")));
        }
        for (i, index) in self.indexes.iter().enumerate() {
            let key = format!("indexes[{i}].columns");
            if index.columns.is_empty() {
                return Some((key, "an index has columns; write their names".into()));
            }
            if let Some(column) = twice(&index.columns) {
                return Some((key, format!("column {column:?} stands in it twice; leave one out")));
            }
        }
        for (i, reference) in self.references.iter().enumerate() {
            if reference.columns.is_empty() {
                let what = "a foreign key has columns; write their names";
                return Some((format!("references[{i}].columns"), what.into()));
            }
            if !reference.to.is_empty() && reference.to.len() != reference.columns.len() {
                let what = "it names as many columns as `columns` does; write them in the same order";
                return Some((format!("references[{i}].to"), what.into()));
            }
            if let Err(why) = select::table_name(&reference.table, Some(schema)) {
                return Some((format!("references[{i}].table"), why));
            }
        }
        None
    }
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
    /// The list that its rows become.
    pub list: Option<EmbeddedList>,
    /// As it was written.
    pub rule: Rule,
}

impl Named {
    /// `rule 2 (public.a → public.b)`, for messages; people count from 1.
    pub fn label(&self) -> String {
        format!("rule {} ({} → {})", self.number + 1, self.from, self.to)
    }
    /// The rule's own table, and the tables of its `explode` parts with their places.
    pub fn parts(&self) -> impl Iterator<Item = (Option<usize>, &TableName)> {
        let children = self.children.iter().enumerate().map(|(i, t)| (Some(i), t));
        std::iter::once((None, &self.to)).chain(children)
    }
    /// What the rule, or that part of it, says of its table in case that it is made.
    pub fn wishes(&self, part: Option<usize>) -> Wishes<'_> {
        match part.and_then(|i| self.rule.explode.get(i)) {
            Some(e) => e.wishes(),
            None => self.rule.wishes(),
        }
    }
    /// The tables that [`Wishes::references`] name, in their order.
    pub fn referenced(&self, part: Option<usize>) -> Vec<TableName> {
        let read = |r: &Reference| select::table_name(&r.table, Some(&self.to.schema));
        // Names that cannot be read were refused with the rule.
        self.wishes(part).references.iter().filter_map(|r| read(r).ok()).collect()
    }
}

impl Rule {
    fn wishes(&self) -> Wishes<'_> {
        let Rule { key, indexes, references, types, not_null, .. } = self;
        Wishes { key, indexes, references, types, not_null }
    }
    /// What rows depend on: the same rule without what it says of a table in case that it is made.
    fn of_rows(&self) -> Rule {
        let (key, indexes, references) = (Vec::new(), Vec::new(), Vec::new());
        let explode = self.explode.iter().map(|e| Explode {
            path: e.path.clone(),
            to: e.to.clone(),
            set: e.set.clone(),
            ..Explode::default()
        });
        let explode = explode.collect();
        let mut rule = self.clone();
        if let Some(embed) = &mut rule.embed {
            embed.without_parent = WithoutParent::default();
        }
        Rule { key, indexes, references, types: BTreeMap::new(), not_null: Vec::new(), explode, ..rule }
    }
}

impl Explode {
    fn wishes(&self) -> Wishes<'_> {
        let Explode { key, indexes, references, types, not_null, .. } = self;
        Wishes { key, indexes, references, types, not_null }
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
            let list = rule.embed.as_ref().map(|e| e.read(rule, &from, &homes)).transpose();
            let list = list.map_err(|(key, what)| problem(&key, what))?;
            let to = match &rule.to {
                _ if let Some(list) = &list => list.rows.clone(),
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
            if let Some((key, what)) = rule.wishes().problem(&to.schema) {
                return Err(problem(&key, what));
            }
            let alone = Rule { from: rule.from.clone(), types: rule.types.clone(), ..Rule::default() };
            if !rule.types.is_empty() && (Rule { to: None, ..rule.clone() }) == alone && to == homes.table(&from) {
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
                if let Some((k, what)) = e.wishes().problem(&to.schema) {
                    return Err(problem(&key(&k), what));
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
            named.push(Named { number, from, to, children, list, rule: rule.clone() });
        }
        let lists: Vec<(usize, EmbeddedList)> =
            named.iter().filter_map(|n| Some((n.number, n.list.clone()?))).collect();
        let writes = named.iter().map(|n| (n.number, &n.to, n.children.as_slice(), n.rule.on_existing));
        if let Some((rule, key, message)) = embed::conflict(&lists, writes) {
            return Err(Problem { rule, key, message });
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
    /// The lists that rows of child tables become.
    pub fn lists(&self) -> impl Iterator<Item = &EmbeddedList> {
        self.rules.iter().filter_map(|n| n.list.as_ref())
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
        let mut rules: Vec<Rule> = self.of(source).map(|r| r.rule.of_rows()).collect();
        // Fields alone are no rule that rows pass, and rows depend on them as well.
        if let Some(c) = self.collections.get(source)
            && rules.iter().all(|r| r.fields.is_empty())
        {
            let (fields, rest) = (c.fields.clone(), c.rest.clone());
            rules.push(Rule { from: source.to_string(), fields, rest, ..Rule::default() });
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
        let blank = Rule { types: BTreeMap::from([("a".into(), " ".into())]), ..only.clone() };
        assert_eq!(RuleSet::new(&[blank], homes.clone()).unwrap_err().key, "types");
        // Beside anything else they are of a table that the rule writes.
        for more in [
            Rule { to: Some("public.people".into()), ..only.clone() },
            Rule { drop: vec!["x".into()], ..only.clone() },
            Rule { key: vec!["x".into()], ..only.clone() },
        ] {
            let set = RuleSet::new(&[more], homes.clone()).unwrap();
            assert!(set.concern(&users) && set.homes().types.is_empty());
            assert!(!set.text_of(&users).contains("smallint"), "{}", set.text_of(&users));
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
        let explode =
            Explode { path: "tags".into(), to: "p.t".into(), set: map(&[("a", "item")]), ..Explode::default() };
        let index =
            |columns: &[&str]| Index { columns: columns.iter().map(|c| (*c).into()).collect(), ..Index::default() };
        let bad_index = Explode { to: "p.u".into(), indexes: vec![index(&["a", "a"])], ..explode.clone() };
        assert_eq!(bad(Rule { explode: vec![bad_index], ..rule("p.a", "p.t") }), "explode[0].indexes[0].columns");
        let explode = vec![explode];
        assert_eq!(bad(Rule { explode, ..rule("p.a", "p.t") }), "explode[0].to");
        assert_eq!(bad(Rule { key: vec!["a".into(), "a".into()], ..rule("p.a", "t") }), "key");
        assert_eq!(bad(Rule { indexes: vec![index(&[])], ..rule("p.a", "t") }), "indexes[0].columns");
        let reference = |table: &str, to: &[&str]| Reference {
            columns: vec!["x".into()],
            table: table.into(),
            to: to.iter().map(|c| (*c).into()).collect(),
            ..Reference::default()
        };
        assert_eq!(bad(Rule { references: vec![reference("b", &["a", "b"])], ..rule("p.a", "t") }), "references[0].to");
        assert_eq!(bad(Rule { references: vec![reference("a.b.c", &[])], ..rule("p.a", "t") }), "references[0].table");
        assert_eq!(RuleSet::new(&[rule("p.a", "t"), rule("p.a", "t")], Homes::default()).unwrap_err().rule, 1);
    }
}
