//! What a command prints: an aligned table for people, JSON or YAML for programs.
//!
//! Everything is made as text first, so that tests compare texts. Control characters in cells are replaced: names and
//! messages come from registries, and a terminal must not act on them. Colours only where [`Style`] says so.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Whether the reader is a terminal that wants colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Colours are used.
    pub(crate) colour: bool,
}

/// What a piece of text means, which is what its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Heading,
}

impl Style {
    /// `text` in the colour of `tone`, or as it is.
    pub(crate) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Heading => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One cell of a [`Table`].
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell whose colour says something.
    pub(crate) fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: printable(&text.to_string()), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// `text` without what a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its indentation, an empty cell as `-`.
    pub(crate) fn lines(&self, style: Style, indent: &str) -> Vec<String> {
        let widths: Vec<usize> = (0..self.header.len()).map(|column| self.width(column)).collect();
        let header = self.header.iter().map(|text| Cell::toned(text, Tone::Heading)).collect();
        std::iter::once(&header).chain(&self.rows).map(|row| line(row, &widths, style, indent)).collect()
    }

    fn width(&self, column: usize) -> usize {
        let header = self.header.get(column).map_or(0, |text| text.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count().max(1)).fold(header, usize::max)
    }
}

fn line(row: &[Cell], widths: &[usize], style: Style, indent: &str) -> String {
    let mut line = indent.to_owned();
    for (n, cell) in row.iter().enumerate() {
        let text = if cell.text.is_empty() { "-" } else { cell.text.as_str() };
        line.push_str(&style.paint(text, cell.tone));
        // The last column is not padded: no trailing blanks in what people copy.
        if n + 1 < row.len() {
            let width = widths.get(n).copied().unwrap_or(0);
            let padding = width.saturating_sub(text.chars().count()) + GAP;
            let _ = write!(line, "{:padding$}", "");
        }
    }
    line
}

/// A value for programs. `Table` is the caller's to handle; it gets JSON here.
pub(crate) fn document(value: &impl Serialize, format: Format) -> Result<String> {
    Ok(match format {
        Format::Yaml => serde_saphyr::to_string(value).context("writing YAML")?,
        Format::Json | Format::Table => {
            let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
            text.push('\n');
            text
        }
    })
}

/// Writes to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// A span of time in its largest unit: `12s`, `5m`, `3h`, `9d`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// How long ago `then` was, by the clock that says `now`.
pub(crate) fn age(now_unix_ms: u64, then_unix_ms: u64) -> String {
    span(Duration::from_millis(now_unix_ms.saturating_sub(then_unix_ms)))
}

/// Between columns.
const GAP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn columns_are_aligned_and_the_last_is_not_padded() {
        let mut table = Table::new(&["NAME", "STATE", "AGE"]);
        table.row(vec!["a".into(), Cell::toned("synced", Tone::Good), 5.into()]);
        table.row(vec!["longer-é".into(), "".into(), "".into()]);
        let lines = table.lines(PLAIN, "");
        assert_eq!(lines, ["NAME       STATE    AGE", "a          synced   5", "longer-é   -        -"]);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![Cell::toned("x", Tone::Bad), "y".into()]);
        let coloured = table.lines(Style { colour: true }, "");
        assert_eq!(coloured[1], "\x1b[31mx\x1b[0m   y");
    }

    #[test]
    fn a_terminal_does_not_act_on_what_a_registry_says() {
        let mut table = Table::new(&["A"]);
        table.row(vec!["\x1b]0;evil\x07\n".into()]);
        assert!(!table.lines(PLAIN, "").join("").contains(char::is_control));
    }

    #[test]
    fn spans_are_told_in_one_unit() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(|s| span(Duration::from_secs(s)));
        assert_eq!(told, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn a_clock_that_went_back_gives_age_zero() {
        assert_eq!(age(1, 2), "0s");
    }
}
