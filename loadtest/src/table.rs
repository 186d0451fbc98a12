//! Readable figures: aligned columns, thousands separators, no more digits than are significant.

use std::fmt::Write as _;

/// A block of lines with a title, cells aligned by column.
#[derive(Clone, Debug, Default)]
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty block.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: a name and its cells.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) -> &mut Self {
        self.rows
            .push(cells.iter().map(|cell| (*cell).to_owned()).collect());
        self
    }

    /// Whether it has no rows, or only heads of columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_head = |row: &Vec<String>| row.first().is_some_and(String::is_empty);
        self.rows.iter().all(is_head)
    }

    /// Its title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its rows: a name and its cells.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The block as text. The first column is flush left, the others flush right, but a last column that is alone in its
    /// row with the name is prose: flush left too, and broken between words where a line would be too long.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let is_prose = |row: &Vec<String>| row.len() == 2 && columns > 2;
        let mut widths = vec![0; columns];
        for row in &self.rows {
            let measured = if is_prose(row) { 1 } else { row.len() };
            for (width, cell) in widths.iter_mut().zip(&row[..measured]) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("{}\n", self.title);
        let flush_left_all = columns == 2;
        for row in &self.rows {
            let mut line = String::from(INDENT);
            for (index, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[index].saturating_sub(cell.chars().count()));
                if index == 0 {
                    let _ = write!(line, "{cell}{pad}");
                } else if is_prose(row) || flush_left_all {
                    let from = INDENT.len() + widths[0] + GAP.len();
                    let lines = wrapped(cell, COLUMNS_MAX.saturating_sub(from));
                    let break_and_indent = format!("\n{}", " ".repeat(from));
                    let _ = write!(line, "{GAP}{}", lines.join(&break_and_indent));
                } else {
                    let _ = write!(line, "{GAP}{pad}{cell}");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Columns of a terminal that a table takes at most, if its names and figures do.
pub const COLUMNS_MAX: usize = 100;
const INDENT: &str = "  ";
const GAP: &str = "   ";

/// Text in lines of at most `columns`, broken between words, and within a word that is longer than a line.
#[must_use]
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut filled = 0;
    for word in text.split(' ') {
        let letters: Vec<char> = word.chars().collect();
        let pieces = letters.chunks(columns);
        for (index, piece) in pieces.enumerate() {
            let is_new_word = index == 0;
            if filled > 0 && (!is_new_word || filled + 1 + piece.len() > columns) {
                lines.push(String::new());
                filled = 0;
            }
            if let Some(line) = lines.last_mut() {
                if filled > 0 {
                    line.push(' ');
                    filled += 1;
                }
                line.extend(piece);
                filled += piece.len();
            }
        }
    }
    lines
}

/// `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits or so: `0.042`, `1.23`, `45.6`, `1,234`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded and not negative"
)]
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 999.5 && value > 0.0 => count(value.round() as u64),
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A figure that may be a count: a whole number has no decimals, `0`, `1,234`, `0.42`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number that is not negative, and a cast of a double saturates"
)]
pub fn amount(value: f64) -> String {
    if value >= 0.0 && value.fract() == 0.0 {
        count(value as u64)
    } else {
        figure(value)
    }
}

/// Bytes in the unit that fits: `812 B`, `4.1 KiB`, `96.0 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for reading")]
pub fn bytes(value: u64) -> String {
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", value as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", value as f64 / 1_073_741_824.0),
    }
}

/// The same for a rate or another figure that is not a whole number.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded and not negative"
)]
pub fn bytes_f64(value: f64) -> String {
    bytes(value.max(0.0).round() as u64)
}

/// A rate for a line that changes: `0`, `2,020`, `12.3k`, `4.56M`.
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        v if v < 9_999.5 => amount(v.round()),
        v if v < 999_950.0 => format!("{:.1}k", v / 1e3),
        v if v < 999_500_000.0 => format!("{:.2}M", v / 1e6),
        v => format!("{:.2}G", v / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_in_any_script() {
        let mut table = Table::new("latency, ms");
        table
            .row(["", "p50", "p99"])
            .row(["post → viewer", "1.00", "12.3"])
            .row(["note", "nothing of note"]);
        assert_eq!(
            table.render(),
            "latency, ms\n                   p50    p99\n  post → viewer   1.00   12.3\n  note            nothing of note\n"
        );
    }

    #[test]
    fn long_prose_is_broken_between_words_and_stays_in_its_column() {
        let mut table = Table::new("posts");
        table.row(["outcome", &"twelve words ".repeat(12)]);
        table.row(["a name of some length", "short"]);
        let text = table.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS_MAX));
        assert_eq!(lines[1].find("twelve"), Some(26));
        assert_eq!(lines[2].find(|c: char| c != ' '), Some(26));
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(
            wrapped("a longer-than-ten b", 10),
            ["a", "longer-tha", "n-ten b"]
        );
    }

    #[test]
    fn figures_have_only_significant_digits() {
        let all: Vec<String> = [0.0, 0.0421, 0.123, 1.234, 45.678, 123.4, 12_345.6]
            .into_iter()
            .map(figure)
            .collect();
        assert_eq!(
            all,
            ["0.00", "0.042", "0.12", "1.23", "45.7", "123", "12,346"]
        );
        assert_eq!(
            [count(0), count(999), count(1_234_567)],
            ["0", "999", "1,234,567"]
        );
        assert_eq!(
            [bytes(812), bytes(4200), bytes(100 << 20)],
            ["812 B", "4.1 KiB", "100.0 MiB"]
        );
        assert_eq!(bytes(3 << 30), "3.00 GiB");
        assert_eq!(bytes_f64(-1.0), "0 B");
        assert_eq!(
            [0.0, 1.0, 1500.0, 0.5, -2.0].map(amount),
            ["0", "1", "1,500", "0.50", "-2.00"]
        );
        assert_eq!(
            [0.2, 2020.3, 12_345.0, 4_560_000.0, 2e9].map(rate),
            ["0", "2,020", "12.3k", "4.56M", "2.00G"]
        );
    }
}
