//! The bench table as markdown and JSON, from the samples. No measuring.

use std::collections::BTreeMap;

use serde::Serialize;

use super::row::{Compare, TableRow};
use crate::output;
use crate::stats::Spread;

/// Every sample: per row and proxy (the floor first, the router second), one per round.
#[derive(Debug, Default)]
pub(crate) struct TableSamples(BTreeMap<TableRow, BTreeMap<usize, Vec<f64>>>);

impl TableSamples {
    /// Keeps one value of proxy number `proxy`.
    pub(crate) fn add(&mut self, row: TableRow, proxy: usize, value: f64) {
        self.0
            .entry(row)
            .or_default()
            .entry(proxy)
            .or_default()
            .push(value);
    }

    fn values(&self, row: TableRow, proxy: usize) -> &[f64] {
        self.0
            .get(&row)
            .and_then(|proxies| proxies.get(&proxy))
            .map_or(&[], Vec::as_slice)
    }

    /// Sums up for the proxies called `names`.
    pub(crate) fn lines(&self, names: &[String]) -> Vec<TableLine> {
        let rows = TableRow::ALL
            .into_iter()
            .filter(|row| self.0.contains_key(row));
        rows.map(|row| TableLine {
            row,
            title: row.title(),
            unit: row.unit(),
            aim: row.aim(),
            proxies: names
                .iter()
                .enumerate()
                .map(|(index, name)| self.cell(row, index, name))
                .collect(),
        })
        .collect()
    }

    fn cell(&self, row: TableRow, proxy: usize, name: &str) -> Cell {
        let (base, ours) = (self.values(row, 0), self.values(row, proxy));
        let compared = Spread::from_pairs(ours, base, row.compare().apply());
        Cell {
            name: name.to_owned(),
            value: Spread::from_values(ours),
            compared,
            samples: ours.to_vec(),
        }
    }
}

/// One row, summed up.
#[derive(Debug, Serialize)]
pub(crate) struct TableLine {
    row: TableRow,
    title: &'static str,
    unit: &'static str,
    /// The most that the router's comparison should come to.
    aim: Option<f64>,
    proxies: Vec<Cell>,
}

/// Values of one proxy in one row.
#[derive(Debug, Serialize)]
struct Cell {
    name: String,
    value: Spread,
    /// With the floor, round by round.
    compared: Spread,
    samples: Vec<f64>,
}

/// The table as markdown; `names` are the proxies, the floor first, the router second.
pub(crate) fn markdown(lines: &[TableLine], names: &[String]) -> String {
    let mut head = vec!["".to_owned()];
    head.extend(names.iter().take(2).cloned());
    head.extend(["compared (min–max)", "aim", "met"].map(str::to_owned));
    for name in names.iter().skip(2) {
        head.extend([name.clone(), format!("{name} compared")]);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(TableLine::cells).collect();
    output::table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

impl TableLine {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.title.to_owned()];
        cells.extend(
            self.proxies
                .iter()
                .take(2)
                .map(|cell| self.value(cell.value.median)),
        );
        let router = self
            .proxies
            .get(1)
            .map(|cell| cell.compared)
            .unwrap_or_default();
        cells.push(self.comparison(router));
        cells.push(
            self.aim
                .map_or("–".to_owned(), |aim| format!("≤ {}", self.limit(aim))),
        );
        cells.push(self.verdict(router).to_owned());
        for other in self.proxies.iter().skip(2) {
            cells.extend([
                self.value(other.value.median),
                self.comparison(other.compared),
            ]);
        }
        cells
    }

    fn verdict(&self, router: Spread) -> &'static str {
        match self.aim {
            None => "–",
            // As precise as it is printed: 1.304 is 1.30.
            Some(aim) if (router.median - aim) < 0.005 => "yes",
            Some(_) => "no",
        }
    }

    fn value(&self, value: f64) -> String {
        format!("{value:.*} {}", self.row.digits(), self.unit)
            .trim_end()
            .to_owned()
    }

    fn limit(&self, aim: f64) -> String {
        match self.row.compare() {
            Compare::Ratio => format!("{aim}×"),
            Compare::Difference => format!("+{aim} {}", self.unit),
            Compare::Value => format!("{aim} {}", self.unit).trim_end().to_owned(),
        }
    }

    fn comparison(&self, spread: Spread) -> String {
        let Spread { median, min, max } = spread;
        let digits = self.row.digits();
        match self.row.compare() {
            Compare::Ratio => format!("{median:.2}× ({min:.2}–{max:.2})"),
            Compare::Difference => {
                format!(
                    "{median:+.digits$} {} ({min:+.digits$} … {max:+.digits$})",
                    self.unit
                )
            }
            Compare::Value => format!("({min:.digits$}–{max:.digits$})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> TableSamples {
        let mut samples = TableSamples::default();
        for (floor, router, nginx) in [(10.0, 12.0, 5.0), (20.0, 28.0, 10.0), (10.0, 13.0, 5.0)] {
            for (proxy, value) in [floor, router, nginx].into_iter().enumerate() {
                samples.add(TableRow::CpuSmall, proxy, value);
                samples.add(TableRow::LatencyP50, proxy, value * 10.0);
                samples.add(TableRow::Stalled, proxy, 0.0);
            }
        }
        samples
    }

    #[test]
    fn the_table_reads_as_it_should() {
        let names = ["floor", "router", "nginx"].map(str::to_owned);
        let table = markdown(&samples().lines(&names), &names);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let head = [
            "",
            "",
            "floor",
            "router",
            "compared (min–max)",
            "aim",
            "met",
            "nginx",
            "nginx compared",
            "",
        ];
        assert_eq!(lines[0], head);
        let cpu = [
            "",
            "CPU per 1 KB request",
            "10.0 µs",
            "13.0 µs",
            "1.30× (1.20–1.40)",
            "≤ 1.3×",
            "yes",
            "5.0 µs",
            "0.50× (0.50–0.50)",
            "",
        ];
        assert_eq!(lines[2], cpu);
        let latency = [
            "",
            "latency p50 at a low rate",
            "100.0 µs",
            "130.0 µs",
            "+30.0 µs (+20.0 … +80.0)",
            "≤ +60 µs",
            "yes",
            "50.0 µs",
            "-50.0 µs (-100.0 … -50.0)",
            "",
        ];
        assert_eq!(lines[3], latency);
        assert_eq!(lines[4][2..7], ["0", "0", "(0–0)", "≤ 0", "yes"]);
    }

    #[test]
    fn what_is_over_the_aim_is_not_met() {
        let mut samples = TableSamples::default();
        samples.add(TableRow::CpuSmall, 0, 10.0);
        samples.add(TableRow::CpuSmall, 1, 13.1);
        let names = ["floor", "router"].map(str::to_owned);
        assert!(markdown(&samples.lines(&names), &names).contains("| no "));
    }
}
