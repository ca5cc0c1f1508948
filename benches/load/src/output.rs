//! The only place that writes to the terminal: results to stdout, remarks to stderr.

use serde::Serialize;

/// Prints a result.
#[expect(clippy::print_stdout, reason = "results of this command go to stdout")]
pub(crate) fn result(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints a remark on progress, which is no part of the result.
#[expect(
    clippy::print_stderr,
    reason = "progress must not mix with the results on stdout"
)]
pub(crate) fn remark(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// Prints `report` as JSON if `json`, else `text`.
///
/// # Errors
/// Returns an error if the report can't be serialised.
pub(crate) fn report(json: bool, report: &impl Serialize, text: &str) -> anyhow::Result<()> {
    if json {
        result(&serde_json::to_string_pretty(report)?);
    } else {
        result(text);
    }
    Ok(())
}

/// A markdown table whose columns are as wide as their widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(head, rows, column))
        .collect();
    let mut lines = vec![line(head.iter().copied(), &widths), rule(&widths)];
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str), &widths)),
    );
    lines.join("\n")
}

fn width(head: &[&str], rows: &[Vec<String>], column: usize) -> usize {
    let cells = rows
        .iter()
        .filter_map(|row| row.get(column))
        .map(|cell| cell.chars().count());
    cells
        .chain(head.get(column).map(|cell| cell.chars().count()))
        .max()
        .unwrap_or(0)
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .zip(widths)
        .map(|(cell, width)| format!(" {cell:<width$} "))
        .collect();
    format!("|{}|", padded.join("|"))
}

fn rule(widths: &[usize]) -> String {
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    format!("|{}|", dashes.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_by_characters_not_bytes() {
        let rows = vec![
            vec!["1 µs".into(), "a".into()],
            vec!["10 us".into(), "b".into()],
        ];
        let lines = table(&["cost", "x"], &rows);
        assert_eq!(
            lines,
            "| cost  | x |\n|-------|---|\n| 1 µs  | a |\n| 10 us | b |"
        );
    }
}
