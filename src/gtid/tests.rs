//! Sets of transaction ids against a plain model, and what real servers printed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

#[test]
fn given_what_servers_print_when_parsed_and_printed_then_it_is_the_same() {
    for text in [
        "".to_owned(),
        format!("{A}:1"),
        format!("{A}:1-5:7:9-11"),
        format!("{A}:1-5,{B}:1"),
        format!("{A}:1-5:blue:1-2:red:7,{B}:zed:3"),
    ] {
        assert_eq!(set(&text).to_string(), text);
        assert_eq!(GtidSet::decode(&set(&text).encode()), Ok(set(&text)));
    }
    let untidy = format!("\n {} :7:1-3:4 ,\n{A}:BLUE:2:1, ,{A}:9:red:1", A.to_uppercase());
    assert_eq!(set(&untidy).to_string(), format!("{A}:1-4:7:9:blue:1-2:red:1"));
}

#[test]
fn given_what_is_no_set_when_parsed_then_it_is_refused() {
    for bad in [
        "x",
        "x:1",
        A,
        &format!("{A}:0"),
        &format!("{A}:5-3"),
        &format!("{A}:1:"),
        &format!("{A}:1-"),
        &format!("{A}:9223372036854775807"),
        &format!("{A}:blue"),
        &format!("{A}:1:a-b:1"),
        &format!("{A}:+1"),
    ] {
        assert!(bad.parse::<GtidSet>().is_err(), "{bad}");
    }
    assert!(GtidSet::decode(&[1, 0, 0, 0, 0, 0, 0]).is_err());
    assert!(GtidSet::decode(&[0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    assert!(GtidSet::decode(&u64::MAX.to_le_bytes()).is_err());
}

#[test]
fn given_the_next_number_when_added_then_older_clones_keep_theirs() {
    let mut s = set(&format!("{A}:1-5"));
    let older = s.clone();
    s.add(&Gtid { source: A.parse().unwrap(), tag: Tag::default(), number: 6 });
    assert_eq!(s.to_string(), format!("{A}:1-6"));
    assert_eq!(older.to_string(), format!("{A}:1-5"));
    assert!(s.is_superset(&older) && !older.is_superset(&s));
    assert_eq!(s.subtract(&older).to_string(), format!("{A}:6"));
}

#[test]
fn given_positions_by_domain_when_compared_then_every_domain_counts() {
    let pos = |t: &str| t.parse::<MariaGtidPos>().unwrap();
    assert_eq!(pos("1-2-7, 0-1-5").to_string(), "0-1-5,1-2-7");
    assert!(pos("0-1-5,1-2-7").reached(&pos("0-9-5")));
    assert!(!pos("0-1-5").reached(&pos("0-1-5,1-2-7")));
    assert!(!pos("0-1-5").reached(&pos("0-1-6")));
    assert!(pos("0-1-5").reached(&pos("")));
    for bad in ["0-1", "0-1-2-3", "0-1-x", "0-1-5,0-2-6", "4294967296-1-1"] {
        assert!(bad.parse::<MariaGtidPos>().is_err(), "{bad}");
    }
}

/// Numbers as a model: which of 1 to 40 are in the set, for each of three tags of two sources.
type Model = BTreeSet<(bool, u8, u64)>;

fn of(model: &Model) -> GtidSet {
    let mut s = GtidSet::new();
    for &(source, tag, number) in model {
        let source = if source { A } else { B }.parse().unwrap();
        s.add(&Gtid { source, tag: Tag::new(["", "a", "b"][tag as usize % 3]).unwrap(), number });
    }
    s
}

fn model() -> impl Strategy<Value = Model> {
    proptest::collection::btree_set((any::<bool>(), 0..3_u8, 1..40_u64), 0..60)
}

proptest! {
    #[test]
    fn given_any_two_sets_when_computed_with_then_the_model_agrees(a in model(), b in model()) {
        let (x, y) = (of(&a), of(&b));
        prop_assert_eq!(x.count(), a.len() as u64);
        prop_assert_eq!(x.is_superset(&y), a.is_superset(&b));
        prop_assert_eq!(x.subtract(&y), of(&(&a - &b)));
        prop_assert_eq!(x.union(&y), of(&(&a | &b)));
        prop_assert_eq!(x.to_string().parse::<GtidSet>().unwrap(), x.clone());
        prop_assert_eq!(GtidSet::decode(&x.encode()).unwrap(), x);
    }

    #[test]
    fn given_any_bytes_when_decoded_then_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,60}") {
        let _ = GtidSet::decode(&bytes);
        let _ = text.parse::<GtidSet>();
        let _ = text.parse::<MariaGtidPos>();
    }
}
