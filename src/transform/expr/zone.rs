//! Time zones: offsets, names of the bundled database, and the abbreviations that mean one thing.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use super::moment::{DAY, date_of, infinite};

/// The database that is compiled in: rules mean the same on every machine.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

#[derive(Clone)]
pub(super) enum Zone {
    /// Seconds east of Greenwich.
    Fixed(i64),
    Named(TimeZone),
}

/// Abbreviations of PostgreSQL's default set whose offset never changed, in hours.
const ABBREVIATIONS: &[(&str, i64)] = &[
    ("utc", 0),
    ("gmt", 0),
    ("z", 0),
    ("zulu", 0),
    ("ut", 0),
    ("uct", 0),
    ("wet", 0),
    ("west", 1),
    ("bst", 1),
    ("cet", 1),
    ("cest", 2),
    ("met", 1),
    ("mest", 2),
    ("eet", 2),
    ("eest", 3),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("hst", -10),
    ("jst", 9),
    ("kst", 9),
];

/// A zone by its name, in any case. Offsets written as names are POSIX in PostgreSQL (`UTC+2` is west) and refused.
pub(super) fn find(name: &str) -> Option<Zone> {
    if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
        return Some(Zone::Fixed(hours * 3600));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    DATABASE.get(name).ok().map(Zone::Named)
}

/// `+02`, `-0530`, `+05:30`, `+01:02:03`; west is negative.
pub(super) fn read_offset(text: &str) -> Option<Zone> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<i64>().ok()).flatten();
    let parts: Vec<&str> = rest.split(':').collect();
    let (h, m, s) = match parts[..] {
        [one] if one.len() <= 2 => (number(one)?, 0, 0),
        [one] if one.len() <= 4 => {
            let n = number(one)?;
            (n / 100, n % 100, 0)
        }
        [one] if one.len() == 6 => {
            let n = number(one)?;
            (n / 10_000, n / 100 % 100, n % 100)
        }
        [h, m] => (number(h)?, number(m)?, 0),
        [h, m, s] => (number(h)?, number(m)?, number(s)?),
        _ => return None,
    };
    (h <= 15 && m < 60 && s < 60).then_some(Zone::Fixed(sign * (h * 3600 + m * 60 + s)))
}

/// Days of four hundred years, after which the calendar repeats.
const CYCLE: i64 = 146_097;
/// The last year, counted generously, that the zone library knows.
const LAST_YEAR: i64 = 9990;

/// The same moment in a year that the library knows: rules repeat with the calendar.
fn civil(micros: i64) -> Option<jiff::civil::DateTime> {
    let mut days = micros.div_euclid(DAY);
    while date_of(days).0 > LAST_YEAR {
        days -= CYCLE * ((date_of(days).0 - LAST_YEAR) / 400).max(1);
    }
    let (y, m, d) = date_of(days);
    let seconds = micros.rem_euclid(DAY) / 1_000_000;
    let date = Date::new(i16::try_from(y).ok()?, m as i8, d as i8).ok()?;
    Some(date.at((seconds / 3600) as i8, (seconds / 60 % 60) as i8, (seconds % 60) as i8, 0))
}

impl Zone {
    /// Seconds east at this moment of universal time.
    pub fn of_utc(&self, micros: i64) -> i64 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(_) if infinite(micros) => 0,
            Zone::Named(zone) => civil(micros)
                .and_then(|c| c.to_zoned(TimeZone::UTC).ok())
                .map_or(0, |z| i64::from(zone.to_offset(z.timestamp()).seconds())),
        }
    }

    /// Seconds east at this local time. A time that was skipped counts as before the jump, one that came twice as the second.
    pub fn of_local(&self, micros: i64) -> i64 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(_) if infinite(micros) => 0,
            Zone::Named(zone) => civil(micros).map_or(0, |c| {
                let offset = match zone.to_ambiguous_zoned(c).offset() {
                    AmbiguousOffset::Unambiguous { offset } => offset,
                    AmbiguousOffset::Gap { before, .. } => before,
                    AmbiguousOffset::Fold { after, .. } => after,
                };
                i64::from(offset.seconds())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::expr::moment::read_timestamp;

    #[test]
    fn given_a_zone_with_summer_time_when_asked_then_gaps_and_folds_are_the_servers() {
        let zone = find("europe/zurich").unwrap();
        let at = |t: &str| read_timestamp(t.as_bytes(), false).unwrap();
        assert_eq!(zone.of_utc(at("2024-07-01 00:00:00")), 7200);
        assert_eq!(zone.of_local(at("2024-03-31 02:30:00")), 3600);
        assert_eq!(zone.of_local(at("2024-10-27 02:30:00")), 3600);
        assert_eq!(zone.of_utc(at("12024-07-01 00:00:00")), 7200);
        assert!(find("Europe/Atlantis").is_none() && find("+02").is_none());
    }
}
