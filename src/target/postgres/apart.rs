//! Applies a step's changes in smaller and smaller parts where the target refuses a row, and sets aside what it refuses.

use super::apply::PgApplier;
use crate::change::DeadLetter;
use crate::error::{Error, Result};
use crate::pipeline::batch::{Batch, Sets, Single, Step};
use crate::pipeline::dead::{Dead, FOLLOWS};
use crate::target::Applied;
use crate::transform::expr::Scratch;

/// Whether an error is about a row that this target does not take: its own constraints (class 23), a value that does not
/// fit (class 22), an index entry that is too large. Source: errcodes-appendix of the manual.
fn refuses(e: &Error) -> bool {
    e.code().is_some_and(|c| c.len() == 5 && (c.starts_with("22") || c.starts_with("23") || c == "54000"))
}

impl PgApplier {
    /// Applies one step's sets as a whole if the target takes them so; otherwise without what it refuses.
    pub(super) async fn sets_apart(&mut self, sets: &Sets, applied: &mut Applied) -> Result<()> {
        if !sets.singles.iter().any(|s| self.follows(s)) {
            match self.tried(sets, applied).await {
                Err(e) if refuses(&e) => tracing::debug!("the target refused a row of a set: {e}"),
                done => return done,
            }
        }
        // Halves of halves, the earlier one first, so that the source's order is kept; all that is refused ends alone.
        let mut waiting = vec![sets.singles.as_slice()];
        while let Some(part) = waiting.pop() {
            let mut batch = Batch::default();
            let mut scratch = Scratch::default();
            let mut following: Vec<&Single> = Vec::new();
            let mut dead = Dead::default();
            for single in part {
                let source = &single.compiled.source;
                if self.follows(single) || dead.holds(source, &single.change) {
                    dead.add(source, &single.change);
                    following.push(single);
                } else {
                    batch.change(&single.compiled, single.change.clone(), &mut scratch)?;
                }
            }
            let done = match batch.steps.first() {
                Some(Step::Sets(rest)) => self.tried(rest, applied).await,
                _ => Ok(()),
            };
            match (done, part) {
                (Ok(()), _) => {
                    following.into_iter().for_each(|single| self.put_aside(single, FOLLOWS.to_owned(), applied));
                }
                (Err(e), [single]) if refuses(&e) => self.put_aside(single, e.message().to_owned(), applied),
                (Err(e), _) if refuses(&e) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.push(second);
                    waiting.push(first);
                }
                (Err(e), _) => return Err(e),
            }
        }
        Ok(())
    }

    /// Applies sets inside a savepoint; after an error the transaction is as it was before.
    async fn tried(&mut self, sets: &Sets, applied: &mut Applied) -> Result<()> {
        self.simple("SAVEPOINT apart").await?;
        match self.sets(sets, false, &mut applied.missing).await {
            Ok(()) => self.simple("RELEASE SAVEPOINT apart").await,
            Err(e) if refuses(&e) => {
                self.simple("ROLLBACK TO SAVEPOINT apart; RELEASE SAVEPOINT apart").await?;
                Err(e)
            }
            Err(e) => Err(e),
        }
    }

    fn follows(&self, single: &Single) -> bool {
        let source = &single.compiled.source;
        self.dead.holds(source, &single.change) || self.dying.holds(source, &single.change)
    }

    fn put_aside(&mut self, single: &Single, message: String, applied: &mut Applied) {
        let source = &single.compiled.source;
        self.dying.add(source, &single.change);
        applied.dead.add(source, &single.change);
        applied.refused.push(DeadLetter::new(source, &single.change, single.at.to_string(), message));
    }
}
