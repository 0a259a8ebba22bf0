//! Puts right what `information_schema` prints with `?`: labels and constant defaults of the selected tables.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::mywire::misprint::{self, Asking, Rows};
use crate::mywire::quote::{printed, read_labels};
use crate::schema::TableName;

/// What of a column was printed otherwise than it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misprint {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub column: String,
    /// The labels as they are, if they were misprinted.
    pub labels: Option<Vec<String>>,
    /// The default as it is, if it was misprinted.
    pub default: Option<String>,
}

/// What was put right, and the columns of which the server did not tell.
#[derive(Debug, Default)]
pub struct Mended {
    /// What was put right.
    pub misprints: Vec<Misprint>,
    /// What may be otherwise than it is printed: `labels of column c`.
    pub unclear: Vec<(TableName, String)>,
}

/// Asks for what may be misprinted in the catalog's `columns`, and puts it right there: in COLUMN_TYPE (6) and
/// COLUMN_DEFAULT (4), as the server's family prints them.
///
/// # Errors
/// `Retry` for a lost connection.
pub async fn mend(
    session: &mut dyn Asking,
    mariadb: bool,
    wanted: impl Fn(&TableName) -> bool,
    columns: &mut Rows,
) -> Result<Mended> {
    let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let mut suspects: BTreeMap<TableName, Vec<usize>> = BTreeMap::new();
    for (at, row) in columns.iter().enumerate() {
        let name = TableName::new(text(row, 0), text(row, 1));
        let suspect = misprint::may_be(&text(row, 6)) || misprint::may_be(&text(row, 4)) && !text(row, 7).is_empty();
        if suspect && text(row, 10).is_empty() && wanted(&name) {
            suspects.entry(name).or_default().push(at);
        }
    }
    let mut out = Mended::default();
    for (table, places) in suspects {
        let constant = |row: &[Option<String>]| {
            let (default, computed) = (text(row, 4), text(row, 9).to_lowercase().contains("default_generated"));
            misprint::may_be(&default) && if mariadb { default.starts_with('\'') } else { !computed }
        };
        let with_default: Vec<usize> =
            places.iter().copied().filter(|at| columns.get(*at).is_some_and(|r| constant(r))).collect();
        let names: Vec<String> = with_default.iter().filter_map(|at| columns.get(*at)).map(|r| text(r, 2)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut defaults: BTreeMap<usize, Option<String>> = match names.is_empty() {
            true => BTreeMap::new(),
            false => with_default
                .iter()
                .copied()
                .zip(misprint::defaults(session, &table, &names, &table.schema).await?)
                .collect(),
        };
        for at in places {
            let Some(row) = columns.get_mut(at) else { continue };
            let (column, type_name) = (text(row, 2), text(row, 6));
            let word = ["enum(", "set("].into_iter().find(|w| type_name.starts_with(w));
            let mut labels = None;
            if let Some(word) = word.filter(|_| misprint::may_be(&type_name)) {
                let said = read_labels(&type_name);
                let count = (said.len(), word == "set(");
                match misprint::labels(session, &table, &column, count, &table.schema).await? {
                    Some(exact) if exact != said => {
                        let list: Vec<String> = exact.iter().map(|l| printed(l)).collect();
                        if let Some(cell) = row.get_mut(6) {
                            *cell = Some(format!("{word}{})", list.join(",")));
                        }
                        labels = Some(exact);
                    }
                    Some(_) => {}
                    None => out.unclear.push((table.clone(), format!("labels of column {column}"))),
                }
            }
            let said = if mariadb { read_labels(&text(row, 4)).pop().unwrap_or_default() } else { text(row, 4) };
            let default = match defaults.remove(&at) {
                Some(None) => {
                    out.unclear.push((table.clone(), format!("default of column {column}")));
                    None
                }
                Some(exact) => exact.filter(|d| *d != said),
                None => None,
            };
            if let (Some(exact), Some(cell)) = (&default, row.get_mut(4)) {
                *cell = Some(if mariadb { printed(exact) } else { exact.clone() });
            }
            if labels.is_some() || default.is_some() {
                out.misprints.push(Misprint { table: table.clone(), column, labels, default });
            }
        }
    }
    Ok(out)
}
