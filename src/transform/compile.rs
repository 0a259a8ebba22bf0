//! Compiles a rule for a source table and a target table as they are now. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::convert;
use super::expr::{Expr, Input};
use super::items::Items;
use super::output::{FieldFrom, Output, Program};
use super::rules::{Named, OnExisting};
use super::typename;
use crate::definition::DataType;
use crate::error::{Error, Result};
use crate::schema::{Column, Ident, Kind, RowIdentity, Table};

/// What a rule needs to be compiled.
pub(super) struct Scope<'a> {
    pub named: &'a Named,
    pub source: &'a Table,
    /// Whether no other source table's rows go into the rule's table.
    pub alone: bool,
}

/// A target column and where its value comes from.
pub(super) struct Assigned {
    pub from: FieldFrom,
    /// The rule's key that says so, for messages: `set.status`.
    pub by: String,
}

/// The rows of one of a rule's lists.
pub(super) struct Listed {
    pub items: Items,
    pub assigned: BTreeMap<String, Assigned>,
}

impl Scope<'_> {
    pub(super) fn error(&self, by: &str, what: impl std::fmt::Display) -> Error {
        Error::fatal(format!("{}: {by}: {what}", self.named.label())).with_code("switchyard:rule")
    }

    /// Which rows, and what becomes of them: by target column.
    ///
    /// # Errors
    /// `Fatal`, with the rule, its key and what would be right.
    pub fn assign(&self) -> Result<(Option<Expr>, BTreeMap<String, Assigned>)> {
        let rule = &self.named.rule;
        let source = self.source;
        let inputs = inputs(source);
        for (key, names) in [("rename", rule.rename.keys().collect::<Vec<_>>()), ("drop", rule.drop.iter().collect())] {
            for name in names {
                if source.column(name).is_none() {
                    return Err(self.no_column(key, name, source));
                }
            }
        }
        let filter = match &rule.filter {
            None => None,
            Some(sql) => {
                let e = Expr::compile(sql, &inputs).map_err(|e| self.error("where", e))?;
                if e.kind() != crate::schema::Kind::Bool {
                    return Err(self.error("where", format!("it is {}, not a condition", e.type_name())));
                }
                Some(e)
            }
        };
        let mut assigned: BTreeMap<String, Assigned> = BTreeMap::new();
        for (i, column) in source.columns.iter().enumerate() {
            let (name, by) = match rule.rename.get(&column.name) {
                Some(new) => (new, format!("rename.{}", column.name)),
                None if rule.drop.contains(&column.name) || rule.set.contains_key(&column.name) => continue,
                None => (&column.name, format!("column {}", column.name)),
            };
            let from = match rule.map.get(name) {
                None => FieldFrom::Column(i),
                Some(map) => {
                    let by = format!("map.{name}");
                    // In the column's own type where the new values are of it, else as text.
                    let plain = value_map(&column.name, "", column.nullable, map);
                    let e = Expr::compile(&plain, &inputs)
                        .or_else(|_| Expr::compile(&value_map(&column.name, "::text", column.nullable, map), &inputs))
                        .map_err(|e| self.error(&by, e))?;
                    FieldFrom::Computed(Box::new(e))
                }
            };
            if let Some(other) = assigned.insert(name.clone(), Assigned { from, by: by.clone() }) {
                return Err(self
                    .error(&by, format!("column {name:?} is written by {}, too", other.by))
                    .hint(format!("drop or rename one of them: drop = [{name:?}]")));
            }
        }
        for name in rule.map.keys() {
            if !assigned.contains_key(name) {
                return Err(self.no_column("map", name, source));
            }
        }
        for (name, sql) in &rule.set {
            let by = format!("set.{name}");
            let e = Expr::compile(sql, &inputs).map_err(|e| self.error(&by, e))?;
            assigned.insert(name.clone(), Assigned { from: FieldFrom::Computed(Box::new(e)), by });
        }
        Ok((filter, assigned))
    }

    /// The rule's own rows.
    ///
    /// # Errors
    /// As [`Scope::assign`].
    pub fn row(&self, target: &Table) -> Result<Output> {
        let source = self.source;
        let (filter, assigned) = self.assign()?;
        let (columns, fields) = self.fit(target, assigned)?;
        let reads = |f: &FieldFrom| match f {
            FieldFrom::Column(c) | FieldFrom::Converted(c, _) => vec![*c],
            FieldFrom::Computed(e) => e.inputs().to_vec(),
        };
        let identity = self.identity(target, &columns, &fields, reads)?;
        self.covered("where", filter.iter().flat_map(|f| f.inputs().to_vec()))?;
        if let RowIdentity::Key(key) = &identity {
            self.covered("the key", key.iter().flat_map(|&k| reads(&fields[k])))?;
        }
        let program = Program {
            label: self.named.label(),
            source: source.name.clone(),
            names: source.columns.iter().map(|c| c.name.clone()).collect(),
            source_key: source.key().to_vec(),
            full: source.full_old_rows,
            filter,
            fields,
            items: None,
        };
        let target = Table { columns, identity, full_old_rows: false, ..target.clone() };
        Ok(Output {
            target: Arc::new(target),
            on_existing: self.named.rule.on_existing,
            alone: self.alone,
            parent: None,
            program: Some(program),
        })
    }

    /// What becomes of the items of one of the rule's lists: by target column.
    ///
    /// # Errors
    /// As [`Scope::assign`].
    pub fn assign_items(&self, nth: usize) -> Result<Listed> {
        let explode = &self.named.rule.explode[nth];
        let by = |key: &str| format!("explode[{nth}].{key}");
        let Some(column) = self.source.column(&explode.path) else {
            return Err(self.no_column(&by("path"), &explode.path, self.source));
        };
        let texts: Vec<&str> = explode.set.values().map(String::as_str).collect();
        let (items, inputs) = Items::new(self.source, column, &texts).map_err(|e| self.error(&by("path"), e))?;
        let mut assigned = BTreeMap::new();
        for (name, sql) in &explode.set {
            let by = by(&format!("set.{name}"));
            let e = Expr::compile(sql, &inputs).map_err(|e| self.error(&by, e))?;
            assigned.insert(name.clone(), Assigned { from: FieldFrom::Computed(Box::new(e)), by });
        }
        Ok(Listed { items, assigned })
    }

    /// The source's columns that a field of a list's rows is made of, if it is made of the parent's key alone.
    pub fn of_parents_key(&self, items: &Items, field: &FieldFrom) -> Option<Vec<usize>> {
        let FieldFrom::Computed(e) = field else { return None };
        let parents: Option<Vec<usize>> = e.inputs().iter().map(|&n| items.parent_of(n)).collect();
        parents.filter(|p| !p.is_empty() && p.iter().all(|p| self.source.key().contains(p)))
    }

    /// The rows of one of the rule's lists.
    ///
    /// # Errors
    /// As [`Scope::assign`].
    pub fn items(&self, nth: usize, target: &Table, parent: &Output) -> Result<Output> {
        let by = |key: &str| format!("explode[{nth}].{key}");
        let Listed { items, assigned } = self.assign_items(nth)?;
        let column = items.column;
        let (columns, fields) = self.fit(target, assigned)?;
        // What finds the rows of one parent: the fields that its key alone makes.
        let mut owner = Vec::new();
        let mut covers = BTreeSet::new();
        for (i, f) in fields.iter().enumerate() {
            let FieldFrom::Computed(e) = f else { continue };
            if let Some(parents) = self.of_parents_key(&items, f) {
                owner.push(i);
                covers.extend(parents);
                continue;
            }
            let parents: Option<Vec<usize>> = e.inputs().iter().map(|&n| items.parent_of(n)).collect();
            let Some(parents) = parents else { continue };
            if !parents.iter().all(|p| *p == column) {
                // A change of that column alone would have to reach rows whose list was not sent.
                self.covered(&by("set"), parents.into_iter())?;
            }
        }
        if owner.is_empty() || covers.len() < self.source.key().len() {
            let key: Vec<_> =
                self.source.key().iter().map(|&k| format!("parent.{}", self.source.columns[k].name)).collect();
            let key = if key.is_empty() { "the parent has none".to_owned() } else { key.join(", ") };
            return Err(self
                .error(&by("set"), format!("no columns find the rows of one parent (its key: {key})"))
                .hint(
                    "set a column from every column of the parent's key, each by an expression over that key alone",
                ));
        }
        let Some(p) = &parent.program else { return Err(self.error(&by("path"), "the rule has no columns")) };
        let label =
            format!("rule {}, explode {} ({} → {})", self.named.number + 1, nth + 1, self.named.from, target.name);
        let program = Program { label, fields, items: Some(items), ..p.clone() };
        let skips = self.named.rule.on_existing == OnExisting::Skip;
        let parent = match skips {
            true => Some(Arc::new(self.parent_key(&by("set"), parent, &columns, &program, &owner)?)),
            false => None,
        };
        let identity = RowIdentity::Key(owner);
        let target = Table { columns, identity, full_old_rows: false, ..target.clone() };
        Ok(Output {
            target: Arc::new(target),
            // Items have no key of their own that could be there already; they come and go as their parents do.
            on_existing: if skips { OnExisting::Skip } else { OnExisting::Error },
            alone: self.alone,
            parent,
            program: Some(program),
        })
    }

    /// Brings values into the target's columns, in the target's order.
    fn fit(&self, target: &Table, mut assigned: BTreeMap<String, Assigned>) -> Result<(Vec<Column>, Vec<FieldFrom>)> {
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for column in &target.columns {
            let Some(a) = assigned.remove(&column.name) else {
                if !column.nullable && column.default.is_none() && column.identity.is_none() {
                    return Err(self
                        .error(
                            "set",
                            format!("{} needs column {:?}, and the rule gives it no value", target.name, column.name),
                        )
                        .hint(format!(
                            "add it to the rule: set = {{ {} = \"…\" }}, or give the column a default",
                            Ident(&column.name)
                        )));
                }
                continue;
            };
            let from = match a.from {
                FieldFrom::Column(c) | FieldFrom::Converted(c, _) => {
                    let s = &self.source.columns[c];
                    let whole = Expr::compile(&Ident(&s.name).to_string(), &inputs(self.source))
                        .and_then(|e| e.assign_to(column.kind, &column.type_name));
                    match whole {
                        // What no cast does between these two engines' types.
                        _ if let Some(conversion) = convert::between(s, column) => FieldFrom::Converted(c, conversion),
                        // Numbers of 0 and 1 are truth values to every target; labels are text until the target reads them.
                        _ if matches!(s.data, DataType::Int { .. }) && column.kind == Kind::Bool => {
                            FieldFrom::Column(c)
                        }
                        _ if matches!(s.data, DataType::Enum { .. } | DataType::Set { .. })
                            && matches!(column.data, DataType::Enum { .. } | DataType::Set { .. }) =>
                        {
                            FieldFrom::Column(c)
                        }
                        // Types that only the servers know are left to the target's own input function.
                        _ if s.type_name == column.type_name || s.kind == crate::schema::Kind::Other => {
                            FieldFrom::Column(c)
                        }
                        Ok(e) if e.as_column().is_some() => FieldFrom::Column(c),
                        Ok(e) => FieldFrom::Computed(Box::new(e)),
                        Err(e) => return Err(self.error(&a.by, e)),
                    }
                }
                FieldFrom::Computed(e) => {
                    let null = e.as_constant() == Some(None);
                    if null && !column.nullable {
                        return Err(
                            self.error(&a.by, format!("column {:?} of {} cannot be NULL", column.name, target.name))
                        );
                    }
                    // What engines have for truth values that have none of their own.
                    let truth = e.kind() == Kind::Bool && matches!(column.data, DataType::Int { bits: 8, .. });
                    let e = match (null, truth) {
                        // NULL is of every type.
                        (true, _) => Ok(*e),
                        (_, true) => e.as_number().and_then(|e| e.assign_to(column.kind, &column.type_name)),
                        (_, false) => e.assign_to(column.kind, &column.type_name),
                    };
                    FieldFrom::Computed(Box::new(e.map_err(|e| self.error(&a.by, e))?))
                }
            };
            columns.push(column.clone());
            fields.push(from);
        }
        if let Some((name, a)) = assigned.into_iter().next() {
            if target.generated.iter().any(|g| g.name == name) {
                return Err(self.error(&a.by, format!("{} computes column {name:?} itself", target.name)));
            }
            let near = nearest(&name, target.columns.iter().map(|c| c.name.as_str()));
            return Err(self
                .error(&a.by, format!("{} has no column {name:?}{near}", target.name))
                .hint("drop or rename it in the rule, or add the column on the target; then start again"));
        }
        Ok((columns, fields))
    }

    /// What finds a row of the target again.
    fn identity(
        &self,
        target: &Table,
        columns: &[Column],
        fields: &[FieldFrom],
        reads: impl Fn(&FieldFrom) -> Vec<usize>,
    ) -> Result<RowIdentity> {
        let source_key = self.source.key();
        if let RowIdentity::Key(key) = &target.identity {
            let names: Vec<&str> = key.iter().map(|&k| target.columns[k].name.as_str()).collect();
            let places: Option<Vec<usize>> = names.iter().map(|n| columns.iter().position(|c| c.name == **n)).collect();
            if let Some(places) = places {
                let read: BTreeSet<usize> = places.iter().flat_map(|&i| reads(&fields[i])).collect();
                // What a merge leaves out is noted by this key, too.
                if self.named.rule.on_existing != OnExisting::Replace
                    && let Some(lost) = source_key.iter().find(|k| !read.contains(k))
                {
                    return Err(self
                        .error(
                            "the key",
                            format!(
                                "the key of {} ({}) does not hold {:?} of the source's key: two rows could meet in one",
                                target.name,
                                names.join(", "),
                                self.source.columns[*lost].name
                            ),
                        )
                        .hint(
                            "make the target's key from the whole key of the source, or say on_existing = \"replace\"",
                        ));
                }
                return Ok(RowIdentity::Key(places));
            }
        }
        if self.named.rule.on_existing != OnExisting::Error {
            return Err(self
                .error(
                    "on_existing",
                    format!(
                        "nothing tells which row of {} is there already: it has no key, or the rule does not write it",
                        target.name
                    ),
                )
                .hint(format!("give {} a primary key that the rule writes, or leave on_existing out", target.name)));
        }
        // No key of the target's own is written: what the source's key became finds the row.
        match self.kept(fields.iter()) {
            Some(kept) if !kept.is_empty() => Ok(RowIdentity::Key(kept)),
            _ if self.source.identity == RowIdentity::AllColumns
                && fields.iter().all(|f| matches!(f, FieldFrom::Column(_) | FieldFrom::Converted(..))) =>
            {
                Ok(RowIdentity::AllColumns)
            }
            _ if self.source.identity == RowIdentity::None => Ok(RowIdentity::None),
            _ => Err(self
                .error("the key", format!("nothing in {} finds a row of {} again", target.name, self.source.name))
                .hint(format!(
                    "keep the source's key ({}), or map it with uuid5",
                    source_key.iter().map(|&k| self.source.columns[k].name.as_str()).collect::<Vec<_>>().join(", ")
                ))),
        }
    }

    /// What the source's key became: for each of its columns the place of a field that keeps its values apart.
    pub fn kept<'f>(&self, fields: impl Iterator<Item = &'f FieldFrom> + Clone) -> Option<Vec<usize>> {
        let keeps = |f: &FieldFrom, k: usize| match f {
            FieldFrom::Column(c) | FieldFrom::Converted(c, _) => *c == k,
            FieldFrom::Computed(e) => e.inputs() == [k] && e.keeps_apart(),
        };
        self.source.key().iter().map(|&k| fields.clone().position(|f| keeps(f, k))).collect()
    }

    /// Old values of these columns must be in the log.
    fn covered(&self, by: &str, reads: impl Iterator<Item = usize>) -> Result<()> {
        if self.source.full_old_rows {
            return Ok(());
        }
        let outside: BTreeSet<usize> = reads.filter(|c| !self.source.key().contains(c)).collect();
        let Some(first) = outside.iter().next() else { return Ok(()) };
        let hint = match self.source.full_old_rows_by.as_str() {
            "" => {
                format!("the source cannot be told to log whole old rows of {}: read its key alone", self.source.name)
            }
            by => format!("on the source: {by}"),
        };
        Err(self
            .error(
                by,
                format!(
                    "it reads column {:?}, whose old value is not in the source's log",
                    self.source.columns[*first].name
                ),
            )
            .hint(hint))
    }

    fn no_column(&self, by: &str, name: &str, table: &Table) -> Error {
        let near = nearest(name, table.columns.iter().map(|c| c.name.as_str()));
        self.error(by, format!("{} has no column {name:?}{near}", table.name))
    }
}

fn inputs(table: &Table) -> Vec<Input> {
    table
        .columns
        .iter()
        .map(|c| {
            let (type_name, kind) = typed(c);
            Input { name: c.name.clone(), kind, type_name, nullable: c.nullable }
        })
        .collect()
}

/// What expressions take a column for. Where another engine's type holds more than the decoder's word for it says, the
/// type that holds all of it decides.
fn typed(c: &Column) -> (String, Kind) {
    let holds_more =
        matches!(c.data, DataType::Int { bits: 64, unsigned: true, .. } | DataType::Json { verbatim: false });
    let (type_name, kind) = typename::of(&c.data);
    if holds_more && kind != c.kind { (type_name, kind) } else { (c.type_name.clone(), c.kind) }
}

/// `; did you mean "x"?`, if one is near.
pub(super) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> String {
    let near = all
        .map(|n| (strsim::damerau_levenshtein(name, n), n))
        .min()
        .filter(|(d, n)| *d <= 1 + n.len().min(name.len()) / 4);
    near.map_or(String::new(), |(_, n)| format!("; did you mean {n:?}?"))
}

/// A map of values as an expression. NULL is no value, so it is not every other value either.
fn value_map(column: &str, cast: &str, nullable: bool, map: &BTreeMap<String, String>) -> String {
    let text = |s: &str| format!("'{}'", s.replace('\'', "''"));
    let of = format!("\"{}\"{cast}", column.replace('"', "\"\""));
    let mut sql = format!("case {of}");
    for (old, new) in map.iter().filter(|(old, _)| *old != "_") {
        sql.push_str(&format!(" when {} then {}", text(old), text(new)));
    }
    match map.get("_") {
        None if map.is_empty() => of,
        None => sql + &format!(" else {of} end"),
        Some(other) if map.len() == 1 => format!("case when {of} is not null then {} end", text(other)),
        Some(other) if nullable => format!("case when {of} is not null then {sql} else {} end end", text(other)),
        Some(other) => sql + &format!(" else {} end", text(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_columns_of_another_engine_when_typed_then_no_value_is_too_large_for_the_expressions_type() {
        let column = |type_name: &str, kind, data| Column {
            name: "c".into(),
            number: 1,
            type_name: type_name.into(),
            kind,
            data,
            nullable: true,
            identity: None,
            default: None,
            collation: None,
            portable_binary: false,
        };
        let int = |bits, unsigned| DataType::Int { bits, unsigned, truth: false };
        let json = |verbatim| DataType::Json { verbatim };
        for (column, name, kind) in [
            (column("bigint unsigned", Kind::Int8, int(64, true)), "numeric(20,0)", Kind::Numeric),
            (column("int", Kind::Int4, int(32, false)), "int", Kind::Int4),
            (column("json", Kind::Json, json(false)), "jsonb", Kind::Jsonb),
            (column("json", Kind::Json, json(true)), "json", Kind::Json),
            (column("public.doc", Kind::Jsonb, json(false)), "public.doc", Kind::Jsonb),
        ] {
            assert_eq!(typed(&column), (name.to_owned(), kind));
        }
    }

    #[test]
    fn given_names_when_compared_then_only_near_ones_are_offered() {
        assert_eq!(nearest("stauts", ["id", "status", "zone"].into_iter()), "; did you mean \"status\"?");
        assert_eq!(nearest("xyz", ["id", "status"].into_iter()), "");
    }

    #[test]
    fn given_a_map_of_values_when_written_as_sql_then_quotes_are_doubled() {
        let map: BTreeMap<String, String> =
            [("a'b".to_owned(), "c".to_owned()), ("_".to_owned(), "other".to_owned())].into();
        assert_eq!(
            value_map("x\"y", "::text", false, &map),
            "case \"x\"\"y\"::text when 'a''b' then 'c' else 'other' end"
        );
    }
}
