//! What the demo shows: bars and one live line on a terminal, plain lines otherwise; at most 96 columns wide.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;

/// The widest line.
const WIDTH: usize = 96;
/// Between two lines of progress where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Where the demo prints.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
}

impl Screen {
    /// Prints to stdout.
    pub fn new() -> Screen {
        Screen { terminal: std::io::stdout().is_terminal() }
    }

    /// One line; that nobody reads any more is no error.
    pub fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// The head of a step.
    pub fn step(&self, number: u32, text: &str) {
        let (on, off) = if self.terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("\n{on}{number}/7 {text}{off}"));
    }

    /// Lines below it, wrapped.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            for part in wrap(line, WIDTH - 4) {
                self.line(format!("    {part}").trim_end());
            }
        }
    }

    /// A bar for something whose size is known, or a line that changes.
    pub fn live(&self, total: Option<u64>) -> Live {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stdout_with_hz(8));
            let template = if total.is_some() { "    [{bar:30}] {msg}" } else { "    {spinner} {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Live { bar, said: None, last: String::new() }
    }
}

/// A line that changes while something goes on.
#[derive(Debug)]
pub struct Live {
    bar: Option<ProgressBar>,
    said: Option<Instant>,
    last: String,
}

impl Live {
    /// Shows how far it is.
    pub fn update(&mut self, position: u64, total: u64, text: &str) {
        self.last = text.to_owned();
        match &self.bar {
            Some(bar) => {
                bar.set_length(total.max(1));
                bar.set_position(position);
                bar.set_message(cut(text, WIDTH - 38));
                bar.tick();
            }
            None if self.said.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) => {
                self.said = Some(Instant::now());
                let _ = writeln!(std::io::stdout(), "    {}", cut(text, WIDTH - 4));
            }
            None => {}
        }
    }

    /// Ends it, and leaves its last text on the terminal; elsewhere it stands there already.
    pub fn leave(self, screen: &Screen) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            screen.say(&self.last);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Asks on the terminal; `true` without one, and when only Enter was pressed.
///
/// # Errors
/// If the terminal cannot be read.
pub fn agreed(question: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(true);
    }
    print!("{question} [Y/n] ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer).map_err(|e| Error::fatal(format!("reading the answer: {e}")))?;
    Ok(read > 0 && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width - 1).collect();
    short.push('…');
    short
}

/// Breaks a line at spaces. What follows stands below the line's last column, where it has columns, else two further in.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let indent = line.chars().take_while(|c| *c == ' ').count().min(width / 2);
    let columns = line.char_indices().take(24).filter(|(at, _)| *at > indent && line[..*at].ends_with("  "));
    let hanging = columns.last().map_or(indent + 2, |(at, _)| line[..at].chars().count());
    let mut out = Vec::new();
    let mut current = " ".repeat(indent);
    let mut length = indent;
    for word in line[indent..].split_inclusive(' ') {
        let size = word.trim_end().chars().count();
        if length + size > width && length > hanging {
            out.push(current.trim_end().to_owned());
            current = " ".repeat(hanging);
            length = hanging;
        }
        current.push_str(word);
        length += word.chars().count();
    }
    out.push(current.trim_end().to_owned());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_long_line_when_wrapped_then_nothing_is_lost() {
        let line = "  note     some words that are long, and a/very/long/path/that/cannot/be/broken/anywhere end";
        let parts = wrap(line, 40);
        assert!(parts.iter().all(|p| p.chars().count() <= 60), "{parts:?}");
        assert!(parts[0].starts_with("  note     some"));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&parts.join(" ")), words(line));
        assert!(parts[1].starts_with("           "), "{parts:?}");
        assert_eq!(wrap("", 40), [""]);
        assert_eq!(wrap("aaaa bbbb cccc", 9), ["aaaa bbbb", "  cccc"]);
    }
}
