//! Casts, comparison and arithmetic of dates, times, timestamps and intervals.

use bumpalo::Bump;

pub(super) use super::interval::Span;
use super::moment::{
    self, BEFORE_ALL, DAY, Text, at, date_of, days_of, infinite, month_length, valid_date, valid_timestamp,
};
use super::node::{Fun, R, V, fail, fun};
use super::ops::{int, text};
use super::resolve::Signature;
use super::types::Base::{self, *};
use super::{EvalError, zone};

/// Days of a date.
pub(super) fn date(v: V<'_>) -> Result<i64, EvalError> {
    match v {
        V::Int(n) => Ok(n),
        v => moment::read_date(text(v)?),
    }
}

/// Microseconds of a time of day.
pub(super) fn time(v: V<'_>) -> Result<i64, EvalError> {
    match v {
        V::Int(n) => Ok(n),
        v => moment::read_time(text(v)?),
    }
}

/// Microseconds of a timestamp, or of a date's midnight.
pub(super) fn micros(v: V<'_>, base: &Base) -> Result<i64, EvalError> {
    match (v, base) {
        (v, Date) => {
            let days = date(v)?;
            if infinite(days) { Ok(days) } else { at(days, 0) }
        }
        (V::Int(n), _) => Ok(n),
        (v, base) => moment::read_timestamp(text(v)?, *base == TimestampTz),
    }
}

/// Microseconds for comparison, also of dates that no timestamp reaches.
pub(super) fn order(v: V<'_>, base: &Base) -> Result<i128, EvalError> {
    let (n, unit) = match base {
        Date => (date(v)?, DAY),
        base => (micros(v, base)?, 1),
    };
    Ok(match n {
        BEFORE_ALL => i128::MIN,
        moment::AFTER_ALL => i128::MAX,
        n => i128::from(n) * i128::from(unit),
    })
}

pub(super) fn print_date(bump: &Bump, days: i64) -> &[u8] {
    bump.alloc_slice_copy(Text::of_date(days).as_bytes())
}

pub(super) fn print_time(bump: &Bump, micros: i64) -> &[u8] {
    let mut t = Text::new();
    t.time(micros);
    bump.alloc_slice_copy(t.as_bytes())
}

pub(super) fn print_timestamp(bump: &Bump, micros: i64, zoned: bool) -> &[u8] {
    bump.alloc_slice_copy(Text::of_timestamp(micros, zoned).as_bytes())
}

/// Casts among these types. Local time is universal time here.
pub(super) fn between(from: &Base, to: &Base) -> Option<Fun> {
    let from = from.clone();
    Some(match (from.clone(), to) {
        (Date | Timestamp | TimestampTz, Timestamp | TimestampTz) => fun(move |_, v| Ok(V::Int(micros(v[0], &from)?))),
        (Timestamp | TimestampTz, Date) => fun(move |_, v| {
            let t = micros(v[0], &from)?;
            Ok(V::Int(if infinite(t) { t } else { t.div_euclid(DAY) }))
        }),
        (Timestamp | TimestampTz, Time) => fun(move |_, v| {
            let t = micros(v[0], &from)?;
            Ok(if infinite(t) { V::Null } else { V::Int(t.rem_euclid(DAY)) })
        }),
        (Time, Interval) => fun(|bump, v| Ok(Span { micros: time(v[0])?, ..Span::default() }.value(bump))),
        (Interval, Time) => fun(|_, v| Ok(V::Int(Span::of(v[0])?.micros.rem_euclid(DAY)))),
        _ => return None,
    })
}

/// The types' own reading of text.
pub(super) fn input(to: &Base) -> Option<Fun> {
    Some(match to {
        Date => fun(|_, v| Ok(V::Int(moment::read_date(text(v[0])?)?))),
        Time => fun(|_, v| Ok(V::Int(moment::read_time(text(v[0])?)?))),
        Timestamp => fun(|_, v| Ok(V::Int(moment::read_timestamp(text(v[0])?, false)?))),
        TimestampTz => fun(|_, v| Ok(V::Int(moment::read_timestamp(text(v[0])?, true)?))),
        Interval => fun(|bump, v| Ok(Span::of(v[0])?.value(bump))),
        _ => return None,
    })
}

/// Rounds to so many digits of a second, halves away from zero.
pub(super) fn rounding(base: &Base, digits: i32) -> Option<Fun> {
    let unit = 10_i64.pow(6 - digits.clamp(0, 6) as u32);
    let base = base.clone();
    Some(fun(move |_, v| {
        let t = if base == Time { time(v[0])? } else { micros(v[0], &base)? };
        if infinite(t) {
            return Ok(V::Int(t));
        }
        let rounded = (t.abs() + unit / 2) / unit * unit;
        Ok(V::Int(if t < 0 { -rounded } else { rounded }))
    }))
}

/// A timestamp that much later: months first, with the day kept inside of the month, then days, then the clock.
pub(super) fn shifted(t: i64, span: Span) -> Result<i64, EvalError> {
    if infinite(t) {
        return Ok(t);
    }
    let (mut days, clock) = (t.div_euclid(DAY), t.rem_euclid(DAY));
    if span.months != 0 {
        let (year, month, day) = date_of(days);
        let months = year * 12 + month - 1 + span.months;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        days = days_of(year, month, day.min(month_length(year, month)));
    }
    let moved = at(days + span.days, clock)?.checked_add(span.micros);
    moved.map_or_else(|| fail("timestamp out of range"), valid_timestamp)
}

/// The interval between two timestamps: whole days, and the rest.
fn difference<'a>(bump: &'a Bump, a: i64, b: i64) -> R<'a> {
    if infinite(a) || infinite(b) {
        return fail("cannot subtract infinite timestamps");
    }
    let Some(d) = a.checked_sub(b) else { return fail("interval out of range") };
    Ok(Span { months: 0, days: d / DAY, micros: d % DAY }.value(bump))
}

/// `+` and `-` where one side is one of these types.
pub(super) fn arithmetic(name: char) -> Vec<Signature> {
    let mut all = Vec::new();
    if !matches!(name, '+' | '-') {
        return all;
    }
    let minus = name == '-';
    let span = move |v: V<'_>| {
        let s = Span::of(v)?;
        if minus { s.negated() } else { Ok(s) }
    };
    for base in [Date, Timestamp, TimestampTz] {
        let result = if base == TimestampTz { TimestampTz } else { Timestamp };
        let b = base.clone();
        all.push(Signature::new(&[base.clone(), Interval], result.clone(), move |_, v| {
            Ok(V::Int(shifted(micros(v[0], &b)?, span(v[1])?)?))
        }));
        if !minus {
            let b = base.clone();
            all.push(Signature::new(&[Interval, base], result, move |_, v| {
                Ok(V::Int(shifted(micros(v[1], &b)?, span(v[0])?)?))
            }));
        }
    }
    all.push(Signature::new(&[Interval, Interval], Interval, move |bump, v| {
        Ok(Span::of(v[0])?.plus(span(v[1])?)?.value(bump))
    }));
    all.push(Signature::new(&[Time, Interval], Time, move |_, v| {
        Ok(V::Int((time(v[0])? + span(v[1])?.micros % DAY).rem_euclid(DAY)))
    }));
    let days = move |d: i64, n: i64| {
        if infinite(d) { Ok(d) } else { valid_date(d + if minus { -n } else { n }) }
    };
    all.push(Signature::new(&[Date, Int4], Date, move |_, v| Ok(V::Int(days(date(v[0])?, int(v[1])?)?))));
    if minus {
        for base in [Timestamp, TimestampTz] {
            let b = base.clone();
            all.push(Signature::new(&[base.clone(), base], Interval, move |bump, v| {
                difference(bump, micros(v[0], &b)?, micros(v[1], &b)?)
            }));
        }
        all.push(Signature::new(&[Date, Date], Int4, |_, v| {
            let (a, b) = (date(v[0])?, date(v[1])?);
            if infinite(a) || infinite(b) { fail("cannot subtract infinite dates") } else { Ok(V::Int(a - b)) }
        }));
        all.push(Signature::new(&[Time, Time], Interval, |bump, v| {
            Ok(Span { micros: time(v[0])? - time(v[1])?, ..Span::default() }.value(bump))
        }));
    } else {
        all.push(Signature::new(&[Int4, Date], Date, move |_, v| Ok(V::Int(days(date(v[1])?, int(v[0])?)?))));
        all.push(Signature::new(&[Interval, Time], Time, move |_, v| {
            Ok(V::Int((time(v[1])? + span(v[0])?.micros % DAY).rem_euclid(DAY)))
        }));
        for (a, b) in [(Date, Time), (Time, Date)] {
            let first = a == Date;
            all.push(Signature::new(&[a, b], Timestamp, move |_, v| {
                let (d, t) = if first { (v[0], v[1]) } else { (v[1], v[0]) };
                let d = date(d)?;
                Ok(V::Int(if infinite(d) { d } else { at(d, time(t)?)? }))
            }));
        }
    }
    all
}

/// `timezone(zone, moment)`, which `at time zone` stands for. A constant zone is looked up once, by the caller.
pub(super) fn at_zone(moment_type: &Base, fixed: Option<zone::Zone>) -> Signature {
    let to_local = *moment_type == TimestampTz;
    let (from, to) = if to_local { (TimestampTz, Timestamp) } else { (Timestamp, TimestampTz) };
    let base = from.clone();
    Signature::new(&[Text, from], to, move |_, v| {
        let t = micros(v[1], &base)?;
        if infinite(t) {
            return Ok(V::Int(t));
        }
        let found;
        let zone = match &fixed {
            Some(zone) => zone,
            None => match zone::find(super::ops::utf8(v[0])?) {
                Some(zone) => {
                    found = zone;
                    &found
                }
                None => return fail("unknown time zone"),
            },
        };
        let moved = if to_local { t + zone.of_utc(t) * 1_000_000 } else { t - zone.of_local(t) * 1_000_000 };
        Ok(V::Int(valid_timestamp(moved)?))
    })
}

/// `to_timestamp(double precision)`: seconds since 1970.
pub(super) fn from_unix(seconds: f64) -> R<'static> {
    if seconds.is_infinite() {
        return Ok(V::Int(if seconds < 0.0 { BEFORE_ALL } else { moment::AFTER_ALL }));
    }
    let epoch = (moment::UNIX_EPOCH * 86_400) as f64;
    // The bounds are Julian day 0 and the end of timestamps, in seconds since 1970.
    if seconds.is_nan() || !(-210_866_803_200.0..9_224_318_016_000.0).contains(&seconds) {
        return fail("timestamp out of range");
    }
    Ok(V::Int(valid_timestamp(((seconds + epoch) * 1e6).round_ties_even() as i64)?))
}
