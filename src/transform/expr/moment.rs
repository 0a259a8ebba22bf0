//! The calendar, and the texts of dates, times and timestamps: read as PostgreSQL reads them under `DateStyle=ISO, MDY`
//! and time zone UTC, printed in canonical form. Moments count from 2000-01-01, in days or microseconds.

use super::EvalError;
use super::node::fail;
use super::zone::{self, Zone};

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;
/// `-infinity` and `infinity`, of dates and timestamps alike.
pub(super) const BEFORE_ALL: i64 = i64::MIN;
pub(super) const AFTER_ALL: i64 = i64::MAX;
/// 1970-01-01 in days.
pub(super) const UNIX_EPOCH: i64 = -10_957;
/// The first day, 4714-11-24 BC, which is Julian day 0.
pub(super) const FIRST_DAY: i64 = -2_451_545;
/// The day behind the last date, 5874897-12-31.
const DATE_END: i64 = 2_145_031_949;
/// The day behind the last timestamp, 294276-12-31.
const TIMESTAMP_END: i64 = 106_751_983;

pub(super) fn infinite(n: i64) -> bool {
    n == BEFORE_ALL || n == AFTER_ALL
}

/// Days of a date of the proleptic Gregorian calendar; year 0 is 1 BC.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    // 730 425 days lie between the March before year 0 and 2000-01-01.
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730_425
}

/// Year, month and day.
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let z = days + 730_425;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

pub(super) fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Refuses dates outside of the server's range.
pub(super) fn valid_date(days: i64) -> Result<i64, EvalError> {
    if infinite(days) || (FIRST_DAY..DATE_END).contains(&days) { Ok(days) } else { fail("date out of range") }
}

/// The same of timestamps.
pub(super) fn valid_timestamp(micros: i64) -> Result<i64, EvalError> {
    if infinite(micros) || (FIRST_DAY * DAY..TIMESTAMP_END * DAY).contains(&micros) {
        Ok(micros)
    } else {
        fail("timestamp out of range")
    }
}

/// The timestamp at that time of that day.
pub(super) fn at(days: i64, time: i64) -> Result<i64, EvalError> {
    match days.checked_mul(DAY).and_then(|d| d.checked_add(time)) {
        Some(t) => valid_timestamp(t),
        None => fail("timestamp out of range"),
    }
}

/// A fixed buffer for a text of a moment: it has 40 bytes at most.
pub(super) struct Text {
    bytes: [u8; 48],
    len: usize,
}

impl Text {
    pub fn new() -> Text {
        Text { bytes: [0; 48], len: 0 }
    }
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    fn put(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }
    /// At least `width` digits.
    fn number(&mut self, mut n: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut used = 0;
        while n > 0 || used < width {
            used += 1;
            digits[20 - used] = b'0' + (n % 10) as u8;
            n /= 10;
        }
        self.put(&digits[20 - used..]);
    }
    fn date(&mut self, days: i64) -> bool {
        let (year, month, day) = date_of(days);
        let bc = year <= 0;
        self.number(if bc { 1 - year } else { year } as u64, 4);
        self.put(b"-");
        self.number(month as u64, 2);
        self.put(b"-");
        self.number(day as u64, 2);
        bc
    }
    pub fn time(&mut self, micros: i64) {
        let seconds = micros / 1_000_000;
        self.number((seconds / 3600) as u64, 2);
        self.put(b":");
        self.number((seconds / 60 % 60) as u64, 2);
        self.put(b":");
        self.number((seconds % 60) as u64, 2);
        let fraction = micros % 1_000_000;
        if fraction > 0 {
            self.put(b".");
            self.number(fraction as u64, 6);
            while self.bytes[self.len - 1] == b'0' {
                self.len -= 1;
            }
        }
    }
    fn infinity(&mut self, n: i64) {
        self.put(if n == BEFORE_ALL { b"-infinity" } else { b"infinity" });
    }
    pub fn of_date(days: i64) -> Text {
        let mut text = Text::new();
        if infinite(days) {
            text.infinity(days);
        } else if text.date(days) {
            text.put(b" BC");
        }
        text
    }
    pub fn of_timestamp(micros: i64, zoned: bool) -> Text {
        let mut text = Text::new();
        if infinite(micros) {
            text.infinity(micros);
            return text;
        }
        let bc = text.date(micros.div_euclid(DAY));
        text.put(b" ");
        text.time(micros.rem_euclid(DAY));
        if zoned {
            text.put(b"+00");
        }
        if bc {
            text.put(b" BC");
        }
        text
    }
}

/// What a text says of a moment.
#[derive(Default)]
struct Said {
    /// An infinity, or the epoch.
    special: Option<i64>,
    days: Option<i64>,
    time: Option<i64>,
    zone: Option<Zone>,
}

const BAD: &str = "invalid input syntax for a date or time";
const RANGE: &str = "date/time field value out of range";

pub(super) fn read_date(text: &[u8]) -> Result<i64, EvalError> {
    if let Some(days) = plain_date(text) {
        return Ok(days);
    }
    let said = read(text)?;
    match (said.special, said.days) {
        (Some(n), _) if infinite(n) => Ok(n),
        (Some(n), _) => Ok(n.div_euclid(DAY)),
        (None, Some(days)) => valid_date(days),
        _ => fail(BAD),
    }
}

/// `YYYY-MM-DD` with a date that exists.
fn plain_date(t: &[u8]) -> Option<i64> {
    let [y @ .., b'-', m1, m2, b'-', d1, d2] = t else { return None };
    if y.len() != 4 {
        return None;
    }
    let digit = |b: &u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
    let year = y.iter().try_fold(0, |n, b| Some(n * 10 + digit(b)?))?;
    let (month, day) = (digit(m1)? * 10 + digit(m2)?, digit(d1)? * 10 + digit(d2)?);
    (year > 0 && (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day))
        .then(|| days_of(year, month, day))
}

pub(super) fn read_timestamp(text: &[u8], zoned: bool) -> Result<i64, EvalError> {
    let said = read(text)?;
    if let Some(n) = said.special {
        return Ok(n);
    }
    let Some(days) = said.days else { return fail(BAD) };
    let local = at(days, said.time.unwrap_or(0))?;
    match said.zone.filter(|_| zoned) {
        Some(zone) => valid_timestamp(local - zone.of_local(local) * 1_000_000),
        None => Ok(local),
    }
}

pub(super) fn read_time(text: &[u8]) -> Result<i64, EvalError> {
    match read(text)?.time {
        Some(time) => Ok(time),
        None => fail(BAD),
    }
}

fn read(text: &[u8]) -> Result<Said, EvalError> {
    let Ok(text) = std::str::from_utf8(text) else { return fail(BAD) };
    // Punctuation that means nothing here only parts the words.
    let parting = |c: char| c.is_ascii_whitespace() || (c.is_ascii_punctuation() && !"+-:/._".contains(c));
    let lower = text.trim_matches(parting).to_ascii_lowercase();
    let special = match lower.as_str() {
        "infinity" | "+infinity" => Some(AFTER_ALL),
        "-infinity" => Some(BEFORE_ALL),
        "epoch" => Some(UNIX_EPOCH * DAY),
        "" => return fail(BAD),
        _ => None,
    };
    let mut said = Said { special, ..Said::default() };
    if special.is_some() {
        return Ok(said);
    }
    let mut parts = DateParts::default();
    let mut half = None;
    let mut bc = false;
    for word in lower.split(parting).filter(|w| !w.is_empty()) {
        // `2024-01-02t03:04:05`
        let (date, time) = match word.find('t') {
            Some(at)
                if at > 0
                    && word.as_bytes()[at - 1].is_ascii_digit()
                    && word.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit) =>
            {
                (&word[..at], Some(&word[at + 1..]))
            }
            _ => (word, None),
        };
        for word in std::iter::once(date).chain(time) {
            let first = word.as_bytes().first().copied().unwrap_or(0);
            match word {
                "bc" => bc = true,
                "ad" => {}
                "am" | "pm" => half = Some(word == "pm"),
                "now" | "today" | "tomorrow" | "yesterday" => {
                    return fail("what depends on the clock has no place in a rule");
                }
                "allballs" => said.time = Some(0),
                _ if word.contains(':') && first.is_ascii_digit() => time_word(word, &mut said, &mut half)?,
                _ if matches!(first, b'+' | b'-') => {
                    let Some(offset) = zone::read_offset(word) else { return fail(BAD) };
                    if said.time.is_none() || said.zone.is_some() {
                        return fail(BAD);
                    }
                    said.zone = Some(offset);
                }
                _ if parts.take(word)? => {}
                // Zones come behind a time, and names that end a time in the same word were cut off above.
                _ if said.zone.is_none() => match zone::find(word) {
                    Some(zone) => said.zone = Some(zone),
                    None => return fail(BAD),
                },
                _ => return fail(BAD),
            }
        }
    }
    if let (Some(pm), Some(time)) = (half, said.time) {
        let hour = time / 3_600_000_000;
        if !(1..=12).contains(&hour) {
            return fail(RANGE);
        }
        let shift = match (pm, hour) {
            (true, 12) | (false, 1..=11) => 0,
            (true, _) => 12,
            (false, _) => -12,
        };
        said.time = Some(time + shift * 3_600_000_000);
    }
    said.days = parts.days(bc)?;
    Ok(said)
}

/// A time of day with what clings to it: `03:04:05.6+02`, `03:04z`, `3:04pm`.
fn time_word(word: &str, said: &mut Said, half: &mut Option<bool>) -> Result<(), EvalError> {
    if said.time.is_some() {
        return fail(BAD);
    }
    let end = word.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(word.len());
    let (clock, rest) = word.split_at(end);
    said.time = Some(read_clock(clock)?);
    match rest {
        "" => {}
        "am" | "pm" => *half = Some(rest == "pm"),
        _ if rest.starts_with(['+', '-']) => match zone::read_offset(rest) {
            Some(zone) => said.zone = Some(zone),
            None => return fail(BAD),
        },
        _ => match zone::find(rest) {
            Some(zone) => said.zone = Some(zone),
            None => return fail(BAD),
        },
    }
    Ok(())
}

/// `HH:MM[:SS[.ffffff]]` in microseconds.
fn read_clock(t: &str) -> Result<i64, EvalError> {
    let mut parts = t.split(':');
    let whole = |p: Option<&str>| match p {
        Some(p) if !p.is_empty() && p.len() <= 7 => p.parse::<i64>().or_else(|_| fail(BAD)),
        _ => fail(BAD),
    };
    let (hour, minute) = (whole(parts.next())?, whole(parts.next())?);
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(s) => {
            let (s, f) = s.split_once('.').unwrap_or((s, ""));
            (whole(Some(s))?, read_fraction(f)?)
        }
    };
    if parts.next().is_some() {
        return fail(BAD);
    }
    let time = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    if minute > 59 || second > 60 || hour > 24 || time > DAY {
        return fail(RANGE);
    }
    Ok(time)
}

/// Digits behind the point, rounded to microseconds.
pub(super) fn read_fraction(digits: &str) -> Result<i64, EvalError> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return fail(BAD);
    }
    if digits.len() <= 6 {
        return format!("{digits:0<6}").parse().or_else(|_| fail(BAD));
    }
    let number: f64 = format!("0.{digits}").parse().or_else(|_| fail(BAD))?;
    Ok((number * 1e6).round_ties_even() as i64)
}

/// The words of a date, in the order in which they came.
#[derive(Default)]
struct DateParts {
    year: Option<(i64, usize)>,
    month: Option<i64>,
    day: Option<i64>,
    /// All three came in one word.
    whole: bool,
    /// The month came as a name.
    named: bool,
}

fn month_named(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let at = MONTHS.iter().position(|m| *m == word || (word.len() == 3 && m.starts_with(word)));
    at.or((word == "sept").then_some(8)).map(|at| at as i64 + 1)
}

fn digits(t: &str) -> Option<i64> {
    (!t.is_empty() && t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok()).flatten()
}

impl DateParts {
    /// Takes a word if it is of a date.
    fn take(&mut self, word: &str) -> Result<bool, EvalError> {
        const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
        if DAYS.iter().any(|d| *d == word || (word.len() == 3 && d.starts_with(word))) {
            return Ok(true);
        }
        if let Some(month) = month_named(word) {
            if self.named || self.whole {
                return fail(BAD);
            }
            // The number that seemed to be the month was the day.
            if let Some(day) = self.month.take() {
                if self.day.is_some() {
                    return fail(BAD);
                }
                self.day = Some(day);
            }
            (self.month, self.named) = (Some(month), true);
            return Ok(true);
        }
        if word.starts_with(|c: char| c.is_ascii_digit())
            || word.contains('-') && word.get(..3).and_then(month_named).is_some()
        {
            let separator = if word.contains('/') { '/' } else { '-' };
            let fields: Vec<&str> = word.split(separator).collect();
            match fields[..] {
                [one] => self.number(one)?,
                [a, b, c] => self.three(a, b, c)?,
                _ => return fail(BAD),
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn number(&mut self, word: &str) -> Result<(), EvalError> {
        let Some(n) = digits(word) else { return fail(BAD) };
        match word.len() {
            8 if !self.whole && self.month.is_none() => self.ymd((n / 10_000, 4), n / 100 % 100, n % 100),
            6 if !self.whole && self.month.is_none() => self.ymd((n / 10_000, 2), n / 100 % 100, n % 100),
            len if len <= 7 && !self.whole => {
                let year = Some((n, len));
                match (self.year, self.month, self.day) {
                    (None, None, None) if len >= 3 => self.year = year,
                    (None, None, None) => self.month = Some(n),
                    (None, Some(_), None) if self.named && len >= 3 => self.year = year,
                    (_, Some(_), None) => self.day = Some(n),
                    (Some(_), None, _) => self.month = Some(n),
                    (None, _, Some(_)) => self.year = year,
                    _ => return fail(BAD),
                }
                Ok(())
            }
            _ => fail(BAD),
        }
    }

    fn three(&mut self, a: &str, b: &str, c: &str) -> Result<(), EvalError> {
        let n = |t: &str| digits(t).map_or_else(|| fail(BAD), Ok);
        let year = |t: &str| Ok::<_, EvalError>((n(t)?, t.len()));
        match (month_named(a), month_named(b)) {
            (Some(month), None) => self.ymd(year(c)?, month, n(b)?),
            (None, Some(month)) if a.len() >= 3 => self.ymd(year(a)?, month, n(c)?),
            (None, Some(month)) => self.ymd(year(c)?, month, n(a)?),
            _ if a.len() >= 3 => self.ymd(year(a)?, n(b)?, n(c)?),
            _ => self.ymd(year(c)?, n(a)?, n(b)?),
        }
    }

    fn ymd(&mut self, year: (i64, usize), month: i64, day: i64) -> Result<(), EvalError> {
        if self.whole || self.year.is_some() || self.day.is_some() || self.month.is_some() {
            return fail(BAD);
        }
        (self.year, self.month, self.day, self.whole) = (Some(year), Some(month), Some(day), true);
        Ok(())
    }

    fn days(&self, bc: bool) -> Result<Option<i64>, EvalError> {
        let (Some((year, length)), Some(month), Some(day)) = (self.year, self.month, self.day) else {
            return if self.year.is_none() && self.month.is_none() && self.day.is_none() && !bc {
                Ok(None)
            } else {
                fail(BAD)
            };
        };
        let year = match (bc, length) {
            (true, _) if year < 1 => return fail(RANGE),
            (true, _) => 1 - year,
            (false, ..=2) if year < 70 => year + 2000,
            (false, ..=2) => year + 1900,
            (false, _) if year < 1 => return fail(RANGE),
            (false, _) => year,
        };
        if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
            return fail(RANGE);
        }
        Ok(Some(days_of(year, month, day)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_every_four_hundredth_day_when_taken_apart_then_it_comes_back() {
        for days in (FIRST_DAY..4_000_000).step_by(397) {
            let (y, m, d) = date_of(days);
            assert_eq!(days_of(y, m, d), days);
        }
        assert_eq!((date_of(0), date_of(UNIX_EPOCH)), ((2000, 1, 1), (1970, 1, 1)));
    }

    #[test]
    fn given_timestamps_when_read_then_they_print_canonically() {
        for (written, printed) in [
            ("2024-02-29 03:04:05.120000", "2024-02-29 03:04:05.12+00"),
            ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00"),
            ("20240102 03:04+02", "2024-01-02 01:04:00+00"),
            ("2024-07-01 12:00 Europe/Zurich", "2024-07-01 10:00:00+00"),
            ("0044-03-15 BC", "0044-03-15 00:00:00+00 BC"),
            ("Jan 8, 1999 4:05 PM", "1999-01-08 16:05:00+00"),
            ("1/8/99 24:00:00", "1999-01-09 00:00:00+00"),
            ("-infinity", "-infinity"),
        ] {
            let t = read_timestamp(written.as_bytes(), true).unwrap_or_else(|e| panic!("{written}: {e}"));
            assert_eq!(std::str::from_utf8(Text::of_timestamp(t, true).as_bytes()).unwrap(), printed);
        }
        for bad in ["2023-02-29", "2024-13-01", "nonsense", "2024-01-01 25:00", "2024-01", "now"] {
            assert!(read_timestamp(bad.as_bytes(), true).is_err(), "{bad}");
        }
    }
}
