//! What a reverse stream could make of the rows that rules gave out, and what it could not. Pure.

use super::Compiled;
use super::convert::Conversion;
use super::expr::{Inverse, Scratch};
use super::output::{FieldFrom, Output, Program};
use super::rules::OnExisting;
use crate::value::{Datum, Row, RowBuilder};

/// How one of the source's columns comes back.
enum Back<'a> {
    /// From this field of the target's row, as it is.
    Field(usize),
    /// From this field of the target's row, in the source's form.
    Converted(usize, Conversion),
    /// Computed from this field of the target's row.
    Computed(usize, Box<super::expr::Expr>),
    /// Not at all.
    Lost(&'a str),
}

impl Program {
    fn back(&self, source: usize) -> Back<'_> {
        let mut why = "no column of the target holds it";
        for (i, f) in self.fields.iter().enumerate() {
            match f {
                FieldFrom::Column(c) if *c == source => return Back::Field(i),
                FieldFrom::Computed(e) => match e.inverse() {
                    Inverse::Exact { input, expr } if input == source => return Back::Computed(i, expr),
                    _ if e.inputs().contains(&source) => why = "it cannot be told from what was made of it",
                    _ => {}
                },
                FieldFrom::Converted(c, conversion) if *c == source => match conversion.inverse() {
                    Some(inverse) => return Back::Converted(i, inverse),
                    None => why = "it cannot be told from what was made of it",
                },
                FieldFrom::Column(_) | FieldFrom::Converted(..) => {}
            }
        }
        Back::Lost(why)
    }
}

impl Output {
    /// The source's row that this row of the target came from; fields that cannot be told are unsent. `None` where rows
    /// are items of a list.
    pub fn undo(&self, row: &Row, source_columns: usize, scratch: &mut Scratch) -> Option<Row> {
        let Some(p) = &self.program else { return Some(row.clone()) };
        if p.items.is_some() {
            return None;
        }
        let mut b = RowBuilder::with_capacity(source_columns, row.bytes());
        for c in 0..source_columns {
            match p.back(c) {
                Back::Field(i) => b.push(row.get(i)),
                Back::Converted(i, conversion) => match row.get(i) {
                    Datum::Text(text) => {
                        let mut made = Vec::with_capacity(text.len() + 16);
                        match conversion.apply(text, &mut made) {
                            Ok(()) => b.push(Datum::Text(&made)),
                            Err(_) => b.push(Datum::Unsent),
                        }
                    }
                    nothing => b.push(nothing),
                },
                Back::Computed(i, e) => {
                    let one = Row::clone_field(row, i);
                    match e.eval(&one, scratch) {
                        Ok(d) => b.push(d),
                        Err(_) => b.push(Datum::Unsent),
                    }
                }
                Back::Lost(_) => b.push(Datum::Unsent),
            }
        }
        Some(b.finish())
    }
}

impl Compiled {
    /// What a reverse stream, from the target to the source, could not carry back; a sentence each.
    pub fn losses(&self) -> Vec<String> {
        let mut out = Vec::new();
        // Another output of the same table may hold what one leaves out.
        let carried = |c: usize| {
            self.outputs.iter().any(|o| match &o.program {
                None => true,
                Some(p) => p.items.is_none() && !matches!(p.back(c), Back::Lost(_)),
            })
        };
        let mut lost: Vec<(String, Vec<String>)> = Vec::new();
        for (c, column) in self.source.columns.iter().enumerate() {
            if carried(c) {
                continue;
            }
            let why = self.outputs.iter().find_map(|o| match o.program.as_ref().map(|p| p.back(c)) {
                Some(Back::Lost(why)) if !o.is_items() => Some(why.to_owned()),
                _ => None,
            });
            let why = why.unwrap_or_default();
            let name = crate::schema::Ident(&column.name).to_string();
            match lost.iter_mut().find(|(w, _)| *w == why) {
                Some((_, names)) => names.push(name),
                None => lost.push((why, vec![name])),
            }
        }
        for (why, names) in lost {
            out.push(format!(
                "{}: a reverse stream cannot bring back {} ({why}): rows that are there keep theirs, new rows get the default",
                self.source.name,
                names.join(", ")
            ));
        }
        for o in &self.outputs {
            let Some(p) = &o.program else { continue };
            if p.items.is_some() {
                out.push(format!(
                    "{} → {}: a reverse stream does not put the rows back into the list {:?}",
                    self.source.name,
                    o.target.name,
                    p.names[p.items.as_ref().map_or(0, |i| i.column)]
                ));
                continue;
            }
            if p.filter.is_some() {
                out.push(format!(
                    "{} → {}: rows that `where` leaves out are not on the target; a reverse stream does not touch them",
                    self.source.name, o.target.name
                ));
            }
            if o.on_existing == OnExisting::Skip {
                out.push(format!(
                    "{} → {}: rows that were there already are not this table's; a reverse stream does not bring them here",
                    self.source.name, o.target.name
                ));
            }
            if !o.alone {
                out.push(format!(
                    "{} → {}: several tables merge; a reverse stream gives a new row of the target to the first of them that could have made it",
                    self.source.name, o.target.name
                ));
            }
        }
        out
    }
}
