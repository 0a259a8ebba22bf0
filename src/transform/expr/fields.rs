//! Parts of dates and times: `extract`, `date_part`, `date_trunc`.

use super::EvalError;
use super::datetime::{Span, date, micros, time};
use super::float;
use super::moment::{AFTER_ALL, BEFORE_ALL, DAY, UNIX_EPOCH, date_of, days_of, infinite, valid_timestamp};
use super::node::{R, V, fail};
use super::numeric::Dec;
use super::ops::{text, utf8};
use super::resolve::Signature;
use super::types::Base::{self, *};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Isoyear,
    Dow,
    Isodow,
    Doy,
    Epoch,
    Julian,
    Timezone,
}

fn unit(name: &str) -> Result<Unit, EvalError> {
    use Unit::*;
    Ok(match name.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            Microseconds
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            Milliseconds
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Hour,
        "d" | "day" | "days" => Day,
        "w" | "week" | "weeks" => Week,
        "mon" | "mons" | "month" | "months" => Month,
        "qtr" | "quarter" => Quarter,
        "y" | "yr" | "yrs" | "year" | "years" => Year,
        "dec" | "decs" | "decade" | "decades" => Decade,
        "c" | "cent" | "century" | "centuries" => Century,
        "mil" | "mils" | "millennium" | "millennia" => Millennium,
        "isoyear" => Isoyear,
        "dow" | "dayofweek" => Dow,
        "isodow" => Isodow,
        "doy" | "dayofyear" => Doy,
        "epoch" => Epoch,
        "j" | "jd" | "julian" => Julian,
        "timezone" | "timezone_h" | "timezone_hour" | "timezone_m" | "timezone_minute" => Timezone,
        _ => return fail("unit not recognized"),
    })
}

/// ISO week and its year.
fn iso_week(days: i64) -> (i64, i64) {
    // 2000-01-01 was a Saturday; weeks belong to the year of their Thursday.
    let thursday = days - (days + 5).rem_euclid(7) + 3;
    let year = date_of(thursday).0;
    (year, (thursday - days_of(year, 1, 1)) / 7 + 1)
}

/// No year is 0 for people.
fn shown(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

/// Groups of years, counted away from the turn of the era.
fn group(year: i64, size: i64) -> i64 {
    if year > 0 { (year + size - 1) / size } else { -((size - 1 - (year - 1)) / size) }
}

fn decade(year: i64) -> i64 {
    if year >= 0 { year / 10 } else { -((8 - (year - 1)) / 10) }
}

/// What of a day does not depend on the clock.
fn of_day(unit: Unit, days: i64) -> Option<i64> {
    let (year, month, day) = date_of(days);
    Some(match unit {
        Unit::Day => day,
        Unit::Month => month,
        Unit::Quarter => (month - 1) / 3 + 1,
        Unit::Year => shown(year),
        Unit::Decade => decade(year),
        Unit::Century => group(year, 100),
        Unit::Millennium => group(year, 1000),
        Unit::Week => iso_week(days).1,
        Unit::Isoyear => shown(iso_week(days).0),
        Unit::Dow => (days + 6).rem_euclid(7),
        Unit::Isodow => (days + 5).rem_euclid(7) + 1,
        Unit::Doy => days - days_of(year, 1, 1) + 1,
        Unit::Julian => days + 2_451_545,
        _ => return None,
    })
}

/// What of the clock.
fn of_clock(unit: Unit, clock: i64) -> Option<Dec> {
    let minute = clock % 60_000_000;
    Some(match unit {
        Unit::Microseconds => Dec::int(minute),
        Unit::Milliseconds => Dec::Finite(minute.into(), 3),
        Unit::Second => Dec::Finite(minute.into(), 6),
        Unit::Minute => Dec::int(clock / 60_000_000 % 60),
        Unit::Hour => Dec::int(clock / 3_600_000_000),
        _ => return None,
    })
}

/// Parts of an infinite moment: endless ones, or none.
fn of_infinity(unit: Unit, n: i64) -> Option<Dec> {
    use Unit::*;
    let endless = matches!(unit, Year | Decade | Century | Millennium | Isoyear | Epoch | Julian);
    endless.then_some(Dec::Infinity(n == BEFORE_ALL))
}

fn part(name: &str, v: V<'_>, base: &Base) -> Result<Option<Dec>, EvalError> {
    let unit = unit(name)?;
    let unsupported = || fail(format!("unit not supported for type {base}"));
    match base {
        Time => match (unit, time(v)?) {
            (Unit::Epoch, t) => Ok(Some(Dec::Finite(t.into(), 6))),
            (unit, t) => of_clock(unit, t).map_or_else(unsupported, |d| Ok(Some(d))),
        },
        Date => {
            let days = date(v)?;
            if of_day(unit, 0).is_none() && unit != Unit::Epoch {
                return unsupported();
            }
            if infinite(days) {
                return Ok(of_infinity(unit, days));
            }
            Ok(Some(Dec::int(of_day(unit, days).unwrap_or((days - UNIX_EPOCH) * 86_400))))
        }
        Interval => of_span(unit, Span::of(v)?).map_or_else(unsupported, |d| Ok(Some(d))),
        base => {
            let t = micros(v, base)?;
            if infinite(t) {
                return Ok(of_infinity(unit, t));
            }
            if unit == Unit::Timezone && *base == Timestamp {
                return unsupported();
            }
            let (days, clock) = (t.div_euclid(DAY), t.rem_euclid(DAY));
            Ok(Some(match unit {
                Unit::Epoch => Dec::Finite((i128::from(t) - i128::from(UNIX_EPOCH * DAY)).into(), 6),
                Unit::Julian => Dec::int(days + 2_451_545).add(&Dec::int(clock).div(&Dec::int(DAY))?)?,
                Unit::Timezone => Dec::int(0),
                unit => match of_day(unit, days) {
                    Some(n) => Dec::int(n),
                    None => of_clock(unit, clock).unwrap_or(Dec::NaN),
                },
            }))
        }
    }
}

fn of_span(unit: Unit, s: Span) -> Option<Dec> {
    let minute = s.micros % 60_000_000;
    Some(match unit {
        Unit::Microseconds => Dec::int(minute),
        Unit::Milliseconds => Dec::Finite(minute.into(), 3),
        Unit::Second => Dec::Finite(minute.into(), 6),
        Unit::Minute => Dec::int(s.micros / 60_000_000 % 60),
        Unit::Hour => Dec::int(s.micros / 3_600_000_000),
        Unit::Day => Dec::int(s.days),
        Unit::Month => Dec::int(s.months % 12),
        Unit::Quarter => Dec::int(s.months % 12 / 3 + 1),
        Unit::Year => Dec::int(s.months / 12),
        Unit::Decade => Dec::int(s.months / 120),
        Unit::Century => Dec::int(s.months / 1200),
        Unit::Millennium => Dec::int(s.months / 12_000),
        // A year has 365.25 days, a month 30.
        Unit::Epoch => {
            let quarters = s.months / 12 * 1461 + s.months % 12 * 120 + s.days * 4;
            Dec::Finite((i128::from(quarters) * 21_600_000_000 + i128::from(s.micros)).into(), 6)
        }
        _ => return None,
    })
}

/// `extract` gives exact numbers, `date_part` floating ones (and sees a date as its midnight).
pub(super) fn parts(exact: bool) -> Vec<Signature> {
    let bases = [Date, Time, Timestamp, TimestampTz, Interval];
    let signature = |base: &Base| {
        let b = base.clone();
        let result = if exact { Numeric } else { Float8 };
        Signature::new(&[Text, base.clone()], result, move |bump, v| {
            let name = utf8(v[0])?;
            let found = match (&b, exact) {
                (Date, false) => part(name, V::Int(micros(v[1], &Date)?), &Timestamp)?,
                _ => part(name, v[1], &b)?,
            };
            match found {
                None => Ok(V::Null),
                Some(d) if exact => Ok(d.value(bump)),
                Some(d) => Ok(V::Float(float::parse(d.print().as_bytes(), false)?)),
            }
        })
        .or_null()
    };
    bases.iter().map(signature).collect()
}

fn truncated(unit: Unit, t: i64) -> Result<i64, EvalError> {
    if infinite(t) {
        return Ok(t);
    }
    let days = t.div_euclid(DAY);
    let (year, month, _) = date_of(days);
    let to = |size: i64| t.div_euclid(size) * size;
    let first = |year: i64, month: i64| days_of(year, month, 1) * DAY;
    valid_timestamp(match unit {
        Unit::Microseconds => t,
        Unit::Milliseconds => to(1000),
        Unit::Second => to(1_000_000),
        Unit::Minute => to(60_000_000),
        Unit::Hour => to(3_600_000_000),
        Unit::Day => to(DAY),
        Unit::Week => (days - (days + 5).rem_euclid(7)) * DAY,
        Unit::Month => first(year, month),
        Unit::Quarter => first(year, (month - 1) / 3 * 3 + 1),
        Unit::Year => first(year, 1),
        Unit::Decade => first(decade(year) * 10, 1),
        Unit::Century => first(if year > 0 { group(year, 100) * 100 - 99 } else { group(year, 100) * 100 + 1 }, 1),
        Unit::Millennium => {
            first(if year > 0 { group(year, 1000) * 1000 - 999 } else { group(year, 1000) * 1000 + 1 }, 1)
        }
        _ => return fail("unit not supported for truncation"),
    })
}

/// `date_trunc(unit, moment)`, also in a zone.
pub(super) fn truncations() -> Vec<Signature> {
    let mut all = Vec::new();
    for base in [Timestamp, TimestampTz] {
        let b = base.clone();
        all.push(Signature::new(&[Text, base.clone()], base, move |_, v| {
            Ok(V::Int(truncated(unit(utf8(v[0])?)?, micros(v[1], &b)?)?))
        }));
    }
    all.push(Signature::new(&[Text, TimestampTz, Text], TimestampTz, in_zone));
    all
}

fn in_zone<'a>(_: &'a bumpalo::Bump, v: &[V<'a>]) -> R<'a> {
    let t = micros(v[1], &TimestampTz)?;
    if infinite(t) {
        return Ok(V::Int(if t < 0 { BEFORE_ALL } else { AFTER_ALL }));
    }
    let unit = unit(utf8(v[0])?)?;
    let name = std::str::from_utf8(text(v[2])?).unwrap_or("");
    let Some(zone) = super::zone::find(name) else { return fail("unknown time zone") };
    let offset = zone.of_utc(t);
    let local = truncated(unit, t + offset * 1_000_000)?;
    // Below a day the offset stays; from a day on the new local time may have another one.
    let small = matches!(unit, Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour);
    let offset = if small { offset } else { zone.of_local(local) };
    Ok(V::Int(valid_timestamp(local - offset * 1_000_000)?))
}
