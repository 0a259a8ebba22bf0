//! Durations and sizes as people write them: `250ms`, `2s`, `1m`, `100MB`, `64MiB`. Pure.

use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::Visitor;

/// Reads a duration: a whole or decimal number and `us`, `ms`, `s`, `m` or `h`; a bare `0` too.
///
/// # Errors
/// What is wrong, and after a `; ` what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; write a number and a unit: \"250ms\", \"2s\", \"1m\", \"1h\"");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(bad()),
    };
    // A century is the bound: more is a typing error, and Duration arithmetic stays far from its limits.
    if seconds > 3_155_760_000.0 {
        return Err(format!("{text:?} is too long a time; write at most 1h for anything Switchyard waits for"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// Reads a size in bytes: a number and `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (of 1024).
///
/// # Errors
/// What is wrong, and after a `; ` what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size; write a number and a unit: \"64MiB\", \"100MB\", \"1GB\"");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let factor: f64 = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" | "kiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "" if number == 0.0 => 0.0,
        _ => return Err(bad()),
    };
    let bytes = number * factor;
    if bytes > 1e18 {
        return Err(bad());
    }
    Ok(bytes as u64)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// `128 MB`, for people.
pub fn show_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// `1h 02m`, `3m 20s`, `12s`, for people.
pub fn show_seconds(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
    }
}

/// For `#[serde(deserialize_with)]` on durations.
pub fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    d.deserialize_any(Text { expected: "a duration such as \"250ms\"", parse: parse_duration })
}

/// For `#[serde(deserialize_with)]` on sizes.
pub fn size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    d.deserialize_any(Text { expected: "a size such as \"100MB\"", parse: parse_size })
}

/// For `#[serde(deserialize_with)]` on rates: a number of rows per second, quoted or not; 0 is no limit.
pub fn rate<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    d.deserialize_any(Text {
        expected: "rows per second, for example \"5000\", or \"0\" for no limit",
        parse: |s| {
            s.trim().parse().map_err(|_| format!("{s:?} is not a rate; write rows per second, \"0\" for no limit"))
        },
    })
}

struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<T, E> {
        (self.parse)(v).map_err(E::custom)
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<T, E> {
        // A bare number has no unit: only what needs none (0, a rate) passes.
        (self.parse)(&v.to_string()).map_err(E::custom)
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<T, E> {
        (self.parse)(&v.to_string()).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_durations_when_parsed_then_units_count() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "s", "5", "5 parsecs", "-1s", "1e9s", "..s", "99999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_sizes_when_parsed_then_units_count() {
        assert_eq!(parse_size("100MB"), Ok(100_000_000));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("0.5 GiB"), Ok(512 << 20));
        for bad in ["", "MB", "100", "100 Mb", "-1MB", "9999999999TB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn given_numbers_when_shown_then_they_are_short() {
        assert_eq!(show_size(999), "999 B");
        assert_eq!(show_size(1_500_000), "1.5 MB");
        assert_eq!(show_seconds(7384.0), "2h 03m");
        assert_eq!(show_seconds(61.0), "1m 01s");
    }
}
