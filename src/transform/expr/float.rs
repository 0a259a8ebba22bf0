//! Floating-point numbers as PostgreSQL reads and prints them, and its errors for what leaves their range.

use std::cmp::Ordering;
use std::fmt::Write;

use super::EvalError;
use super::node::{V, fail};
use super::numeric::Dec;

/// A float's value; canonical text of a real is read as a real.
pub(super) fn of(v: V<'_>, single: bool) -> Result<f64, EvalError> {
    match v {
        V::Float(x) => Ok(x),
        V::Str(t) => parse(t, single),
        _ => fail("a floating-point number was expected"),
    }
}

/// `float8in`, `float4in`.
pub(super) fn parse(text: &[u8], single: bool) -> Result<f64, EvalError> {
    let kind = if single { "real" } else { "double precision" };
    let bad = || EvalError::Failed { message: format!("invalid input syntax for type {kind}") };
    let t = std::str::from_utf8(text.trim_ascii()).map_err(|_| bad())?;
    let body = t.strip_prefix(['+', '-']).unwrap_or(t);
    let negative = t.starts_with('-');
    if body.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
        return Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // What the standard library reads beyond digits, point and exponent is refused.
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(bad());
    }
    let x = if single { t.parse::<f32>().map(f64::from) } else { t.parse::<f64>() }.map_err(|_| bad())?;
    let nonzero = body.split(['e', 'E']).next().is_some_and(|m| m.bytes().any(|b| matches!(b, b'1'..=b'9')));
    if x.is_infinite() || (x == 0.0 && nonzero) {
        return fail(format!("value is out of range for type {kind}"));
    }
    Ok(x)
}

/// `float8out`, `float4out` under `extra_float_digits = 1`: the shortest digits that read back.
pub(crate) fn print(x: f64, single: bool) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x < 0.0 { "-Infinity" } else { "Infinity" }.into();
    }
    let shortest = shortest(x, single);
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let fixed_below = if single { 6 } else { 15 };
    let mut out = String::from(sign);
    if exponent < -4 || exponent >= fixed_below {
        out.push_str(mantissa);
        let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    } else if exponent < 0 {
        out.push_str("0.");
        (1..-exponent).for_each(|_| out.push('0'));
        out.push_str(&digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.push_str(&digits);
            (digits.len()..whole).for_each(|_| out.push('0'));
        } else {
            let _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
        }
    }
    out
}

/// The shortest digits that read back, as `d.ddde±x`: of several the nearest, of two as near the even one. A number
/// halfway to the neighbour does not count as reading back, though with an even mantissa it does (`d2s.c`).
fn shortest(x: f64, single: bool) -> String {
    let found = if single { format!("{:e}", x as f32) } else { format!("{x:e}") };
    let mut places = found.split('e').next().map_or(0, |m| m.bytes().filter(u8::is_ascii_digit).count()).max(1) - 1;
    let mut nearest = format!("{x:.places$e}");
    while halfway(x, &nearest, single) {
        places += 1;
        nearest = format!("{x:.places$e}");
    }
    let back = if single { nearest.parse::<f32>().map(f64::from) } else { nearest.parse::<f64>() };
    if back == Ok(x) { nearest } else { found }
}

/// Whether the digits lie exactly between the number and its neighbour. Only integers of up to 127 bits can: below, a
/// point between needs more digits than are ever printed.
fn halfway(x: f64, digits: &str, single: bool) -> bool {
    let size = x.abs();
    if !(1e7..1.7e38).contains(&size) || size.fract() != 0.0 {
        return false;
    }
    let (mantissa, exponent) = digits.trim_start_matches('-').split_once('e').unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = exponent.parse::<u32>().unwrap_or(0).checked_sub(fraction.len() as u32);
    let number = format!("{whole}{fraction}").parse::<u128>().ok();
    let Some(number) = number.zip(zeros).and_then(|(n, z)| n.checked_mul(10_u128.checked_pow(z)?)) else {
        return false;
    };
    let exact = size as u128;
    let bits = 128 - exact.leading_zeros();
    let mantissa_bits = if single { 24 } else { 53 };
    bits > mantissa_bits && number.abs_diff(exact) * 2 == 1 << (bits - mantissa_bits)
}

/// Equal NaNs, above everything.
pub(super) fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

/// Arithmetic with the server's errors.
pub(super) fn arithmetic(op: Op, a: f64, b: f64, single: bool) -> Result<f64, EvalError> {
    if op == Op::Div && b == 0.0 && !a.is_nan() {
        return fail("division by zero");
    }
    let x = if single {
        let (a, b) = (a as f32, b as f32);
        f64::from(match op {
            Op::Add => a + b,
            Op::Sub => a - b,
            Op::Mul => a * b,
            Op::Div => a / b,
        })
    } else {
        match op {
            Op::Add => a + b,
            Op::Sub => a - b,
            Op::Mul => a * b,
            Op::Div => a / b,
        }
    };
    if x.is_infinite() && !a.is_infinite() && !b.is_infinite() {
        return fail("value out of range: overflow");
    }
    let vanished = match op {
        Op::Mul => x == 0.0 && a != 0.0 && b != 0.0,
        Op::Div => x == 0.0 && a != 0.0 && !b.is_infinite(),
        _ => false,
    };
    if vanished {
        return fail("value out of range: underflow");
    }
    Ok(x)
}

/// To the nearest integer, halves to even.
pub(super) fn to_int(x: f64) -> Result<i64, EvalError> {
    let r = x.round_ties_even();
    // The upper bound itself is one above the largest integer.
    if r.is_nan() || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&r) {
        return fail("integer out of range");
    }
    Ok(r as i64)
}

/// As a decimal with the digits that the type is sure of: 15, or 6.
pub(super) fn to_numeric(x: f64, single: bool) -> Result<Dec, EvalError> {
    if x.is_nan() {
        return Ok(Dec::NaN);
    }
    if x.is_infinite() {
        return Ok(Dec::Infinity(x < 0.0));
    }
    let text = if single { format!("{x:.5e}") } else { format!("{x:.14e}") };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    Dec::parse(format!("{mantissa}e{exponent}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_floats_when_printed_then_exponents_begin_where_the_servers_do() {
        for (x, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e15, "1e+15"),
            (999_999_999_999_999.0, "999999999999999"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1234.5, "-1234.5"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(print(x, false), text);
        }
        assert_eq!(print(1e6, true), "1e+06");
        assert_eq!(print(1_146_833.25, true), "1.1468332e+06");
        assert_eq!(print(1e22, false), "1e+22");
        assert_eq!(print(0.1f32.into(), true), "0.1");
    }
}
