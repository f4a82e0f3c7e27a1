//! Tables with aligned columns.

use super::style::Style;

/// Between two columns.
const GAP: &str = "  ";

/// A cell: its text, and the text with colours.
pub struct TableCell {
    text: String,
    painted: String,
}

impl TableCell {
    pub fn new(text: impl Into<String>) -> TableCell {
        let text = text.into();
        TableCell { painted: text.clone(), text }
    }

    pub fn state(word: &str, style: Style) -> TableCell {
        TableCell { text: word.to_string(), painted: style.state(word) }
    }
}

impl<T: Into<String>> From<T> for TableCell {
    fn from(text: T) -> TableCell {
        TableCell::new(text)
    }
}

/// Rows under headings. A `>` before a heading aligns its column to the right.
pub struct Table {
    headings: Vec<(String, bool)>,
    rows: Vec<Vec<TableCell>>,
    style: Style,
}

impl Table {
    pub fn new(headings: &[&str], style: Style) -> Table {
        let heading = |text: &&str| (text.trim_start_matches('>').to_string(), text.starts_with('>'));
        Table { headings: headings.iter().map(heading).collect(), rows: Vec::new(), style }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = TableCell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table with a newline after each line. Columns without any content are left out.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let columns: Vec<(usize, usize)> =
            (0..self.headings.len()).filter_map(|column| Some((column, self.width(column)?))).collect();
        let mut line = String::new();
        for (column, width) in &columns {
            let (heading, right) = &self.headings[*column];
            push(&mut line, heading, heading.chars().count(), *width, *right);
        }
        text.push_str(&self.style.dim(line.trim_end()));
        text.push('\n');
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in &columns {
                let right = self.headings[*column].1;
                match row.get(*column) {
                    Some(cell) => push(&mut line, &cell.painted, cell.text.chars().count(), *width, right),
                    None => push(&mut line, "", 0, *width, right),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> Option<usize> {
        let widest = self
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0);
        (widest > 0 || self.rows.is_empty()).then(|| widest.max(self.headings[column].0.chars().count()))
    }
}

fn push(line: &mut String, painted: &str, chars: usize, width: usize, right: bool) {
    if !line.is_empty() {
        line.push_str(GAP);
    }
    let padding = " ".repeat(width - chars.min(width));
    if right {
        line.push_str(&padding);
        line.push_str(painted);
    } else {
        line.push_str(painted);
        line.push_str(&padding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&["NAME", "NOTE", ">COUNT"], Style::PLAIN);
        table.row(["a".into(), "".into(), "7".into()]);
        table.row(["long name".into(), "".into(), "12345678".into()]);
        assert_eq!(table.render(), "NAME          COUNT\na                 7\nlong name  12345678\n");
        assert_eq!(Table::new(&["A", "B"], Style::PLAIN).render(), "A  B\n");
    }
}
