//! Options change no answer: one history with every combination of engine, durability, codec and cache.
//!
//! ```text
//!   MemoryStorage ─────────────────┐                       ┌─ a cache of 4 KiB ──┐
//!   FileStorage, full ─────────────┤            ┌─ msgpack ┼─ a cache of 64 MiB ─┼─▶ outcomes, and all answers
//!   FileStorage, relaxed, spills ──┼─▶ a server ┤          └─ a cache file ──────┤   after each step
//!   FileStorage, journal ──────────┘            └─ pickles ── ... ───────────────┘
//! ```
//!
//! The rules leave some choices to a storage. So the answers of the rules are not what is compared here, but what one
//! combination says with what another one says: everything, word for word.

use std::sync::Arc;

use vellum_client::{Access, Client, Config, RemoteStorage};
use vellum_disk::SimDisk;
use vellum_file::{Durability, Options};
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::generate::history;
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::question::{Answer, Question};
use vellum_harness::run;
use vellum_harness::step::{Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_server::Codec;
use vellum_storage::{MemoryStorage, Storage};

use crate::cached::Shelf;
use crate::common::{Served, patient, runtime, speaks};
use crate::proxy::Trouble;
use crate::rules::CAN;

/// The operations that every combination has: opening again is another client, so it is the engine's at most once.
const SHARED: Can = Can { read_only: false, ..CAN };

#[derive(Clone, Copy, Debug)]
enum Engine {
    Memory,
    File(Durability, u64),
}

const ENGINES: [Engine; 5] = [
    Engine::Memory,
    Engine::File(Durability::Full, u64::MAX),
    Engine::File(Durability::Full, 1),
    Engine::File(Durability::Relaxed, 1),
    Engine::File(Durability::Journal, 200),
];

#[derive(Clone, Copy, Debug)]
enum Cache {
    Bytes(usize),
    File,
}

const CACHES: [Cache; 3] = [Cache::Bytes(4 << 10), Cache::Bytes(64 << 20), Cache::File];

fn engine(engine: Engine, opening: &Opening) -> Arc<dyn Storage> {
    let clock = opening.clock.clone();
    match engine {
        Engine::Memory => Arc::new(MemoryStorage::with("memory", clock, Arc::new(Merger))),
        Engine::File(durability, spill) => {
            let options = Options::new().disk(Arc::new(SimDisk::new(0))).clock(clock).resolver(Arc::new(Merger));
            let options = options.durability(durability).spill_after(spill).threads(1).journal_bytes(36 << 10);
            Arc::new(options.create("Data.fs").unwrap())
        }
    }
}

/// A client of a server of this engine.
fn combined(of: Engine, codec: Codec, cache: Cache) -> Hosted {
    let mut last: Option<(Served, Shelf)> = None;
    let mut openings = 0;
    let hosted = Hosted::new(format!("{of:?}, {codec:?}, {cache:?}"), SHARED, move |opening: Opening| {
        openings += 1;
        let (served, mut shelf) = match last.take() {
            Some(last) if !opening.fresh => last,
            _ => (Served::new(engine(of, &opening), opening.clock.clone(), speaks(codec)), Shelf::new(openings)),
        };
        let config = Config { access: Access::Write, patience: patient(), ..Config::default() };
        let (handle, way) = (runtime().handle(), served.way(Trouble::none()));
        let client = match cache {
            Cache::Bytes(bytes) => Client::on(handle, config, way, bytes),
            Cache::File => Client::over(handle, config, shelf.open(openings), way, 64 << 20),
        };
        last = Some((served, shelf));
        Ok(Box::new(RemoteStorage::of(client, "a server")?) as Box<dyn Storage>)
    });
    hosted.without_verdicts()
}

/// Notes everything that is said.
struct Noted {
    subject: Hosted,
    transcript: Vec<String>,
}

impl Subject for Noted {
    fn name(&self) -> String {
        self.subject.name()
    }

    fn can(&self) -> Can {
        SHARED
    }

    fn reset(&mut self) -> Result<(), String> {
        self.subject.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let outcome = self.subject.perform(step);
        self.transcript.push(format!("{step}: {outcome}"));
        outcome
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answers = self.subject.ask(questions);
        self.transcript
            .extend(questions.iter().zip(&answers).map(|(question, answer)| format!("{question}: {answer}")));
        answers
    }
}

fn transcript(subject: Hosted, steps: &[Step]) -> Vec<String> {
    let mut noted = Noted { subject, transcript: Vec::new() };
    run::play(&mut noted, steps, &mut Coverage::default()).unwrap_or_else(|difference| panic!("{difference}"));
    noted.transcript
}

fn hold(cases: std::ops::Range<u64>) {
    let mut combinations = 0;
    for case in cases.clone() {
        let steps = history(&mut Seed::of(11, case), SHARED, 12);
        let mut first: Option<(String, Vec<String>)> = None;
        for of in ENGINES {
            for (codec, cache) in
                [Codec::Msgpack, Codec::Pickle].into_iter().flat_map(|c| CACHES.map(|cache| (c, cache)))
            {
                let subject = combined(of, codec, cache);
                let name = subject.name();
                let said = transcript(subject, &steps);
                combinations += 1;
                let Some((other, before)) = &first else {
                    first = Some((name, said));
                    continue;
                };
                let differs = before.iter().zip(&said).find(|(one, other)| one != other);
                assert_eq!(differs, None, "case {case}: {other} and {name}");
                assert_eq!(before.len(), said.len(), "case {case}: {other} and {name}");
            }
        }
    }
    println!("{} histories, {combinations} times", cases.count());
}

#[test]
fn every_combination_of_options_gives_the_same_answers() {
    hold(0..1);
}

/// Takes minutes: `cargo xtask nightly` runs it.
#[test]
#[ignore = "slow"]
fn every_combination_of_options_gives_the_same_answers_in_many_histories() {
    hold(1..100);
}
