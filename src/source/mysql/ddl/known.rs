//! The tables of a migration as they are at one place of the log, and what a statement there makes of them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shadow::{Role, belongs, shadow_of};
use super::shape::{Deed, Key, Shape};
use super::{AlterOp, CreateTable, Session, Stated};
use crate::change::{Ddl, DdlEffect};
use crate::schema::{Column, Table, TableId, TableName};

/// What follows from a statement, in order.
#[derive(Clone, Debug)]
pub enum Consequence {
    /// A schema change for the target.
    Ddl(Box<Ddl>),
    /// All rows of the table went away.
    Truncate(TableName),
    /// A table was made that matches the selection, and is taken for the work of an online schema change of another: its
    /// rows are not followed. People should hear of it.
    Shadow {
        /// The new table.
        table: TableName,
        /// The table that is being changed.
        of: TableName,
    },
}

/// What the stream knows beside the tables.
pub struct World<'a> {
    /// Whether a table is of the migration.
    pub selects: &'a dyn Fn(&TableName) -> bool,
    /// The number of a table within the run.
    pub id: &'a dyn Fn(&TableName) -> TableId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A table of the migration.
    Followed,
    /// It is to take another's place; columns with these numbers are that one's.
    Shadow { of: TableName, base: Vec<i32> },
    /// It was another table, or belongs to a tool.
    Aside { of: TableName },
}

#[derive(Clone, Debug)]
struct Entry {
    part: Part,
    /// `None` if something happened to it that is not understood. A followed table always has one.
    shape: Option<Shape>,
    table: Arc<Table>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Known {
    entries: BTreeMap<TableName, Entry>,
    lower_case: bool,
}

/// A statement while its consequences are found.
struct Saying<'a> {
    statement: &'a str,
    tag: &'static str,
    out: Vec<Consequence>,
}

impl Saying<'_> {
    fn effect(&mut self, object: &TableName, effect: DdlEffect) {
        let lower = self.statement.to_ascii_lowercase();
        // Options of a table may hold a password for another server.
        let secret = lower.contains("connection") || lower.contains("password");
        let statement = if secret { format!("{} {object} …", self.tag) } else { self.statement.trim().to_owned() };
        self.out.push(Consequence::Ddl(Box::new(Ddl {
            tag: self.tag.to_owned(),
            statement,
            object: object.to_string(),
            effect,
            before: None,
        })));
    }

    fn stop(&mut self, table: &TableName, why: impl Into<String>) {
        let said = |c: &Consequence| match c {
            Consequence::Ddl(d) => matches!(&d.effect, DdlEffect::Unfollowed { table: t, .. } if t == table),
            _ => false,
        };
        if !self.out.iter().any(said) {
            self.effect(table, DdlEffect::Unfollowed { table: table.clone(), why: why.into() });
        }
    }
}

fn quoted(name: &TableName) -> String {
    format!("`{}`.`{}`", name.schema.replace('`', "``"), name.name.replace('`', "``"))
}

impl Known {
    /// No tables yet. `lower_case` says that the server compares names of tables without regard to case and stores them
    /// in lower case (`lower_case_table_names` is not 0).
    pub fn new(lower_case: bool) -> Known {
        Known { entries: BTreeMap::new(), lower_case }
    }

    /// A table of the migration as the catalog describes it; its columns' numbers are their places.
    pub fn add(&mut self, table: Table, keys: &[Key]) {
        self.put(table, keys, Part::Followed);
    }

    /// A table that is there for an online schema change which began earlier; its rows are not followed. Nothing happens
    /// if its name does not say so, or the table that it belongs to is not known.
    pub fn add_shadow(&mut self, table: Table, keys: &[Key]) {
        let Some((of, role)) = self.owner(&table.name) else { return };
        let part = match role {
            Role::New => Part::Shadow { of, base: Vec::new() },
            Role::Aside => Part::Aside { of },
        };
        self.put(table, keys, part);
    }

    fn put(&mut self, table: Table, keys: &[Key], part: Part) {
        let shape = Some(Shape::of(&table, keys));
        self.entries.insert(table.name.clone(), Entry { part, shape, table: Arc::new(table) });
    }

    /// A table of the migration as it is now.
    pub fn table(&self, name: &TableName) -> Option<&Arc<Table>> {
        self.entries.get(name).filter(|e| e.part == Part::Followed).map(|e| &e.table)
    }

    /// The table's columns as the server orders them, computed ones too: numbers tell who is who, not who stands where.
    pub fn ordered(&self, name: &TableName) -> Option<Vec<&Column>> {
        self.entries.get(name).and_then(|e| e.shape.as_ref()).map(|s| s.columns().collect())
    }

    /// Whether rows of the table are an online schema change's business and none of ours.
    pub fn is_shadow(&self, name: &TableName) -> bool {
        match self.entries.get(name) {
            Some(e) => e.part != Part::Followed,
            None => self.owner(name).is_some(),
        }
    }

    /// The followed table that a shadow's name belongs to.
    fn owner(&self, name: &TableName) -> Option<(TableName, Role)> {
        let (base, role) = shadow_of(name)?;
        let mut tables: Vec<&TableName> = self
            .entries
            .iter()
            .map(|(n, e)| match &e.part {
                Part::Followed => n,
                Part::Aside { of } | Part::Shadow { of, .. } => of,
            })
            .filter(|n| belongs(&base, n) && *n != name)
            .collect();
        // The one of exactly that name before one whose name begins or ends so.
        tables.sort_by_key(|n| **n != base);
        tables.first().map(|n| ((*n).clone(), role))
    }

    fn fold(&self, name: &TableName) -> TableName {
        if self.lower_case {
            TableName::new(name.schema.to_lowercase(), name.name.to_lowercase())
        } else {
            name.clone()
        }
    }

    /// Whether a table of that name would be followed.
    fn wanted(&self, name: &TableName, world: &World<'_>) -> bool {
        (world.selects)(name) && !self.is_shadow(name)
    }

    /// What follows from `stated`, which [`super::read`] made of `statement`. Afterwards the tables are as they are behind
    /// the statement.
    ///
    /// The tables may come from a catalog that was read at a later moment than the log's place (a daemon that starts
    /// again). What the statement adds, renames or drops may then be so already: the effect tells the table as it is
    /// known, and what the statement did to rows.
    pub fn carry(
        &mut self,
        statement: &str,
        stated: &Stated,
        session: &Session,
        world: &World<'_>,
    ) -> Vec<Consequence> {
        let tag = match stated {
            Stated::CreateTable(_) => "CREATE TABLE",
            Stated::AlterTable { .. } => "ALTER TABLE",
            Stated::DropTable { .. } => "DROP TABLE",
            Stated::RenameTable { .. } => "RENAME TABLE",
            Stated::Truncate { .. } => "TRUNCATE TABLE",
            Stated::DropDatabase { .. } => "DROP DATABASE",
            Stated::CreateDatabase { .. } | Stated::Irrelevant => return Vec::new(),
            Stated::NotUnderstood { .. } => "statement",
        };
        let mut say = Saying { statement, tag, out: Vec::new() };
        match stated {
            Stated::CreateTable(text) => self.create(text, session, world, &mut say),
            Stated::AlterTable { name, ops, ignore } => {
                self.alter(&self.fold(name), (ops, *ignore), session, world, &mut say)
            }
            Stated::DropTable { temporary: true, .. } => {}
            Stated::DropTable { names, .. } => names.iter().for_each(|n| self.dropped(&self.fold(n), world, &mut say)),
            Stated::RenameTable { pairs } => {
                let pairs: Vec<_> = pairs.iter().map(|(a, b)| (self.fold(a), self.fold(b))).collect();
                self.rename(&pairs, world, &mut say);
            }
            Stated::Truncate { name } => {
                let name = self.fold(name);
                if self.table(&name).is_some() {
                    say.out.push(Consequence::Truncate(name));
                }
            }
            Stated::DropDatabase { name } => {
                let folded = self.fold(&TableName::new(name.clone(), ""));
                let inside: Vec<TableName> =
                    self.entries.keys().filter(|n| n.schema == folded.schema).cloned().collect();
                inside.iter().for_each(|n| self.dropped(n, world, &mut say));
            }
            Stated::NotUnderstood { why, subject, mentions } => {
                let mentions: BTreeSet<TableName> = mentions.iter().map(|m| self.fold(m)).collect();
                for name in &mentions {
                    match self.entries.get_mut(name) {
                        Some(e) if e.part == Part::Followed => say.stop(name, not_understood(why)),
                        Some(e) => e.shape = None,
                        None => {}
                    }
                }
                let subject = subject.as_ref().map(|s| self.fold(s));
                if let Some(name) = subject.filter(|s| self.wanted(s, world)) {
                    say.stop(&name, not_understood(why));
                }
            }
            Stated::CreateDatabase { .. } | Stated::Irrelevant => {}
        }
        say.out
    }

    fn dropped(&mut self, name: &TableName, world: &World<'_>, say: &mut Saying<'_>) {
        match self.entries.get(name).map(|e| &e.part) {
            Some(Part::Followed) => {
                self.entries.remove(name);
                say.effect(name, DdlEffect::Dropped { table: name.clone() });
            }
            Some(_) => drop(self.entries.remove(name)),
            // The catalog was read after it went; the target may have it.
            None if self.wanted(name, world) => say.effect(name, DdlEffect::Dropped { table: name.clone() }),
            None => {}
        }
    }

    fn create(&mut self, text: &CreateTable, session: &Session, world: &World<'_>, say: &mut Saying<'_>) {
        let name = self.fold(&text.name);
        if text.temporary {
            return;
        }
        let like = text.like.as_ref().map(|l| self.fold(l));
        let known = self.entries.get(&name).map(|e| e.part.clone());
        if known.as_ref() != Some(&Part::Followed)
            && let Some((of, role)) = self.owner(&name)
        {
            if !(known.is_some() && text.if_not_exists) {
                let selected = (world.selects)(&name);
                self.create_shadow(&name, &of, role, text, like.as_ref(), session);
                if selected {
                    say.out.push(Consequence::Shadow { table: name, of });
                }
            }
            return;
        }
        if !(world.selects)(&name) {
            return;
        }
        if known.is_some() {
            if text.or_replace {
                self.dropped(&name, world, say);
            } else if !text.if_not_exists {
                // The catalog was read after the statement.
                if let Some(table) = self.table(&name).cloned() {
                    say.effect(&name, DdlEffect::Table { after: table, missing_values: Vec::new(), rewritten: false });
                }
                return;
            } else {
                return;
            }
        }
        let id = (world.id)(&name);
        let shape = match &like {
            Some(l) => match self.entries.get(l).and_then(|e| e.shape.as_ref()) {
                Some(s) => {
                    let mut s = s.like(id);
                    s.renumber();
                    Ok(s)
                }
                None => Err(format!("it was created like {l}, which is not followed")),
            },
            None if text.select || text.columns.is_empty() => {
                Err("it was created from a query, and the log does not tell its columns".to_owned())
            }
            None => Shape::created(id, text, self.full_old_rows(), session),
        };
        let shape = match shape {
            Ok(s) => s,
            Err(why) => return say.stop(&name, why),
        };
        let table = Arc::new(shape.table(&name));
        self.entries.insert(name.clone(), Entry { part: Part::Followed, shape: Some(shape), table: table.clone() });
        say.effect(&name, DdlEffect::Table { after: table, missing_values: Vec::new(), rewritten: false });
        // What finds a row is told with the table.
        for key in text.keys.iter().filter(|k| k.kind != super::KeyKind::Primary) {
            let index = key.name.clone().or_else(|| key.columns.first().map(|c| c.0.clone())).unwrap_or_default();
            index_made(&name, &index, &key.text, say);
        }
    }

    /// Old rows are logged whole if they are for the tables that are there.
    fn full_old_rows(&self) -> bool {
        self.entries.values().next().is_none_or(|e| e.table.full_old_rows)
    }

    fn create_shadow(
        &mut self,
        name: &TableName,
        of: &TableName,
        role: Role,
        text: &CreateTable,
        like: Option<&TableName>,
        session: &Session,
    ) {
        // Its rows go nowhere: the number is of the table that it works for.
        let Some(id) = self.entries.get(of).map(|e| e.table.id) else { return };
        let original = self.entries.get(of).and_then(|e| e.shape.clone());
        let shape = match like {
            Some(l) if l == of => original.as_ref().map(|o| o.like(id)),
            Some(_) => None,
            None if text.columns.is_empty() || text.select => None,
            None => {
                let made = Shape::created(id, text, self.full_old_rows(), session).ok();
                match (made, &original) {
                    (Some(mut s), Some(o)) => {
                        s.number_like(o);
                        Some(s)
                    }
                    (made, _) => made,
                }
            }
        };
        let base = original.as_ref().map(Shape::column_numbers).unwrap_or_default();
        let part = match role {
            Role::New => Part::Shadow { of: of.clone(), base },
            Role::Aside => Part::Aside { of: of.clone() },
        };
        let table = match &shape {
            Some(s) => Arc::new(s.table(name)),
            None => match self.entries.get(of) {
                Some(e) => e.table.clone(),
                None => return,
            },
        };
        self.entries.insert(name.clone(), Entry { part, shape, table });
    }

    fn alter(
        &mut self,
        name: &TableName,
        (ops, ignore): (&[AlterOp], bool),
        session: &Session,
        world: &World<'_>,
        say: &mut Saying<'_>,
    ) {
        // Rows that another table of the migration gave or got.
        for op in ops {
            if let AlterOp::Unlogged { what, other: Some(other) } = op {
                let other = self.fold(other);
                if self.entries.get(&other).is_some_and(|e| e.part == Part::Followed) || self.wanted(&other, world) {
                    say.stop(&other, unlogged(what));
                }
            }
        }
        let renamed = ops.iter().find_map(|op| match op {
            AlterOp::RenameTo(to) => Some(self.fold(to)),
            _ => None,
        });
        match self.entries.get_mut(name) {
            Some(e) if e.part == Part::Followed => match e.shape.as_mut().map(|s| s.alter(ops, ignore, session)) {
                Some(Ok(deed)) => {
                    if let Some(shape) = &e.shape {
                        e.table = Arc::new(shape.table(name));
                    }
                    let after = e.table.clone();
                    tell(name, after, deed, say);
                }
                Some(Err(why)) => say.stop(name, not_understood(&why)),
                None => say.stop(name, not_understood("an earlier one was not, either")),
            },
            Some(e) => {
                let understood = e.shape.as_mut().map(|s| s.alter(ops, ignore, session));
                match understood {
                    Some(Ok(deed)) if deed.unlogged.is_empty() => {
                        if let Some(shape) = &e.shape {
                            e.table = Arc::new(shape.table(name));
                        }
                    }
                    _ => e.shape = None,
                }
            }
            None => {}
        }
        if let Some(to) = renamed {
            self.rename(&[(name.clone(), to)], world, say);
        }
    }

    fn rename(&mut self, pairs: &[(TableName, TableName)], world: &World<'_>, say: &mut Saying<'_>) {
        // Where each name's table was before the statement; `None` is a table that is not known.
        let mut places: BTreeMap<TableName, Option<TableName>> = BTreeMap::new();
        let mut gone: BTreeSet<TableName> = BTreeSet::new();
        let known = |entries: &BTreeMap<TableName, Entry>, n: &TableName| entries.contains_key(n).then(|| n.clone());
        for (from, to) in pairs {
            let it = places.remove(from).unwrap_or_else(|| known(&self.entries, from));
            gone.insert(from.clone());
            gone.remove(to);
            places.insert(to.clone(), it);
        }
        // A name that is back where it was.
        places.retain(|name, was| was.as_ref() != Some(name));
        let involved: BTreeSet<TableName> =
            places.keys().chain(&gone).chain(places.values().flatten()).cloned().collect();
        let mut old: BTreeMap<TableName, Entry> = BTreeMap::new();
        for name in &involved {
            let stays = !gone.contains(name) && !places.contains_key(name);
            if let Some(e) = if stays { None } else { self.entries.remove(name) } {
                old.insert(name.clone(), e);
            }
        }
        let followed = |n: &TableName| old.get(n).filter(|e| e.part == Part::Followed);
        for name in gone.iter().filter(|n| !places.contains_key(*n)) {
            if followed(name).is_none() {
                continue;
            }
            let to = places.iter().find(|(_, was)| was.as_ref() == Some(name)).map(|(to, _)| to);
            let aside = to.is_some_and(|to| shadow_of(to).is_some_and(|(base, _)| belongs(&base, name)));
            if !aside {
                let to = to.map(ToString::to_string).unwrap_or_default();
                say.stop(
                    name,
                    format!("it is called {to} from here on, and selection and bookkeeping know it by its old name"),
                );
            }
        }
        for (name, was) in &places {
            let entry = was.as_ref().and_then(|w| old.get(w));
            // The table whose place this is: there until now, or put aside by an earlier statement.
            let aside = || {
                let mut all = self.entries.values().chain(old.values());
                all.find(|e| matches!(&e.part, Part::Aside { of } if of == name) && e.shape.is_some())
            };
            let before = followed(name).or_else(aside).cloned();
            let named_aside = shadow_of(name).filter(|(base, _)| was.as_ref().is_some_and(|w| belongs(base, w)));
            match entry {
                Some(e)
                    if matches!(&e.part, Part::Aside { of } if of == name)
                        && followed(name).is_none()
                        && e.shape.is_some() =>
                {
                    // It is back.
                    let table = Arc::new(Table { name: name.clone(), ..(*e.table).clone() });
                    self.entries.insert(name.clone(), Entry { part: Part::Followed, shape: e.shape.clone(), table });
                }
                Some(Entry { part: Part::Shadow { of, base }, shape: Some(shape), .. }) if of == name => {
                    let Some(was) = before.as_ref().and_then(|b| b.shape.as_ref()) else {
                        say.stop(name, history());
                        continue;
                    };
                    let (after, deed) = shape.replaces(was, base);
                    let table = Arc::new(after.table(name));
                    self.entries
                        .insert(name.clone(), Entry { part: Part::Followed, shape: Some(after), table: table.clone() });
                    tell(name, table, deed, say);
                }
                Some(e) if e.part == Part::Followed && named_aside.is_some() => {
                    let of = was.clone().unwrap_or_else(|| name.clone());
                    self.entries.insert(name.clone(), Entry { part: Part::Aside { of }, ..e.clone() });
                }
                Some(e) if e.part != Part::Followed && self.is_shadow(name) => {
                    self.entries.insert(name.clone(), e.clone());
                }
                _ => {
                    if before.is_some_and(|b| b.part == Part::Followed) || self.wanted(name, world) {
                        say.stop(name, history());
                    }
                }
            }
        }
    }
}

fn not_understood(why: &str) -> String {
    format!("a schema change of it is not understood ({why}), and what that did to rows is not known")
}

fn unlogged(what: &str) -> String {
    format!("{what} by a schema change")
}

fn history() -> String {
    "another table took its name, and what happened to that one before was not followed".into()
}

fn index_made(table: &TableName, name: &str, text: &str, say: &mut Saying<'_>) {
    let definition = format!("ALTER TABLE {} ADD {text}", quoted(table));
    say.effect(table, DdlEffect::Index { table: table.clone(), name: name.to_owned(), definition });
}

/// What became of a followed table, for the target.
fn tell(name: &TableName, after: Arc<Table>, deed: Deed, say: &mut Saying<'_>) {
    for (what, _) in &deed.unlogged {
        say.stop(name, unlogged(what));
    }
    for key in &deed.keys_dropped {
        let key = TableName::new(name.schema.clone(), key.clone());
        say.effect(name, DdlEffect::Undone { table: Some(name.clone()), name: key });
    }
    if deed.reshaped {
        let Deed { missing_values, rewritten, .. } = deed;
        say.effect(name, DdlEffect::Table { after, missing_values, rewritten });
    }
    for (key, text) in &deed.keys_made {
        index_made(name, key, text, say);
    }
}
