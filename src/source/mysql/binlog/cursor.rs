//! Reads numbers and slices off bytes, every length checked.

use std::borrow::Cow;
use std::fmt;

/// What is wrong with an event's bytes. Never holds a value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub Cow<'static, str>);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&'static str> for Wrong {
    fn from(what: &'static str) -> Self {
        Wrong(Cow::Borrowed(what))
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Wrong(Cow::Owned(what))
    }
}

/// What decoding gives.
pub type Parsed<T> = Result<T, Wrong>;

const CUT: &str = "it ends too early";

/// The rest of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// From the beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }
    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
    /// How much is left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Parsed<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(CUT)?;
        self.rest = tail;
        Ok(head)
    }
    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(CUT)?;
        self.rest = tail;
        Ok(*head)
    }
    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[b]| b)
    }
    /// Two bytes, little endian as all here.
    #[inline]
    pub fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_le_bytes)
    }
    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }
    /// Six bytes, as table numbers are.
    pub fn u48(&mut self) -> Parsed<u64> {
        self.uint(6)
    }
    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// `n` bytes, at most eight.
    pub fn uint(&mut self, n: usize) -> Parsed<u64> {
        debug_assert!(n <= 8);
        Ok(little(self.take(n)?))
    }
    /// A packed integer (`net_field_length_ll`).
    pub fn packed(&mut self) -> Parsed<u64> {
        match self.u8()? {
            n @ 0..=250 => Ok(n.into()),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            _ => Err("a packed number begins with 251 or 255".into()),
        }
    }
    /// A packed integer as a count or length of what is still to come.
    pub fn packed_len(&mut self) -> Parsed<usize> {
        usize::try_from(self.packed()?).map_err(|_| "a length beyond all memory".into())
    }
    /// A packed length and as many bytes.
    pub fn packed_bytes(&mut self) -> Parsed<&'a [u8]> {
        let n = self.packed_len()?;
        self.take(n)
    }
    /// Nothing may be left.
    pub fn end(&self) -> Parsed<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", self.rest.len()).into()) }
    }
}

/// A little-endian number of up to eight bytes.
#[inline]
pub fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// A big-endian number of up to eight bytes.
#[inline]
pub fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Whether bit `i` is set; bits of a byte from the lowest, false past the end.
#[inline]
pub fn bit(bits: &[u8], i: usize) -> bool {
    bits.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

/// How many of the first `n` bits are set.
pub fn count(bits: &[u8], n: usize) -> usize {
    (0..n).filter(|&i| bit(bits, i)).count()
}
