//! How fast references are found, beside the bare limit: reading every byte once.
//!
//! ```text
//! cargo run --release -p vellum-pickle --example scan_speed [RECORDS]
//! ```
//!
//! The records are those of a mail program: B-tree buckets full of references, and messages full of text.

use std::hint::black_box;
use std::time::Instant;

use vellum_pickle::{Reference, Scanner};

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    for (name, records) in [("buckets", buckets(count)), ("messages", messages(count))] {
        let bytes: usize = records.iter().map(Vec::len).sum();
        let limit = seconds(|| {
            black_box(records.iter().flatten().map(|&byte| u64::from(byte)).sum::<u64>());
        });
        let mut found = 0_u64;
        let scan = seconds(|| {
            let mut scanner = Scanner::new();
            for record in &records {
                let whole = scanner.scan(record, |reference| {
                    found += u64::from(matches!(reference, Reference::Strong { .. }));
                });
                assert!(whole.is_ok(), "the record was made to be whole");
            }
        });
        println!(
            "{name}: {} records of {} bytes, {} references each: {:.0} MB/s, {:.0} ns a record; every byte once {:.0} MB/s, ratio {:.2}",
            records.len(),
            bytes / records.len(),
            found / ROUNDS / records.len() as u64,
            bytes as f64 / scan / 1e6,
            scan * 1e9 / records.len() as f64,
            bytes as f64 / limit / 1e6,
            limit / scan,
        );
    }
}

const ROUNDS: u64 = 5;

/// The average time of a run.
fn seconds(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| run());
    start.elapsed().as_secs_f64() / ROUNDS as f64
}

/// Buckets of an `OOBTree`: 30 message ids, each with a reference to the message.
fn buckets(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let mut record = b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03((".to_vec();
            let mut memo = 1_u8;
            for item in 0..30 {
                let id = format!("<{:06}@example.org>", number * 30 + item);
                record.extend(b"X");
                record.extend((id.len() as u32).to_le_bytes());
                record.extend(id.as_bytes());
                record.extend([b'q', memo, b'C', 8]);
                record.extend(((number * 30 + item) as u64).to_be_bytes());
                record.extend([b'q', memo + 1]);
                match item {
                    0 => record.extend(b"cmail\nMessage\nq\xff"),
                    _ => record.extend(b"h\xff"),
                }
                record.extend([0x86, b'q', memo + 2, b'Q']);
                memo += 3;
            }
            record.extend(b"tq\xfe\x85q\xfd.");
            record
        })
        .collect()
}

/// Messages: a few short attributes, 800 bytes of text and one reference.
fn messages(count: usize) -> Vec<Vec<u8>> {
    let body = "pack undo version storage object cache ghost index commit record ".repeat(12);
    (0..count)
        .map(|number| {
            let mut record = b"\x80\x03cmail\nMessage\nq\x00.\x80\x03}q\x01(".to_vec();
            let id = format!("<{number:06}@example.org>");
            let attributes = [("message_id", &id), ("sender", &id), ("subject", &id), ("body", &body)];
            let texts = attributes.iter().flat_map(|(key, value)| [*key, value.as_str()]);
            for (memo, text) in (2_u8..).zip(texts) {
                record.push(b'X');
                record.extend((text.len() as u32).to_le_bytes());
                record.extend(text.as_bytes());
                record.extend([b'q', memo]);
            }
            record.extend(b"X\x05\x00\x00\x00flagsq\x20}q\x21X\x04\x00\x00\x00seenq\x22\x88s");
            record.extend(b"X\x06\x00\x00\x00parentq\x23C\x08");
            record.extend((number as u64).to_be_bytes());
            record.extend(b"q\x24h\x00\x86q\x25Qu.");
            record
        })
        .collect()
}
