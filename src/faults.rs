//! Named points where a test may make the process die as by SIGKILL, and constants that it may set. In debug builds only.

/// Dies here if `SWITCHYARD_CRASH_AT` is `name`, or `name:n` and this is the n-th time.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("SWITCHYARD_CRASH_AT").ok()?;
        Some(match text.split_once(':') {
            Some((n, times)) => (n.to_owned(), times.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    if let Some((at, times)) = wanted {
        if at == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times {
            // SAFETY: kill takes no memory; nothing of this process runs after it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            std::thread::sleep(std::time::Duration::from_secs(60));
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
