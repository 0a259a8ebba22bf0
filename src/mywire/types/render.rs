//! Values in canonical text form, from their parts: what the binlog's decoder and the text protocol's reader share.

use crate::transform::expr::float;

/// Nothing, or what is wrong with the bytes.
pub type Rendered = Result<(), &'static str>;

const PAIRS: &[u8; 200] =
    b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Two digits of a number below 100.
#[inline]
pub fn two(out: &mut Vec<u8>, n: u32) {
    let at = (n % 100) as usize * 2;
    // Below 200 by the line before.
    out.extend_from_slice(&PAIRS[at..at + 2]);
}

/// A whole number.
#[inline]
pub fn integer(out: &mut Vec<u8>, n: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// `\x` and two hexadecimal digits a byte, and two zeros for every byte that is missing up to `padded`.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8], padded: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len().max(padded));
    out.extend_from_slice(b"\\x");
    // Both indexes are below 16.
    out.extend(bytes.iter().flat_map(|&b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
    out.extend(std::iter::repeat_n(b'0', 2 * padded.saturating_sub(bytes.len())));
}

/// The last `bits` bits of a big-endian number, as digits 0 and 1.
pub fn bits(out: &mut Vec<u8>, bytes: &[u8], bits: u8) -> Rendered {
    if bytes.len() != usize::from(bits).div_ceil(8) {
        return Err("a bit field of another length than its column's");
    }
    let skip = bytes.len() * 8 - usize::from(bits);
    let digits = bytes.iter().flat_map(|&b| (0..8).rev().map(move |i| b'0' + (b >> i & 1)));
    let from = out.len();
    out.extend(digits);
    if out.get(from..from + skip).is_some_and(|unused| unused.contains(&b'1')) {
        return Err("a bit field with more bits than its column");
    }
    out.drain(from..from + skip);
    Ok(())
}

/// The shortest digits of a single-precision number.
pub fn single(out: &mut Vec<u8>, x: f32) {
    out.extend_from_slice(float::print(f64::from(x), true).as_bytes());
}

/// The shortest digits of a double-precision number.
pub fn double(out: &mut Vec<u8>, x: f64) {
    out.extend_from_slice(float::print(x, false).as_bytes());
}

/// `2024-01-31`; zeros anywhere are kept, as the server permits them.
pub fn date(out: &mut Vec<u8>, year: u32, month: u32, day: u32) -> Rendered {
    if year > 9999 || month > 12 || day > 31 {
        return Err("a date with a month or day that does not exist");
    }
    two(out, year / 100);
    two(out, year % 100);
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    Ok(())
}

/// `12:00:59.5`: hours of at least two digits and at most 838, microseconds without trailing zeros.
pub fn clock(out: &mut Vec<u8>, hour: u32, minute: u32, second: u32, micros: u32) -> Rendered {
    if hour > 838 || minute > 59 || second > 59 {
        return Err("a time of day out of range");
    }
    if hour < 100 {
        two(out, hour)
    } else {
        integer(out, hour)
    }
    out.push(b':');
    two(out, minute);
    out.push(b':');
    two(out, second);
    fraction(out, micros)
}

/// Date and time, as in [`date()`] and [`clock`]; the hour ends at 23.
pub fn datetime(
    out: &mut Vec<u8>,
    (year, month, day): (u32, u32, u32),
    (h, m, s): (u32, u32, u32),
    us: u32,
) -> Rendered {
    date(out, year, month, day)?;
    if h > 23 {
        return Err("an hour out of range");
    }
    out.push(b' ');
    clock(out, h, m, s, us)
}

/// An instant in UTC with `+00`. 0 is what the server keeps for the zero date, printed as such and without zone.
pub fn timestamp(out: &mut Vec<u8>, seconds: u32, micros: u32) -> Rendered {
    if seconds == 0 {
        out.extend_from_slice(b"0000-00-00 00:00:00");
        return fraction(out, micros);
    }
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    datetime(out, civil(days), (clock / 3600, clock / 60 % 60, clock % 60), micros)?;
    out.extend_from_slice(b"+00");
    Ok(())
}

/// The date of a day since 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", for years from 1970).
fn civil(days: u32) -> (u32, u32, u32) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u32::from(month <= 2), month, day)
}

/// A point and the digits of microseconds without trailing zeros; nothing for 0.
fn fraction(out: &mut Vec<u8>, micros: u32) -> Rendered {
    if micros > 999_999 {
        return Err("microseconds out of range");
    }
    if micros > 0 {
        out.push(b'.');
        two(out, micros / 10_000);
        two(out, micros / 100 % 100);
        two(out, micros % 100);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    Ok(())
}

const DIGITS_PER_WORD: usize = 9;
/// Bytes of so many digits (`dig2bytes`, strings/decimal.cc).
const BYTES_OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Bytes that a packed decimal takes; `None` where precision and scale do not fit each other.
pub fn decimal_size(precision: u8, scale: u8) -> Option<usize> {
    if precision == 0 || precision > 65 || scale > precision {
        return None;
    }
    let half = |digits: usize| {
        // The remainder of nine is below ten.
        digits / DIGITS_PER_WORD * 4 + BYTES_OF_DIGITS[digits % DIGITS_PER_WORD]
    };
    Some(half(usize::from(precision - scale)) + half(usize::from(scale)))
}

/// A packed decimal (`decimal2bin`, strings/decimal.cc): groups of nine digits, big endian, the first bit turned over,
/// all bits for negative numbers.
pub fn decimal(out: &mut Vec<u8>, packed: &[u8], precision: u8, scale: u8) -> Rendered {
    let size = decimal_size(precision, scale).ok_or("a decimal of impossible precision")?;
    // Of 65 digits at most: 30 bytes.
    let mut bytes = [0_u8; 32];
    let bytes =
        bytes.get_mut(..size).filter(|_| packed.len() == size).ok_or("a decimal of another length than its type's")?;
    bytes.copy_from_slice(packed);
    let negative = bytes.first().is_some_and(|b| b & 0x80 == 0);
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        bytes.iter_mut().for_each(|b| *b = !*b);
    }
    let start = out.len();
    if negative {
        out.push(b'-');
    }
    let (whole, fractional) = (usize::from(precision - scale), usize::from(scale));
    let mut rest: &[u8] = bytes;
    let digits_from = out.len();
    let mut group = |out: &mut Vec<u8>, digits: usize| -> Rendered {
        let Some((head, tail)) = rest.split_at_checked(BYTES_OF_DIGITS[digits]) else {
            return Err("a decimal that is cut off");
        };
        rest = tail;
        let n = head.iter().fold(0_u32, |n, &b| n << 8 | u32::from(b));
        if n >= 10_u32.pow(digits as u32) {
            return Err("a group of decimal digits out of range");
        }
        let mut text = [b'0'; DIGITS_PER_WORD];
        let mut n = n;
        for d in text[..digits].iter_mut().rev() {
            *d = b'0' + (n % 10) as u8;
            n /= 10;
        }
        out.extend_from_slice(&text[..digits]);
        Ok(())
    };
    if whole % DIGITS_PER_WORD > 0 {
        group(out, whole % DIGITS_PER_WORD)?;
    }
    for _ in 0..whole / DIGITS_PER_WORD {
        group(out, DIGITS_PER_WORD)?;
    }
    let zeros = out[digits_from..].iter().take_while(|&&b| b == b'0').count();
    out.drain(digits_from..digits_from + zeros);
    if out.len() == digits_from {
        out.push(b'0');
    }
    if fractional > 0 {
        out.push(b'.');
        for _ in 0..fractional / DIGITS_PER_WORD {
            group(out, DIGITS_PER_WORD)?;
        }
        if fractional % DIGITS_PER_WORD > 0 {
            group(out, fractional % DIGITS_PER_WORD)?;
        }
    }
    unsigned_zero(out, start);
    Ok(())
}

/// A decimal or integer as the server prints it, without the zeros of ZEROFILL and without the sign of zero.
pub fn number_text(out: &mut Vec<u8>, text: &[u8]) -> Rendered {
    let start = out.len();
    let (sign, digits) =
        text.split_first().filter(|(s, _)| **s == b'-').map_or((&b""[..], text), |(_, d)| (&b"-"[..], d));
    let mut points = 0;
    for b in digits {
        points += usize::from(*b == b'.');
        if !b.is_ascii_digit() && *b != b'.' {
            return Err("a number with something else than digits in it");
        }
    }
    let whole = digits.iter().take_while(|b| **b != b'.').count();
    let zeros = digits.iter().take_while(|b| **b == b'0').count().min(whole.saturating_sub(1));
    if points > 1 || whole == 0 {
        return Err("a number without digits, or with two points");
    }
    out.extend_from_slice(sign);
    out.extend_from_slice(digits.get(zeros..).unwrap_or(digits));
    unsigned_zero(out, start);
    Ok(())
}

fn unsigned_zero(out: &mut Vec<u8>, start: usize) {
    let Some(text) = out.get(start..) else { return };
    if text.first() == Some(&b'-') && !text.iter().any(|b| matches!(b, b'1'..=b'9')) {
        out.remove(start);
    }
}

/// The text protocol's date, time or both: its own text without the fraction's trailing zeros.
pub fn temporal_text(out: &mut Vec<u8>, text: &[u8]) -> Rendered {
    if text.is_empty() || !text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b' ' | b'.')) {
        return Err("no date or time");
    }
    let kept = if text.contains(&b'.') {
        let zeros = text.iter().rev().take_while(|b| **b == b'0').count();
        let kept = text.get(..text.len() - zeros).unwrap_or(text);
        kept.strip_suffix(b".").unwrap_or(kept)
    } else {
        text
    };
    out.extend_from_slice(kept);
    Ok(())
}

/// The text protocol's floating-point number, read exactly.
pub fn float_text(text: &[u8]) -> Result<f64, &'static str> {
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or("no floating-point number")
}

/// MariaDB's UUID and INET values. The log has no trailing zeros.
pub fn address(out: &mut Vec<u8>, bytes: &[u8], kind: super::Address) -> Rendered {
    use std::io::Write;

    use super::Address;
    let mut full = [0_u8; 16];
    let width = kind.width() as usize;
    full.get_mut(..bytes.len())
        .filter(|_| bytes.len() <= width)
        .ok_or("an address that is too long")?
        .copy_from_slice(bytes);
    let written = match kind {
        Address::Uuid => write!(out, "{}", uuid::Uuid::from_bytes(full).hyphenated()),
        Address::Inet4 => write!(out, "{}.{}.{}.{}", full[0], full[1], full[2], full[3]),
        Address::Inet6 => inet6(out, full),
    };
    written.map_err(|_| "an address that cannot be printed")
}

/// As MariaDB prints it: the longest run of zero groups, be it one, the first of equals, is left out; the last two groups are
/// an IPv4 address behind six zero groups, or five and `ffff`.
fn inet6(out: &mut Vec<u8>, bytes: [u8; 16]) -> std::io::Result<()> {
    use std::io::Write;

    let groups: [u16; 8] = std::array::from_fn(|i| u16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]]));
    let run = |from: usize| groups.iter().skip(from).take_while(|g| **g == 0).count();
    let (mut start, mut length) = (0, 0);
    for from in 0..8 {
        if run(from) > length {
            (start, length) = (from, run(from));
        }
    }
    let dotted = start == 0 && (length == 6 || (length == 5 && groups[5] == 0xffff));
    let mut i = 0;
    while i < 8 {
        if length > 0 && i == start {
            out.extend_from_slice(b"::");
            i += length;
            continue;
        }
        if i > 0 && (length == 0 || i != start + length) {
            out.push(b':');
        }
        if dotted && i == 6 {
            return write!(out, "{}.{}.{}.{}", bytes[12], bytes[13], bytes[14], bytes[15]);
        }
        write!(out, "{:x}", groups[i])?;
        i += 1;
    }
    Ok(())
}
