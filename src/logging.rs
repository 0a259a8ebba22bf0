//! Logs: text or JSON on stderr, and in a file that is put aside when it is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, Result};

/// Sets up logging for the process. `verbose` is how often `-v` was given; `RUST_LOG` wins over it. Lines on stderr go
/// around the bars of `bars`, if there are any.
///
/// # Errors
/// `Config` when the log file cannot be opened.
pub fn init(log: &LogConfig, verbose: u8, bars: Option<MultiProgress>) -> Result<()> {
    let filter = || {
        EnvFilter::try_from_default_env().unwrap_or_else(|_| {
            EnvFilter::new(match verbose {
                // Other crates' debug lines may hold what they send: they stay quiet unless RUST_LOG asks.
                0 => "warn,switchyard=info",
                1 => "warn,switchyard=debug",
                _ => "warn,switchyard=trace",
            })
        })
    };
    let layer = |writer: Writer, ansi: bool| -> Box<dyn Layer<Registry> + Send + Sync> {
        let base = tracing_subscriber::fmt::layer().with_ansi(ansi).with_target(false).with_writer(writer);
        match log.format {
            LogFormat::Text => base.with_filter(filter()).boxed(),
            LogFormat::Json => base.json().flatten_event(true).with_filter(filter()).boxed(),
        }
    };
    let ansi = std::io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let mut layers = vec![layer(Writer::Stderr(bars), ansi)];
    if let Some(path) = &log.file {
        let file = RotatingFile::open(path, log.max_size, log.max_files).map_err(|e| {
            Error::config(format!("log.file: {} cannot be opened for writing: {e}", path.display()))
                .hint("check that its directory exists and that this user may write there")
        })?;
        layers.push(layer(Writer::File(Arc::new(Mutex::new(file))), false));
    }
    // A second call in one process (tests) keeps the first setup.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Where lines go.
#[derive(Clone)]
enum Writer {
    Stderr(Option<MultiProgress>),
    File(Arc<Mutex<RotatingFile>>),
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Writer;
    fn make_writer(&'a self) -> Writer {
        self.clone()
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Stderr(Some(bars)) => bars.suspend(|| io::stderr().write_all(line))?,
            Writer::Stderr(None) => io::stderr().write_all(line)?,
            Writer::File(file) => file.lock().unwrap_or_else(|e| e.into_inner()).write_all(line)?,
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is renamed to `NAME.1` (and that to `NAME.2`, …) before it would grow past `max_size` bytes.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    written: u64,
    max_size: u64,
    max_files: usize,
}

impl RotatingFile {
    /// Appends to the file at `path`. `max_files` counts it too.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, max_size: u64, max_files: usize) -> io::Result<RotatingFile> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_owned(), file, written, max_size, max_files: max_files.max(1) })
    }

    fn numbered(&self, n: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        // The oldest is overwritten by its successor; one that is missing was removed by hand, which is no reason to stop.
        for n in (1..self.max_files.saturating_sub(1)).rev() {
            let _ = std::fs::rename(self.numbered(n), self.numbered(n + 1));
        }
        if self.max_files > 1 {
            std::fs::rename(&self.path, self.numbered(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written + bytes.len() as u64 > self.max_size {
            // Where it cannot be put aside (a directory made read-only), going on in the same file is better than losing lines.
            let _ = self.rotate();
        }
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_more_than_fits_when_written_then_files_move_up_and_the_oldest_goes() {
        let dir = std::env::temp_dir().join(format!("switchyard-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.log");
        let mut f = RotatingFile::open(&path, 10, 3).unwrap();
        for line in ["one 1234\n", "two 1234\n", "three 12\n", "four 123\n"] {
            f.write_all(line.as_bytes()).unwrap();
        }
        let read = |p: &str| std::fs::read_to_string(dir.join(p)).unwrap_or_default();
        assert_eq!(
            (read("a.log"), read("a.log.1"), read("a.log.2")),
            ("four 123\n".into(), "three 12\n".into(), "two 1234\n".into())
        );
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
        drop(f);
        let mut f = RotatingFile::open(&path, 1000, 3).unwrap();
        f.write_all(b"more\n").unwrap();
        assert_eq!(read("a.log"), "four 123\nmore\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
