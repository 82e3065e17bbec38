//! Tables for people. They know nothing of what is in them.

/// A table with columns as wide as they need to be; those in `right` are set to the right.
pub fn table(heads: &[&str], right: &[usize], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = shown(cell);
            let gap = " ".repeat(width - cell.chars().count());
            text += &if right.contains(&column) {
                gap + &cell
            } else {
                cell + &gap
            };
            text += "  ";
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

/// The text without control characters: those of a client id must not reach the terminal.
pub fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The text, or `-` where it is empty.
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Bytes in a few digits.
pub fn rounded(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [
            vec!["lock\u{1b}[2J".to_owned(), "7".to_owned()],
            vec!["a".to_owned(), "1000".to_owned()],
        ];
        assert_eq!(
            table(&["CLIENT", "OWED"], &[1], rows.into_iter()),
            "CLIENT    OWED\nlock?[2J     7\na         1000\n"
        );
    }

    #[test]
    fn sizes_have_few_digits() {
        assert_eq!(rounded(0), "0 B");
        assert_eq!(rounded(1536), "1.5 KB");
        assert_eq!(rounded(512 << 20), "512.0 MB");
    }
}
