//! Tables that fit the terminal. Where a table is wider, its widest shrinkable column gives way, ending in `…`; where
//! output is no terminal, nothing is cut.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::text;

/// A heading, and whether what stands under it may be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    shrinks: bool,
}

/// A column whose content is needed whole, such as an id.
pub(crate) const fn whole(heading: &'static str) -> Column {
    Column { heading, shrinks: false }
}

/// A column whose content may be cut at its end.
pub(crate) const fn cut(heading: &'static str) -> Column {
    Column { heading, shrinks: true }
}

/// Text with a style, on one line.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text from anywhere: it is made safe to print.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: text::line(text.as_ref()), style: Style::new() }
    }

    /// Text that may be missing.
    pub(crate) fn maybe(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new("-"), Self::new)
    }

    pub(crate) fn good(text: impl AsRef<str>) -> Self {
        Self { style: AnsiColor::Green.on_default(), ..Self::new(text) }
    }

    pub(crate) fn doubtful(text: impl AsRef<str>) -> Self {
        Self { style: AnsiColor::Yellow.on_default(), ..Self::new(text) }
    }

    pub(crate) fn bad(text: impl AsRef<str>) -> Self {
        Self { style: AnsiColor::Red.on_default(), ..Self::new(text) }
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &'static [Column], rows: Vec<Vec<Cell>>) -> Self {
        Self { columns, rows }
    }

    /// The whole table, at most `limit` columns wide where that can be had.
    pub(crate) fn render(&self, limit: Option<usize>) -> String {
        let widths = self.widths(limit);
        let heading = |column: &Column| Cell { text: column.heading.to_owned(), style: HEADING };
        let headings: Vec<Cell> = self.columns.iter().map(heading).collect();
        let mut out = row(&headings, &widths);
        self.rows.iter().for_each(|cells| out.push_str(&row(cells, &widths)));
        out
    }

    /// The rows alone, each cell as wide as it is: for streams, whose later rows are not known yet.
    pub(crate) fn render_row(&self) -> String {
        self.rows.iter().map(|cells| row(cells, &[])).collect()
    }

    /// Names and values under each other.
    pub(crate) fn details(pairs: &[(&'static str, Cell)]) -> String {
        let name = |text: &str| Cell { text: text.to_owned(), style: HEADING };
        let width = pairs.iter().map(|(text, _)| text.width()).max().unwrap_or_default();
        pairs.iter().map(|(text, value)| row(&[name(text), value.clone()], &[width])).collect()
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |index: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|cells| cells.get(index)).map(Cell::width);
            cells.chain([column.heading.width()]).max().unwrap_or_default()
        };
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(index, column)| widest(index, column)).collect();
        let Some(limit) = limit else { return widths };
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        loop {
            let total = widths.iter().sum::<usize>() + gaps;
            let shrinkable = widths.iter_mut().zip(self.columns).filter(|(_, column)| column.shrinks);
            let widest = shrinkable.map(|(width, _)| width).max_by_key(|width| **width);
            match widest {
                Some(width) if total > limit && *width > NARROWEST => {
                    *width = (*width - 1).max(NARROWEST);
                }
                _ => return widths,
            }
        }
    }
}

/// Cells padded to `widths`, except the last, which nothing follows.
fn row(cells: &[Cell], widths: &[usize]) -> String {
    let mut out = String::new();
    for (index, cell) in cells.iter().enumerate() {
        let last = index + 1 == cells.len();
        let width = widths.get(index).copied();
        let shown = match width {
            Some(width) => shorten(&cell.text, width),
            None => cell.text.clone(),
        };
        let padding = width.unwrap_or_default().saturating_sub(shown.width());
        out.push_str(&format!("{}{shown}{:#}", cell.style, cell.style));
        if !last {
            out.push_str(&" ".repeat(padding));
            out.push_str(GAP);
        }
    }
    out.push('\n');
    out
}

fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > width {
            break;
        }
        shown.push(character);
    }
    shown.push('…');
    shown
}

const GAP: &str = "  ";
/// A column is not cut below this.
const NARROWEST: usize = 12;
const HEADING: Style = Style::new().bold();

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[whole("ID"), cut("PATH"), cut("WHO")];

    fn table(rows: &[[&str; 3]]) -> Table {
        Table::new(COLUMNS, rows.iter().map(|row| row.map(Cell::new).to_vec()).collect())
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let text = plain(&table(&[["1", "local/db", "ada"], ["22", "x", "grace"]]).render(None));
        assert_eq!(text, "ID  PATH      WHO\n1   local/db  ada\n22  x         grace\n");
    }

    #[test]
    fn the_widest_column_gives_way_first() {
        let path = "vault/payments/production/database/credentials";
        let text = plain(&table(&[["1", path, "spiffe://e/ada"]]).render(Some(40)));
        assert_eq!(text, "ID  PATH                  WHO\n1   vault/payments/prod…  spiffe://e/ada\n");
        assert!(text.lines().all(|line| line.width() <= 40));
    }

    #[test]
    fn whole_columns_are_never_cut() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let text = plain(&table(&[[id, "a", "b"]]).render(Some(10)));
        assert!(text.contains(id));
    }

    #[test]
    fn nothing_is_cut_without_a_terminal() {
        let path = "p".repeat(300);
        assert!(plain(&table(&[["1", &path, "b"]]).render(None)).contains(&path));
    }

    #[test]
    fn wide_characters_count_twice() {
        let text = plain(&table(&[["1", "秘密", "a"], ["2", "abcd", "b"]]).render(None));
        assert_eq!(text, "ID  PATH  WHO\n1   秘密  a\n2   abcd  b\n");
    }

    #[test]
    fn a_cell_cannot_break_the_table_or_drive_the_terminal() {
        let text = plain(&table(&[["1", "a\nb\u{1b}[2J", "c"]]).render(None));
        assert_eq!(text.lines().count(), 2, "{text:?}");
    }

    #[test]
    fn details_stand_under_each_other() {
        let text = plain(&Table::details(&[("id", Cell::new("1")), ("principal", Cell::new("ada"))]));
        assert_eq!(text, "id         1\nprincipal  ada\n");
    }
}
