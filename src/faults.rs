//! Named points where a test may make the process die as by SIGKILL, and constants that it may set. In debug builds only.

/// Dies here if `SWITCHYARD_CRASH_AT` is `name`, or `name:n` and this is the n-th time; stands still, as by SIGSTOP, if
/// `SWITCHYARD_STOP_AT` is.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    struct Wanted {
        at: String,
        times: u64,
        passed: AtomicU64,
        signal: libc::c_int,
    }
    static WANTED: OnceLock<Vec<Wanted>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let variables = [("SWITCHYARD_CRASH_AT", libc::SIGKILL), ("SWITCHYARD_STOP_AT", libc::SIGSTOP)];
        let set = variables.into_iter().filter_map(|(name, signal)| {
            let text = std::env::var(name).ok()?;
            let (at, times) = text.split_once(':').unwrap_or((&text, "1"));
            Some(Wanted { at: at.to_owned(), times: times.parse().unwrap_or(1), passed: AtomicU64::new(0), signal })
        });
        set.collect()
    });
    for w in wanted {
        if w.at == name && w.passed.fetch_add(1, Ordering::SeqCst) + 1 == w.times {
            // SAFETY: kill takes no memory. After SIGKILL nothing of this process runs; it takes effect before kill
            // returns, because the signal goes to the calling process and is not blocked.
            unsafe { libc::kill(libc::getpid(), w.signal) };
        }
    }
}

/// Nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

/// A number that a test sets in place of a constant, so that small data meets what large data would.
#[cfg(debug_assertions)]
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn number(_variable: &str) -> Option<u64> {
    None
}
