//! How results and errors are printed.

use std::io::Write;

use serde_json::{Value, json};

use crate::error::Error;

/// The error as a document.
pub fn error_document(e: &Error) -> Value {
    json!({"error": e.message(), "hint": e.hint_text(), "class": e.class().label()})
}

/// `error: …` and `  hint: …` on stderr; with `--json` one document on stdout besides.
pub fn print_error(e: &Error, as_json: bool) {
    let mut text = format!("error: {e}\n");
    if let Some(h) = e.hint_text() {
        text.push_str(&format!("  hint: {h}\n"));
    }
    // If stderr is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
    if as_json {
        print_json(&error_document(e));
    }
}

/// One document on stdout.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => print_text(&text),
        Err(e) => eprintln!("error: the result cannot be printed as JSON: {e}"),
    }
}

/// Text on stdout, with a line's end. A reader that went away (`| head`) is no error.
pub fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    let _ = out.flush();
}

/// `1 234 567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Columns aligned with two spaces between, no borders: pleasant in a terminal and in a mail.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    use comfy_table::{CellAlignment, Table, presets::NOTHING};
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_rows(rows.iter().cloned());
    for c in table.column_iter_mut() {
        c.set_padding((0, 2));
    }
    for i in right {
        if let Some(c) = table.column_mut(*i) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_numbers_when_grouped_then_they_can_be_read() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(123), "123");
        assert_eq!(thousands(1234567), "1 234 567");
    }
}
