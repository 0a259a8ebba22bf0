//! Rows of a child table that become lists in the documents of their parents: what a rule says of it. Pure.
//!
//! The rows themselves stay a collection of their own (the *rows' collection*) for as long as the migration lasts: by it
//! they are found, and a parent's list is made of it anew whenever one of its rows, or the parent, changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rules::{Homes, OnExisting, Rule};
use super::select;
use crate::schema::TableName;

/// `[rule.embed]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The collection whose documents get the lists; without a database, in the one that the table's schema stands for.
    #[serde(rename = "in")]
    pub into: String,
    /// The field that holds the list.
    #[serde(rename = "as")]
    pub field: String,
    /// Column of the rows, as the rule writes them, to the column of the parent's key that it refers to.
    pub on: BTreeMap<String, String>,
    /// The column that orders the list; where it is equal, and without it, the rows' key does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// The column whose bare values are the elements, instead of documents of all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What becomes of a row whose parent is not there.
    #[serde(default)]
    pub without_parent: WithoutParent,
}

/// What becomes of a row whose parent is not there once the target is consistent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutParent {
    /// The migration stops.
    #[default]
    Stop,
    /// It waits in the rows' collection until the parent comes.
    Wait,
}

/// A list, with its names read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EmbeddedList {
    /// The collection that the rows are kept in.
    pub rows: TableName,
    /// The collection whose documents get the lists.
    pub parent: TableName,
    /// The field that holds the list.
    pub field: String,
    /// Column of the rows to the column of the parent's key.
    pub on: BTreeMap<String, String>,
    /// The column that orders the list.
    pub order_by: Option<String>,
    /// The column whose bare values are the elements.
    pub value: Option<String>,
    /// Rows wait for their parents.
    pub waits: bool,
    /// The rule names the rows' collection: it stays when the migration is finished.
    pub stays: bool,
}

impl Embed {
    /// What the rule that has it means.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn read(&self, rule: &Rule, from: &TableName, homes: &Homes) -> Result<EmbeddedList, (String, String)> {
        let wrong = |key: &str, what: &str| Err((format!("embed.{key}"), what.to_owned()));
        let parent =
            select::table_name(&self.into, Some(homes.schema(&from.schema))).map_err(|e| ("embed.in".to_owned(), e))?;
        if self.field.is_empty() || self.field == "_id" || self.field.contains(['.', '$', '\0']) {
            return wrong("as", "it is the name of one field: not _id, and without points and dollars");
        }
        if self.on.is_empty() {
            return wrong(
                "on",
                "no column; write on = { order_id = \"id\" }: column of the rows = column of the parent's key",
            );
        }
        if self.on.values().collect::<BTreeSet<_>>().len() < self.on.len() {
            return wrong("on", "a column of the parent's key stands in it twice; leave one out");
        }
        if rule.on_existing != OnExisting::Error {
            return wrong("in", "the rule merges rows (on_existing), and a list is made of one table's; leave one out");
        }
        let rows = match &rule.to {
            Some(to) => select::table_name(to, Some(&parent.schema)).map_err(|e| ("to".to_owned(), e))?,
            None => TableName::new(&parent.schema, format!("{}.{}", parent.name, self.field)),
        };
        if rows.schema != parent.schema {
            return wrong("in", "the rows' own collection (to) lies in another database; keep both in one");
        }
        if rows == parent {
            return wrong("in", "it is the rule's own collection; name the parents'");
        }
        Ok(EmbeddedList {
            rows,
            parent,
            field: self.field.clone(),
            on: self.on.clone(),
            order_by: self.order_by.clone(),
            value: self.value.clone(),
            waits: self.without_parent == WithoutParent::Wait,
            stays: rule.to.is_some(),
        })
    }
}

/// What is wrong between lists and rules: the rule's place, the key, and why. `writes`: of every rule its place, its own
/// table, those of its lists that are taken apart, and what it does with rows that are there.
pub fn conflict<'a>(
    lists: &[(usize, EmbeddedList)],
    writes: impl Iterator<Item = (usize, &'a TableName, &'a [TableName], OnExisting)> + Clone,
) -> Option<(usize, String, String)> {
    for (at, list) in lists {
        if lists.iter().any(|(other, o)| other < at && o.parent == list.parent && o.field == list.field) {
            let what = format!("another rule makes {} of {}; choose another field", list.field, list.parent);
            return Some((*at, "embed.as".into(), what));
        }
    }
    for (at, list) in lists {
        let wrong = |key: &str, what: String| Some((*at, format!("embed.{key}"), what));
        if lists.iter().any(|(_, o)| o.rows == list.parent) {
            return wrong(
                "in",
                format!("{} holds rows that are lists themselves; lists in lists are not made", list.parent),
            );
        }
        for (other, to, children, on_existing) in writes.clone() {
            if other != *at && (*to == list.rows || children.contains(&list.rows)) {
                return Some((
                    *at,
                    "to".into(),
                    format!("rule {} writes {}, too; name another collection", other + 1, list.rows),
                ));
            }
            if children.contains(&list.parent) || (*to == list.parent && on_existing != OnExisting::Error) {
                return wrong("in", format!("rule {} takes lists apart or merges rows there (on_existing)", other + 1));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::rules::RuleSet;

    fn rule(text: &str) -> Rule {
        toml::from_str(text).unwrap()
    }

    const ITEMS: &str = "from = \"public.items\"\n[embed]\nin = \"orders\"\nas = \"items\"\non = { order_id = \"id\" }";

    #[test]
    fn given_a_list_when_read_then_its_rows_have_a_collection_of_their_own() {
        let homes = Homes { source: "public".into(), target: "shop".into(), ..Homes::default() };
        let set = RuleSet::new(&[rule(ITEMS)], homes).unwrap();
        let list = set.lists().next().unwrap();
        assert_eq!(
            (&list.parent, &list.rows),
            (&TableName::new("shop", "orders"), &TableName::new("shop", "orders.items"))
        );
        assert!(!list.stays && !list.waits);
        assert_eq!(set.targets_of(&TableName::new("public", "items")), [TableName::new("shop", "orders.items")]);
        // What becomes of rows without a parent changes no row that was copied.
        let text = set.text_of(&TableName::new("public", "items"));
        let waits = RuleSet::new(&[rule(&format!("{ITEMS}\nwithout_parent = \"wait\""))], set.homes().clone()).unwrap();
        assert_eq!(waits.text_of(&TableName::new("public", "items")), text);
        assert!(waits.lists().next().unwrap().waits);
    }

    #[test]
    fn given_lists_that_cannot_be_meant_when_read_then_the_key_is_named() {
        let bad = |rules: &[&str]| {
            let rules: Vec<Rule> = rules.iter().map(|r| rule(r)).collect();
            RuleSet::new(&rules, Homes::default()).unwrap_err().key
        };
        let with = |from: &str, to: &str| ITEMS.replace(from, to);
        assert_eq!(bad(&[&with("as = \"items\"", "as = \"a.b\"")]), "embed.as");
        assert_eq!(bad(&[&with("{ order_id = \"id\" }", "{}")]), "embed.on");
        assert_eq!(bad(&[&with("{ order_id = \"id\" }", "{ a = \"id\", b = \"id\" }")]), "embed.on");
        assert_eq!(bad(&[&with("\n[embed]", "\non_existing = \"skip\"\n[embed]")]), "embed.in");
        assert_eq!(bad(&[&with("\n[embed]", "\nto = \"x.items\"\n[embed]")]), "embed.in");
        assert_eq!(bad(&[&with("\n[embed]", "\nto = \"public.orders\"\n[embed]")]), "embed.in");
        assert_eq!(bad(&[ITEMS, &with("public.items", "public.others")]), "embed.as");
        assert_eq!(bad(&[ITEMS, "from = \"public.b\"\nto = \"public.\\\"orders.items\\\"\""]), "to");
        assert_eq!(bad(&[ITEMS, "from = \"public.o\"\nto = \"public.orders\"\non_existing = \"replace\""]), "embed.in");
        let within =
            "from = \"public.parts\"\n[embed]\nin = \"\\\"orders.items\\\"\"\nas = \"parts\"\non = { item = \"id\" }";
        assert_eq!(bad(&[ITEMS, within]), "embed.in");
    }
}
