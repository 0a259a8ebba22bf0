//! Foreign keys that change rows by themselves, and which rows' changes they follow from. Pure.
//!
//! What InnoDB does for a foreign key (CASCADE, SET NULL) is in no log. MySQL from 9.6 on leaves it to the SQL layer, which
//! logs it row by row, unless `innodb_native_foreign_keys` is on; its row events say which of both it was
//! (`USE_SQL_FOREIGN_KEY_F`), also where a replica applied another server's rows.

use std::collections::BTreeSet;

use super::binlog::{OldRows, RowsEvent, TableLayout, TableMap};
use super::ddl::{AlterOp, ForeignText, Stated};
use crate::change::Op;
use crate::error::{Error, Result};
use crate::mywire::quote::{qualified, quoted};
use crate::schema::TableName;

/// A foreign key that changes rows of `child` when rows of `parent` change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cascade {
    /// Its name, where it has one that is known.
    pub name: Option<String>,
    /// The table that has it.
    pub child: TableName,
    /// The child's columns.
    pub columns: Vec<String>,
    /// The table that it refers to.
    pub parent: TableName,
    /// The parent's columns; none where the statement left them out, and means the primary key.
    pub referenced: Vec<String>,
    /// ON DELETE does something.
    pub on_delete: bool,
    /// ON UPDATE does something.
    pub on_update: bool,
}

impl Cascade {
    /// `foreign key f of shop.c`.
    pub fn described(&self) -> String {
        let name = self.name.as_ref().map(|n| format!(" {n}")).unwrap_or_default();
        format!("foreign key{name} of {}", self.child)
    }

    /// Statements after which it refuses instead.
    pub fn mended(&self) -> String {
        let names = |all: &[String]| all.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ");
        let (child, name) = (qualified(&self.child), quoted(self.name.as_deref().unwrap_or_default()));
        format!(
            "ALTER TABLE {child} DROP FOREIGN KEY {name}; ALTER TABLE {child} ADD CONSTRAINT {name} FOREIGN KEY ({}) REFERENCES {} ({})",
            names(&self.columns),
            qualified(&self.parent),
            names(&self.referenced)
        )
    }
}

/// All of a server's cascades, as far as they are known at one place of the log.
#[derive(Clone, Debug, Default)]
pub struct Cascades {
    all: Vec<Cascade>,
    lower_case: bool,
}

impl Cascades {
    /// As the catalog has them. `lower_case`: the server stores names of tables in lower case.
    pub fn new(all: Vec<Cascade>, lower_case: bool) -> Cascades {
        Cascades { all, lower_case }
    }

    /// The keys by which changed rows of `parent` change rows of tables that `followed` names: by themselves, or
    /// because the rows that they change have keys of their own behind them.
    pub fn of(&self, parent: &TableName, followed: impl Fn(&TableName) -> bool) -> Vec<Cascade> {
        let reaches = |first: &Cascade| {
            let mut seen = BTreeSet::from([&first.child]);
            let mut open = vec![&first.child];
            while let Some(table) = open.pop() {
                if followed(table) {
                    return true;
                }
                open.extend(
                    self.all.iter().filter(|c| c.parent == *table).map(|c| &c.child).filter(|c| seen.insert(c)),
                );
            }
            false
        };
        self.all.iter().filter(|c| c.parent == *parent && reaches(c)).cloned().collect()
    }

    /// Takes over what a statement of the log says about such keys; whether there was anything.
    pub fn note(&mut self, stated: &Stated) -> bool {
        let before = self.all.clone();
        match stated {
            Stated::CreateTable(t) if !t.temporary => {
                let name = self.fold(&t.name);
                t.foreign.iter().for_each(|f| self.made(&name, f));
            }
            Stated::AlterTable { name, ops, .. } => {
                let mut name = self.fold(name);
                for op in ops {
                    match op {
                        AlterOp::AddForeign(f) => self.made(&name, f),
                        AlterOp::DropForeign { name: key } | AlterOp::DropKey { name: key } => self.gone(&name, key),
                        AlterOp::RenameColumn { from, to } => self.column_renamed(&name, from, to),
                        AlterOp::Change { from, column, .. } => self.column_renamed(&name, from, &column.name),
                        AlterOp::RenameTo(to) => {
                            let to = self.fold(to);
                            self.renamed(&name, &to);
                            name = to;
                        }
                        _ => {}
                    }
                }
            }
            Stated::RenameTable { pairs } => {
                for (from, to) in pairs {
                    let (from, to) = (self.fold(from), self.fold(to));
                    self.renamed(&from, &to);
                }
            }
            Stated::DropTable { names, temporary: false, .. } => {
                let names: Vec<TableName> = names.iter().map(|n| self.fold(n)).collect();
                self.all.retain(|c| !names.contains(&c.child));
            }
            _ => {}
        }
        self.all != before
    }

    fn fold(&self, name: &TableName) -> TableName {
        match self.lower_case {
            true => TableName::new(name.schema.to_lowercase(), name.name.to_lowercase()),
            false => name.clone(),
        }
    }

    fn made(&mut self, child: &TableName, text: &ForeignText) {
        // Without a database the parent is in the child's, whatever the session had chosen.
        let (schema, table) = &text.parent;
        let parent = self.fold(&TableName::new(schema.as_ref().unwrap_or(&child.schema).clone(), table.clone()));
        let same = |c: &Cascade| c.child == *child && c.name.is_some() && same_name(&c.name, text.name.as_deref());
        // There already: the catalog was read after the statement.
        self.all.retain(|c| !same(c));
        if text.on_delete || text.on_update {
            self.all.push(Cascade {
                name: text.name.clone(),
                child: child.clone(),
                columns: text.columns.clone(),
                parent,
                referenced: text.referenced.clone(),
                on_delete: text.on_delete,
                on_update: text.on_update,
            });
        }
    }

    fn gone(&mut self, child: &TableName, key: &str) {
        let before = self.all.len();
        self.all.retain(|c| c.child != *child || !same_name(&c.name, Some(key)));
        // The server named it, if there is only one without a name.
        let unnamed = |c: &Cascade| c.child == *child && c.name.is_none();
        let numbered = key.to_lowercase().starts_with(&format!("{}_ibfk_", child.name.to_lowercase()));
        if self.all.len() == before && numbered && self.all.iter().filter(|c| unnamed(c)).count() == 1 {
            self.all.retain(|c| !unnamed(c));
        }
    }

    fn renamed(&mut self, from: &TableName, to: &TableName) {
        for c in &mut self.all {
            for name in [&mut c.child, &mut c.parent] {
                if name == from {
                    name.clone_from(to);
                }
            }
        }
    }

    fn column_renamed(&mut self, table: &TableName, from: &str, to: &str) {
        for c in self.all.iter_mut().filter(|c| c.parent == *table) {
            c.referenced
                .iter_mut()
                .filter(|r| r.to_lowercase() == from.to_lowercase())
                .for_each(|r| *r = to.to_owned());
        }
    }
}

fn same_name(a: &Option<String>, b: Option<&str>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.to_lowercase() == b.to_lowercase())
}

/// A table of the log whose changed rows change rows of followed tables.
pub struct Acting {
    cascades: Vec<Cascade>,
    /// How its rows lie in the log, if they can be read.
    layout: Option<TableLayout>,
}

impl Acting {
    /// `None` if there is no such foreign key. `map` is what the log says of the table.
    pub fn new(cascades: Vec<Cascade>, map: &TableMap) -> Option<Acting> {
        (!cascades.is_empty()).then(|| Acting { cascades, layout: TableLayout::new(map, None).ok() })
    }

    /// To be asked of every row event that came without what its foreign keys did.
    ///
    /// # Errors
    /// `Fatal` where rows of other tables may have changed.
    pub fn look(&self, event: &RowsEvent) -> Result<()> {
        for cascade in &self.cascades {
            let acts = match event.op {
                Op::Insert => false,
                Op::Delete => cascade.on_delete,
                Op::Update => cascade.on_update && self.changes(event, &cascade.referenced)?,
            };
            if acts {
                let what = if event.op == Op::Delete { "deleted" } else { "changed" };
                return Err(Error::fatal(format!(
                    "rows of {} were {what} at the source, and {} changes rows by itself then (CASCADE or SET NULL): the source wrote that into no log",
                    cascade.parent,
                    cascade.described()
                ))
                .with_code("switchyard:cascade")
                .hint(
                    "let the key refuse instead (ON DELETE RESTRICT ON UPDATE RESTRICT), or start a source of MySQL 9.6 or newer with \
                     innodb_native_foreign_keys = OFF (what it applies as a replica of an older server is not logged then, either); then copy anew",
                ));
            }
        }
        Ok(())
    }

    /// Whether an update may have changed one of the columns.
    fn changes(&self, event: &RowsEvent, columns: &[String]) -> Result<bool> {
        let place = |layout: &TableLayout, name: &String| {
            layout.columns.iter().position(|c| c.name.to_lowercase() == name.to_lowercase())
        };
        let Some(layout) = &self.layout else { return Ok(true) };
        let places: Option<Vec<usize>> = columns.iter().map(|c| place(layout, c)).collect();
        match places {
            Some(key) if !key.is_empty() => {
                Ok(event.decode(layout, OldRows::KeyIfChanged(&key))?.iter().any(|c| c.old.is_some()))
            }
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ddl::{self, Session};
    use super::*;

    fn after(statements: &[&str]) -> Cascades {
        let mut all = Cascades::default();
        let session = Session { version: 90_704, ..Session::default() };
        for s in statements {
            all.note(&ddl::read(s, "d", &session));
        }
        all
    }

    fn name(n: &str) -> TableName {
        TableName::new("d", n)
    }

    fn found(all: &Cascades, parent: &str, followed: &[&str]) -> Vec<String> {
        let followed: Vec<TableName> = followed.iter().map(|n| name(n)).collect();
        all.of(&name(parent), |t| followed.contains(t)).iter().map(Cascade::described).collect()
    }

    #[test]
    fn given_statements_with_foreign_keys_when_noted_then_those_that_act_are_known() {
        let all = after(&[
            "create table c (id int primary key, p int, constraint f foreign key (p) references p (id) on delete cascade on update no action)",
            "create table e (id int primary key, p int, foreign key (p) references p (id) on update set null)",
            "create table quiet (p int, foreign key (p) references p (id) on delete restrict)",
            "alter table g add column x int, add constraint `to c` foreign key i (x) references `d`.`c` (`id`) on delete set null",
            "create table inline_key (p int references p (id) on delete cascade)",
        ]);
        assert_eq!(
            found(&all, "p", &["c", "e", "quiet", "inline_key"]),
            ["foreign key f of d.c", "foreign key of d.e", "foreign key of d.inline_key"]
        );
        let f = &all.of(&name("p"), |t| *t == name("c"))[0];
        assert!(f.on_delete && !f.on_update && f.columns == ["p"] && f.referenced == ["id"]);
        // What a deleted row takes along takes more along.
        assert_eq!(found(&all, "p", &["g"]), ["foreign key f of d.c"]);
        assert!(found(&all, "g", &["c", "e", "g"]).is_empty());
    }

    #[test]
    fn given_keys_that_go_and_names_that_change_when_noted_then_the_rest_is_known() {
        let made = "create table c (p int, q int, constraint f foreign key (p) references p (id) on delete cascade, foreign key (q) references q (id) on update cascade)";
        assert!(found(&after(&[made, "alter table c drop foreign key F"]), "p", &["c"]).is_empty());
        assert!(found(&after(&[made, "alter table c drop constraint f"]), "p", &["c"]).is_empty());
        assert!(found(&after(&[made, "alter table c drop foreign key c_ibfk_1"]), "q", &["c"]).is_empty());
        assert!(found(&after(&[made, "drop table c"]), "p", &["c"]).is_empty());
        let swapped = after(&[made, "rename table c to c_old, c_new to c"]);
        assert!(found(&swapped, "p", &["c"]).is_empty());
        assert_eq!(found(&swapped, "p", &["c_old"]), ["foreign key f of d.c_old"]);
        let moved = after(&[made, "alter table q rename column id to key_of_q, rename to qq"]);
        assert_eq!(moved.of(&name("qq"), |_| true)[0].referenced, ["key_of_q"]);
        // Made anew so that it refuses.
        let mended = after(&[
            made,
            "alter table c drop foreign key f",
            "alter table c add constraint f foreign key (p) references p (id)",
        ]);
        assert!(found(&mended, "p", &["c"]).is_empty());
    }
}
