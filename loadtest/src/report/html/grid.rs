//! Tables with column headers, each row in a tone.

use std::fmt::Write as _;

use crate::report::markup::escape;

/// A table with column headers, each row in a tone.
pub(super) struct Grid<'a> {
    pub(super) title: &'a str,
    pub(super) heads: Vec<&'a str>,
    pub(super) rows: Vec<(Tone, Vec<String>)>,
    /// Of the last column.
    pub(super) last: Last,
    pub(super) note: Option<String>,
}

/// What the last column of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A figure like the others.
    Figure,
    /// A verdict on the row, in words.
    Words,
}

/// The colour of a row. Its text says the same, for readers who cannot see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Neutral,
    Good,
    Bad,
}

/// Columns that fit side by side on a phone. A wider table shows each row as a block there, with the header before each cell.
const COLUMNS_NARROW_MAX: usize = 4;

/// A section of the page with the given tables; nothing without one.
pub(super) fn section(title: &str, grids: &[Option<Grid<'_>>], html: &mut String) {
    let grids: Vec<String> = grids.iter().flatten().map(Grid::render).collect();
    if !grids.is_empty() {
        let _ = write!(html, "<h2>{}</h2>{}", escape(title), grids.concat());
    }
}

pub(super) const fn tone_of(met: bool) -> Tone {
    if met { Tone::Good } else { Tone::Bad }
}

impl Grid<'_> {
    fn render(&self) -> String {
        let mut html = format!(
            "<div class=\"table fit\"><h3>{}</h3><table class=\"grid-of{}{}\"><thead><tr>",
            escape(self.title),
            if self.heads.len() > COLUMNS_NARROW_MAX {
                " many"
            } else {
                ""
            },
            match self.last {
                Last::Figure => "",
                Last::Words => " judged",
            }
        );
        for head in &self.heads {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(head));
        }
        html.push_str("</tr></thead><tbody>");
        for (tone, cells) in &self.rows {
            let class = match tone {
                Tone::Neutral => "",
                Tone::Good => " class=\"met\"",
                Tone::Bad => " class=\"unmet\"",
            };
            let _ = write!(html, "<tr{class}>");
            for (head, cell) in self.heads.iter().zip(cells) {
                let (head, cell) = (escape(head), escape(cell));
                let _ = write!(html, "<td data-head=\"{head}\">{cell}</td>");
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table>");
        if let Some(note) = &self.note {
            let _ = write!(html, "<p class=\"soft\">{}</p>", escape(note));
        }
        html.push_str("</div>");
        html
    }
}
