//! Instants in milliseconds as texts, and back: canonical text of dates and timestamps, and the ISO form of extended JSON.
//! Pure.

/// Milliseconds of a day.
pub const DAY: i64 = 86_400_000;
/// The first instant that PostgreSQL's timestamps have: 4714-11-24 BC (`MIN_TIMESTAMP`, timestamp.h).
pub const FIRST: i64 = (-2_451_545 + 10_957) * DAY;
/// The first that they do not have any more: 294277-01-01 (`END_TIMESTAMP`).
pub const END: i64 = 9_223_371_331_200_000 + 10_957 * DAY;

/// Year, month and day of a day since 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms"); the year
/// before 1 is 0.
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]; `None` for a day that does not exist.
fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(-300_000..=300_000).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let y = year - i64::from(month <= 2);
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = era * 146_097 + of_era - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

fn put(out: &mut Vec<u8>, n: u32, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(n).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

/// Two digits of a number below 100.
#[inline]
fn two(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&[b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]);
}

fn day(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let before = year <= 0;
    put(out, u32::try_from(if before { 1 - year } else { year }).unwrap_or(0), 4);
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    before
}

fn clock(out: &mut Vec<u8>, of_day: i64) {
    // Of a day, so below 2^32.
    let ms = of_day as u32;
    two(out, ms / 3_600_000);
    out.push(b':');
    two(out, ms / 60_000 % 60);
    out.push(b':');
    two(out, ms / 1000 % 60);
}

/// Whether PostgreSQL's timestamps have the instant.
pub fn in_range(ms: i64) -> bool {
    (FIRST..END).contains(&ms)
}

/// Appends a timestamp in canonical text form; `zoned`: with `+00`. `false`, and nothing appended, out of range.
#[must_use]
pub fn timestamp(out: &mut Vec<u8>, ms: i64, zoned: bool) -> bool {
    if !in_range(ms) {
        return false;
    }
    let of_day = ms.rem_euclid(DAY);
    let before = day(out, ms.div_euclid(DAY));
    out.push(b' ');
    clock(out, of_day);
    let fraction = (of_day % 1000) as u32;
    if fraction > 0 {
        out.push(b'.');
        put(out, fraction, 3);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if zoned {
        out.extend_from_slice(b"+00");
    }
    if before {
        out.extend_from_slice(b" BC");
    }
    true
}

/// Appends a date in canonical text form. `false`, and nothing appended, where the instant is no midnight or out of range.
#[must_use]
pub fn date(out: &mut Vec<u8>, ms: i64) -> bool {
    if !in_range(ms) || ms.rem_euclid(DAY) != 0 {
        return false;
    }
    if day(out, ms.div_euclid(DAY)) {
        out.extend_from_slice(b" BC");
    }
    true
}

/// Appends `2024-01-31T12:00:59.123Z`, the fraction only if there is one. `false`, and nothing appended, for years outside
/// of 0 to 9999.
#[must_use]
pub fn iso(out: &mut Vec<u8>, ms: i64) -> bool {
    const YEAR_0: i64 = -719_528 * DAY;
    const YEAR_10000: i64 = 2_932_897 * DAY;
    if !(YEAR_0..YEAR_10000).contains(&ms) {
        return false;
    }
    let (year, month, day) = civil(ms.div_euclid(DAY));
    put(out, u32::try_from(year).unwrap_or(0), 4);
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    out.push(b'T');
    let of_day = ms.rem_euclid(DAY);
    clock(out, of_day);
    if of_day % 1000 > 0 {
        out.push(b'.');
        put(out, (of_day % 1000) as u32, 3);
    }
    out.push(b'Z');
    true
}

/// Reads what [`iso`] prints, and other offsets than `Z`.
pub fn read_iso(text: &[u8]) -> Option<i64> {
    let (day, rest) = read_day(text)?;
    let (ms, micros, rest) = read_clock(rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b" "))?)?;
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = match rest {
                [b':', m1, m2] | [m1, m2] => number(&[*m1, *m2])?,
                [] => 0,
                _ => return None,
            };
            let size = i64::from(number(&[*h1, *h2])? * 60 + minutes) * 60_000;
            if *sign == b'-' { -size } else { size }
        }
        _ => return None,
    };
    (micros == 0).then_some(day * DAY + ms - offset)
}

/// What a canonical text says of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Milliseconds since the Unix epoch.
    pub ms: i64,
    /// Microseconds beyond those, 0 to 999.
    pub micros: i64,
}

/// Reads a date or timestamp in canonical text form, UTC. `None` for infinity, and for dates that are none (`0000-00-00`).
pub fn read(text: &[u8]) -> Option<Read> {
    let (text, before) = match text.strip_suffix(b" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let text = text.strip_suffix(b"+00").unwrap_or(text);
    let at = text.iter().position(|b| *b == b'-')?;
    let year = i64::from(number(text.get(..at)?)?);
    let (year, first) = if before { (1 - year, 1) } else { (year, 1) };
    if !before && year < first || before && year > 0 {
        return None;
    }
    let (month, day, rest) = read_month(text.get(at..)?)?;
    let days = days(year, month, day)?;
    let (ms, micros, rest) = match rest.strip_prefix(b" ") {
        Some(clock) => read_clock(clock)?,
        None => (0, 0, rest),
    };
    rest.is_empty().then_some(Read { ms: days * DAY + ms, micros })
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

/// `-MM-DD` and what follows.
fn read_month(text: &[u8]) -> Option<(u32, u32, &[u8])> {
    match text {
        [b'-', m1, m2, b'-', d1, d2, rest @ ..] => Some((number(&[*m1, *m2])?, number(&[*d1, *d2])?, rest)),
        _ => None,
    }
}

/// `YYYY-MM-DD` and what follows, as a day since 1970-01-01.
fn read_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day, rest) = read_month(rest)?;
    Some((days(i64::from(number(year)?), month, day)?, rest))
}

/// `HH:MM:SS[.ffffff]` as milliseconds, the microseconds beyond, and what follows.
fn read_clock(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (h, m, s) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    if h > 23 || m > 59 || s > 59 {
        return None;
    }
    let (mut micros, mut rest) = (0, rest);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, after) = fraction.split_at(length);
        // Digits behind the sixth: only zeros pass.
        let (kept, beyond) = digits.split_at(length.min(6));
        if kept.is_empty() || beyond.iter().any(|b| *b != b'0') {
            return None;
        }
        micros = i64::from(number(kept)?) * 10_i64.pow(6 - u32::try_from(kept.len()).ok()?);
        rest = after;
    }
    let seconds = i64::from(h * 3600 + m * 60 + s);
    Some((seconds * 1000 + micros / 1000, micros % 1000, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(f: impl Fn(&mut Vec<u8>) -> bool) -> Option<String> {
        let mut out = Vec::new();
        f(&mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn given_instants_when_printed_then_they_are_as_the_server_prints_them() {
        let ts = |ms| shown(|o| timestamp(o, ms, true));
        assert_eq!(ts(0).as_deref(), Some("1970-01-01 00:00:00+00"));
        assert_eq!(ts(-1).as_deref(), Some("1969-12-31 23:59:59.999+00"));
        assert_eq!(ts(1_700_000_000_120).as_deref(), Some("2023-11-14 22:13:20.12+00"));
        assert_eq!(ts(FIRST).as_deref(), Some("4714-11-24 00:00:00+00 BC"));
        assert_eq!(ts(END - 1).as_deref(), Some("294276-12-31 23:59:59.999+00"));
        assert_eq!((ts(FIRST - 1), ts(END), ts(i64::MIN), ts(i64::MAX)), (None, None, None, None));
        assert_eq!(shown(|o| timestamp(o, 0, false)).as_deref(), Some("1970-01-01 00:00:00"));
        assert_eq!(shown(|o| date(o, 86_400_000)).as_deref(), Some("1970-01-02"));
        assert_eq!(shown(|o| date(o, -62_167_219_200_000)).as_deref(), Some("0001-01-01 BC"));
        assert_eq!(shown(|o| date(o, 1)), None);
        assert_eq!(shown(|o| iso(o, -62_167_219_200_000)).as_deref(), Some("0000-01-01T00:00:00Z"));
        assert_eq!(shown(|o| iso(o, 253_402_300_799_999)).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!((shown(|o| iso(o, 253_402_300_800_000)), shown(|o| iso(o, -62_167_219_200_001))), (None, None));
    }

    #[test]
    fn given_canonical_texts_when_read_then_they_are_instants() {
        let at = |t: &str| read(t.as_bytes()).map(|r| (r.ms, r.micros));
        assert_eq!(at("1970-01-02"), Some((DAY, 0)));
        assert_eq!(at("2023-11-14 22:13:20.123456+00"), Some((1_700_000_000_123, 456)));
        assert_eq!(at("0001-01-01 BC"), Some((-62_167_219_200_000, 0)));
        for bad in ["infinity", "-infinity", "0000-00-00", "2024-02-30", "2024-1-1", "2024-01-01 24:00:00", "x", ""] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(read_iso(b"2012-12-24T12:15:30.501+01:30"), read_iso(b"2012-12-24T10:45:30.501Z"));
        assert_eq!(read_iso(b"2012-12-24T12:15:30.501-0100"), read_iso(b"2012-12-24T13:15:30.501Z"));
        for bad in
            [&b"2012-12-24"[..], b"2012-12-24T12:15:30", b"2012-12-24T12:15:30.0001Z", b"", b"2012-13-24T12:15:30Z"]
        {
            assert_eq!(read_iso(bad), None);
        }
    }

    proptest! {
        #[test]
        fn given_any_instant_when_printed_and_read_then_it_is_the_same(ms in FIRST..END) {
            let mut out = Vec::new();
            prop_assert!(timestamp(&mut out, ms, true));
            prop_assert_eq!(read(&out), Some(Read { ms, micros: 0 }));
            let mut out = Vec::new();
            if iso(&mut out, ms) {
                prop_assert_eq!(read_iso(&out), Some(ms));
            }
        }
        #[test]
        fn given_any_text_when_read_as_an_instant_then_nothing_panics(text in "[-0-9: .+TZBC]{0,40}") {
            let _ = (read(text.as_bytes()), read_iso(text.as_bytes()));
        }
    }
}
