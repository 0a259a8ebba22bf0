//! Runs the objects of a script: repeatable, because DDL commits by itself.

use super::session::Session;
use crate::error::Result;
use crate::mywire::quote::{literal, qualified};
use crate::schema::{SchemaObject, SchemaScript, Stage, TableName};

/// Makes the script's objects of `stage`; of one table, or of all. What exists by name is left alone.
///
/// # Errors
/// The server's own. A foreign key that does not hold is one.
pub async fn create(
    session: &mut Session,
    script: &SchemaScript,
    stage: Stage,
    table: Option<&TableName>,
) -> Result<Vec<String>> {
    let objects = script.objects.iter().filter(|o| o.stage == stage && (table.is_none() || o.table.as_ref() == table));
    let objects: Vec<&SchemaObject> = objects.collect();
    let mut at = 0;
    while at < objects.len() {
        let o = objects[at];
        match o.kind.as_str() {
            "INDEX" => {
                // Those of one table together: the table is read once.
                let head = alter_head(o);
                let end = objects[at..].iter().position(|n| n.kind != "INDEX" || alter_head(n) != head);
                let end = end.map_or(objects.len(), |n| at + n);
                indexes(session, head, &objects[at..end]).await?;
                at = end;
                continue;
            }
            "FK CONSTRAINT" => foreign_key(session, o).await?,
            _ => {
                if !o.schema.is_empty() && o.kind != "TABLE" {
                    session
                        .run(
                            "choosing a database on the target",
                            format!("USE {}", crate::mywire::quote::quoted(&o.schema)),
                        )
                        .await?;
                }
                session.run(format!("making {} {} on the target", o.kind.to_lowercase(), o.name), &o.sql).await?;
            }
        }
        at += 1;
    }
    Ok(Vec::new())
}

/// `ALTER TABLE t` of an object's statement.
fn alter_head(o: &SchemaObject) -> &str {
    let clause = [" ADD UNIQUE", " ADD KEY", " ADD INDEX", " ADD FULLTEXT", " ADD SPATIAL", " ADD CONSTRAINT"];
    let quoted = |at: usize| o.sql[..at].matches('`').count() % 2 == 1;
    let starts = clause.iter().flat_map(|c| o.sql.match_indices(c)).map(|(at, _)| at).filter(|at| !quoted(*at));
    &o.sql[..starts.min().unwrap_or(0)]
}

async fn indexes(session: &mut Session, head: &str, objects: &[&SchemaObject]) -> Result<()> {
    // The statement has the table's name here, the object the source's.
    let asked = format!("SHOW INDEX FROM {}", head.trim_start_matches("ALTER TABLE "));
    let doing = format!("making the indexes of {} on the target", head.trim_start_matches("ALTER TABLE "));
    let there = session.rows(&doing, asked).await?;
    let has = |name: &str| {
        there.iter().any(|r| r.get(2).and_then(Option::as_ref).is_some_and(|n| n.to_lowercase() == name.to_lowercase()))
    };
    let add = objects.iter().filter(|o| !has(&o.name)).map(|o| o.sql.get(head.len() + 1..).unwrap_or(""));
    // InnoDB makes one FULLTEXT index at a time (error 1795).
    let (alone, together): (Vec<&str>, Vec<&str>) = add.partition(|a| a.starts_with("ADD FULLTEXT "));
    for add in [together.join(", ")].into_iter().chain(alone.into_iter().map(str::to_owned)) {
        if add.is_empty() {
            continue;
        }
        session.run(&doing, format!("{head} {add}")).await.map_err(|e| match e.code() {
            Some("1062") => e.hint("rows of the source are equal under the target's collation in a unique key: give its columns a collation that tells them apart (utf8mb4_bin, or target.collation), or change the rows at the source; then start again"),
            _ => e,
        })?;
    }
    Ok(())
}

async fn foreign_key(session: &mut Session, o: &SchemaObject) -> Result<()> {
    let doing = format!("making foreign key {} on the target", o.name);
    let there = session
        .one(
            &doing,
            format!(
                "SELECT 1 FROM information_schema.referential_constraints WHERE constraint_schema = {} AND constraint_name = {}",
                literal(&o.schema),
                literal(&o.name)
            ),
        )
        .await?;
    if there.is_some() {
        return Ok(());
    }
    // Checked when it is made; afterwards this session, like all of ours, passes it by.
    session.run(&doing, "SET SESSION foreign_key_checks = 1").await?;
    let made = session.run(&doing, &o.sql).await;
    session.run(&doing, "SET SESSION foreign_key_checks = 0").await?;
    made.map(drop).map_err(|e| match e.code() {
        Some("1452") => e.hint("rows refer to others that are not there: a table that they refer to is left out, or the source's constraint was not valid; mend the rows at the source, then start again"),
        Some("1005" | "1822" | "3780" | "6125") => e.hint("make the foreign key by hand as it can be on the target, under this name; then start again"),
        _ => e,
    })
}

/// Removes every row of a table.
pub async fn empty(session: &mut Session, table: &TableName) -> Result<()> {
    let sql = format!("TRUNCATE TABLE {}", qualified(table));
    session.run(format!("emptying {table}, whose copy begins anew"), sql).await.map(drop)
}
