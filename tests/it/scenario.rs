//! Many small cases in one migration: rows before the copy, transactions while it is followed, then both sides equal.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Config, Daemon, Database, Sql, compare, fresh_name};

/// How long a migration of many cases may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// The superuser on both sides.
    Superuser,
    /// On both sides a role that owns its database, at the source with REPLICATION.
    Plain,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    before: Vec<String>,
    changes: Vec<String>,
    looks: Vec<(String, String)>,
    same: Vec<String>,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Case {
        Case { name: name.into(), before: Vec::new(), changes: Vec::new(), looks: Vec::new(), same: Vec::new() }
    }
    /// SQL before the migration begins.
    pub fn before(mut self, sql: impl Into<String>) -> Case {
        self.before.push(sql.into());
        self
    }
    /// One transaction while the source is followed (or several, if it says so itself).
    pub fn change(mut self, sql: impl Into<String>) -> Case {
        self.changes.push(sql.into());
        self
    }
    /// A query on the target, and what it answers at the end.
    pub fn look(mut self, sql: impl Into<String>, answer: impl Into<String>) -> Case {
        self.looks.push((sql.into(), answer.into()));
        self
    }
    /// Runs what the cases say before the migration.
    pub fn run_before(cases: &[Case], source: &mut Sql) {
        for case in cases {
            for sql in &case.before {
                source.try_run(sql).unwrap_or_else(|e| panic!("case {}: {}", case.name, told(sql, &e)));
            }
        }
    }
    /// Runs what the cases say while it is followed.
    pub fn run_changes(cases: &[Case], source: &mut Sql) {
        for case in cases {
            for sql in &case.changes {
                source.try_run(sql).unwrap_or_else(|e| panic!("case {}: {}", case.name, told(sql, &e)));
            }
        }
    }
    /// A query that answers the same on both sides at the end.
    pub fn same(mut self, sql: impl Into<String>) -> Case {
        self.same.push(sql.into());
        self
    }
}

/// A fresh database on the shared servers, owned by whom `roles` says, with that role's URLs.
pub fn database(roles: Roles) -> Database {
    owned(Database::shared("carry"), roles)
}

/// Gives the database on both servers to an ordinary role, if `roles` says so.
pub fn owned(mut db: Database, roles: Roles) -> Database {
    if roles == Roles::Plain {
        for (url, attribute) in [(&mut db.source, "replication"), (&mut db.target, "noreplication")] {
            let role = fresh_name("plain");
            Sql::connect(url)
                .run(&format!("create role {role} login {attribute}; alter database {} owner to {role}", db.name));
            *url = with_user(url, &role);
        }
    }
    db
}

/// The same URL with another user, for servers that trust everybody.
pub fn with_user(url: &str, user: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_username(user).unwrap();
    url.into()
}

/// Runs the cases through one migration, as `roles`.
pub fn carry(roles: Roles, cases: &[Case]) {
    let db = database(roles);
    carry_with(&db, cases, "");
    assert_same_schema(&db);
}

/// Runs the cases through one migration, and finishes it. `tables` is the section of that name, if it is not empty.
pub fn carry_with(db: &Database, cases: &[Case], tables: &str) {
    let selects = !tables.is_empty();
    let mut source = db.on_source();
    Case::run_before(cases, &mut source);
    let config = db.config().extra(tables);
    let mut daemon = Daemon::spawn(&config);
    daemon.wait_status("the target is level", PATIENCE, |s| s["phase"] == "ready");
    Case::run_changes(cases, &mut source);
    let end = source.log_end();
    daemon.wait_applied_within(end, PATIENCE);
    assert_same_rows(db, cases, selects);
    assert_eq!(daemon.sigterm(), 0, "it should have stopped in order");
    finish(&config);
}

/// Compares all rows, and asks what the cases want to know. `selects`: the target may lack tables.
pub fn assert_same_rows(db: &Database, cases: &[Case], selects: bool) {
    // A selection leaves tables out; one that is there must be equal.
    let mut said = compare(&db.source, &db.target);
    if selects {
        said.retain(|s| !s.ends_with("the target has no such table"));
    }
    assert!(said.is_empty(), "source and target differ:\n  {}", said.join("\n  "));
    look(db, cases);
}

/// Ends the migration: what was set aside is put back, and nothing of it is left.
pub fn finish(config: &Config) {
    let finished = Daemon::command(config, &["finish", "--yes"]);
    assert_eq!(finished.status.code(), Some(0), "{}", String::from_utf8_lossy(&finished.stderr));
}

/// Every object beside rows, one a line, in words that are the same on both sides when the objects are.
const OBJECTS: &str = "
with n as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'switchyard')),
     ext as (select classid, objid from pg_depend where deptype = 'e')
select concat_ws(' ', 'schema', nspname) from n
union all select concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, pg_get_expr(c.relpartbound, c.oid), case c.relkind when 'p' then pg_get_partkeydef(c.oid) when 'v' then pg_get_viewdef(c.oid) when 'm' then pg_get_viewdef(c.oid) end)
  from pg_class c join n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not exists (select from ext where objid = c.oid)
union all select concat_ws(' ', 'column', c.oid::regclass, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attislocal, pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation)
  from pg_attribute a join pg_class c on c.oid = a.attrelid join n on n.oid = c.relnamespace left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where c.relkind in ('r', 'p', 'v', 'm', 'c') and a.attnum > 0 and not a.attisdropped
union all select concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident, i.indisvalid) from pg_index i join pg_class c on c.oid = i.indrelid join n on n.oid = c.relnamespace
union all select concat_ws(' ', 'constraint', nullif(conrelid, 0)::regclass, nullif(contypid, 0)::regtype, quote_ident(conname), pg_get_constraintdef(oid), convalidated, coninhcount) from pg_constraint where connamespace in (select oid from n) and contype <> 'n'
union all select concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled) from pg_trigger t join pg_class c on c.oid = t.tgrelid join n on n.oid = c.relnamespace where not t.tgisinternal
union all select concat_ws(' ', 'internal trigger', tgrelid::regclass, tgtype, tgenabled, tgfoid::regproc, conname) from pg_trigger t join pg_class c on c.oid = t.tgrelid join n on n.oid = c.relnamespace left join pg_constraint k on k.oid = tgconstraint where tgisinternal
union all select concat_ws(' ', 'rule', pg_get_ruledef(r.oid), ev_enabled) from pg_rewrite r join pg_class c on c.oid = r.ev_class join n on n.oid = c.relnamespace where rulename <> '_RETURN'
union all select concat_ws(' ', 'function', p.oid::regprocedure, case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end) from pg_proc p join n on n.oid = p.pronamespace where not exists (select from ext where objid = p.oid)
union all select concat_ws(' ', 'type', t.oid::regtype, t.typtype, t.typnotnull, t.typdefault, (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid)) from pg_type t join n on n.oid = t.typnamespace
union all select concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) from pg_policy
union all select concat_ws(' ', 'inherits', inhrelid::regclass, inhparent::regclass, inhseqno) from pg_inherits i join pg_class c on c.oid = inhrelid join n on n.oid = c.relnamespace
union all select concat_ws(' ', 'comment', (pg_identify_object(classoid, objoid, objsubid)).identity, description) from pg_description d where objoid >= 16384 and (pg_identify_object(classoid, objoid, objsubid)).type not in ('extension', 'event trigger') and not exists (select from ext where objid = d.objoid)
union all select concat_ws(' ', 'sequence', seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcycle, (select format('%s.%s', refobjid::regclass, refobjsubid) from pg_depend where objid = seqrelid and deptype in ('a', 'i') and classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass)) from pg_sequence
union all select concat_ws(' ', 'statistics', pg_get_statisticsobjdef(oid)) from pg_statistic_ext
union all select concat_ws(' ', 'extension', extname) from pg_extension
union all select concat_ws(' ', 'event trigger', evtname) from pg_event_trigger
";

/// Panics with what differs between the two databases beside rows.
pub fn assert_same_schema(db: &Database) {
    let lines = |url: &str| -> BTreeSet<String> {
        let mut sql = Sql::connect(url);
        sql.run("set search_path = ''");
        sql.rows(OBJECTS).into_iter().map(|mut r| r.swap_remove(0).unwrap_or_default()).collect()
    };
    let (source, target) = (lines(&db.source), lines(&db.target));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).take(20).cloned().collect::<Vec<_>>().join("\n    ")
    };
    let (missing, extra) = (only(&source, &target), only(&target, &source));
    assert!(
        missing.is_empty() && extra.is_empty(),
        "schemas differ:\n  only on the source:\n    {missing}\n  only on the target:\n    {extra}"
    );
}

/// Asks what the cases want to know.
pub fn look(db: &Database, cases: &[Case]) {
    let (mut source, mut target) = (db.on_source(), db.on_target());
    let mut wrong = Vec::new();
    for case in cases {
        for (sql, answer) in &case.looks {
            let got = answers(&mut target, sql);
            if got != *answer {
                wrong.push(format!("{}: {sql}: {answer:?} was expected, got {got:?}", case.name));
            }
        }
        for sql in &case.same {
            let (a, b) = (answers(&mut source, sql), answers(&mut target, sql));
            if a != b {
                wrong.push(format!("{}: {sql}: the source says {a:?}, the target {b:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "not as it should be:\n  {}", wrong.join("\n  "));
}

/// Rows as lines, fields separated by `|`; an error is its message.
fn answers(sql: &mut Sql, query: &str) -> String {
    match sql.try_rows(query) {
        Ok(rows) => rows
            .into_iter()
            .map(|r| r.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(e) => crate::support::describe(&e),
    }
}

fn told(sql: &str, e: &tokio_postgres::Error) -> String {
    let head: String = sql.chars().take(300).collect();
    format!("{head}: {}", crate::support::describe(e))
}
