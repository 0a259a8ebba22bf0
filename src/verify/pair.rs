//! What is compared with what: a table of the target, and the source tables whose rows rules send there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::canon::Form;
use crate::definition::DataType;
use crate::error::Result;
use crate::exchange::Hashes;
use crate::schema::{Column, Kind, RowIdentity, Table, TableName};
use crate::transform::expr::Scratch;
use crate::transform::output::Output;
use crate::transform::rules::OnExisting;
use crate::transform::{Compiled, key_of};
use crate::value::{Datum, Row, RowBuilder};

/// A source table whose rows go into the target's table.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The step.
    pub compiled: Arc<Compiled>,
    /// Which of its outputs.
    pub output: usize,
    /// Where each compared column lies in that output's rows.
    fields: Vec<usize>,
}

impl Feed {
    /// The source's column whose values are, as they are, those of a compared column.
    pub fn source_column(&self, compared: usize) -> Option<usize> {
        self.compiled.outputs.get(self.output)?.plain(*self.fields.get(compared)?)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The target's table with the columns that are compared, which every feed writes. Its identity is what rows are told
    /// apart by.
    pub target: Arc<Table>,
    /// By what rows are grouped: places of the key in the columns. Several rows may share it.
    pub key: Vec<usize>,
    /// Whether that is a key; else all columns are, for want of one.
    pub keyed: bool,
    /// What each column's values are compared as.
    forms: Vec<Form>,
    /// Where its rows come from.
    pub feeds: Vec<Feed>,
    /// Why it cannot be compared.
    pub obstacle: Option<String>,
}

/// Every target table of these steps.
pub fn pairs(compiled: &[Arc<Compiled>]) -> Vec<Pair> {
    let mut by_target: BTreeMap<TableName, Vec<(Arc<Compiled>, usize)>> = BTreeMap::new();
    for step in compiled {
        for (n, output) in step.outputs.iter().enumerate() {
            by_target.entry(output.target.name.clone()).or_default().push((step.clone(), n));
        }
    }
    by_target.into_values().filter_map(|feeds| pair(&feeds)).collect()
}

fn pair(feeds: &[(Arc<Compiled>, usize)]) -> Option<Pair> {
    let (first, n) = feeds.first()?;
    let table = &first.outputs.get(*n)?.target;
    let writes = |output: &Output, name: &str| output.target.column(name);
    let columns: Vec<Column> = table
        .columns
        .iter()
        .filter(|c| feeds.iter().all(|(s, n)| s.outputs.get(*n).is_some_and(|o| writes(o, &c.name).is_some())))
        .cloned()
        .collect();
    let place = |name: &str| columns.iter().position(|c| c.name == name);
    // The key that every feed finds rows by; else all columns, as for tables that have none.
    let keys: Vec<Option<Vec<usize>>> = feeds
        .iter()
        .map(|(s, n)| {
            let target = &s.outputs.get(*n)?.target;
            let RowIdentity::Key(key) = &target.identity else { return None };
            key.iter().map(|&k| place(&target.columns[k].name)).collect()
        })
        .collect();
    let (key, keyed) = match keys.split_first() {
        Some((Some(key), rest)) if !key.is_empty() && rest.iter().all(|k| k.as_ref() == Some(key)) => {
            (key.clone(), true)
        }
        _ => ((0..columns.len()).collect(), false),
    };
    let identity = if keyed { RowIdentity::Key(key.clone()) } else { RowIdentity::AllColumns };
    let mut obstacle = None;
    let mut forms: Vec<Form> = Vec::new();
    let feeds = feeds
        .iter()
        .filter_map(|(s, n)| {
            let output = s.outputs.get(*n)?;
            if output.on_existing != OnExisting::Error {
                obstacle = Some(format!(
                    "rows of {} are left out, or take others' places, where a row is there already (on_existing)",
                    s.source.name
                ));
            }
            let fields: Vec<usize> = columns.iter().map(|c| output.target.column(&c.name).unwrap_or(0)).collect();
            let form = |(&f, c): (&usize, &Column)| Form::of(output.plain(f).and_then(|p| s.source.columns.get(p)), c);
            let theirs: Vec<Form> = fields.iter().zip(&columns).map(form).collect();
            // A value that one feed writes in another form than the next is compared by what it means.
            if forms.is_empty() {
                forms = theirs;
            } else {
                for (one, other) in forms.iter_mut().zip(theirs).filter(|(one, _)| **one == Form::Bytes) {
                    *one = other;
                }
            }
            Some(Feed { compiled: s.clone(), output: *n, fields })
        })
        .collect();
    let target = Arc::new(Table { columns, identity, ..(**table).clone() });
    Some(Pair { target, key, keyed, forms, feeds, obstacle })
}

/// Buffers that are used for row after row.
#[derive(Default)]
pub struct Workspace {
    scratch: Scratch,
    made: Vec<Row>,
    bytes: Vec<u8>,
    key: Vec<u8>,
}

/// A row of the target's table, or one that the rules make for it, in the form in which it is compared.
pub struct Canonical<'a> {
    /// The key's bytes.
    pub key: &'a [u8],
    /// All columns' bytes.
    pub row: &'a [u8],
}

impl Canonical<'_> {
    /// Its hashes.
    pub fn hashes(&self) -> Hashes {
        Hashes::of(self.key, self.row)
    }
}

impl Pair {
    fn canonical<'a>(
        &self,
        field: impl Fn(usize) -> usize,
        row: &Row,
        bytes: &'a mut Vec<u8>,
        key: &'a mut Vec<u8>,
    ) -> Canonical<'a> {
        bytes.clear();
        key.clear();
        for (i, form) in self.forms.iter().enumerate() {
            let start = bytes.len();
            form.append(row.get(field(i)), bytes);
            if self.key.contains(&i) {
                key.extend_from_slice(&bytes[start..]);
            }
        }
        Canonical { key, row: bytes }
    }

    /// A row as the target has it.
    pub fn target_row<T>(&self, row: &Row, work: &mut Workspace, take: impl FnOnce(Canonical<'_>) -> T) -> T {
        take(self.canonical(|i| i, row, &mut work.bytes, &mut work.key))
    }

    /// What a row of a feed's source becomes here. `take` gets every such row in comparable form, and with the target's columns.
    ///
    /// # Errors
    /// `Fatal` if a rule cannot carry the row.
    pub fn source_row(
        &self,
        feed: &Feed,
        row: &Row,
        work: &mut Workspace,
        mut take: impl FnMut(Canonical<'_>, &Row),
    ) -> Result<()> {
        let Some(output) = feed.compiled.outputs.get(feed.output) else { return Ok(()) };
        work.made.clear();
        output.rows(row, &mut work.scratch, &mut work.made)?;
        for made in &work.made {
            let canonical = self.canonical(|i| feed.fields[i], made, &mut work.bytes, &mut work.key);
            take(canonical, made);
        }
        Ok(())
    }

    /// The target's columns of a row that a feed's rules made.
    pub fn projected(&self, feed: &Feed, made: &Row) -> Row {
        let mut b = RowBuilder::with_capacity(feed.fields.len(), made.bytes());
        for &f in &feed.fields {
            b.push(made.get(f));
        }
        b.finish()
    }

    /// The source's row that a row of the target came from, its key alone; `None` where that cannot be told.
    pub fn source_key(&self, feed: &Feed, row: &Row, work: &mut Workspace) -> Option<Row> {
        let source = &feed.compiled.source;
        let output = feed.compiled.outputs.get(feed.output)?;
        // In the output's own order of columns.
        let mut b = RowBuilder::with_capacity(output.target.columns.len(), row.bytes());
        for i in 0..output.target.columns.len() {
            b.push(feed.fields.iter().position(|&f| f == i).map_or(Datum::Unsent, |n| row.get(n)));
        }
        let back = output.undo(&b.finish(), source.columns.len(), &mut work.scratch)?;
        let by = by(source);
        by.iter()
            .all(|&k| matches!(back.get(k), Datum::Text(_)) || (source.key().is_empty() && back.get(k) == Datum::Null))
            .then(|| key_of(source, &back))
    }

    /// The whole-number column of the target that cuts the table into ranges which mean the same on both sides, and the
    /// source's column of the same values.
    pub fn span_columns(&self) -> Option<(usize, usize)> {
        let [feed] = self.feeds.as_slice() else { return None };
        let &target = self.key.first()?;
        let source = feed.source_column(target)?;
        let whole = |c: &Column| {
            matches!(c.kind, Kind::Int2 | Kind::Int4 | Kind::Int8)
                || matches!(c.data, DataType::Int { truth: false, .. })
        };
        (self.keyed && whole(self.target.columns.get(target)?) && whole(feed.compiled.source.columns.get(source)?))
            .then_some((target, source))
    }

    /// Whether the bytes of both sides may be compared without being read: the same columns of the same types in the same order.
    pub fn passes_bytes(&self) -> bool {
        match self.feeds.as_slice() {
            [feed] => {
                let fields = feed.fields.iter().copied().eq(0..self.target.columns.len());
                let output = feed.compiled.outputs.get(feed.output);
                fields && output.is_some_and(|o| o.passes_bytes(&feed.compiled.source))
            }
            _ => false,
        }
    }

    /// The names of columns that differ between two rows of the target's columns.
    pub fn differing(&self, a: &Row, b: &Row) -> Vec<String> {
        let bytes = |form: &Form, d: Datum<'_>| {
            let mut out = Vec::new();
            form.append(d, &mut out);
            out
        };
        let columns = self.target.columns.iter().zip(&self.forms).enumerate();
        let differs = columns.filter(|(i, (_, form))| bytes(form, a.get(*i)) != bytes(form, b.get(*i)));
        differs.map(|(_, (c, _))| c.name.clone()).collect()
    }
}

/// What a source's row is found again by.
pub fn by(source: &Table) -> Vec<usize> {
    match &source.identity {
        RowIdentity::Key(key) => key.clone(),
        _ => (0..source.columns.len()).collect(),
    }
}
