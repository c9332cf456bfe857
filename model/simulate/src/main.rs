//! `vellum-simulate`: plays traces of clients' caches through policies.
//!
//! It is a command of its own, as `vellum-prove` is, so that the operator's `vellum` carries neither the policies nor
//! the libraries that draw charts.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use vellum_simulate::chart;
use vellum_simulate::policy::Kind;
use vellum_simulate::simulate::Prefetch;
use vellum_simulate::table::{Column, Row, about, run, table, verdict_table, verdicts};
use vellum_simulate::trace::{self, Trace};
use vellum_simulate::workload::Workload;
use vellum_simulate::{cache_simul, export};
use vellum_terminal::{Failure, Out, Run, output, say};

/// Play traces of clients' caches through cache policies
#[derive(Parser)]
#[command(name = "vellum-simulate", version)]
#[command(after_help = "\
Examples:
  vellum-simulate client.trace --size 20MB..2GB
  vellum-simulate *.trace.gz --size 100KB..4MB --policy all --verdict
  vellum-simulate client.trace --prefetch none,follow:8 --policy zeo,lru
  vellum-simulate client.trace --size 1MB..64MB --chart misses.png
  vellum-simulate client.trace --export oracle-general:client.bin

A trace is a file of ZEO's client or of RelStorage, or a compact one; each may
be compressed with gzip. docs/traces.md has the formats.

A size is a number of bytes, KB, MB or GB; A..B is A, twice A, and so on up to
B; sizes are separated by commas. Each object takes the bytes of its record
and those of a header (--header).

The limits, Belady and Belady by size, know the future. No cache can be them.")]
struct Simulate {
    /// Traces
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Sizes of the cache
    #[arg(long, value_name = "SIZES", default_value = "20MB..2GB", value_parser = sizes)]
    size: Sizes,
    /// Policies, separated by commas, or `all`
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = kinds)]
    policy: Kinds,
    /// Objects that are sent along with a miss: none, follow:N, references:N; separated by commas
    #[arg(long, value_name = "MODES", default_value = "none", value_parser = prefetches)]
    prefetch: Prefetches,
    /// A compact trace with the references of the objects, for --prefetch references:N
    #[arg(long, value_name = "TRACE")]
    references: Option<PathBuf>,
    /// Bytes of an object's header
    #[arg(long, value_name = "BYTES", default_value = "64")]
    header: u32,
    /// Also show bytes, and what was saved
    #[arg(long)]
    bytes: bool,
    /// Also show how much each policy loses at its worst trace and size
    #[arg(long)]
    verdict: bool,
    /// Draw the misses by size; an SVG or a PNG, by the name. With several traces their names are added
    #[arg(long, value_name = "FILE")]
    chart: Vec<PathBuf>,
    /// Write the loads for another program: oracle-general:FILE, compact:FILE or zeo:FILE. Needs one trace
    #[arg(long, value_name = "FORMAT:FILE")]
    export: Option<String>,
    /// Show the counts of ZEO's cache_simul for intervals of an hour, and nothing else
    #[arg(long)]
    cache_simul: bool,
    /// Answer in JSON, a line for each run
    #[arg(long)]
    json: bool,
}

#[derive(Clone)]
struct Sizes(Vec<u64>);
#[derive(Clone)]
struct Kinds(Vec<Kind>);
#[derive(Clone)]
struct Prefetches(Vec<Prefetch>);

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit: write KB, MB or GB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size: write 20MB, for example"))?;
    let bytes = number.checked_mul(unit).filter(|bytes| (1 << 10..=1 << 40).contains(bytes));
    bytes.ok_or_else(|| format!("`{text}` is not between 1KB and 1024GB"))
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let Some((from, to)) = part.split_once("..") else {
            sizes.push(bytes(part)?);
            continue;
        };
        let (mut from, to) = (bytes(from)?, bytes(to)?);
        while from <= to {
            sizes.push(from);
            from *= 2;
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.is_empty() { Err(format!("`{text}` has no size")) } else { Ok(Sizes(sizes)) }
}

fn kinds(text: &str) -> Result<Kinds, String> {
    if text == "all" {
        return Ok(Kinds(Kind::ALL.to_vec()));
    }
    let kind = |name: &str| <Kind as clap::ValueEnum>::from_str(name, true);
    let names = || {
        let names = <Kind as clap::ValueEnum>::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
        names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let kinds: Result<Vec<_>, _> = text.split(',').map(kind).collect();
    kinds.map(Kinds).map_err(|_| format!("there are: {}", names()))
}

fn prefetches(text: &str) -> Result<Prefetches, String> {
    let wrong = |part: &str| format!("`{part}` is no mode: write none, follow:8 or references:8");
    let mode = |part: &str| {
        if part == "none" {
            return Ok(Prefetch::None);
        }
        let (name, count) = part.split_once(':').ok_or_else(|| wrong(part))?;
        let count = count.parse().map_err(|_| wrong(part))?;
        match name {
            "follow" => Ok(Prefetch::Follow(count)),
            "references" => Ok(Prefetch::References(count)),
            _ => Err(wrong(part)),
        }
    };
    text.split(',').map(mode).collect::<Result<_, _>>().map(Prefetches)
}

fn main() -> ExitCode {
    let arguments = Simulate::parse();
    output::run("vellum-simulate", |out| arguments.run(out))
}

fn read(path: &Path) -> Run<Trace> {
    let failed = |why: &dyn std::fmt::Display| Failure::Message(format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    trace::read(&bytes).map_err(|fault| failed(&fault))
}

fn write(path: &Path, bytes: &[u8]) -> Run<()> {
    let failed = |error| Failure::Message(format!("{} cannot be written: {error}", path.display()));
    std::fs::write(path, bytes).map_err(failed)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

impl Simulate {
    fn run(&self, out: &mut Out) -> Run {
        let references = self.references.as_deref().map(read).transpose()?;
        if (self.export.is_some() || self.cache_simul) && self.traces.len() > 1 {
            return Err(Failure::Message("--export and --cache-simul need one trace".to_owned()));
        }
        let mut all = Vec::new();
        for path in &self.traces {
            let (name, trace) = (name(path), read(path)?);
            let mut workload = Workload::of(&trace);
            if let Some(references) = &references {
                workload.references.extend(Workload::of(references).references);
            }
            if workload.loads() == 0 && self.export.is_none() {
                say("vellum-simulate", &format!("{name} has no loads, and is left out"));
                continue;
            }
            if let Some(export) = &self.export {
                return self.export(out, &trace, &workload, export);
            }
            if self.cache_simul {
                return self.cache_simul(out, &trace);
            }
            let rows = run(&name, &workload, &self.policy.0, &self.size.0, &self.prefetch.0, self.header);
            if self.json {
                rows.iter().try_for_each(|row| json(out, row))?;
            } else {
                writeln!(out, "{}\n", about(&name, &trace, &workload))?;
                for column in if self.bytes { &Column::ALL[..] } else { &Column::ALL[..1] } {
                    writeln!(out, "{}", table(&rows, *column))?;
                }
            }
            for file in &self.chart {
                self.draw(file, &name, &rows)?;
            }
            all.extend(rows);
        }
        if self.verdict {
            writeln!(out, "{}", verdict_table(&verdicts(&all)))?;
        }
        Ok(vellum_terminal::Outcome::Fine)
    }

    fn draw(&self, file: &Path, name: &str, rows: &[Row]) -> Run<()> {
        let failed = |fault: chart::Fault| Failure::Message(fault.to_string());
        let ending = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        let file = match self.traces.len() {
            1 => file.to_owned(),
            _ => file.with_file_name(format!("{}-{name}.{ending}", file.file_stem().unwrap_or_default().display())),
        };
        let svg = chart::svg(name, rows).map_err(failed)?;
        match ending.as_str() {
            "svg" => write(&file, svg.as_bytes()),
            "png" => write(&file, &chart::png(&svg).map_err(failed)?),
            _ => Err(Failure::Message(format!("{}: a chart ends with .svg or .png", file.display()))),
        }
    }

    fn export(&self, out: &mut Out, trace: &Trace, workload: &Workload, export: &str) -> Run {
        let (mut bytes, mut left_out) = (Vec::new(), 0);
        let file = match export.split_once(':') {
            Some(("oracle-general", file)) => {
                bytes = export::oracle_general(workload);
                file
            }
            Some(("compact", file)) => {
                trace::compact::write(trace, &mut bytes);
                file
            }
            Some(("zeo", file)) => {
                left_out = trace::zeo::write(trace, &mut bytes);
                file
            }
            _ => {
                let why = format!("`{export}` is no export: write oracle-general:FILE, compact:FILE or zeo:FILE");
                return Err(Failure::Message(why));
            }
        };
        write(Path::new(file), &bytes)?;
        if left_out > 0 {
            writeln!(out, "{left_out} records are left out, because the format cannot say them")?;
        }
        Ok(vellum_terminal::Outcome::Fine)
    }

    fn cache_simul(&self, out: &mut Out, trace: &Trace) -> Run {
        for bytes in &self.size.0 {
            let line = cache_simul::play(trace, *bytes, 3600);
            let cache_simul::Line { loads, hits, invalidations, writes, evictions } = line;
            writeln!(out, "{bytes} {loads} {hits} {invalidations} {writes} {evictions}")?;
        }
        Ok(vellum_terminal::Outcome::Fine)
    }
}

fn json(out: &mut Out, Row { trace, kind, bytes, prefetch, counts }: &Row) -> Run<()> {
    let row = serde_json::json!({
        "trace": trace, "policy": kind.name(), "bytes": bytes, "prefetch": prefetch.name(), "counts": counts,
        "bytes_saved": counts.bytes_saved(),
    });
    writeln!(out, "{row}")?;
    Ok(())
}
