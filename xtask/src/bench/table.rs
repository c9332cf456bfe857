//! The table of a benchmark: printed for people, and read back when another build has printed it.

use std::time::Duration;

/// The width of the first column; the times follow it.
const NAME_WIDTH: usize = 44;

/// One line of the table.
pub struct Line {
    pub what: String,
    pub ours: Duration,
    pub peer: Option<Duration>,
    /// The time of the bare machine, and for which work.
    pub limit: Option<(Duration, &'static str)>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// Prints the table. `exact`: with four decimals instead of one.
pub fn print(lines: &[Line], exact: bool) {
    let decimals = if exact { 4 } else { 1 };
    let ms = |took: Duration| format!("{:.decimals$} ms", took.as_secs_f64() * 1e3);
    println!("{:<NAME_WIDTH$} {:>10} {:>11} {:>7}   {:>10}  bare limit", "", "vellum", "ZODB 6.4", "ratio", "limit");
    for line in lines {
        let ratio = line.peer.map(|peer| format!("{:.1}", peer.as_secs_f64() / line.ours.as_secs_f64()));
        println!(
            "{:<NAME_WIDTH$} {:>10} {:>11} {:>7}   {:>10}  {}",
            line.what,
            ms(line.ours),
            line.peer.map(ms).unwrap_or_default(),
            ratio.unwrap_or_default(),
            line.limit.map(|(took, _)| ms(took)).unwrap_or_default(),
            line.limit.map(|(_, doing)| doing).unwrap_or_default(),
        );
    }
}

/// The engine's time in the only row of a printed table. None if the table has no row.
pub fn time_of_only_row(printed: &str) -> Option<Duration> {
    let mut lines = printed.lines().skip_while(|line| !line.ends_with("bare limit"));
    let row = lines.nth(1).filter(|row| !row.is_empty())?;
    let (ms, _) = row.get(NAME_WIDTH..)?.split_once(" ms")?;
    Some(Duration::from_secs_f64(ms.trim().parse::<f64>().ok()? / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "mail-1000.fs: 7.2 MB, 1139 objects\n\n                                                 \
                        vellum    ZODB 6.4   ratio        limit  bare limit\n";

    #[test]
    fn the_time_of_a_row_is_read_from_what_any_build_prints() {
        let us = |us| Some(Duration::from_micros(us));
        let row = "commit a version of 1000 objects                 2.2 ms                           2.0 ms  a limit\n";
        assert_eq!(time_of_only_row(&format!("{HEAD}{row}\nindex: 1 bytes\n")), us(2200));
        let row =
            "2000 small commits, Full, 8 threads          1113.8125 ms    373.4000 ms     0.3     410.0000 ms  x\n";
        assert_eq!(time_of_only_row(&format!("{HEAD}{row}")), us(1_113_812).map(|t| t + Duration::from_nanos(500)));
    }

    #[test]
    fn a_table_without_rows_has_no_time() {
        assert_eq!(time_of_only_row(&format!("{HEAD}\nindex: 1 bytes, 7 ms an object\n")), None);
        assert_eq!(time_of_only_row("cargo xtask bench\n"), None);
    }
}
