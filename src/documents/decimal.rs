//! Exact decimals: their 128-bit encoding (IEEE 754-2008 decimal128, binary integer significand), plain digits, and the
//! scientific form of extended JSON. Pure.

/// The most digits that the encoding holds.
pub const DIGITS: usize = 34;
const MOST: u128 = 10_u128.pow(34) - 1;
const BIAS: i32 = 6176;
const LEAST_EXPONENT: i32 = -6176;
const LARGEST_EXPONENT: i32 = 6111;

/// A decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// `± coefficient × 10^exponent`. Zero has a sign, too.
    Finite {
        /// Below zero, or -0.
        negative: bool,
        /// Up to 34 digits.
        coefficient: u128,
        /// Of ten.
        exponent: i32,
    },
    /// Beyond every number.
    Infinity {
        /// Below all of them.
        negative: bool,
    },
    /// No number.
    NaN,
}

impl Decimal {
    /// Reads the encoding. Every 16 bytes are a number: significands of more than 34 digits count as zero (IEEE 754-2008,
    /// 3.5.2).
    pub fn decode(bytes: &[u8; 16]) -> Decimal {
        let all = u128::from_le_bytes(*bytes);
        let negative = all >> 127 == 1;
        let head = (all >> 122) as u32 & 0x1f;
        match head {
            0b11111 => return Decimal::NaN,
            0b11110 => return Decimal::Infinity { negative },
            _ => {}
        }
        // With both first bits set the significand would begin with 100, which is more than 34 digits.
        let (exponent, coefficient) = match head >> 3 {
            0b11 => ((all >> 111) as i32 & 0x3fff, 0),
            _ => ((all >> 113) as i32 & 0x3fff, all & ((1 << 113) - 1)),
        };
        let coefficient = if coefficient > MOST { 0 } else { coefficient };
        Decimal::Finite { negative, coefficient, exponent: exponent - BIAS }
    }

    /// The encoding; `None` for what it cannot hold without loss.
    pub fn encode(self) -> Option<[u8; 16]> {
        let sign = |negative: bool| u128::from(negative) << 127;
        let all = match self {
            Decimal::NaN => 0b11111 << 122,
            Decimal::Infinity { negative } => sign(negative) | 0b11110 << 122,
            Decimal::Finite { negative, mut coefficient, mut exponent } => {
                if coefficient == 0 {
                    exponent = exponent.clamp(LEAST_EXPONENT, LARGEST_EXPONENT);
                }
                while (coefficient > MOST || exponent < LEAST_EXPONENT) && coefficient % 10 == 0 {
                    coefficient /= 10;
                    exponent = exponent.checked_add(1)?;
                }
                while exponent > LARGEST_EXPONENT && coefficient <= MOST / 10 {
                    coefficient *= 10;
                    exponent -= 1;
                }
                if coefficient > MOST || !(LEAST_EXPONENT..=LARGEST_EXPONENT).contains(&exponent) {
                    return None;
                }
                sign(negative) | ((exponent + BIAS) as u128) << 113 | coefficient
            }
        };
        Some(all.to_le_bytes())
    }

    /// The number that a double's shortest digits say; -0 keeps its sign.
    pub fn of_double(x: f64) -> Decimal {
        if x.is_nan() {
            return Decimal::NaN;
        }
        if x.is_infinite() {
            return Decimal::Infinity { negative: x < 0.0 };
        }
        // A finite double has 17 digits at most, and prints as a number.
        let mut text = super::double::Small::new();
        text.scientific(x);
        Decimal::parse(text.bytes()).unwrap_or(Decimal::NaN)
    }

    /// A whole number.
    pub fn of_integer(n: i64) -> Decimal {
        Decimal::Finite { negative: n < 0, coefficient: u128::from(n.unsigned_abs()), exponent: 0 }
    }

    /// Reads digits with a point and an exponent, `NaN`, `Infinity`, `inf` in any case. `None` for other texts and for numbers
    /// of more than 38 digits between their first and their last.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let (negative, body) = match text.split_first()? {
            (b'-', body) => (true, body),
            (b'+', body) => (false, body),
            _ => (false, text),
        };
        if body.eq_ignore_ascii_case(b"nan") {
            return Some(Decimal::NaN);
        }
        if body.eq_ignore_ascii_case(b"infinity") || body.eq_ignore_ascii_case(b"inf") {
            return Some(Decimal::Infinity { negative });
        }
        let (mantissa, power) = match body.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => {
                let power = std::str::from_utf8(body.get(at + 1..)?).ok()?;
                (body.get(..at)?, power.parse::<i32>().ok()?)
            }
            None => (body, 0),
        };
        let (mut coefficient, mut exponent, mut digits) = (0_u128, power, 0_usize);
        // Zeros at the end are only written once another digit follows, so that they do not fill the room.
        let (mut zeros, mut behind_point) = (0_u32, false);
        for &b in mantissa {
            match b {
                b'.' if !behind_point => behind_point = true,
                b'0' => {
                    digits += 1;
                    zeros += 1;
                    exponent = exponent.checked_sub(i32::from(behind_point))?;
                }
                b'1'..=b'9' => {
                    digits += 1;
                    if coefficient == 0 {
                        coefficient = u128::from(b - b'0');
                    } else {
                        coefficient = coefficient
                            .checked_mul(10_u128.checked_pow(zeros + 1)?)?
                            .checked_add(u128::from(b - b'0'))?;
                    }
                    zeros = 0;
                    exponent = exponent.checked_sub(i32::from(behind_point))?;
                }
                _ => return None,
            }
        }
        if digits == 0 {
            return None;
        }
        if coefficient == 0 {
            return Some(Decimal::Finite { negative, coefficient, exponent });
        }
        // The zeros stay where there is room for them: they say how exact the number is.
        while zeros > 0 && coefficient <= MOST / 10 {
            coefficient *= 10;
            zeros -= 1;
        }
        Some(Decimal::Finite { negative, coefficient, exponent: exponent.checked_add(i32::try_from(zeros).ok()?)? })
    }

    /// The same number with no zeros at its end and none in front of its point; 0 without sign.
    pub fn normal(self) -> Decimal {
        match self {
            Decimal::Finite { coefficient: 0, .. } => Decimal::Finite { negative: false, coefficient: 0, exponent: 0 },
            Decimal::Finite { negative, mut coefficient, mut exponent } => {
                while coefficient % 10 == 0 {
                    coefficient /= 10;
                    exponent = exponent.saturating_add(1);
                }
                Decimal::Finite { negative, coefficient, exponent }
            }
            other => other,
        }
    }

    /// The number as a whole one, if it is and fits.
    pub fn integer(self) -> Option<i64> {
        let Decimal::Finite { negative, coefficient, exponent } = self.normal() else { return None };
        let zeros = 10_u128.checked_pow(u32::try_from(exponent).ok()?)?;
        let size = i128::try_from(coefficient.checked_mul(zeros)?).ok()?;
        i64::try_from(if negative { -size } else { size }).ok()
    }

    /// The double that is exactly this number, if one is.
    pub fn exact_double(self) -> Option<f64> {
        let (negative, coefficient, exponent) = match self {
            Decimal::NaN => return Some(f64::NAN),
            Decimal::Infinity { negative } => {
                return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
            }
            Decimal::Finite { negative, coefficient, exponent } => (negative, coefficient, exponent),
        };
        let near: f64 = format!("{coefficient}e{exponent}").parse().ok()?;
        if !near.is_finite() || (near == 0.0 && coefficient != 0) {
            return None;
        }
        // A double has 767 significant digits at most; all of them, without zeros at the end, are the number's own.
        let all = format!("{near:.766e}");
        let (mantissa, power) = all.split_once('e')?;
        let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
        let digits = digits.trim_end_matches('0');
        let Decimal::Finite { coefficient: normal, exponent, .. } = self.normal() else { return None };
        let own = normal.to_string();
        let top = i64::from(exponent) + own.len() as i64 - 1;
        let same = coefficient == 0 || (digits == own && power.parse::<i64>() == Ok(top));
        same.then_some(if negative { -near } else { near })
    }

    /// Appends plain digits: `-12.50`. `scale`: so many digits behind the point. `false`, and part of it appended, when
    /// digits other than zeros would be behind those.
    #[must_use]
    pub fn plain(self, out: &mut Vec<u8>, scale: Option<u32>) -> bool {
        let Decimal::Finite { negative, mut coefficient, mut exponent } = self else {
            out.extend_from_slice(match self {
                Decimal::NaN => b"NaN",
                Decimal::Infinity { negative: true } => b"-Infinity",
                _ => b"Infinity",
            });
            return true;
        };
        // PostgreSQL's numeric has no -0, and neither has any other engine's.
        if negative && coefficient != 0 {
            out.push(b'-');
        }
        let mut padding = 0;
        if let Some(scale) = scale {
            let scale = i32::try_from(scale).unwrap_or(i32::MAX);
            if coefficient == 0 {
                exponent = -scale;
            }
            while exponent < -scale {
                if coefficient % 10 != 0 {
                    return false;
                }
                coefficient /= 10;
                exponent += 1;
            }
            padding = size(scale + exponent.min(0));
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(coefficient).as_bytes();
        let behind = size(-exponent.min(0));
        match digits.len().checked_sub(behind) {
            _ if exponent >= 0 => {
                out.extend_from_slice(digits);
                out.extend(std::iter::repeat_n(b'0', if coefficient == 0 { 0 } else { size(exponent) }));
            }
            Some(whole) if whole > 0 => {
                let (whole, fraction) = digits.split_at(whole);
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            _ => {
                out.extend_from_slice(b"0.");
                out.extend(std::iter::repeat_n(b'0', behind - digits.len()));
                out.extend_from_slice(digits);
            }
        }
        if padding > 0 {
            if behind == 0 {
                out.push(b'.');
            }
            out.extend(std::iter::repeat_n(b'0', padding));
        }
        true
    }

    /// How many digits stand before the point.
    pub fn whole_digits(self) -> i64 {
        match self.normal() {
            Decimal::Finite { coefficient: 0, .. } => 0,
            Decimal::Finite { coefficient, exponent, .. } => {
                (i64::from(coefficient.ilog10()) + 1 + i64::from(exponent)).max(0)
            }
            _ => 0,
        }
    }

    /// Appends the form that extended JSON has (BSON Decimal128 specification, "To String Representation"): `1.5`, `1E+3`,
    /// `-0`. Read again it is the same encoding.
    pub fn scientific(self, out: &mut Vec<u8>) {
        let Decimal::Finite { negative, coefficient, exponent } = self else {
            let _ = self.plain(out, None);
            return;
        };
        if negative {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(coefficient).as_bytes();
        let adjusted = i64::from(exponent) + digits.len() as i64 - 1;
        if exponent <= 0 && adjusted >= -6 {
            // The sign is there already.
            let _ = Decimal::Finite { negative: false, coefficient, exponent }.plain(out, None);
            return;
        }
        let (first, rest) = digits.split_at(1.min(digits.len()));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.push(b'E');
        if adjusted >= 0 {
            out.push(b'+');
        }
        out.extend_from_slice(itoa::Buffer::new().format(adjusted).as_bytes());
    }
}

/// A number that is not below zero.
fn size(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str, scale: Option<u32>) -> Option<String> {
        let mut out = Vec::new();
        Decimal::parse(text.as_bytes())?.plain(&mut out, scale).then_some(())?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn given_numbers_when_printed_plainly_then_they_are_as_numeric_prints_them() {
        for (text, scale, want) in [
            ("0", None, "0"),
            ("-0", None, "0"),
            ("-0.00", None, "0.00"),
            ("0E+3", None, "0"),
            ("1E+3", None, "1000"),
            ("12.50", None, "12.50"),
            ("-1.5E-3", None, "-0.0015"),
            ("12.5", Some(2), "12.50"),
            ("12", Some(2), "12.00"),
            ("1E+2", Some(1), "100.0"),
            ("12.500", Some(1), "12.5"),
            ("0", Some(2), "0.00"),
            ("0E-9", Some(2), "0.00"),
            ("7", Some(0), "7"),
            ("NaN", Some(2), "NaN"),
            ("-inf", None, "-Infinity"),
        ] {
            assert_eq!(plain(text, scale).as_deref(), Some(want), "{text}");
        }
        assert_eq!(plain("12.55", Some(1)), None);
        for bad in ["", "-", ".", "1e", "1.2.3", "0x1", "1 ", "1e99999999999"] {
            assert_eq!(Decimal::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn given_numbers_when_asked_what_else_they_are_then_only_what_is_exact_is_said() {
        let of = |t: &str| Decimal::parse(t.as_bytes()).unwrap();
        assert_eq!(of("1.00").integer(), Some(1));
        assert_eq!(of("-9223372036854775808").integer(), Some(i64::MIN));
        assert_eq!(of("9223372036854775808").integer(), None);
        assert_eq!((of("1E+30").integer(), of("1.5").integer(), of("NaN").integer()), (None, None, None));
        assert_eq!(of("0.5").exact_double(), Some(0.5));
        assert_eq!((of("0.1").exact_double(), of("9007199254740993").exact_double()), (None, None));
        assert_eq!(of("1E+22").exact_double(), Some(1e22));
        assert_eq!((of("1E+23").exact_double(), of("1E-400").exact_double()), (None, None));
        assert_eq!(of("123.45").whole_digits(), 3);
        assert_eq!((of("0.05").whole_digits(), of("1E+5").whole_digits()), (0, 6));
    }

    #[test]
    fn given_more_digits_than_34_when_encoded_then_only_zeros_are_given_up() {
        let encode = |t: &str| Decimal::parse(t.as_bytes()).and_then(Decimal::encode);
        assert!(encode(&"9".repeat(34)).is_some());
        assert!(encode(&"9".repeat(35)).is_none());
        assert!(encode(&format!("{}000000", "9".repeat(34))).is_some());
        assert!(encode(&format!("1{}", "0".repeat(100))).is_some());
        assert!(encode("1E+6145").is_none() && encode("1E+6144").is_some());
        assert!(encode("1E-6177").is_none() && encode("10E-6177").is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn given_any_encoding_when_printed_then_it_is_as_the_crate_prints_it_and_reads_back(bytes: [u8; 16]) {
            let ours = Decimal::decode(&bytes);
            let theirs = bson::Decimal128::from_bytes(bytes).to_string();
            let mut text = Vec::new();
            ours.scientific(&mut text);
            prop_assert_eq!(String::from_utf8_lossy(&text), theirs.as_str());
            let back = Decimal::parse(&text).unwrap();
            prop_assert_eq!(Decimal::decode(&back.encode().unwrap()), ours);
        }

        #[test]
        fn given_common_numbers_when_encoded_then_the_crate_reads_the_same(n: i64, places in 0_u32..30) {
            let negative = n < 0;
            let ours = Decimal::Finite { negative, coefficient: u128::from(n.unsigned_abs()), exponent: -(places as i32) };
            let theirs = bson::Decimal128::from_bytes(ours.encode().unwrap()).to_string();
            let mut text = Vec::new();
            ours.scientific(&mut text);
            prop_assert_eq!(String::from_utf8(text).unwrap(), theirs);
        }

        #[test]
        fn given_any_double_when_taken_as_decimal_then_its_digits_read_back(bits: u64) {
            let x = f64::from_bits(bits);
            prop_assume!(x.is_finite());
            let mut text = Vec::new();
            Decimal::of_double(x).scientific(&mut text);
            prop_assert_eq!(String::from_utf8(text).unwrap().parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn given_any_text_when_read_as_a_number_then_nothing_panics(text in "[-+0-9.eE]{0,60}") {
            if let Some(d) = Decimal::parse(text.as_bytes()) {
                let _ = (d.encode(), d.integer(), d.whole_digits());
            }
        }
    }
}
