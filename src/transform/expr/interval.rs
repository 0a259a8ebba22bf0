//! Intervals: months, days and microseconds apart, in PostgreSQL's own style.

use std::fmt::Write;

use bumpalo::Bump;

use super::EvalError;
use super::moment::{DAY, Text, read_fraction};
use super::node::{V, fail};
use super::ops::{str_in, utf8};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub months: i64,
    pub days: i64,
    pub micros: i64,
}

const BAD: &str = "invalid input syntax for type interval";
const RANGE: &str = "interval out of range";

impl Span {
    pub fn of(v: V<'_>) -> Result<Span, EvalError> {
        Span::read(utf8(v)?)
    }

    /// Days have 24 hours and months 30 days when intervals are compared.
    pub fn order(&self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY) + i128::from(self.micros)
    }

    fn checked(self) -> Result<Span, EvalError> {
        if i32::try_from(self.months).is_err() || i32::try_from(self.days).is_err() {
            return fail(RANGE);
        }
        Ok(self)
    }

    pub fn negated(self) -> Result<Span, EvalError> {
        let micros = self.micros.checked_neg().map_or_else(|| fail(RANGE), Ok)?;
        Span { months: -self.months, days: -self.days, micros }.checked()
    }

    pub fn plus(self, other: Span) -> Result<Span, EvalError> {
        let micros = self.micros.checked_add(other.micros).map_or_else(|| fail(RANGE), Ok)?;
        Span { months: self.months.saturating_add(other.months), days: self.days.saturating_add(other.days), micros }
            .checked()
    }

    pub fn value<'a>(&self, bump: &'a Bump) -> V<'a> {
        str_in(bump, &self.print())
    }

    /// `1 year 2 mons -3 days +04:05:06.7`.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let mut before = false;
        for (n, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if n == 0 {
                continue;
            }
            let space = if out.is_empty() { "" } else { " " };
            let plus = if before && n > 0 { "+" } else { "" };
            let plural = if n == 1 { "" } else { "s" };
            let _ = write!(out, "{space}{plus}{n} {unit}{plural}");
            before = n < 0;
        }
        if out.is_empty() || self.micros != 0 {
            if !out.is_empty() {
                out.push(' ');
            }
            if self.micros < 0 {
                out.push('-');
            } else if before {
                out.push('+');
            }
            let mut text = Text::new();
            text.time(self.micros.unsigned_abs().min(i64::MAX as u64) as i64);
            out.push_str(&String::from_utf8_lossy(text.as_bytes()));
        }
        out
    }

    pub fn read(text: &str) -> Result<Span, EvalError> {
        let text = text.trim().to_ascii_lowercase();
        let mut words = text.split_ascii_whitespace().peekable();
        let mut span = Span::default();
        let mut any = false;
        while let Some(word) = words.next() {
            any = true;
            if word == "ago" && words.peek().is_none() {
                return span.negated();
            }
            if word == "@" {
                continue;
            }
            if word.contains(':') {
                span = span.plus(Span { micros: read_clock(word)?, ..Span::default() })?;
                continue;
            }
            // The unit may cling to the number.
            let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let (number, unit) = word.split_at(end);
            let unit = if unit.is_empty() {
                match words.peek() {
                    Some(next) if next.starts_with(|c: char| c.is_ascii_alphabetic()) && *next != "ago" => {
                        words.next().unwrap_or("second")
                    }
                    // A bare number counts seconds, and only at the end.
                    None => "second",
                    _ => return fail(BAD),
                }
            } else {
                unit
            };
            span = span.plus(amount(number, unit)?)?;
        }
        if any { Ok(span) } else { fail(BAD) }
    }
}

/// `[-]H:MM[:SS[.f]]` in microseconds.
fn read_clock(word: &str) -> Result<i64, EvalError> {
    let (negative, t) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let parts: Vec<&str> = t.split(':').collect();
    let number = |t: &str| match t.parse::<i64>() {
        Ok(n) if t.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => fail(BAD),
    };
    let (h, m, s) = match parts[..] {
        [h, m] => (h, m, "0"),
        [h, m, s] => (h, m, s),
        _ => return fail(BAD),
    };
    let (s, f) = s.split_once('.').unwrap_or((s, ""));
    let (h, m, s) = (number(h)?, number(m)?, number(s)?);
    if m > 59 || s > 60 {
        return fail(RANGE);
    }
    let seconds = h.checked_mul(3600).and_then(|x| x.checked_add(m * 60 + s));
    let fraction = read_fraction(f)?;
    let micros =
        seconds.and_then(|s| s.checked_mul(1_000_000)?.checked_add(fraction)).map_or_else(|| fail(RANGE), Ok)?;
    Ok(if negative { -micros } else { micros })
}

/// A number of a unit; fractions go down to smaller units.
fn amount(number: &str, unit: &str) -> Result<Span, EvalError> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return fail(BAD);
    }
    let n: i64 = if whole.is_empty() { 0 } else { whole.parse().or_else(|_| fail(RANGE))? };
    let f: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().or_else(|_| fail(BAD))? };
    let clock = |micros: i64| {
        let whole = n.checked_mul(micros).map_or_else(|| fail(RANGE), Ok)?;
        Ok(Span { micros: whole.saturating_add((f * micros as f64).round_ties_even() as i64), ..Span::default() })
    };
    // What is left of a day or a month becomes smaller units.
    let of_days = |days: f64| {
        let whole = days.trunc();
        Span { months: 0, days: whole as i64, micros: ((days - whole) * DAY as f64).round_ties_even() as i64 }
    };
    let months = |each: i64| {
        let whole = n.checked_mul(each).map_or_else(|| fail(RANGE), Ok)?;
        Ok(Span { months: whole.saturating_add((f * each as f64).round_ties_even() as i64), ..Span::default() })
    };
    let span = match unit {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => clock(1),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => clock(1000),
        "s" | "sec" | "secs" | "second" | "seconds" => clock(1_000_000),
        "m" | "min" | "mins" | "minute" | "minutes" => clock(60_000_000),
        "h" | "hr" | "hrs" | "hour" | "hours" => clock(3_600_000_000),
        "d" | "day" | "days" => Ok(Span { days: n, ..Span::default() }.plus(of_days(f))?),
        "w" | "week" | "weeks" => {
            Ok(Span { days: n.checked_mul(7).map_or_else(|| fail(RANGE), Ok)?, ..Span::default() }
                .plus(of_days(f * 7.0))?)
        }
        "mon" | "mons" | "month" | "months" => Ok(Span { months: n, ..Span::default() }.plus(of_days(f * 30.0))?),
        "y" | "yr" | "yrs" | "year" | "years" => months(12),
        "decade" | "decades" => months(120),
        "century" | "centuries" => months(1200),
        _ => fail(BAD),
    }?
    .checked()?;
    if negative { span.negated() } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_intervals_when_read_then_they_print_in_the_servers_style() {
        for (written, printed) in [
            ("1 day", "1 day"),
            ("14 months 3 days 4:05:06.70", "1 year 2 mons 3 days 04:05:06.7"),
            ("-1 day 2 hours", "-1 days +02:00:00"),
            ("1.5 days", "1 day 12:00:00"),
            ("90", "00:01:30"),
            ("2h30m", ""),
            ("1 week ago", "-7 days"),
            ("0 days", "00:00:00"),
            ("1.5 years", "1 year 6 mons"),
        ] {
            match Span::read(written) {
                Ok(span) => assert_eq!(span.print(), printed, "{written}"),
                Err(_) => assert_eq!(printed, "", "{written}"),
            }
        }
    }
}
