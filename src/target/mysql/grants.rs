//! What the account may do on the target, from what `SHOW GRANTS` prints.

use std::collections::BTreeSet;

use super::session::Session;
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};
use crate::mywire::errors;
use crate::mywire::quote::quoted;

/// What writing rows needs, and what making tables needs besides.
const ROWS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "DROP"];
const TABLES: &[&str] = &["CREATE", "ALTER", "INDEX", "REFERENCES", "TRIGGER"];
const BOOKS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "CREATE TEMPORARY TABLES"];

/// One line of `SHOW GRANTS`: privileges, and the pattern of databases that it is about.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    privileges: Vec<String>,
    database: String,
}

/// Reads a line. `None` if it is about something else than whole databases.
fn parse(line: &str) -> Option<Grant> {
    let rest = line.strip_prefix("GRANT ")?;
    let (privileges, rest) = rest.split_once(" ON ")?;
    let (on, _) = rest.split_once(" TO ")?;
    let database = on.strip_suffix(".*")?;
    let database = database.trim_matches('`').replace("``", "`");
    Some(Grant { privileges: privileges.split(',').map(|p| p.trim().to_uppercase()).collect(), database })
}

/// Whether a pattern of SHOW GRANTS (`%`, `_`, escapes by backslash) stands for the database.
fn stands_for(pattern: &str, database: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    fn like(p: &[char], d: &[char]) -> bool {
        match p {
            [] => d.is_empty(),
            ['%', rest @ ..] => (0..=d.len()).any(|n| like(rest, &d[n..])),
            ['\\', c, rest @ ..] | [c, rest @ ..] if *c != '_' || p[0] == '\\' => {
                d.first() == Some(c) && like(rest, &d[1..])
            }
            [_, rest @ ..] => !d.is_empty() && like(rest, &d[1..]),
        }
    }
    like(&pattern.chars().collect::<Vec<_>>(), &database.chars().collect::<Vec<_>>())
}

fn lacking(grants: &[Grant], database: &str, wanted: &[&'static str]) -> Vec<&'static str> {
    let has = |privilege: &str| {
        grants
            .iter()
            .filter(|g| stands_for(&g.database, database))
            .any(|g| g.privileges.iter().any(|p| p == privilege || p == "ALL PRIVILEGES" || p == "ALL"))
    };
    wanted.iter().copied().filter(|p| !has(p)).collect()
}

/// Says which GRANT statements are needed.
pub async fn check(
    session: &mut Session,
    databases: &BTreeSet<&str>,
    create_schema: bool,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let lines = session.rows("looking at privileges on the target", "SHOW GRANTS").await?;
    let lines: Vec<String> = lines.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect();
    // A role's own privileges are not in the list.
    if lines.iter().any(|l| l.starts_with("GRANT ") && !l.contains(" ON ")) {
        return Ok(());
    }
    let grants: Vec<Grant> = lines.iter().filter_map(|l| parse(l)).collect();
    let user = session
        .one("asking the target who we are", "SELECT CURRENT_USER()")
        .await?
        .and_then(|u| u.rsplit_once('@').map(|(u, h)| format!("'{u}'@'{h}'")))
        .unwrap_or_else(|| "the account".into());
    let mut need = |database: &str, wanted: &[&'static str]| {
        let lacks = lacking(&grants, database, wanted);
        if !lacks.is_empty() {
            found.push(
                Finding::new(
                    Severity::Problem,
                    "target",
                    "privileges",
                    format!("{user} lacks {} on {database} on the target", lacks.join(", ")),
                )
                .fix(format!("GRANT {} ON {}.* TO {user};", wanted.join(", "), quoted(database))),
            );
        }
    };
    let rows: Vec<&'static str> =
        if create_schema { ROWS.iter().chain(TABLES).copied().collect() } else { ROWS.to_vec() };
    for d in databases {
        need(d, &rows);
    }
    need("switchyard", BOOKS);
    Ok(())
}

/// The error of an account that may not even see the database, with all that it needs.
pub fn unseen(e: Error, database: Option<&str>) -> Error {
    let Some((account, database)) = errors::denied_account(&e).map(str::to_owned).zip(database) else { return e };
    let all: Vec<&str> = ROWS.iter().chain(TABLES).copied().collect();
    // A hint that says more than the one that it has.
    Error::fatal(e.message().to_owned()).with_code("1044").hint(format!(
        "on the target: GRANT {} ON {}.* TO {account}; GRANT {} ON `switchyard`.* TO {account}; or correct the database's name in target.url",
        all.join(", "),
        quoted(database),
        BOOKS.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_grants_when_read_then_what_is_lacking_is_known() {
        let grants: Vec<Grant> = [
            "GRANT USAGE ON *.* TO `u`@`%`",
            "GRANT SELECT, INSERT, CREATE TEMPORARY TABLES ON `shop\\_a`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `switchyard`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT SELECT (a) ON `x`.`t` TO `u`@`%`",
        ]
        .iter()
        .filter_map(|l| parse(l))
        .collect();
        assert_eq!(grants.len(), 3);
        assert!(lacking(&grants, "switchyard", BOOKS).is_empty());
        assert_eq!(lacking(&grants, "shop_a", ROWS), ["UPDATE", "DELETE", "DROP"]);
        assert_eq!(lacking(&grants, "shopxa", ROWS), ROWS);
        assert!(stands_for("shop%", "shop_b") && stands_for("a_c", "abc") && !stands_for("a\\_c", "abc"));
    }
}
