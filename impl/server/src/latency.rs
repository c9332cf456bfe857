//! How long storages take. Noting a time is one addition to an atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Work;
use crate::report::{LatencyReport, Percentiles};

/// Buckets for each doubling: a time is known to within a sixteenth.
const PARTS: u64 = 16;
const PARTS_LOG2: u32 = PARTS.ilog2();
const BUCKETS: usize = (64 - PARTS_LOG2 as usize + 1) * PARTS as usize;

/// The times of what storages do most.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    loads: Times,
    votes: Times,
    finishes: Times,
}

impl Latencies {
    /// The times of work like this.
    pub fn of(&self, work: &Work) -> Option<&Times> {
        match work {
            Work::Load { .. } => Some(&self.loads),
            Work::Vote { .. } | Work::Retry => Some(&self.votes),
            Work::Finish => Some(&self.finishes),
            _ => None,
        }
    }

    pub fn report(&self) -> LatencyReport {
        LatencyReport {
            loads: self.loads.percentiles(),
            votes: self.votes.percentiles(),
            finishes: self.finishes.percentiles(),
        }
    }
}

/// How often something took how long.
#[derive(Debug)]
pub(crate) struct Times(Box<[AtomicU64]>);

impl Default for Times {
    fn default() -> Times {
        Times((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Times {
    pub fn note(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0[bucket(nanoseconds)].fetch_add(1, Ordering::Relaxed);
    }

    fn percentiles(&self) -> Percentiles {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are possible");
        let mut sum = 0.0;
        for (n, count) in self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate() {
            if count > 0 {
                let time = middle(n);
                sum += time as f64 * count as f64;
                histogram.record_n(time, count).expect("a histogram without bounds takes every time");
            }
        }
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        Percentiles {
            count: histogram.len(),
            sum_seconds: sum / 1e9,
            p50_seconds: seconds(histogram.value_at_quantile(0.5)),
            p90_seconds: seconds(histogram.value_at_quantile(0.9)),
            p99_seconds: seconds(histogram.value_at_quantile(0.99)),
            max_seconds: seconds(histogram.max()),
        }
    }
}

/// The bucket of a time: the first ones have one nanosecond each, and from then on each doubling has sixteen.
fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < PARTS {
        return nanoseconds as usize;
    }
    let shift = nanoseconds.ilog2() - PARTS_LOG2;
    let part = (nanoseconds >> shift) - PARTS;
    (u64::from(shift + 1) * PARTS + part) as usize
}

/// A time in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let (shift, part) = (bucket / PARTS - 1, bucket % PARTS);
    ((PARTS + part) << shift) + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_known_to_within_a_sixteenth(time in any::<u64>()) {
            let found = middle(bucket(time));
            prop_assert!(found.abs_diff(time) <= time / 16, "{time} is noted as {found}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let times = Times::default();
        (1..=100).for_each(|n| times.note(Duration::from_millis(n)));
        let Percentiles { count, p50_seconds, p99_seconds, max_seconds, .. } = times.percentiles();
        let near = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 0.07;
        assert_eq!(count, 100);
        assert!(near(p50_seconds, 0.05) && near(p99_seconds, 0.099) && near(max_seconds, 0.1));
    }
}
