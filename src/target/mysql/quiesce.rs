//! Gets triggers out of the applier's way, and puts them back.
//!
//! MySQL cannot disable a trigger, and its source has fired already for the rows that arrive. So triggers are dropped;
//! before, their text is noted in `switchyard.restore`, so that a crash anywhere loses none. Foreign keys stay: our
//! sessions pass them by (`foreign_key_checks = 0`).

use super::bookkeeping;
use super::session::Session;
use crate::error::{Error, Result};
use crate::mywire::quote::{literal, qualified, quoted};
use crate::schema::TableName;

/// Notes and drops the triggers of these tables. Repeating it is harmless, and takes what has appeared since. The
/// bookkeeping must exist.
pub async fn quiesce(session: &mut Session, name: &str, tables: &[TableName]) -> Result<()> {
    for t in tables {
        let doing = format!("quiescing {t} on the target");
        let list = format!(
            "SELECT trigger_schema, trigger_name FROM information_schema.triggers WHERE event_object_schema = {} \
             AND event_object_table = {} ORDER BY event_manipulation, action_timing, action_order",
            literal(&t.schema),
            literal(&t.name)
        );
        for row in session.rows(&doing, list).await? {
            let mut row = row.into_iter().flatten();
            let (Some(schema), Some(trigger)) = (row.next(), row.next()) else { continue };
            let on = TableName::new(schema, trigger);
            let shown = session.rows(&doing, format!("SHOW CREATE TRIGGER {}", qualified(&on))).await?;
            let shown = shown.into_iter().next().unwrap_or_default();
            let field = |n: usize| shown.get(n).cloned().flatten();
            let (Some(mode), Some(statement)) = (field(1), field(2)) else {
                return Err(Error::fatal(format!("{doing}: the account may not see the text of trigger {on}"))
                    .hint("grant the account TRIGGER on the database, or drop the trigger by hand"));
            };
            // A note that is there already stays: it holds the older truth.
            let note = format!(
                "INSERT IGNORE INTO switchyard.restore (name, kind, table_schema, table_name, object, statement, settings) \
                 VALUES ({}, 'trigger', {}, {}, {}, {}, {})",
                literal(name),
                literal(&t.schema),
                literal(&t.name),
                literal(&on.name),
                literal(&statement),
                literal(&mode)
            );
            session.run(&doing, note).await?;
            session.run(&doing, format!("DROP TRIGGER IF EXISTS {}", qualified(&on))).await?;
        }
    }
    Ok(())
}

/// Puts back what was taken away, then removes the bookkeeping of migration `name`. Says what it did. Repeating it after
/// a crash is harmless. Numbering (AUTO_INCREMENT) follows the rows by itself.
///
/// # Errors
/// `Fatal` naming every item that could not be put back; the rest is back, and the bookkeeping stays for the next attempt.
pub async fn finish(session: &mut Session, name: &str) -> Result<Vec<String>> {
    if bookkeeping::layout(session).await? == 0 {
        return Ok(Vec::new());
    }
    let doing = "restoring triggers on the target";
    let notes = session
        .rows(
            doing,
            format!(
                "SELECT seq, kind, table_schema, table_name, object, statement, settings FROM switchyard.restore \
                 WHERE name = {} ORDER BY seq",
                literal(name)
            ),
        )
        .await?;
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    for r in &notes {
        let text = |n: usize| r.get(n).and_then(Option::as_deref).unwrap_or("");
        let what = format!("{} {} of {}", text(1), text(4), TableName::new(text(2), text(3)));
        let before = session.one(doing, "SELECT @@SESSION.sql_mode").await?.unwrap_or_default();
        let set = format!("USE {}; SET SESSION sql_mode = {}", quoted(text(2)), literal(text(6)));
        let restored = match session.run(doing, set).await {
            Ok(_) => session.run(format!("restoring {what}"), text(5)).await,
            Err(e) => Err(e),
        };
        session.run(doing, format!("SET SESSION sql_mode = {}", literal(&before))).await?;
        match restored {
            Ok(_) => said.push(format!("restored {what}")),
            Err(e) if e.is_retry() => return Err(e),
            // The table or database was dropped meanwhile; somebody has put it back by hand.
            Err(e) if matches!(e.code(), Some("1146" | "1049")) => said.push(format!("{what} is gone; left alone")),
            Err(e) if e.code() == Some("1359") => said.push(format!("{what} is there already; left alone")),
            Err(e) => {
                failed.push(format!("{} (statement: {})", e.message(), text(5)));
                continue;
            }
        }
        session
            .run(doing, format!("DELETE FROM switchyard.restore WHERE name = {} AND seq = {}", literal(name), text(0)))
            .await?;
    }
    if !failed.is_empty() {
        return Err(Error::fatal(format!("the target is not yet as it should be: {}", failed.join("; ")))
            .hint("mend what is named on the target, then run finish again; the rest is put back already"));
    }
    said.extend(bookkeeping::forget(session, name).await?);
    Ok(said)
}
