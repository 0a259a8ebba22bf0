//! Collects changes and compacts them by key, so that a target can apply sets instead of rows. Pure.
//!
//! Within one [`Sets`] a key is touched at most once by each phase, and the phases run in the order deletes, updates,
//! inserts, then the ordered rest. Rows of different keys do not depend on each other but through unique and exclusion
//! constraints; for tables that have such, the original order is kept beside the sets, and an applier whose sets
//! collide replays that instead. Compaction never reaches across TRUNCATE or a schema change.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use crate::change::{Change, Ddl, DeadLetter, Op};
use crate::error::{Error, Result};
use crate::position::Position;
use crate::schema::{RowIdentity, Table, TableId, TableName};
use crate::transform::Compiled;
use crate::transform::expr::Scratch;
use crate::transform::output::{Output, ParentKey, Produced};
use crate::transform::rules::OnExisting;
use crate::value::{Datum, Row};

/// Changes ready to be applied, in steps that must not be reordered.
#[derive(Debug, Default)]
pub struct Batch {
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether rows may be there already, or not yet (see `consistent_at` in the design): upserts, and no complaint.
    pub convergent: bool,
    /// What went in, before compaction.
    pub counts: Counts,
    /// Changes that rules could not carry.
    pub set_aside: Vec<DeadLetter>,
    /// Whether what the target refuses is set aside instead of failing the batch. Then each step keeps its changes.
    pub apart: bool,
}

/// Where a batch ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEnd {
    /// The last contained commit's end, or the heartbeat's place.
    pub position: Position,
    /// When that commit happened at the source; `None` for a heartbeat.
    pub committed_at: Option<i64>,
    /// New `consistent_at`, where a re-read moved it.
    pub consistent_at: Option<Position>,
}

/// What went into a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Row changes.
    pub rows: u64,
    /// Bytes of events.
    pub bytes: usize,
    /// Source transactions that end in it.
    pub transactions: u64,
    /// By table and operation, for metrics.
    pub by_table: Vec<(TableName, [u64; 3])>,
}

/// A part of a batch.
#[derive(Debug)]
pub enum Step {
    /// Compacted rows.
    Sets(Sets),
    /// Tables to be emptied.
    Truncate {
        /// The target's tables.
        tables: Vec<Arc<Table>>,
        /// Sequences start again.
        restart_identity: bool,
    },
    /// A schema change, already judged safe; the applier's side carries it out in the same transaction.
    Ddl {
        /// What the source said.
        ddl: Box<Ddl>,
        /// The table before it, as the stream knew it.
        before: Option<Arc<Table>>,
    },
}

/// Compacted changes of several tables between two barriers.
#[derive(Debug, Default)]
pub struct Sets {
    /// In order of first appearance.
    pub tables: Vec<TableSet>,
    /// Every change as the source made it, in its order; only in a batch that is [`Batch::apart`].
    pub singles: Vec<Single>,
}

/// A change of the source, kept for a target that takes others of its set and not this one.
#[derive(Clone, Debug)]
pub struct Single {
    /// What becomes of it.
    pub compiled: Arc<Compiled>,
    /// The change.
    pub change: Change,
    /// Where its transaction's commit record starts.
    pub at: Arc<Position>,
}

/// Compacted changes of one table.
#[derive(Debug)]
pub struct TableSet {
    /// The target's table; rows have its columns.
    pub table: Arc<Table>,
    /// The source's table, by name: what the rows that a merge left out are noted under.
    pub source: TableName,
    /// What happens to an inserted row whose key is there already.
    pub on_existing: OnExisting,
    /// Whether other source tables write the table, too, so that a row may be another's by now.
    pub shared: bool,
    /// Whether a key stands for any number of rows that come and go together.
    pub items: bool,
    /// Of items whose parents may be left out: what tells which parent a row belongs to.
    pub parent: Option<Arc<ParentKey>>,
    id: TableId,
    /// Which of the source table's outputs.
    output: usize,
    index: HashTable<u32>,
    ops: Vec<KeyOp>,
    /// Inserts into a table without a key.
    appended: Vec<Row>,
    /// Changes that sets cannot express (whole-row matching, a key change with unsent fields) and all that follow them.
    pub ordered: Vec<Change>,
    /// Every change before `ordered` in its original order, for tables with further unique constraints only.
    pub original: Vec<Change>,
}

/// What becomes of one key.
#[derive(Debug)]
struct KeyOp {
    /// A row with the key's fields.
    key: Row,
    delete: Remove,
    put: Put,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remove {
    No,
    /// The row was made and removed within the batch: there may be none.
    Loose,
    /// The row must be there.
    Strict,
}

#[derive(Debug)]
enum Put {
    Nothing,
    Insert(Row),
    Update(Row),
    /// All rows of the key.
    Rows(Vec<Row>),
}

fn hash_key(row: &Row, key: &[usize]) -> u64 {
    let mut h = FxHasher::default();
    for &i in key {
        match row.get(i) {
            Datum::Text(t) => t.hash(&mut h),
            _ => h.write_u8(0),
        }
    }
    // FxHasher's high bits are good, hashbrown takes its tag from the top and the bucket from the bottom.
    h.finish().rotate_left(26)
}

fn same_key(a: &Row, b: &Row, key: &[usize]) -> bool {
    key.iter().all(|&i| a.get(i) == b.get(i))
}

impl TableSet {
    fn new(source: &Table, output: &Output, number: usize) -> Self {
        TableSet {
            table: output.target.clone(),
            source: source.name.clone(),
            on_existing: output.on_existing,
            shared: !output.alone,
            items: output.is_items(),
            parent: output.parent.clone(),
            id: source.id,
            output: number,
            index: HashTable::new(),
            ops: Vec::new(),
            appended: Vec::new(),
            ordered: Vec::new(),
            original: Vec::new(),
        }
    }

    /// Keys to delete; with each whether the row must be there.
    pub fn deletes(&self) -> impl Iterator<Item = (&Row, bool)> {
        self.ops.iter().filter(|o| o.delete != Remove::No).map(|o| (&o.key, o.delete == Remove::Strict))
    }
    /// Rows to update by their key; unsent fields are left as they are. The rows must be there.
    pub fn updates(&self) -> impl Iterator<Item = &Row> {
        self.ops.iter().filter_map(|o| match &o.put {
            Put::Update(r) => Some(r),
            _ => None,
        })
    }
    /// Rows to insert.
    pub fn inserts(&self) -> impl Iterator<Item = &Row> {
        self.appended.iter().chain(self.ops.iter().flat_map(|o| match &o.put {
            Put::Insert(r) => std::slice::from_ref(r),
            Put::Rows(rows) => rows,
            _ => &[],
        }))
    }

    fn slot(&mut self, row: &Row) -> usize {
        let table = self.table.clone();
        let key = table.key();
        let hash = hash_key(row, key);
        if let Some(&i) = self.index.find(hash, |&i| same_key(&self.ops[i as usize].key, row, key)) {
            return i as usize;
        }
        let i = self.ops.len();
        self.ops.push(KeyOp { key: row.clone(), delete: Remove::No, put: Put::Nothing });
        let ops = &self.ops;
        self.index.insert_unique(hash, i as u32, |&i| hash_key(&ops[i as usize].key, key));
        i
    }

    fn add(&mut self, change: Change) -> Result<()> {
        if !self.ordered.is_empty() {
            self.ordered.push(change);
            return Ok(());
        }
        let broken = |what: &str| Error::fatal(format!("{}: the log holds {what}", self.table.name));
        let keyed = matches!(self.table.identity, RowIdentity::Key(_));
        match (change.op, &change.old, &change.new) {
            (Op::Insert, _, Some(row)) if !keyed => self.appended.push(row.clone()),
            (Op::Insert, _, Some(row)) => {
                let i = self.slot(row);
                self.ops[i].put = Put::Insert(row.clone());
            }
            (Op::Insert, _, None) => return Err(broken("an insert without a row")),
            (Op::Update | Op::Delete, ..) if !keyed => {
                if self.table.identity == RowIdentity::None {
                    return Err(broken("an update or delete of a table without replica identity"));
                }
                self.ordered.push(change);
                return Ok(());
            }
            (Op::Update, old, Some(new)) => {
                let table = self.table.clone();
                let filled =
                    old.as_ref().filter(|_| table.full_old_rows).map_or_else(|| new.clone(), |o| new.fill_unsent(o));
                match old.as_ref().filter(|o| !same_key(o, new, table.key())) {
                    None => self.update(filled),
                    Some(old) => {
                        let i = self.slot(old);
                        let whole = match &self.ops[i].put {
                            Put::Insert(r) | Put::Update(r) => filled.fill_unsent(r),
                            Put::Nothing | Put::Rows(_) => filled,
                        };
                        if whole.has_unsent() {
                            // The slot may have been made just now; an empty one does nothing.
                            self.ordered.push(change);
                            return Ok(());
                        }
                        self.remove(i);
                        let i = self.slot(&whole);
                        self.ops[i].put = Put::Insert(whole);
                    }
                }
            }
            (Op::Update, _, None) => return Err(broken("an update without a new row")),
            (Op::Delete, Some(old), _) => {
                let i = self.slot(old);
                self.remove(i);
            }
            (Op::Delete, None, _) => return Err(broken("a delete without the old key")),
        }
        if self.table.has_secondary_unique {
            self.original.push(change);
        }
        Ok(())
    }

    /// The rows of `owner` go, and these come.
    fn replace(&mut self, owner: &Row, rows: Vec<Row>, was_there: bool) {
        let i = self.slot(owner);
        if self.parent.is_some() {
            // Rows that are there under the key of a parent that is new, in this batch or in this change, are another's.
            // An empty list stands for such a parent as well.
            let op = &mut self.ops[i];
            if was_there && op.delete == Remove::No && !matches!(op.put, Put::Rows(_)) {
                op.delete = Remove::Loose;
            }
            op.put = Put::Rows(rows);
            return;
        }
        self.ops[i].delete = Remove::Loose;
        self.ops[i].put = if rows.is_empty() { Put::Nothing } else { Put::Rows(rows) };
    }

    fn update(&mut self, row: Row) {
        let i = self.slot(&row);
        let op = &mut self.ops[i];
        op.put = match std::mem::replace(&mut op.put, Put::Nothing) {
            Put::Insert(before) => Put::Insert(row.fill_unsent(&before)),
            Put::Update(before) => Put::Update(row.fill_unsent(&before)),
            Put::Nothing | Put::Rows(_) => Put::Update(row),
        };
    }

    fn remove(&mut self, i: usize) {
        let op = &mut self.ops[i];
        op.delete = match (op.delete, &op.put) {
            // Removed before, put again, removed again: what was said first still holds.
            (Remove::Strict, _) => Remove::Strict,
            (Remove::Loose, _) => Remove::Loose,
            (Remove::No, Put::Insert(_)) => Remove::Loose,
            (Remove::No, _) => Remove::Strict,
        };
        op.put = Put::Nothing;
    }
}

impl Batch {
    /// Adds a row change. Which table it is was compiled before; `scratch` is room for what rules compute.
    ///
    /// # Errors
    /// `Fatal` if the log says something that cannot be (an update without a row).
    pub fn change(&mut self, compiled: &Compiled, change: Change, scratch: &mut Scratch) -> Result<()> {
        self.counts.rows += 1;
        if let Some(one) = compiled.same() {
            self.count(&one.target.name, change.op);
            return self.set(compiled, one, 0).add(change);
        }
        // All of a change or nothing of it.
        let mut produced = Vec::with_capacity(compiled.outputs.len());
        let mut ends = Vec::with_capacity(compiled.outputs.len());
        for output in &compiled.outputs {
            output.change(change.clone(), scratch, &mut produced)?;
            ends.push(produced.len());
        }
        let mut produced = produced.into_iter().enumerate().peekable();
        for (n, (output, end)) in compiled.outputs.iter().zip(ends).enumerate() {
            while let Some((_, p)) = produced.next_if(|(at, _)| *at < end) {
                match p {
                    Produced::Change(change) => {
                        self.count(&output.target.name, change.op);
                        self.set(compiled, output, n).add(change)?;
                    }
                    Produced::Replace { owner, rows, was_there } => {
                        self.count(&output.target.name, Op::Update);
                        self.set(compiled, output, n).replace(&owner, rows, was_there);
                    }
                }
            }
        }
        Ok(())
    }

    /// The set of one output in the step under way.
    fn set(&mut self, compiled: &Compiled, output: &Output, number: usize) -> &mut TableSet {
        if !matches!(self.steps.last(), Some(Step::Sets(_))) {
            self.steps.push(Step::Sets(Sets::default()));
        }
        let Some(Step::Sets(sets)) = self.steps.last_mut() else {
            unreachable!("it was pushed just above");
        };
        // Few tables change at a time: a scan beats a map.
        let id = compiled.source.id;
        let at = match sets.tables.iter().position(|t| t.id == id && t.output == number) {
            Some(at) => at,
            None => {
                sets.tables.push(TableSet::new(&compiled.source, output, number));
                sets.tables.len() - 1
            }
        };
        &mut sets.tables[at]
    }

    fn count(&mut self, table: &TableName, op: Op) {
        match self.counts.by_table.iter_mut().find(|(n, _)| n == table) {
            Some((_, n)) => n[op as usize] += 1,
            None => {
                let mut n = [0; 3];
                n[op as usize] += 1;
                self.counts.by_table.push((table.clone(), n));
            }
        }
    }

    /// Keeps a change that was just added, for the case that the target refuses it.
    pub fn keep(&mut self, single: Single) {
        self.apart = true;
        // What a rule's filter left out may have made no set.
        if let Some(Step::Sets(sets)) = self.steps.last_mut() {
            sets.singles.push(single);
        }
    }

    /// Adds a barrier: everything before it is applied before it.
    pub fn barrier(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.set_aside.is_empty()
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
