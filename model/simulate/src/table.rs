//! Results as tables.

use std::fmt::Write;

use vellum_terminal::people::size;

use crate::policy::Kind;
use crate::simulate::{Counts, Prefetch, simulate};
use crate::trace::Trace;
use crate::workload::Workload;

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Row {
    /// The trace.
    pub trace: String,
    /// The policy.
    pub kind: Kind,
    /// Bytes of the cache.
    pub bytes: u64,
    /// Objects that were sent along with misses.
    pub prefetch: Prefetch,
    /// The counts.
    pub counts: Counts,
}

/// Plays a workload through all policies, sizes and prefetching modes. The limits do not prefetch.
pub fn run(
    name: &str,
    workload: &Workload,
    kinds: &[Kind],
    sizes: &[u64],
    prefetches: &[Prefetch],
    header: u32,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for &prefetch in prefetches {
        for &kind in kinds.iter().filter(|kind| prefetch == Prefetch::None || !kind.is_limit()) {
            for &bytes in sizes {
                let counts = simulate(workload, &mut *kind.of(bytes, header), prefetch);
                rows.push(Row { trace: name.to_owned(), kind, bytes, prefetch, counts });
            }
        }
    }
    rows
}

/// A number of a row, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Hits in a hundred loads.
    Hits,
    /// Bytes of hits in a hundred bytes.
    Bytes,
    /// Requests that were not sent.
    RequestsSaved,
    /// Bytes that were not sent.
    BytesSaved,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 4] = [Column::Hits, Column::Bytes, Column::RequestsSaved, Column::BytesSaved];

    fn title(self) -> &'static str {
        match self {
            Column::Hits => "hits, % of loads",
            Column::Bytes => "bytes of hits, % of bytes loaded",
            Column::RequestsSaved => "requests saved",
            Column::BytesSaved => "bytes saved, KB",
        }
    }

    fn cell(self, counts: &Counts) -> String {
        match self {
            Column::Hits => format!("{:.1}", counts.hit_rate()),
            Column::Bytes => format!("{:.1}", counts.byte_hit_rate()),
            Column::RequestsSaved => counts.hits.to_string(),
            Column::BytesSaved => (counts.bytes_saved() / 1000).to_string(),
        }
    }
}

/// A table of one column: a line for each policy and prefetching mode, a column for each size.
pub fn table(rows: &[Row], column: Column) -> String {
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut lines: Vec<(Kind, Prefetch)> = Vec::new();
    for row in rows {
        if !lines.contains(&(row.kind, row.prefetch)) {
            lines.push((row.kind, row.prefetch));
        }
    }
    let mut out = format!("{}\n{:<30}", column.title(), "");
    for bytes in &sizes {
        let _ = write!(out, "{:>10}", size(*bytes));
    }
    out.push('\n');
    for (kind, prefetch) in lines {
        let name = match prefetch {
            Prefetch::None => kind.name().to_owned(),
            prefetch => format!("{}, {}", kind.name(), prefetch.name()),
        };
        let _ = write!(out, "{name:<30}");
        for bytes in &sizes {
            let is_this = |row: &&Row| (row.kind, row.prefetch, row.bytes) == (kind, prefetch, *bytes);
            let cell = rows.iter().find(is_this).map_or("-".to_owned(), |row| column.cell(&row.counts));
            let _ = write!(out, "{cell:>10}");
        }
        out.push('\n');
    }
    out
}

/// A line on a trace.
pub fn about(name: &str, trace: &Trace, workload: &Workload) -> String {
    let (objects, bytes) = workload.footprint();
    let mut line = format!("{name}: {} loads of {objects} objects, {}", workload.loads(), size(bytes));
    if workload.unknown > 0 {
        let _ = write!(line, "; {} loads of unknown size are left out", workload.unknown);
    }
    if workload.old > 0 {
        let _ = write!(line, "; {} records of the past are left out", workload.old);
    }
    if trace.is_cut {
        line.push_str("; the last record is cut off");
    }
    if trace.skipped > 0 {
        let _ = write!(line, "; {} groups of 8 bytes without a time were skipped", trace.skipped);
    }
    line
}

/// How much a policy loses at its worst place, and on average: points of a hundred below the best policy of the same
/// trace, size and prefetching mode, by objects and by bytes.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The policy.
    pub kind: Kind,
    /// The largest loss of hits, and where.
    pub worst: (f64, String),
    /// The largest loss of bytes of hits, and where.
    pub worst_bytes: (f64, String),
    /// The mean losses.
    pub mean: (f64, f64),
    /// The smallest gain over ZEO's file, in hits and in bytes.
    pub over_zeo: (f64, f64),
    /// The smallest gain over LRU, in hits and in bytes.
    pub over_lru: (f64, f64),
}

/// Judges all policies by their worst trace; the one that loses least comes first. Its worst is the larger of the two,
/// by objects and by bytes.
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mut kinds: Vec<Kind> = rows.iter().map(|row| row.kind).filter(|kind| !kind.is_limit()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let same = |a: &Row, b: &Row| (&a.trace, a.bytes, a.prefetch) == (&b.trace, b.bytes, b.prefetch);
    let rates = |row: &Row| (row.counts.hit_rate(), row.counts.byte_hit_rate());
    let mut verdicts = Vec::new();
    for kind in kinds {
        let none = (0.0, String::new());
        let (mut worst, mut worst_bytes, mut sum, mut count) = (none.clone(), none, (0.0, 0.0), 0.0);
        let (mut over_zeo, mut over_lru) = ((f64::MAX, f64::MAX), (f64::MAX, f64::MAX));
        for row in rows.iter().filter(|row| row.kind == kind) {
            let own = rates(row);
            let place = format!("{}, {}", row.trace, size(row.bytes));
            let others = || rows.iter().filter(|other| same(row, other) && !other.kind.is_limit());
            let best = others().map(rates).fold(own, |a, b| (a.0.max(b.0), a.1.max(b.1)));
            let loss = (best.0 - own.0, best.1 - own.1);
            if loss.0 > worst.0 {
                worst = (loss.0, place.clone());
            }
            if loss.1 > worst_bytes.0 {
                worst_bytes = (loss.1, place);
            }
            sum = (sum.0 + loss.0, sum.1 + loss.1);
            count += 1.0;
            for (peer, over) in [(Kind::Zeo, &mut over_zeo), (Kind::Lru, &mut over_lru)] {
                if let Some(peer) = others().find(|other| other.kind == peer).map(rates) {
                    *over = (over.0.min(own.0 - peer.0), over.1.min(own.1 - peer.1));
                }
            }
        }
        let mean = (sum.0 / count, sum.1 / count);
        verdicts.push(Verdict { kind, worst, worst_bytes, mean, over_zeo, over_lru });
    }
    let loss = |verdict: &Verdict| verdict.worst.0.max(verdict.worst_bytes.0);
    verdicts.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    verdicts
}

/// The verdicts as a table.
pub fn verdict_table(verdicts: &[Verdict]) -> String {
    let mut out = format!(
        "points below the best policy, and at least over ZEO's and over LRU\n{:<16}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}  worst at\n{:<16}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}\n",
        "",
        "worst",
        "worst",
        "mean",
        "mean",
        "ZEO",
        "ZEO",
        "LRU",
        "LRU",
        "",
        "hits",
        "bytes",
        "hits",
        "bytes",
        "hits",
        "bytes",
        "hits",
        "bytes",
    );
    for verdict in verdicts {
        let Verdict { kind, worst, worst_bytes, mean, over_zeo, over_lru } = verdict;
        let place = if worst.0 >= worst_bytes.0 { &worst.1 } else { &worst_bytes.1 };
        let _ = writeln!(
            out,
            "{:<16}{:>8.1}{:>8.1}{:>8.1}{:>8.1}{:>+8.1}{:>+8.1}{:>+8.1}{:>+8.1}  {place}",
            kind.name(),
            worst.0,
            worst_bytes.0,
            mean.0,
            mean.1,
            over_zeo.0,
            over_zeo.1,
            over_lru.0,
            over_lru.1
        );
    }
    out
}
