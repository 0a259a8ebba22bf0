use super::*;
use crate::change::{Change, Commit, Op};
use crate::position::Lsn;
use crate::schema::{Column, Kind, RowIdentity};
use crate::value::Row;

fn table(columns: &[&str]) -> Table {
    Table {
        id: TableId(7),
        name: TableName::new("public", "t"),
        columns: columns
            .iter()
            .enumerate()
            .map(|(i, n)| Column {
                name: (*n).into(),
                number: i as i32 + 1,
                type_name: "text".into(),
                kind: Kind::Text,
                nullable: true,
                identity: None,
                default: None,
                collation: None,
                data: Default::default(),
                portable_binary: true,
            })
            .collect(),
        generated: vec![],
        identity: RowIdentity::Key(vec![0]),
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: false,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    }
}

fn at(n: u64) -> Position {
    Position::Lsn(Lsn(n))
}

fn collector(consistent_at: u64, skip: Option<u64>, limit: usize) -> Collector {
    let mut k = Knowledge::default();
    k.targets.insert(TableName::new("public", "t"), table(&["id", "v"]));
    if let Some(s) = skip {
        k.skip_before.insert(TableName::new("public", "t"), at(s));
    }
    Collector::new(Limits { batch: limit, piece: limit }, k, at(consistent_at))
}

/// A transaction of `rows` inserts that commits from `start` to `start + 5`.
fn transaction(c: &mut Collector, start: u64, rows: std::ops::Range<u32>) {
    c.event(Event::Begin(Begin { commit_start: at(start), committed_at: 1, xid: 1, gtid: None })).unwrap();
    c.event(Event::Schema(Arc::new(table(&["id", "v"])))).unwrap();
    for n in rows {
        let new = Row::from_texts([Some(n.to_string().as_str()), Some("x")]);
        c.event(Event::Change(Change { table: TableId(7), op: Op::Insert, old: None, new: Some(new) })).unwrap();
    }
    c.event(Event::Commit(Commit { end: at(start + 5), committed_at: 1 })).unwrap();
}

fn rows(job: &Job) -> u64 {
    job.batch.counts.rows
}

#[test]
fn given_two_transactions_when_taken_then_they_are_one_batch_that_ends_at_the_second() {
    let mut c = collector(0, None, 1 << 20);
    transaction(&mut c, 10, 0..2);
    transaction(&mut c, 20, 2..3);
    c.event(Event::Begin(Begin { commit_start: at(30), committed_at: 1, xid: 1, gtid: None })).unwrap();
    let job = c.take().unwrap();
    assert_eq!((rows(&job), job.batch.counts.transactions, job.end.unwrap().position), (3, 2, at(25)));
    assert!(c.take().is_none(), "the third has not committed");
    assert!(c.has_pending());
}

#[test]
fn given_a_transaction_larger_than_a_piece_when_taken_then_only_its_last_piece_has_an_end() {
    let mut c = collector(0, None, 1000);
    transaction(&mut c, 10, 0..1);
    transaction(&mut c, 20, 1..40);
    let mut jobs = Vec::new();
    while let Some(j) = c.take() {
        jobs.push(j);
    }
    assert!(jobs.len() > 3);
    assert_eq!((rows(&jobs[0]), jobs[0].end.clone().unwrap().position), (1, at(15)));
    assert!(jobs[1..jobs.len() - 1].iter().all(|j| j.end.is_none()));
    assert_eq!(jobs.last().unwrap().end.clone().unwrap().position, at(25));
    assert_eq!(jobs.iter().map(rows).sum::<u64>(), 40);
}

#[test]
fn given_a_later_consistent_place_when_collecting_then_batches_do_not_mix_modes() {
    let mut c = collector(20, None, 1 << 20);
    transaction(&mut c, 10, 0..1);
    transaction(&mut c, 20, 1..2);
    let (a, b) = (c.take().unwrap(), c.take().unwrap());
    assert!(a.batch.convergent && !b.batch.convergent);
    transaction(&mut c, 30, 2..3);
    c.stay_convergent_until(&at(50));
    assert!(c.take().unwrap().batch.convergent);
    transaction(&mut c, 40, 3..4);
    assert!(c.take().unwrap().batch.convergent);
    transaction(&mut c, 50, 4..5);
    assert!(!c.take().unwrap().batch.convergent);
}

#[test]
fn given_a_table_copied_at_a_later_snapshot_when_older_changes_come_then_they_are_skipped() {
    let mut c = collector(0, Some(20), 1 << 20);
    transaction(&mut c, 10, 0..5);
    transaction(&mut c, 20, 5..6);
    let job = c.take().unwrap();
    assert_eq!((rows(&job), job.end.unwrap().position), (1, at(25)));
}

#[test]
fn given_heartbeats_when_nothing_waits_then_they_tell_the_place_and_never_overtake() {
    let mut c = collector(0, None, 1 << 20);
    c.event(Event::Heartbeat { position: at(5), at: 0 }).unwrap();
    assert_eq!(c.idle_at(), Some(&at(5)));
    c.event(Event::Begin(Begin { commit_start: at(10), committed_at: 1, xid: 1, gtid: None })).unwrap();
    c.event(Event::Heartbeat { position: at(99), at: 0 }).unwrap();
    c.event(Event::Commit(Commit { end: at(15), committed_at: 1 })).unwrap();
    assert_eq!(c.idle_at(), None);
    c.event(Event::Heartbeat { position: at(40), at: 0 }).unwrap();
    assert_eq!(c.take().unwrap().end.unwrap().position, at(40));
}

#[test]
fn given_a_new_column_without_announcement_when_described_then_a_schema_change_comes_first() {
    let mut c = collector(0, None, 1 << 20);
    transaction(&mut c, 10, 0..1);
    c.event(Event::Begin(Begin { commit_start: at(20), committed_at: 1, xid: 1, gtid: None })).unwrap();
    c.event(Event::Schema(Arc::new(table(&["id", "v", "w"])))).unwrap();
    let new = Row::from_texts([Some("9"), Some("x"), Some("y")]);
    c.event(Event::Change(Change { table: TableId(7), op: Op::Insert, old: None, new: Some(new) })).unwrap();
    c.event(Event::Commit(Commit { end: at(25), committed_at: 1 })).unwrap();
    // The transaction is a batch of its own, and the change stands before all its rows.
    let before = c.take().unwrap();
    assert_eq!(before.end.unwrap().position, at(15));
    assert!(!before.batch.steps.iter().any(|s| matches!(s, Step::Ddl { .. })));
    let job = c.take().unwrap();
    let ddl = job.batch.steps.iter().position(|s| matches!(s, Step::Ddl { .. })).unwrap();
    let last = job.batch.steps.len() - 1;
    assert!(ddl == 0 && ddl < last);
    let Step::Sets(s) = &job.batch.steps[last] else { panic!("no sets") };
    assert_eq!(s.tables[0].table.columns.len(), 3);
}

#[test]
fn given_two_changes_of_a_table_without_a_row_between_when_collected_then_the_second_begins_where_the_first_ended() {
    let mut c = collector(0, None, 1 << 20);
    transaction(&mut c, 10, 0..1);
    for (n, columns) in [(20, ["id", "w"]), (30, ["id", "x"])] {
        c.event(Event::Begin(Begin { commit_start: at(n), committed_at: 1, xid: 1, gtid: None })).unwrap();
        let effect =
            DdlEffect::Table { after: Arc::new(table(&columns)), missing_values: Vec::new(), rewritten: false };
        let (tag, object) = ("ALTER TABLE".to_owned(), "public.t".to_owned());
        c.event(Event::Ddl(Box::new(Ddl { tag, statement: String::new(), object, effect, before: None }))).unwrap();
        c.event(Event::Commit(Commit { end: at(n + 5), committed_at: 1 })).unwrap();
    }
    let jobs: Vec<Job> = std::iter::from_fn(|| c.take()).collect();
    let befores: Vec<String> = jobs
        .iter()
        .flat_map(|j| &j.batch.steps)
        .filter_map(|s| if let Step::Ddl { before: Some(b), .. } = s { Some(b.columns[1].name.clone()) } else { None })
        .collect();
    assert_eq!(befores, ["v", "w"]);
    assert_eq!(jobs.len(), 3);
}
