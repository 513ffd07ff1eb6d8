//! Plain-text tables: aligned columns, two-line headings, wrapped into blocks that fit the width.
//!
//! The first column repeats in every block. Marks are characters (`*`), so colour is never the only sign. It knows
//! nothing of reports.

/// One cell; `best` adds a `*` and, where colour is on, bold green.
#[derive(Clone, Default)]
pub(super) struct Cell {
    pub text: String,
    pub best: bool,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Cell { text: text.into(), best: false }
    }
}

/// A column: name, unit under it, one cell a row.
pub(super) struct Column {
    pub heading: String,
    pub unit: String,
    pub cells: Vec<Cell>,
}

/// A titled table.
pub(super) struct Grid {
    pub title: String,
    /// Heading of the first column.
    pub label: String,
    /// The first column's texts.
    pub rows: Vec<String>,
    pub columns: Vec<Column>,
    /// A line under the table; empty for none.
    pub note: String,
}

const GAP: usize = 2;
/// Names longer than this lose their middle; arbitrary, a quarter of a usual line.
const NAME_MAX: usize = 30;

impl Grid {
    /// The table as text, every line at most `width` characters (but at least one column a block).
    pub fn render(&self, width: usize, colour: bool) -> String {
        let names: Vec<String> = self.rows.iter().map(|name| shorten(name, NAME_MAX)).collect();
        let first = names.iter().map(|n| chars(n)).chain([chars(&self.label)]).max().unwrap_or(0);
        let mut out = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        for (i, block) in blocks(&self.columns, first, width).into_iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let mut heading = pad_right(&self.label, first);
            let mut units = pad_right("", first);
            for column in block {
                let (mark, size) = (usize::from(column.marked()), GAP + column.width());
                heading += &(pad_left(&column.heading, size - mark) + &" ".repeat(mark));
                units += &(pad_left(&column.unit, size - mark) + &" ".repeat(mark));
            }
            push_line(&mut out, &heading);
            if block.iter().any(|column| !column.unit.is_empty()) {
                push_line(&mut out, &units);
            }
            let total = chars(heading.trim_end());
            push_line(&mut out, &"─".repeat(total.max(first)));
            for (row, name) in names.iter().enumerate() {
                let mut line = pad_right(name, first);
                for column in block {
                    line += &column.cells.get(row).cloned().unwrap_or_default().draw(
                        GAP + column.width(),
                        column.marked(),
                        colour,
                    );
                }
                push_line(&mut out, &line);
            }
        }
        if !self.note.is_empty() {
            wrap(&mut out, &self.note, width);
        }
        out
    }
}

impl Column {
    /// Room for the widest text, and for the mark behind it where a cell has one.
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| chars(&cell.text));
        let widest = cells.chain([chars(&self.heading), chars(&self.unit)]).max().unwrap_or(0);
        widest + usize::from(self.marked())
    }

    fn marked(&self) -> bool {
        self.cells.iter().any(|cell| cell.best)
    }
}

impl Cell {
    fn draw(&self, width: usize, marked: bool, colour: bool) -> String {
        let padded = pad_left(&self.text, width - usize::from(marked));
        match (self.best, colour) {
            (true, true) => {
                let (space, text) = padded.split_at(padded.len() - padded.trim_start().len());
                format!("{space}\x1b[1;32m{text}*\x1b[0m")
            }
            (true, false) => format!("{padded}*"),
            (false, _) => padded + &" ".repeat(usize::from(marked)),
        }
    }
}

/// Consecutive columns that fit beside the first one.
fn blocks(columns: &[Column], first: usize, width: usize) -> Vec<&[Column]> {
    let (mut found, mut start, mut used) = (Vec::new(), 0, first);
    for (i, column) in columns.iter().enumerate() {
        let size = GAP + column.width();
        if i > start && used + size > width {
            found.push(&columns[start..i]);
            (start, used) = (i, first);
        }
        used += size;
    }
    if start < columns.len() {
        found.push(&columns[start..]);
    }
    found
}

/// The text with its middle cut out when it is longer than `max` characters.
pub(super) fn shorten(text: &str, max: usize) -> String {
    let clean: Vec<char> = text.chars().map(|c| if c.is_control() { '�' } else { c }).collect();
    if clean.len() <= max {
        return clean.into_iter().collect();
    }
    let tail = (max - 1) / 2;
    let head = max - 1 - tail;
    clean[..head].iter().chain(&['…']).chain(&clean[clean.len() - tail..]).collect()
}

/// Breaks running text at spaces.
pub(super) fn wrap(out: &mut String, text: &str, width: usize) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && chars(&line) + 1 + chars(word) > width {
            push_line(out, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(out, &line);
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(chars(text))))
}

fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(chars(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let column = |heading: &str, cells: [&str; 2]| Column {
            heading: heading.into(),
            unit: "s".into(),
            cells: cells.map(Cell::new).to_vec(),
        };
        let mut best = column("mean", ["1.0", "22.5"]);
        best.cells[0].best = true;
        Grid {
            title: "times".into(),
            label: "policy".into(),
            rows: vec!["a".into(), "b".into()],
            columns: vec![best, column("p99", ["3", "4"])],
            note: String::new(),
        }
    }

    #[test]
    fn columns_line_up() {
        let expected = "times\npolicy  mean   p99\n           s     s\n──────────────────\na        1.0*    3\nb       22.5     4\n";
        assert_eq!(grid().render(80, false), expected);
        assert!(grid().render(80, true).contains("  \x1b[1;32m1.0*\x1b[0m"));
    }

    #[test]
    fn narrow_output_wraps_columns() {
        let text = grid().render(14, false);
        assert_eq!(text.matches("policy").count(), 2);
        assert!(text.lines().all(|line| chars(line) <= 14), "{text}");
    }

    #[test]
    fn names_lose_their_middle_and_control_characters() {
        assert_eq!(shorten("abcdefghij", 7), "abc…hij");
        assert_eq!(shorten("a\x1b[2Jb", 30), "a�[2Jb");
    }
}
