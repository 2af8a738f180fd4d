//! Columns as kubectl lays them out: each as wide as its widest cell and three
//! blanks, at least six; the last one is not padded.

#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Widths of rows that were printed before (`get -w`), kept so that columns
    /// go on where they began.
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        // A row is one line, whatever its cells hold.
        let cell = |c: S| c.into().trim_end().replace('\n', "\\n");
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// The rows so far as lines, and forgets them.
    pub(crate) fn take(&mut self) -> String {
        for row in &self.rows {
            for (i, cell) in row.iter().enumerate() {
                let width = (cell.chars().count() + 3).max(6);
                match self.widths.get_mut(i) {
                    Some(w) => *w = (*w).max(width),
                    None => self.widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in self.rows.drain(..) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if i + 1 < row.len() {
                    let pad = self.widths[i].saturating_sub(cell.chars().count());
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_stay() {
        let mut t = Table::default();
        t.row(["NAME", "R", "AGE"]);
        t.row(["web", "1/1", "5s"]);
        assert_eq!(t.take(), "NAME   R     AGE\nweb    1/1   5s\n");
        t.row(["a", "0/1", ""]);
        assert_eq!(t.take(), "a      0/1\n");
    }
}
