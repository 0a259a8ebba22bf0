use super::*;
use crate::schema::{Column, Kind};

fn column(name: &str) -> Column {
    Column {
        name: name.into(),
        number: 0,
        type_name: "text".into(),
        kind: Kind::Text,
        nullable: true,
        identity: None,
        default: None,
        collation: None,
        data: Default::default(),
        portable_binary: true,
    }
}

fn compiled(identity: RowIdentity, unique: bool) -> Compiled {
    let t = Arc::new(Table {
        id: TableId(1),
        name: TableName::new("public", "t"),
        columns: vec![column("id"), column("v"), column("big")],
        generated: vec![],
        identity,
        full_old_rows: false,
        full_old_rows_by: String::new(),
        has_secondary_unique: unique,
        partitioned: false,
        estimated_rows: 0,
        bytes: 0,
    });
    Compiled::passing(t.clone(), t)
}

/// `"1 a -"`: fields by blanks, `-` is unsent, `~` is NULL.
fn row(text: &str) -> Row {
    let mut b = crate::value::RowBuilder::default();
    for f in text.split(' ') {
        b.push(match f {
            "-" => Datum::Unsent,
            "~" => Datum::Null,
            f => Datum::Text(f.as_bytes()),
        });
    }
    b.finish()
}

fn show(r: &Row) -> String {
    r.iter()
        .map(|d| match d {
            Datum::Null => "~".into(),
            Datum::Unsent => "-".into(),
            Datum::Text(t) => String::from_utf8_lossy(t).into_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn ins(r: &str) -> Change {
    Change { table: TableId(1), op: Op::Insert, old: None, new: Some(row(r)) }
}
fn upd(r: &str) -> Change {
    Change { table: TableId(1), op: Op::Update, old: None, new: Some(row(r)) }
}
fn rekey(o: &str, r: &str) -> Change {
    Change { table: TableId(1), op: Op::Update, old: Some(row(o)), new: Some(row(r)) }
}
fn del(o: &str) -> Change {
    Change { table: TableId(1), op: Op::Delete, old: Some(row(o)), new: None }
}

/// What a batch of these changes does: `d1` strict, `d?1` loose, `u…`, `i…`, and how many are left ordered.
fn run(changes: Vec<Change>) -> (String, usize) {
    let c = compiled(RowIdentity::Key(vec![0]), true);
    let mut b = Batch::default();
    for x in changes {
        b.change(&c, x, &mut Scratch::default()).unwrap();
    }
    let Some(Step::Sets(s)) = b.steps.first() else { panic!("no sets") };
    let t = &s.tables[0];
    let key = |r: &Row| show(r).split(' ').next().unwrap().to_owned();
    let mut out: Vec<String> = t.deletes().map(|(k, s)| format!("d{}{}", if s { "" } else { "?" }, key(k))).collect();
    out.extend(t.updates().map(|r| format!("u{}", show(r))));
    out.extend(t.inserts().map(|r| format!("i{}", show(r))));
    (out.join("; "), t.ordered.len())
}

#[test]
fn given_changes_of_one_key_when_compacted_then_one_effect_is_left() {
    let cases = [
        (vec![ins("1 a x"), upd("1 b -")], "i1 b x"),
        (vec![ins("1 a x"), del("1 ~ ~")], "d?1"),
        (vec![upd("1 a x"), upd("1 b -")], "u1 b x"),
        (vec![upd("1 a -"), upd("1 b -")], "u1 b -"),
        (vec![upd("1 a -"), del("1 ~ ~")], "d1"),
        (vec![del("1 ~ ~"), ins("1 a x")], "d1; i1 a x"),
        (vec![del("1 ~ ~"), ins("1 a x"), del("1 ~ ~")], "d1"),
        (vec![ins("1 a x"), del("1 ~ ~"), ins("1 b y")], "d?1; i1 b y"),
        (vec![del("1 ~ ~"), ins("1 a x"), upd("1 b -")], "d1; i1 b x"),
        (vec![rekey("1 ~ ~", "2 a x")], "d1; i2 a x"),
        (vec![upd("1 a x"), rekey("1 ~ ~", "2 b -")], "d1; i2 b x"),
        (vec![ins("1 a x"), rekey("1 ~ ~", "2 b -"), rekey("2 ~ ~", "1 c -")], "d?1; d?2; i1 c x"),
        // Two keys change places by way of a third.
        (
            vec![rekey("1 ~ ~", "3 a x"), rekey("2 ~ ~", "1 b y"), rekey("3 ~ ~", "2 a x")],
            "d1; d?3; d2; i1 b y; i2 a x",
        ),
    ];
    for (changes, expected) in cases {
        let said = format!("{changes:?}");
        assert_eq!(run(changes), (expected.to_owned(), 0), "{said}");
    }
}

#[test]
fn given_a_key_change_with_unsent_fields_when_nothing_is_known_then_the_rest_stays_ordered() {
    assert_eq!(run(vec![upd("5 q q"), rekey("1 ~ ~", "2 a -"), upd("2 b -")]), ("u5 q q".to_owned(), 2));
}

#[test]
fn given_a_table_without_key_when_changed_then_inserts_are_a_set_and_the_rest_is_ordered() {
    let c = compiled(RowIdentity::AllColumns, false);
    let mut b = Batch::default();
    for x in [ins("1 a x"), ins("1 a x"), del("1 a x"), ins("2 b y")] {
        b.change(&c, x, &mut Scratch::default()).unwrap();
    }
    let Some(Step::Sets(s)) = b.steps.first() else { panic!("no sets") };
    assert_eq!((s.tables[0].inserts().count(), s.tables[0].ordered.len()), (2, 2));
    assert_eq!(b.counts.by_table, vec![(TableName::new("public", "t"), [3, 0, 1])]);
    let none = compiled(RowIdentity::None, false);
    assert!(Batch::default().change(&none, del("1 a x"), &mut Scratch::default()).is_err());
}

#[test]
fn given_a_truncate_when_collected_then_nothing_is_compacted_across_it() {
    let c = compiled(RowIdentity::Key(vec![0]), false);
    let mut b = Batch::default();
    b.change(&c, ins("1 a x"), &mut Scratch::default()).unwrap();
    b.barrier(Step::Truncate { tables: vec![c.outputs[0].target.clone()], restart_identity: false });
    b.change(&c, ins("1 a x"), &mut Scratch::default()).unwrap();
    assert_eq!(b.steps.len(), 3);
}

mod model {
    //! Random sequences: applying the compacted sets equals applying the changes one by one.
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type World = BTreeMap<String, (String, String)>;

    #[derive(Clone, Debug)]
    enum Do {
        Put(u8, u8, bool),
        Remove(u8),
        Rekey(u8, u8, u8),
    }

    fn actions() -> impl Strategy<Value = Vec<Do>> {
        let one = prop_oneof![
            4 => (0..5u8, any::<u8>(), any::<bool>()).prop_map(|(k, v, t)| Do::Put(k, v, t)),
            2 => (0..5u8).prop_map(Do::Remove),
            2 => (0..5u8, 0..5u8, any::<u8>()).prop_map(|(a, b, v)| Do::Rekey(a, b, v)),
        ];
        proptest::collection::vec(one, 0..40)
    }

    fn parts(r: &Row) -> (String, String, Option<String>) {
        let s = show(r);
        let f: Vec<_> = s.split(' ').collect();
        (f[0].into(), f[1].into(), (f[2] != "-").then(|| f[2].to_owned()))
    }

    proptest! {
        #[test]
        fn given_any_history_when_compacted_then_the_result_is_the_same(actions in actions(), before in 0..32u8) {
            let mut world: World = (0..5).filter(|k| before >> k & 1 == 1)
                .map(|k| (k.to_string(), ("old".to_owned(), format!("t{k}")))).collect();
            let mut target = world.clone();
            let c = compiled(RowIdentity::Key(vec![0]), true);
            let mut b = Batch::default();
            for a in actions {
                match a {
                    Do::Put(k, v, toast) => {
                        let k = k.to_string();
                        let change = match world.get_mut(&k) {
                            None => { world.insert(k.clone(), (v.to_string(), "n".into())); ins(&format!("{k} {v} n")) }
                            Some(r) if toast => { *r = (v.to_string(), format!("n{v}")); upd(&format!("{k} {v} n{v}")) }
                            Some(r) => { r.0 = v.to_string(); upd(&format!("{k} {v} -")) }
                        };
                        b.change(&c, change, &mut Scratch::default()).unwrap();
                    }
                    Do::Remove(k) => if world.remove(&k.to_string()).is_some() {
                        b.change(&c, del(&format!("{k} ~ ~")), &mut Scratch::default()).unwrap();
                    },
                    Do::Rekey(from, to, v) => {
                        let (from, to) = (from.to_string(), to.to_string());
                        if from == to || world.contains_key(&to) { continue; }
                        if let Some(mut r) = world.remove(&from) {
                            r.0 = v.to_string();
                            let rekeyed = rekey(&format!("{from} ~ ~"), &format!("{to} {v} {}", r.1));
                            b.change(&c, rekeyed, &mut Scratch::default()).unwrap();
                            world.insert(to, r);
                        }
                    }
                }
            }
            for step in &b.steps {
                let Step::Sets(s) = step else { continue };
                for t in &s.tables {
                    prop_assert!(t.ordered.is_empty());
                    for (k, strict) in t.deletes() {
                        let hit = target.remove(&parts(k).0).is_some();
                        prop_assert!(hit || !strict);
                    }
                    for r in t.updates() {
                        let (k, v, big) = parts(r);
                        let row = target.get_mut(&k);
                        prop_assert!(row.is_some());
                        let row = row.unwrap();
                        row.0 = v;
                        if let Some(big) = big { row.1 = big; }
                    }
                    for r in t.inserts() {
                        let (k, v, big) = parts(r);
                        prop_assert!(big.is_some());
                        prop_assert!(target.insert(k, (v, big.unwrap())).is_none());
                    }
                }
            }
            prop_assert_eq!(world, target);
        }
    }
}
