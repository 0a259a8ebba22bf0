//! Names that have to be short: of locks, in keys of the bookkeeping, of indexes. Pure.

/// The name of a migration's lock of some kind. Names of locks have 64 characters at most, count for the whole server,
/// and are compared without regard to case; so a long name, or one with capitals, is told by its hash.
pub fn lock_name(what: &str, name: &str) -> String {
    let plain =
        name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if plain {
        format!("switchyard/{what}/{name}")
    } else {
        format!("switchyard/{what}/#{:016x}", fnv(name.as_bytes()))
    }
}

/// FNV-1a, 64 bits: for names, not for secrets.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A name cut to what fits into `switchyard.skipped`'s keys: long ones end in their hash.
pub fn short(name: &str) -> String {
    if name.chars().count() <= 190 {
        return name.to_owned();
    }
    let head: String = name.chars().take(170).collect();
    format!("{head}#{:016x}", fnv(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_of_migrations_when_made_into_locks_then_they_are_short_and_apart() {
        assert_eq!(lock_name("run", "shop"), "switchyard/run/shop");
        let (a, b) = (lock_name("run", "Shop"), lock_name("run", &"x".repeat(90)));
        assert!(a != b && a.len() <= 64 && b.len() <= 64 && a != lock_name("run", "shop"), "{a} {b}");
    }
}
