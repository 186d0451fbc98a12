//! Tables of figures, and figures as text: thousands separators, no more digits than are significant.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// A title, rows of cells, and what has to be known to read them. A report is a list of these, on a terminal and on its page.
#[derive(Clone, Debug, Default)]
pub struct Table {
    title: String,
    heads: Vec<String>,
    rows: Vec<Row>,
    note: Option<String>,
}

/// A row: a name and its cells.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    /// Whether it is good or bad, if it is judged. Its text says the same.
    pub(crate) met: Option<bool>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// Names its columns.
    pub fn heads<const N: usize>(&mut self, heads: [&str; N]) -> &mut Self {
        self.heads = heads.map(str::to_owned).into();
        self
    }

    /// Adds a row: a name and its cells.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) -> &mut Self {
        self.push(None, &cells)
    }

    /// Adds a row that is good or bad.
    pub(crate) fn judged<const N: usize>(&mut self, met: bool, cells: [&str; N]) -> &mut Self {
        self.push(Some(met), &cells)
    }

    fn push(&mut self, met: Option<bool>, cells: &[&str]) -> &mut Self {
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        self.rows.push(Row { cells, met });
        self
    }

    /// Says what has to be known to read it.
    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.note = Some(note.into());
        self
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn column_heads(&self) -> &[String] {
        &self.heads
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn note_text(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether a column is flush right: each of its cells is a figure.
    pub(crate) fn has_figures(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.cells.get(column));
        let is_figure = |cell: &String| {
            let digits = cell.trim_start_matches(['+', '-']);
            digits.is_empty() || is_count(digits)
        };
        column > 0 && cells.all(is_figure)
    }

    /// The table as text. A cell that is too long for its line is broken between words.
    #[must_use]
    pub fn render(&self) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(COLUMNS_MAX);
        if !self.heads.is_empty() {
            table.set_header(&self.heads);
        }
        for row in &self.rows {
            table.add_row(&row.cells);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding(if index == 0 { (INDENT, 0) } else { (GAP, 0) });
            if self.has_figures(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("{}\n", self.title);
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if let Some(note) = &self.note {
            text.push_str(&paragraph(note, INDENT));
        }
        text
    }
}

/// Columns of a terminal that a table takes at most.
const COLUMNS_MAX: u16 = 100;
const INDENT: u16 = 2;
const GAP: u16 = 3;

/// A paragraph, broken between words; its lines after the first, or all of them, are `indent` columns in.
#[must_use]
pub(crate) fn paragraph(text: &str, indent: u16) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(COLUMNS_MAX)
        .add_row([text]);
    for column in table.column_iter_mut() {
        column.set_padding((indent, 0));
    }
    let lines = table.lines();
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `1,234,567`, with or without decimals.
fn is_count(text: &str) -> bool {
    let digits = text.replace(',', "");
    text.starts_with(|first: char| first.is_ascii_digit()) && digits.parse::<f64>().is_ok()
}

/// `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
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
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 999.5 && value > 0.0 => grouped(&format!("{value:.0}")),
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A figure that may be a count: a whole number has no decimals, `0`, `1,234`, `0.42`.
#[must_use]
pub fn amount(value: f64) -> String {
    if value >= 0.0 && value.fract() == 0.0 {
        grouped(&format!("{value:.0}"))
    } else {
        figure(value)
    }
}

/// Bytes in the unit that fits: `812 B`, `4.1 KiB`, `96.0 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for reading")]
pub fn bytes(value: u64) -> String {
    bytes_f64(value as f64)
}

/// The same for a rate or another figure that is not a whole number.
#[must_use]
pub fn bytes_f64(value: f64) -> String {
    match value.max(0.0) {
        v if v < 1024.0 => format!("{v:.0} B"),
        v if v < 1_048_576.0 => format!("{:.1} KiB", v / 1024.0),
        v if v < 1_073_741_824.0 => format!("{:.1} MiB", v / 1_048_576.0),
        v => format!("{:.2} GiB", v / 1_073_741_824.0),
    }
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
    fn columns_of_figures_are_flush_right() {
        let mut table = Table::new("latency, ms");
        table.heads(["", "p50", "p99", ""]);
        table.row(["post → viewer", "1.00", "12,300", "ok"]);
        table.judged(false, ["弹幕", "-", "5", "NOT MET"]);
        table.note("Of all.");
        assert_eq!(
            table.render(),
            "latency, ms\n                   p50      p99\n  post → viewer   1.00   12,300   ok\n  \
             弹幕               -        5   NOT MET\n  Of all.\n"
        );
    }

    #[test]
    fn long_prose_is_broken_between_words_and_stays_in_its_column() {
        let mut table = Table::new("posts");
        table.row(["outcome", &"twelve words ".repeat(12)]);
        table.row(["a name of some length", &"弹幕 聊天 ".repeat(20)]);
        let text = table.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 100));
        for line in &lines[2..6] {
            let mut cell = line.char_indices().filter(|(at, _)| *at >= 23);
            assert_eq!(
                cell.find(|(_, letter)| *letter != ' ').unwrap().0,
                26,
                "{text}"
            );
        }
        let said = paragraph(&"said ".repeat(30), 2);
        assert!(
            said.starts_with("  said said") && said.lines().count() == 2,
            "{said}"
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
