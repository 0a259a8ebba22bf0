//! Exact decimals with PostgreSQL's scales: what `numeric.c` does, over integers of any length.

use bigdecimal::num_bigint::{BigInt, Sign};
use bumpalo::Bump;
use std::cmp::Ordering;

use super::EvalError;
use super::node::{V, fail};

/// Digits a division keeps at least (`NUMERIC_MIN_SIG_DIGITS`).
const MIN_SIGNIFICANT: i64 = 16;
/// The largest scale that a result of division shows (`NUMERIC_MAX_DISPLAY_SCALE`).
const MAX_DISPLAY_SCALE: i64 = 1000;
/// The largest scale (`NUMERIC_DSCALE_MAX`).
const MAX_SCALE: u32 = 16383;
/// Digits before the point (`NUMERIC_WEIGHT_MAX` in decimal digits).
const MAX_BEFORE: usize = 131_072;
/// Decimal digits in one digit of the server (`DEC_DIGITS`).
const GROUP: usize = 4;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Dec {
    NaN,
    /// Negative?
    Infinity(bool),
    /// Digits and how many of them stand behind the point.
    Finite(BigInt, u32),
}

fn ten_to(n: u32) -> BigInt {
    BigInt::from(10u8).pow(n)
}

/// `a / b`, rounded half away from zero.
fn div_round(a: &BigInt, b: &BigInt) -> BigInt {
    let (q, r) = (a / b, a % b);
    if (BigInt::from(r.magnitude().clone()) * 2u8).magnitude() >= b.magnitude() {
        if (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus) { q - 1u8 } else { q + 1u8 }
    } else {
        q
    }
}

impl Dec {
    pub fn int(n: i64) -> Dec {
        Dec::Finite(n.into(), 0)
    }

    /// A numeric's value: canonical text, or an integer that was not made text yet.
    pub fn of(v: V<'_>) -> Result<Dec, EvalError> {
        match v {
            V::Int(n) => Ok(Dec::int(n)),
            V::Str(t) => Dec::parse(t),
            _ => fail("a numeric was expected"),
        }
    }

    /// `numeric_in`.
    pub fn parse(text: &[u8]) -> Result<Dec, EvalError> {
        Dec::try_parse(text.trim_ascii())?.map_or_else(|| fail("invalid input syntax for type numeric"), Ok)
    }

    fn try_parse(t: &[u8]) -> Result<Option<Dec>, EvalError> {
        let (negative, body) = match t {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if body.eq_ignore_ascii_case(b"nan") {
            return Ok((body.len() == t.len()).then_some(Dec::NaN));
        }
        if body.eq_ignore_ascii_case(b"infinity") || body.eq_ignore_ascii_case(b"inf") {
            return Ok(Some(Dec::Infinity(negative)));
        }
        let (mantissa, exponent) = match body.iter().position(|c| matches!(c, b'e' | b'E')) {
            Some(at) => {
                let Some(e) = std::str::from_utf8(&body[at + 1..]).ok().filter(|e| plain_int(e)) else {
                    return Ok(None);
                };
                let Ok(e) = e.parse::<i32>() else { return fail("value overflows numeric format") };
                (&body[..at], e)
            }
            None => (body, 0),
        };
        let point = mantissa.iter().position(|c| *c == b'.');
        let (whole, fraction) = point.map_or((mantissa, &b""[..]), |p| (&mantissa[..p], &mantissa[p + 1..]));
        if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Ok(None);
        }
        let digits = [whole, fraction].concat();
        let mut n = BigInt::parse_bytes(&digits, 10).unwrap_or_default();
        let scale = fraction.len() as i64 - i64::from(exponent);
        if scale > i64::from(MAX_SCALE) || scale < -(MAX_BEFORE as i64) {
            return fail("value overflows numeric format");
        }
        if negative {
            n = -n;
        }
        let dec = if scale < 0 { Dec::Finite(n * ten_to((-scale) as u32), 0) } else { Dec::Finite(n, scale as u32) };
        dec.checked().map(Some)
    }

    /// Refuses what is too long for the server.
    fn checked(self) -> Result<Dec, EvalError> {
        if let Dec::Finite(n, scale) = &self {
            // A digit has more than three bits, so short numbers need no printing.
            if n.bits() as usize > 3 * MAX_BEFORE && n.magnitude().to_str_radix(10).len() > MAX_BEFORE + *scale as usize
            {
                return fail("value overflows numeric format");
            }
        }
        Ok(self)
    }

    /// `numeric_out`.
    pub fn print(&self) -> String {
        match self {
            Dec::NaN => "NaN".into(),
            Dec::Infinity(negative) => if *negative { "-Infinity" } else { "Infinity" }.into(),
            Dec::Finite(n, scale) => {
                let digits = n.magnitude().to_str_radix(10);
                let scale = *scale as usize;
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                let sign = if n.sign() == Sign::Minus { "-" } else { "" };
                if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
            }
        }
    }

    pub fn value<'a>(&self, bump: &'a Bump) -> V<'a> {
        V::Str(bump.alloc_str(&self.print()).as_bytes())
    }

    fn sign(&self) -> i8 {
        match self {
            Dec::NaN => 0,
            Dec::Infinity(negative) => {
                if *negative {
                    -1
                } else {
                    1
                }
            }
            Dec::Finite(n, _) => match n.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    /// NaN is above everything and equal to itself.
    pub fn compare(&self, other: &Dec) -> Ordering {
        use Dec::*;
        match (self, other) {
            (NaN, NaN) => Ordering::Equal,
            (NaN, _) => Ordering::Greater,
            (_, NaN) => Ordering::Less,
            (Finite(a, s), Finite(b, t)) => match s.cmp(t) {
                Ordering::Equal => a.cmp(b),
                Ordering::Less => (a * ten_to(t - s)).cmp(b),
                Ordering::Greater => a.cmp(&(b * ten_to(s - t))),
            },
            (Infinity(a), Infinity(b)) => b.cmp(a),
            (Infinity(negative), _) => {
                if *negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (_, Infinity(negative)) => {
                if *negative {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
        }
    }

    pub fn negated(self) -> Dec {
        match self {
            Dec::NaN => Dec::NaN,
            Dec::Infinity(negative) => Dec::Infinity(!negative),
            Dec::Finite(n, s) => Dec::Finite(-n, s),
        }
    }

    pub fn absolute(self) -> Dec {
        if self.sign() < 0 { self.negated() } else { self }
    }

    /// -1, 0 or 1.
    pub fn signum(self) -> Dec {
        match &self {
            Dec::NaN => Dec::NaN,
            other => Dec::int(other.sign().into()),
        }
    }

    pub fn add(&self, other: &Dec) -> Result<Dec, EvalError> {
        use Dec::*;
        Ok(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (Infinity(a), Infinity(b)) => {
                if a == b {
                    Infinity(*a)
                } else {
                    NaN
                }
            }
            (Infinity(a), _) | (_, Infinity(a)) => Infinity(*a),
            (Finite(a, s), Finite(b, t)) => {
                let scale = *s.max(t);
                return Finite(a * ten_to(scale - s) + b * ten_to(scale - t), scale).checked();
            }
        })
    }

    pub fn mul(&self, other: &Dec) -> Result<Dec, EvalError> {
        use Dec::*;
        Ok(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (Finite(a, s), Finite(b, t)) => {
                let exact = Finite(a * b, s + t);
                return if s + t > MAX_SCALE { exact.round(MAX_SCALE as i32) } else { exact }.checked();
            }
            (a, b) => match a.sign() * b.sign() {
                0 => NaN,
                sign => Infinity(sign < 0),
            },
        })
    }

    pub fn div(&self, other: &Dec) -> Result<Dec, EvalError> {
        use Dec::*;
        Ok(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (_, Finite(b, _)) if b.sign() == Sign::NoSign => return fail("division by zero"),
            (Infinity(_), Infinity(_)) => NaN,
            (Infinity(a), b) => Infinity(*a != (b.sign() < 0)),
            (Finite(..), Infinity(_)) => Finite(BigInt::ZERO, 0),
            (Finite(a, s), Finite(b, t)) => {
                let scale = quotient_scale((a, *s), (b, *t));
                // a/10^s / (b/10^t) at `scale` digits is a·10^(scale + t - s) / b.
                let shift = i64::from(scale) + i64::from(*t) - i64::from(*s);
                let q = if shift >= 0 {
                    div_round(&(a * ten_to(shift as u32)), b)
                } else {
                    div_round(a, &(b * ten_to((-shift) as u32)))
                };
                return Finite(q, scale).checked();
            }
        })
    }

    /// The remainder has the sign of the dividend.
    pub fn rem(&self, other: &Dec) -> Result<Dec, EvalError> {
        use Dec::*;
        Ok(match (self, other) {
            (NaN, _) | (_, NaN) => NaN,
            (_, Finite(b, _)) if b.sign() == Sign::NoSign => return fail("division by zero"),
            (Infinity(_), _) => NaN,
            (a, Infinity(_)) => a.clone(),
            (Finite(a, s), Finite(b, t)) => {
                let scale = *s.max(t);
                Finite((a * ten_to(scale - s)) % (b * ten_to(scale - t)), scale)
            }
        })
    }

    /// Half away from zero; a negative scale rounds before the point.
    pub fn round(&self, to: i32) -> Dec {
        self.rescaled(to, div_round)
    }
    /// Towards zero.
    pub fn truncated(&self, to: i32) -> Dec {
        self.rescaled(to, |a, b| a / b)
    }
    /// Downwards, or upwards, to a whole number.
    pub fn whole(&self, up: bool) -> Dec {
        self.rescaled(0, |a, b| {
            let (q, r) = (a / b, a % b);
            match (r.sign(), up) {
                (Sign::Plus, true) => q + 1u8,
                (Sign::Minus, false) => q - 1u8,
                _ => q,
            }
        })
    }

    fn rescaled(&self, to: i32, divide: impl Fn(&BigInt, &BigInt) -> BigInt) -> Dec {
        let Dec::Finite(n, scale) = self else { return self.clone() };
        let to = to.clamp(-(MAX_BEFORE as i32), MAX_SCALE as i32);
        let drop = i64::from(*scale) - i64::from(to);
        if drop <= 0 {
            return Dec::Finite(n * ten_to((-drop) as u32), to as u32);
        }
        let kept = divide(n, &ten_to(drop as u32));
        if to >= 0 { Dec::Finite(kept, to as u32) } else { Dec::Finite(kept * ten_to((-to) as u32), 0) }
    }

    /// Fits the value into `numeric(precision, scale)`.
    pub fn fit(&self, precision: i32, scale: i32) -> Result<Dec, EvalError> {
        match self {
            Dec::NaN => Ok(Dec::NaN),
            Dec::Infinity(_) => fail("numeric field overflow"),
            Dec::Finite(..) => {
                let rounded = self.round(scale);
                let limit = Dec::Finite(ten_to((precision - scale).max(0) as u32), 0);
                // A scale above the precision asks for zeros behind the point.
                let limit = if precision < scale { Dec::Finite(1.into(), (scale - precision) as u32) } else { limit };
                if rounded.clone().absolute().compare(&limit).is_ge() {
                    return fail("numeric field overflow");
                }
                Ok(rounded)
            }
        }
    }

    /// Rounded to an integer.
    pub fn to_int(&self) -> Result<i64, EvalError> {
        match self.round(0) {
            Dec::Finite(n, _) => i64::try_from(n).or_else(|_| fail("integer out of range")),
            Dec::NaN => fail("cannot convert NaN to an integer"),
            Dec::Infinity(_) => fail("cannot convert infinity to an integer"),
        }
    }
}

/// The scale of a quotient (`select_div_scale`): at least sixteen significant digits, estimated from the operands'
/// first groups of four digits.
fn quotient_scale(a: (&BigInt, u32), b: (&BigInt, u32)) -> u32 {
    let (weight1, first1) = first_group(a.0, a.1);
    let (weight2, first2) = first_group(b.0, b.1);
    let mut weight = weight1 - weight2;
    if first1 <= first2 {
        weight -= 1;
    }
    (MIN_SIGNIFICANT - weight * GROUP as i64).max(a.1.into()).max(b.1.into()).clamp(0, MAX_DISPLAY_SCALE) as u32
}

/// Weight and value of the first group of four digits that is not zero; groups are counted from the point.
fn first_group(n: &BigInt, scale: u32) -> (i64, u32) {
    if n.sign() == Sign::NoSign {
        return (0, 0);
    }
    let digits = n.magnitude().to_str_radix(10);
    // The place of the first digit: 0 is the one before the point.
    let place = digits.len() as i64 - 1 - i64::from(scale);
    let weight = place.div_euclid(GROUP as i64);
    let take = (place - weight * GROUP as i64 + 1) as usize;
    let mut first = digits.as_bytes()[..take.min(digits.len())].iter().fold(0, |v, d| v * 10 + u32::from(d - b'0'));
    for _ in digits.len()..take {
        first *= 10;
    }
    (weight, first)
}

fn plain_int(t: &str) -> bool {
    let body = t.strip_prefix(['+', '-']).unwrap_or(t);
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(t: &str) -> Dec {
        Dec::parse(t.as_bytes()).unwrap()
    }

    #[test]
    fn given_quotients_when_divided_then_their_scales_are_the_servers() {
        for (a, b, q) in [
            ("1", "3", "0.33333333333333333333"),
            ("10", "3", "3.3333333333333333"),
            ("1.5", "0.0002", "7500.0000000000000000"),
            ("-7", "2", "-3.5000000000000000"),
            ("100000", "7", "14285.714285714286"),
            ("0", "7", "0.00000000000000000000"),
        ] {
            assert_eq!(dec(a).div(&dec(b)).unwrap().print(), q, "{a} / {b}");
        }
    }

    #[test]
    fn given_roundings_when_done_then_halves_go_away_from_zero() {
        assert_eq!(dec("2.5").round(0).print(), "3");
        assert_eq!(dec("-2.5").round(0).print(), "-3");
        assert_eq!(dec("1250").round(-2).print(), "1300");
        assert_eq!(dec("-1.5").whole(false).print(), "-2");
        assert_eq!(dec("-0.04").round(1).print(), "0.0");
        assert_eq!(dec("1e3").print(), "1000");
        assert_eq!(dec("1.50e-1").print(), "0.150");
    }
}
