//! Names of the tables that online schema changes work with. Pure.

use crate::schema::TableName;

/// What a table of an online schema change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is to take the table's place.
    New,
    /// It was the table, or notes of the tool.
    Aside,
}

/// If the name is one that an online schema change makes: the table that it works on, and what this one is for.
///
/// - gh-ost: `_t_gho`, `_t_ghc`, `_t_del`, with a time in between where it was asked for (`_t_20240102030405_del`;
///   `GetGhostTableName` and its neighbours in `go/base/context.go`);
/// - pt-online-schema-change: `_t_new`, `_t_old`, with more underscores where the name was taken;
/// - Facebook's OSC: `__osc_new_t`, `__osc_old_t`, `__osc_chg_t`;
/// - LHM: `lhmn_t`, and `lhma_2024_01_02_03_04_05_006_t`.
///
/// Tools cut names that get too long; then the answer is the cut name, see [`belongs`].
pub fn shadow_of(name: &TableName) -> Option<(TableName, Role)> {
    let (base, role) = read(&name.name)?;
    (!base.is_empty()).then(|| (TableName::new(name.schema.clone(), base), role))
}

fn read(name: &str) -> Option<(&str, Role)> {
    for (prefix, role) in
        [("__osc_new_", Role::New), ("__osc_old_", Role::Aside), ("__osc_chg_", Role::Aside), ("lhmn_", Role::New)]
    {
        if let Some(base) = name.strip_prefix(prefix) {
            return Some((base, role));
        }
    }
    if let Some(rest) = name.strip_prefix("lhma_") {
        // Seven numbers of a moment.
        let mut base = rest;
        for _ in 0..7 {
            let (number, tail) = base.split_once('_')?;
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            base = tail;
        }
        return Some((base, Role::Aside));
    }
    let inner = name.strip_prefix('_')?;
    for (suffix, role) in [("_gho", Role::New), ("_ghc", Role::Aside), ("_del", Role::Aside)] {
        if let Some(base) = inner.strip_suffix(suffix) {
            return Some((untimed(base), role));
        }
    }
    for (suffix, role) in [("_new", Role::New), ("_old", Role::Aside)] {
        if let Some(base) = inner.strip_suffix(suffix) {
            return Some((base, role));
        }
    }
    None
}

fn untimed(base: &str) -> &str {
    match base.rsplit_once('_') {
        Some((head, time)) if time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit()) => head,
        _ => base,
    }
}

/// Whether a name that [`shadow_of`] gave means this table: it is the same, or a beginning of it that a tool cut so that
/// its own name fits into the server's 64 characters; pt-online-schema-change puts up to nine more underscores before it.
pub fn belongs(base: &TableName, table: &TableName) -> bool {
    let bare = base.name.trim_start_matches('_');
    base.schema == table.schema
        && (base.name == table.name
            || (base.name.ends_with(&table.name)
                && base.name[..base.name.len() - table.name.len()].bytes().all(|b| b == b'_'))
            || (bare.chars().count() >= 40 && table.name.trim_start_matches('_').starts_with(bare)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_of_tools_when_read_then_their_table_is_told() {
        for (name, base, role) in [
            ("_t_gho", "t", Role::New),
            ("_t_ghc", "t", Role::Aside),
            ("_t_del", "t", Role::Aside),
            ("_line_items_20240102030405_del", "line_items", Role::Aside),
            ("_t_new", "t", Role::New),
            ("___t_old", "__t", Role::Aside),
            ("lhmn_t", "t", Role::New),
            ("lhma_2024_01_02_03_04_05_006_t", "t", Role::Aside),
            ("__osc_new_t", "t", Role::New),
        ] {
            let (read, as_role) = shadow_of(&TableName::new("d", name)).unwrap();
            assert_eq!((read.name.as_str(), as_role), (base, role), "{name}");
        }
        for name in ["t_new", "new", "_new", "lhma_x_t", "t_gho", "_t", "lhmn_"] {
            assert!(shadow_of(&TableName::new("d", name)).is_none(), "{name}");
        }
    }

    #[test]
    fn given_bases_when_compared_then_underscores_and_cut_names_belong() {
        let t = |n: &str| TableName::new("d", n);
        let long = "a_table_with_a_name_of_sixty_four_characters_which_is_the_most_x";
        assert!(belongs(&t("t"), &t("t")) && belongs(&t("__t"), &t("t")) && belongs(&t(&long[..59]), &t(long)));
        assert!(
            !belongs(&t("at"), &t("t")) && !belongs(&t("t"), &t("ta")) && !belongs(&TableName::new("e", "t"), &t("t"))
        );
    }
}
