//! Ranges of a table's key: where a table is cut, and the conditions that read one piece. Pure.

use crate::exchange::Chunk;
use crate::mywire::quote::{literal, quoted};
use crate::mywire::types::ColumnType;

/// A key's column: its name, and what it holds.
pub type KeyColumn<'a> = (&'a str, &'a ColumnType);

/// A value in canonical text form as the server reads it in a comparison with a column of that type.
pub fn value(kind: &ColumnType, text: &str) -> String {
    match kind {
        ColumnType::Int { .. } | ColumnType::Decimal { .. } | ColumnType::Year => text.to_owned(),
        // As texts they would be compared as texts.
        ColumnType::Float | ColumnType::Double => text.to_owned(),
        ColumnType::Bit(_) => format!("b'{text}'"),
        ColumnType::Timestamp(_) => literal(text.trim_end_matches("+00")),
        _ => match text.strip_prefix("\\x") {
            Some("") => "''".to_owned(),
            Some(digits) if is_bytes(kind) => format!("0x{digits}"),
            _ => literal(text),
        },
    }
}

fn is_bytes(kind: &ColumnType) -> bool {
    matches!(kind.kind(), crate::schema::Kind::Bytes)
}

/// The condition for a piece of the table; empty for the whole table. The first column stands alone first, because the
/// server finds no range in a comparison of rows.
pub fn condition(key: &[KeyColumn<'_>], chunk: &Chunk) -> String {
    let mut parts = Vec::new();
    if let Some(after) = &chunk.after {
        parts.push(beyond(key, after, '>', false));
    }
    if let Some(up_to) = &chunk.up_to {
        parts.push(beyond(key, up_to, '<', true));
    }
    parts.join(" AND ")
}

/// Rows beyond `bound` in the order of the key, with the row itself if `included`.
fn beyond(key: &[KeyColumn<'_>], bound: &[String], sign: char, included: bool) -> String {
    let Some(((name, kind), rest)) = key.split_first() else { return "TRUE".into() };
    let Some((text, others)) = bound.split_first() else { return "TRUE".into() };
    let (column, v) = (quoted(name), value(kind, text));
    if rest.is_empty() {
        let equal = if included { "=" } else { "" };
        return format!("{column} {sign}{equal} {v}");
    }
    format!(
        "{column} {sign}= {v} AND ({column} {sign} {v} OR ({column} = {v} AND {}))",
        beyond(rest, others, sign, included)
    )
}

/// Cuts whole numbers from `least` to `most` into `pieces` ranges of one width. Ranges may be empty where numbers are.
pub fn cut(least: i128, most: i128, pieces: u64) -> Vec<i128> {
    let pieces = i128::from(pieces.max(1));
    let span = most - least + 1;
    let mut bounds: Vec<i128> =
        (1..pieces).map(|i| least + span * i / pieces - 1).filter(|&b| b >= least && b < most).collect();
    bounds.dedup();
    bounds
}

/// The pieces between bounds, in order; together they hold every row.
pub fn chunks(bounds: Vec<Vec<String>>, rows: u64) -> Vec<Chunk> {
    let each = rows / (bounds.len() as u64 + 1);
    let mut out = Vec::with_capacity(bounds.len() + 1);
    let mut after: Option<Vec<String>> = None;
    for bound in bounds.into_iter().map(Some).chain([None]) {
        out.push(Chunk {
            number: out.len() as u32,
            after: after.take(),
            up_to: bound.clone(),
            estimated_rows: each,
            ..Chunk::default()
        });
        after = bound;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_bounds_when_written_then_every_key_lies_in_exactly_one_piece() {
        let int = ColumnType::Int { width: 4, unsigned: false };
        let text = ColumnType::Time(0);
        let key = [("a", &int), ("b`", &text)];
        let pieces = chunks(vec![vec!["5".into(), "it's".into()]], 10);
        assert_eq!(pieces.len(), 2);
        assert_eq!(condition(&key, &pieces[0]), "`a` <= 5 AND (`a` < 5 OR (`a` = 5 AND `b``` <= 'it''s'))");
        assert_eq!(condition(&key, &pieces[1]), "`a` >= 5 AND (`a` > 5 OR (`a` = 5 AND `b``` > 'it''s'))");
        assert_eq!(condition(&key, &chunks(Vec::new(), 1)[0]), "");
    }

    #[test]
    fn given_a_span_when_cut_then_bounds_rise_and_stay_inside() {
        assert_eq!(cut(1, 100, 4), [25, 50, 75]);
        assert_eq!(cut(1, 2, 10), [1]);
        assert_eq!(cut(7, 7, 3), Vec::<i128>::new());
        let wide = cut(i64::MIN.into(), u64::MAX.into(), 3);
        assert!(wide.windows(2).all(|w| w[0] < w[1]) && wide.len() == 2);
    }

    #[test]
    fn given_bytes_and_instants_when_written_then_the_server_compares_them_as_such() {
        assert_eq!(value(&ColumnType::Bytes, "\\x00ff"), "0x00ff");
        assert_eq!(value(&ColumnType::Bytes, "\\x"), "''");
        assert_eq!(value(&ColumnType::Timestamp(0), "2024-01-01 00:00:00+00"), "'2024-01-01 00:00:00'");
    }
}
