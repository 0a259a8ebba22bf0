//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Rows are allocated on one thread and freed on another: with an arena a thread, freed memory is never used again.
    // SAFETY: called before any other thread runs; it only sets a number in the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
    switchyard::cli::main()
}
