//! What the preflight finds about the rules: whether each can be carried out between these two servers, and what a
//! reverse stream could not carry back.

use std::collections::HashMap;
use std::sync::Arc;

use super::made;
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};
use crate::schema::{Table, TableName};
use crate::source::Source;
use crate::target::Target;
use crate::transform::Compiled;
use crate::transform::rules::{OnExisting, RuleSet};

/// What a look at the rules found.
pub struct Looked {
    /// Problems, and what cannot be undone.
    pub findings: Vec<Finding>,
    /// The tables as the target must have them, for its own check: empty, with these columns.
    pub expected: Vec<Arc<Table>>,
    /// The compiled steps of the tables that rules name.
    pub compiled: Vec<Compiled>,
    /// The tables that are made for the rules.
    pub made: Vec<TableName>,
}

/// The target's tables as the rules find them: as they are, or as they will be made.
pub struct Targets {
    tables: HashMap<TableName, Arc<Table>>,
    /// Those that will be made.
    pub made: Vec<TableName>,
    /// Those that cannot be, or of which the rules say what does not fit, and why.
    pub errors: Vec<(TableName, Error)>,
}

impl Targets {
    /// The table of that name.
    pub fn find(&self, name: &TableName) -> Option<Arc<Table>> {
        self.tables.get(name).cloned()
    }
}

/// Asks the target for its tables, and finds out what the others become. `create_schema` is whether they are made.
///
/// # Errors
/// Only if the target could not be asked.
pub async fn targets(
    rules: &RuleSet,
    engine: &str,
    tables: &[Arc<Table>],
    target: &dyn Target,
    create_schema: bool,
) -> Result<Targets> {
    let noted = if create_schema { target.noted_made().await? } else { Vec::new() };
    let (derived, mut there) = made::look(rules, tables, target, &noted).await?;
    let mut errors = derived.errors;
    let mut names = Vec::new();
    if create_schema {
        for table in &derived.tables {
            let name = &table.table.name;
            match there.get(name) {
                // It was made before: its key may still be to come.
                Some(has) => {
                    let keyed = Arc::new(table.keyed(has));
                    there.insert(name.clone(), keyed);
                }
                None => match target.adopt_made_table(engine, table) {
                    Ok(adopted) => {
                        names.push(name.clone());
                        there.insert(name.clone(), Arc::new(adopted));
                    }
                    Err(e) => errors.push((name.clone(), e)),
                },
            }
        }
        // A rule may write the table of a source table that passes as it is.
        let written = made::named(rules, tables.iter().map(|t| &t.name));
        for table in tables.iter().filter(|t| !rules.concern(&t.name)) {
            let home = rules.homes().table(&table.name);
            if written.contains(&home)
                && !there.contains_key(&home)
                && let Ok(adopted) = target.adopt_table(engine, table, rules.homes())
            {
                there.insert(home, Arc::new(adopted));
            }
        }
    } else {
        // What is missing is said as such.
        errors.retain(|(t, _)| there.contains_key(t));
    }
    Ok(Targets { tables: there, made: names, errors })
}

fn problem(side: &str, code: &str, e: &Error) -> Finding {
    let f = Finding::new(Severity::Problem, side, code, e.message());
    match e.hint_text() {
        Some(h) => f.fix(h),
        None => f,
    }
}

/// Refuses rules that this source's copy cannot carry, whatever the tables are.
///
/// A rule that skips takes a row whose key is there for another's. Where the stream replays what the copy has already, that
/// may be the row itself: it would be noted as left out, and its later changes would be lost.
///
/// # Errors
/// `Fatal`, with the rule.
pub(super) fn possible(rules: &RuleSet, source: &dyn Source) -> Result<()> {
    if source.copies_one_moment() {
        return Ok(());
    }
    let Some(named) = rules.iter().find(|r| r.rule.on_existing == OnExisting::Skip) else { return Ok(()) };
    Err(Error::fatal(format!(
        "{}: on_existing: \"skip\" cannot be followed from a source of engine {}: its copy is of no one moment, and the stream brings again what was copied, so that a row's own insert would be taken for another's",
        named.label(),
        source.engine()
    ))
    .with_code("switchyard:rule")
    .hint("write on_existing = \"replace\" if the later row may win, or give the rows keys of their own (set = { id = \"uuid5('…', _id)\" } with another namespace for each collection), or send them to a table of their own"))
}

/// Compiles every rule against the tables as both servers have them now, or as they will be made.
///
/// # Errors
/// Only if the target could not be asked.
pub async fn look(
    rules: &RuleSet,
    source: &dyn Source,
    tables: &[Arc<Table>],
    target: &dyn Target,
    create_schema: bool,
) -> Result<Looked> {
    let mut out = Looked { findings: Vec::new(), expected: Vec::new(), compiled: Vec::new(), made: Vec::new() };
    let engine = source.engine();
    if let Err(e) = possible(rules, source) {
        out.findings.push(problem("switchyard", "rule", &e));
    }
    let sources: Vec<TableName> = tables.iter().map(|t| t.name.clone()).collect();
    for named in rules.iter() {
        if !sources.contains(&named.from) {
            out.findings.push(
                Finding::new(
                    Severity::Problem,
                    "source",
                    "rule",
                    format!("{}: the source has no table {}, or [tables] leaves it out", named.label(), named.from),
                )
                .fix("correct `from`, or include the table"),
            );
        }
    }
    let targets = targets(rules, engine, tables, target, create_schema).await?;
    for (_, e) in &targets.errors {
        let f = problem("switchyard", "rule", e);
        // One that all of a rule's tables share is said once.
        if !out.findings.iter().any(|o| o.message == f.message) {
            out.findings.push(f);
        }
    }
    for name in &targets.made {
        out.findings.push(Finding::new(
            Severity::Ok,
            "target",
            "made",
            format!("{name} is not there and is made, because a rule writes it"),
        ));
    }
    for table in tables {
        if !rules.concern(&table.name) {
            match target.adopt_table(engine, table, rules.homes()) {
                Ok(adopted) => out.expected.push(Arc::new(adopted)),
                Err(e) => out.findings.push(problem("target", "type", &e)),
            }
            continue;
        }
        let writes = rules.targets_of(&table.name);
        if targets.errors.iter().any(|(t, _)| writes.contains(t)) {
            // Said already.
            continue;
        }
        match Compiled::with_rules(rules, table, &sources, &|name| targets.find(name)) {
            Ok(compiled) => {
                let must_fit =
                    |name: &TableName, on_existing| on_existing == OnExisting::Error || targets.made.contains(name);
                for output in compiled.outputs.iter().filter(|o| must_fit(&o.target.name, o.on_existing)) {
                    let target =
                        Table { estimated_rows: table.estimated_rows, bytes: table.bytes, ..(*output.target).clone() };
                    if !out.expected.iter().any(|t| t.name == target.name) {
                        out.expected.push(Arc::new(target));
                    }
                }
                for loss in compiled.losses() {
                    out.findings.push(Finding::new(Severity::Note, "switchyard", "lossy", loss));
                }
                out.compiled.push(compiled);
            }
            Err(e) => out.findings.push(problem("switchyard", "rule", &e)),
        }
    }
    out.made = targets.made;
    Ok(out)
}
