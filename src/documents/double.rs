//! Doubles as texts: in canonical text form, and as numbers of JSON that show they are doubles. Pure.

use std::io::Write;

use crate::transform::expr::float;

/// Room for the text of one number.
pub struct Small {
    bytes: [u8; 40],
    length: usize,
}

impl Default for Small {
    fn default() -> Self {
        Self::new()
    }
}

impl Small {
    /// No text yet.
    pub fn new() -> Small {
        Small { bytes: [0; 40], length: 0 }
    }
    /// `1.5e-7`: the shortest digits that read back. A finite double needs 24 bytes.
    pub fn scientific(&mut self, x: f64) {
        let room = self.bytes.len();
        let mut rest: &mut [u8] = &mut self.bytes;
        // Nothing fails that has room.
        let _ = write!(rest, "{x:e}");
        self.length = room - rest.len();
    }
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// 2^53. Below it every whole number is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends canonical text, as `float8out` prints it.
pub fn canonical(out: &mut Vec<u8>, x: f64) {
    if x.is_nan() || x.abs() >= EXACT {
        out.extend_from_slice(float::print(x, false).as_bytes());
        return;
    }
    if x.fract() == 0.0 && x.abs() < 1e15 && (x != 0.0 || x.is_sign_positive()) {
        out.extend_from_slice(itoa::Buffer::new().format(x as i64).as_bytes());
        return;
    }
    if few_places(out, x) {
        return;
    }
    let mut text = Small::new();
    text.scientific(x);
    if between(x, text.bytes()) {
        out.extend_from_slice(float::print(x, false).as_bytes());
        return;
    }
    layout(out, text.bytes(), 15);
}

/// Whether a number below 2^53 could lie halfway between two texts of the shortest length, of which PostgreSQL takes the even
/// one and the standard library the larger: its last digit is then the 5 behind theirs. A number has as many digits behind
/// the point as it has binary ones.
fn between(x: f64, scientific: &[u8]) -> bool {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i64 - 1023;
    let zeros = i64::from((x.to_bits() | 1 << 52).trailing_zeros());
    let binary = 52 - exponent - zeros;
    let at = scientific.iter().position(|b| *b == b'e').unwrap_or(scientific.len());
    let (mantissa, power) = scientific.split_at(at);
    let power = power.get(1..).and_then(|p| std::str::from_utf8(p).ok()?.parse::<i64>().ok()).unwrap_or(0);
    let digits = mantissa.iter().filter(|b| b.is_ascii_digit()).count() as i64;
    binary == digits - 1 - power + 1
}

/// Appends a number of at most four digits behind the point, which amounts and measures mostly are. `false`, and nothing
/// appended, for others.
///
/// A decimal of 15 digits or fewer is told from every other such decimal by the double nearest to it (`DBL_DIG`): if one has
/// `x` for its nearest, then it is the shortest that reads back as `x`.
#[inline]
fn few_places(out: &mut Vec<u8>, x: f64) -> bool {
    let size = x.abs();
    if !(1e-4..1e9).contains(&size) {
        return false;
    }
    for (power, places) in [(100.0, 2), (10_000.0, 4)] {
        let scaled = (size * power).round();
        if scaled / power != size {
            continue;
        }
        // Below 10^13.
        let (scaled, power) = (scaled as u64, power as u64);
        if x < 0.0 {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(scaled / power).as_bytes());
        let fraction = buffer.format(power + scaled % power).as_bytes();
        let kept = fraction.iter().rposition(|b| *b != b'0').unwrap_or(0);
        if kept > 0 {
            out.push(b'.');
            out.extend_from_slice(fraction.get(1..=kept.min(places)).unwrap_or_default());
        }
        return true;
    }
    false
}

/// Appends canonical text of a single-precision number.
pub fn single(out: &mut Vec<u8>, x: f32) {
    out.extend_from_slice(float::print(f64::from(x), true).as_bytes());
}

/// Appends a finite number for JSON, always with a fraction or an exponent: `1.0`, `1e+30`. Whole numbers below 10^19 have
/// all their digits, because servers print exponents out, and what is a whole number of 64 bits then would be read as one.
pub fn json(out: &mut Vec<u8>, x: f64) {
    if x.fract() == 0.0 && x.abs() < 1e19 {
        if x.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(x.abs() as u64).as_bytes());
        out.extend_from_slice(b".0");
        return;
    }
    if few_places(out, x) {
        return;
    }
    let mut text = Small::new();
    text.scientific(x);
    layout(out, text.bytes(), 15);
}

/// Appends `d.ddde±x` with exponents below -4 and from `fixed_below` on as `e-07`, all else with a point.
fn layout(out: &mut Vec<u8>, text: &[u8], fixed_below: i32) {
    let at = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(at);
    let exponent = exponent.get(1..).and_then(|e| std::str::from_utf8(e).ok()?.parse::<i32>().ok()).unwrap_or(0);
    let mantissa = match mantissa.split_first() {
        Some((b'-', rest)) => {
            out.push(b'-');
            rest
        }
        _ => mantissa,
    };
    if exponent < -4 || exponent >= fixed_below {
        out.extend_from_slice(mantissa);
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let size = exponent.unsigned_abs();
        if size < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
        return;
    }
    let digits = mantissa.iter().copied().filter(|b| *b != b'.');
    let count = mantissa.iter().filter(|b| **b != b'.').count();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent - 1).unwrap_or(0)));
        out.extend(digits);
        return;
    }
    let whole = usize::try_from(exponent).unwrap_or(0) + 1;
    out.extend(digits.clone().take(whole));
    out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(count)));
    if count > whole {
        out.push(b'.');
        out.extend(digits.skip(whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn given_doubles_when_printed_for_json_then_they_show_that_they_are_doubles() {
        let shown = |x| {
            let mut out = Vec::new();
            json(&mut out, x);
            String::from_utf8(out).unwrap()
        };
        for (x, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (1e16, "10000000000000000.0"),
            (1e19, "1e+19"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-07"),
            (0.00015, "0.00015"),
        ] {
            assert_eq!(shown(x), want);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        #[test]
        fn given_any_double_when_printed_then_it_is_the_canonical_text(bits: u64) {
            for x in [f64::from_bits(bits), (bits as i64 % 1_000_000) as f64 / 100.0, (bits as i64 % 1_000_000_000) as f64 / 1e4, (bits as i64 % 1_000_000_000) as f64 / 1e6, (bits >> 8) as f64, (bits >> 11) as f64 / 4.0, (bits >> 14) as f64 / 64.0] {
                let mut out = Vec::new();
                canonical(&mut out, x);
                prop_assert_eq!(String::from_utf8(out).unwrap(), float::print(x, false));
                if x.is_finite() {
                    let mut out = Vec::new();
                    json(&mut out, x);
                    let text = String::from_utf8(out).unwrap();
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), x.to_bits());
                    prop_assert!(text.contains(['.', 'e']));
                }
            }
        }
    }
}
