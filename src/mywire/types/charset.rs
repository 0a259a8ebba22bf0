//! Character sets of columns: which a collation's number or name stands for, and their text as UTF-8.
//!
//! The rule is that decoding gives what the server's own `CONVERT(… USING utf8mb4)` gives, byte for byte. Where a server
//! puts `?` for bytes that mean nothing, this is an error: a character must not be made up.

use encoding_rs::Encoding;

use super::charset_tables as tables;

/// A character set, as far as its text can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// No characters: bytes.
    Binary,
    /// `utf8mb4` and `utf8mb3`.
    Utf8,
    /// `ascii`.
    Ascii,
    /// One byte a character, by a table.
    Single(Single),
    /// `ucs2` and `utf16`: two bytes, the larger first.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`: four bytes, the largest first.
    Utf32,
    /// One or two bytes a character.
    Multi(Multi),
}

macro_rules! singles {
    ($($variant:ident $name:literal $table:ident),* $(,)?) => {
        /// Sets of one byte a character.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the names are the servers' own
        pub enum Single { $($variant),* }
        impl Single {
            const ALL: &'static [(&'static str, Single)] = &[$(($name, Single::$variant)),*];
            fn table(self) -> &'static tables::Half {
                match self { $(Single::$variant => &tables::$table),* }
            }
        }
    };
}

singles! {
    Latin1 "latin1" LATIN1, Latin2 "latin2" LATIN2, Latin5 "latin5" LATIN5, Latin7 "latin7" LATIN7,
    Cp1250 "cp1250" CP1250, Cp1251 "cp1251" CP1251, Cp1256 "cp1256" CP1256, Cp1257 "cp1257" CP1257,
    Cp850 "cp850" CP850, Cp852 "cp852" CP852, Cp866 "cp866" CP866, Dec8 "dec8" DEC8, Hp8 "hp8" HP8, Swe7 "swe7" SWE7,
    Koi8r "koi8r" KOI8R, Koi8u "koi8u" KOI8U, Macce "macce" MACCE, Macroman "macroman" MACROMAN, Greek "greek" GREEK,
    Hebrew "hebrew" HEBREW, Armscii8 "armscii8" ARMSCII8, Geostd8 "geostd8" GEOSTD8, Keybcs2 "keybcs2" KEYBCS2,
    Tis620 "tis620" TIS620,
}

/// Sets of several bytes a character whose characters are, one by one, those of the web's decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the servers' own
pub enum Multi {
    Cp932,
    Euckr,
    Gbk,
}

/// Sets that the servers read otherwise than the web's decoders do, in a few characters or in hundreds.
const REFUSED: [&str; 6] = ["big5", "eucjpms", "gb18030", "gb2312", "sjis", "ujis"];

impl Multi {
    const ALL: &'static [(&'static str, Multi)] =
        &[("cp932", Multi::Cp932), ("euckr", Multi::Euckr), ("gbk", Multi::Gbk)];
    fn encoding(self) -> &'static Encoding {
        match self {
            Multi::Cp932 => encoding_rs::SHIFT_JIS,
            Multi::Euckr => encoding_rs::EUC_KR,
            Multi::Gbk => encoding_rs::GBK,
        }
    }
}

/// Collations by number: all that MySQL 9.7 and MariaDB 10.11 know. Ranges are inclusive.
const COLLATIONS: &[(u16, u16, &str)] = &[
    (1, 1, "big5"),
    (2, 2, "latin2"),
    (3, 3, "dec8"),
    (4, 4, "cp850"),
    (5, 5, "latin1"),
    (6, 6, "hp8"),
    (7, 7, "koi8r"),
    (8, 8, "latin1"),
    (9, 9, "latin2"),
    (10, 10, "swe7"),
    (11, 11, "ascii"),
    (12, 12, "ujis"),
    (13, 13, "sjis"),
    (14, 14, "cp1251"),
    (15, 15, "latin1"),
    (16, 16, "hebrew"),
    (18, 18, "tis620"),
    (19, 19, "euckr"),
    (20, 20, "latin7"),
    (21, 21, "latin2"),
    (22, 22, "koi8u"),
    (23, 23, "cp1251"),
    (24, 24, "gb2312"),
    (25, 25, "greek"),
    (26, 26, "cp1250"),
    (27, 27, "latin2"),
    (28, 28, "gbk"),
    (29, 29, "cp1257"),
    (30, 30, "latin5"),
    (31, 31, "latin1"),
    (32, 32, "armscii8"),
    (33, 33, "utf8mb3"),
    (34, 34, "cp1250"),
    (35, 35, "ucs2"),
    (36, 36, "cp866"),
    (37, 37, "keybcs2"),
    (38, 38, "macce"),
    (39, 39, "macroman"),
    (40, 40, "cp852"),
    (41, 42, "latin7"),
    (43, 43, "macce"),
    (44, 44, "cp1250"),
    (45, 46, "utf8mb4"),
    (47, 49, "latin1"),
    (50, 52, "cp1251"),
    (53, 53, "macroman"),
    (54, 55, "utf16"),
    (56, 56, "utf16le"),
    (57, 57, "cp1256"),
    (58, 59, "cp1257"),
    (60, 61, "utf32"),
    (62, 62, "utf16le"),
    (63, 63, "binary"),
    (64, 64, "armscii8"),
    (65, 65, "ascii"),
    (66, 66, "cp1250"),
    (67, 67, "cp1256"),
    (68, 68, "cp866"),
    (69, 69, "dec8"),
    (70, 70, "greek"),
    (71, 71, "hebrew"),
    (72, 72, "hp8"),
    (73, 73, "keybcs2"),
    (74, 74, "koi8r"),
    (75, 75, "koi8u"),
    (76, 76, "utf8mb3"),
    (77, 77, "latin2"),
    (78, 78, "latin5"),
    (79, 79, "latin7"),
    (80, 80, "cp850"),
    (81, 81, "cp852"),
    (82, 82, "swe7"),
    (83, 83, "utf8mb3"),
    (84, 84, "big5"),
    (85, 85, "euckr"),
    (86, 86, "gb2312"),
    (87, 87, "gbk"),
    (88, 88, "sjis"),
    (89, 89, "tis620"),
    (90, 90, "ucs2"),
    (91, 91, "ujis"),
    (92, 93, "geostd8"),
    (94, 94, "latin1"),
    (95, 96, "cp932"),
    (97, 98, "eucjpms"),
    (99, 99, "cp1250"),
    (101, 124, "utf16"),
    (128, 151, "ucs2"),
    (159, 159, "ucs2"),
    (160, 183, "utf32"),
    (192, 215, "utf8mb3"),
    (223, 223, "utf8mb3"),
    (224, 247, "utf8mb4"),
    (248, 250, "gb18030"),
    (255, 323, "utf8mb4"),
    (576, 578, "utf8mb3"),
    (608, 610, "utf8mb4"),
    (640, 642, "ucs2"),
    (672, 674, "utf16"),
    (736, 738, "utf32"),
    // From 1024 on MariaDB's NO PAD twins of the first 256, see below; then the UCA 14 collations.
    (2048, 2303, "utf8mb3"),
    (2304, 2559, "utf8mb4"),
    (2560, 2815, "ucs2"),
    (2816, 3071, "utf16"),
    (3072, 3327, "utf32"),
];

impl Charset {
    /// The character set of a collation, by the number that TABLE_MAP events and `information_schema.collations` have.
    ///
    /// # Errors
    /// A number that neither server knows.
    pub fn of_collation(id: u64) -> Result<Charset, String> {
        let base = if (1024..1280).contains(&id) { id - 1024 } else { id };
        COLLATIONS
            .iter()
            .find(|&&(first, last, _)| (u64::from(first)..=u64::from(last)).contains(&base))
            .ok_or_else(|| format!("collation {id} is not known"))
            .and_then(|&(_, _, name)| Charset::named(name))
    }

    /// The character set of that name, as `information_schema` has it.
    ///
    /// # Errors
    /// A name that is not known.
    pub fn named(name: &str) -> Result<Charset, String> {
        Ok(match name {
            "binary" => Charset::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" => Charset::Utf8,
            "ascii" => Charset::Ascii,
            "ucs2" | "utf16" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            _ => {
                if let Some((_, s)) = Single::ALL.iter().find(|(n, _)| *n == name) {
                    Charset::Single(*s)
                } else if let Some((_, m)) = Multi::ALL.iter().find(|(n, _)| *n == name) {
                    Charset::Multi(*m)
                } else if REFUSED.contains(&name) {
                    return Err(format!("text in character set {name} cannot be read from the log exactly"));
                } else {
                    return Err(format!("character set {name:?} is not known"));
                }
            }
        })
    }

    /// Appends `bytes` as UTF-8.
    ///
    /// # Errors
    /// Bytes that are no text of this set. `out` may then hold part of it.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Charset::Binary => out.extend_from_slice(bytes),
            Charset::Utf8 => {
                std::str::from_utf8(bytes).map_err(|_| "the bytes are not UTF-8")?;
                out.extend_from_slice(bytes);
            }
            Charset::Ascii => {
                if !bytes.is_ascii() {
                    return Err("a byte is not ASCII");
                }
                out.extend_from_slice(bytes);
            }
            Charset::Single(set) => single(set, bytes, out)?,
            Charset::Utf16 => utf16(bytes, u16::from_be_bytes, out)?,
            Charset::Utf16Le => utf16(bytes, u16::from_le_bytes, out)?,
            Charset::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err("UTF-32 text whose length is no multiple of four");
                }
                for &unit in units {
                    push(out, char::from_u32(u32::from_be_bytes(unit)).ok_or("not a character of UTF-32")?);
                }
            }
            Charset::Multi(set) => multi(set, bytes, out)?,
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn single(set: Single, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let swedish = set == Single::Swe7;
    if !swedish && bytes.is_ascii() {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let table = set.table();
    for &b in bytes {
        if b < 0x80 && !swedish {
            out.push(b);
            continue;
        }
        let index = usize::from(if swedish { b } else { b & 0x7f });
        let c = table.get(index).copied().filter(|&c| c != 0xfffd).and_then(|c| char::from_u32(c.into()));
        push(out, c.ok_or("a byte means nothing in the column's character set")?);
    }
    Ok(())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("UTF-16 text of an odd length");
    }
    for c in char::decode_utf16(units.iter().map(|&u| unit(u))) {
        push(out, c.map_err(|_| "half a surrogate pair")?);
    }
    Ok(())
}

fn multi(set: Multi, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if bytes.is_ascii() {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let text = set
        .encoding()
        .decode_without_bom_handling_and_without_replacement(bytes)
        .ok_or("bytes mean nothing in the column's character set")?;
    // A hundred pairs of bytes that the servers have no character for are read here, as later editions of gbk define them.
    // What the web's decoder puts into the private use area and where it adds to the set means nothing to the servers.
    let added = |c: char| ('\u{e000}'..='\u{f8ff}').contains(&c) || c == '€';
    if set == Multi::Gbk && text.contains(added) {
        return Err("bytes mean nothing in the column's character set");
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
