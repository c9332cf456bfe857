//! Objects of Python and of ours: the same database, in turns and through one server.
//!
//! A history is a few objects in a mapping in the root: mappings, lists, notes (a struct on our side), and counters.
//! Python and we take turns to change them by steps of chance, and a model without a database says what both must show.
//! `xtask/peer/object_turns.py` is Python's side.

mod plain;
mod side;
mod steps;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use vellum_client::{ClientOptions, RemoteStorage};
use vellum_file::{Durability, FileStorage, Options};
use vellum_object::{Connection, Database, Generic};
use vellum_storage::{MemoryStorage, Oid, Order, Storage, Tid, TidRange, TransactionMeta, Version};

use self::plain::{Plain, Thing, Things, things_json};
use self::side::Player;
use self::steps::{Step, some};
use super::dice::Dice;
use super::zodb::{hex, unhex};
use super::{Ground, Trouble, ensure};
use crate::{Outcome, venv};

/// Histories in one file, and turns of each.
const IN_A_FILE: u64 = 20;
const TURNS: u64 = 6;
/// Rounds of a history through the server.
const ROUNDS: u64 = 6;
/// Records of chance that are written back.
const RANDOM: u64 = 1500;

/// Python's process.
struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    fn start(ground: &Ground, more: &[&str]) -> Result<Python, Trouble> {
        let log = File::options().create(true).append(true).open(&ground.log)?;
        let mut command = Command::new(&ground.python);
        command.arg(venv::script("object_turns.py")).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let (requests, answers) = requests.zip(answers).ok_or("a process without pipes")?;
        Ok(Python { child, requests, answers: BufReader::new(answers) })
    }

    fn line(&mut self, request: &str) -> Result<String, Trouble> {
        writeln!(self.requests, "{request}")?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure(read > 0, || format!("Python ended after {}", request.chars().take(2000).collect::<String>()))?;
        Ok(line)
    }

    fn ask(&mut self, request: &Json) -> Result<Json, Trouble> {
        Ok(serde_json::from_str(&self.line(&request.to_string())?)?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An error unless a side shows what the model has.
fn same(what: &str, shown: &Json, model: &Things) -> Outcome {
    let expected = things_json(model);
    if *shown == expected {
        return Ok(());
    }
    let labels = model.keys().find(|label| shown[label.as_str()] != expected[label.as_str()]);
    let label = labels.map_or("", String::as_str);
    Err(format!("{what}, {label}: it shows {}, and not {}", shown[label], expected[label]).into())
}

/// The histories in turns on files, and through a server.
pub fn turns(ground: &Ground) -> Result<String, Trouble> {
    let files = (ground.histories * 10).div_ceil(IN_A_FILE);
    let mut python = Python::start(ground, &[])?;
    let mut steps = 0;
    for file in 0..files {
        let path = ground.path(&format!("turns-{file}.fs"));
        steps += on_file(&mut python, &path, ground.seed.wrapping_mul(1000).wrapping_add(file))
            .map_err(|why| format!("file {file}: {why}"))?;
        super::clear(&path);
    }
    let served = ground.histories.div_ceil(5);
    let (merged, refused) = through_server(ground, &mut python, served)?;
    Ok(format!(
        "{} histories of {TURNS} turns on files, {steps} steps; {served} histories of {ROUNDS} rounds through a server, with \
         {merged} conflicts merged and {refused} refused",
        files * IN_A_FILE
    ))
}

/// Histories on one file. Python has the first turn of every second file. Returns the number of steps.
fn on_file(python: &mut Python, path: &Path, seed: u64) -> Result<usize, Trouble> {
    let mut dice = Dice::new(seed);
    let mut models: BTreeMap<String, Things> = (0..IN_A_FILE).map(|n| (format!("h{n}"), Things::new())).collect();
    let mut count = 0;
    let first = dice.below(2);
    // After the last turn, both read once more.
    for turn in 0..TURNS + 2 {
        let is_last = turn >= TURNS;
        let end = if is_last || dice.one_in(5) { "abort" } else { "commit" };
        let mut all = Vec::new();
        for (history, things) in &models {
            let (steps, after) = if is_last { (Vec::new(), things.clone()) } else { some(&mut dice, things) };
            count += steps.len();
            all.push((history.clone(), steps, after));
        }
        let what = |history: &str| format!("turn {turn}, history {history}");
        if (turn + first).is_multiple_of(2) {
            let steps: BTreeMap<&str, Vec<Json>> = all
                .iter()
                .map(|(history, steps, _)| (history.as_str(), steps.iter().map(Step::json).collect()))
                .collect();
            let request = json!({ "do": "turn", "path": path, "end": end, "histories": steps });
            let shown = python.ask(&request)?;
            for (history, things) in &models {
                same(&format!("{}, Python", what(history)), &shown[history], things)?;
            }
        } else {
            let options = Options::new().durability(Durability::Relaxed);
            let storage = if path.exists() { options.open(path)? } else { options.create(path)? };
            let database = Database::open(storage)?;
            let connection = database.connect()?;
            for (history, steps, _) in &all {
                let mut player = Player::new(&connection, history.clone());
                same(&format!("{}, ours", what(history)), &things_json(&player.shown()?), &models[history])?;
                steps.iter().try_for_each(|step| player.play(step)).map_err(|e| format!("{}: {e}", what(history)))?;
                if end == "commit" { connection.commit().map(drop)? } else { connection.abort()? }
            }
        }
        if end == "commit" {
            models.extend(all.into_iter().map(|(history, _, after)| (history, after)));
        }
    }
    Ok(count)
}

/// Histories through one server, with both clients connected. Returns the conflicts that were merged, and the refused
/// ones.
fn through_server(ground: &Ground, python: &mut Python, histories: u64) -> Result<(u64, u64), Trouble> {
    let storage = Arc::new(FileStorage::create(ground.path("served.fs"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (address, _server) = super::side::serve(&runtime, storage)?;
    let (host, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let remote = Arc::new(RemoteStorage::open(ClientOptions::at(&address))?);
    let storage: Arc<dyn Storage> = Arc::clone(&remote) as _;
    let database = Database::with(storage, vellum_object::Options::default())?;
    python.ask(&json!({ "do": "connect", "host": host, "port": port.parse::<u16>()? }))?;
    let connection = database.connect()?;
    let (mut merged, mut refused) = (0, 0);
    for number in 0..histories {
        let mut table = Table {
            python,
            remote: &remote,
            connection: &connection,
            history: format!("h{number}"),
            model: Things::new(),
            dice: Dice::new(ground.seed.wrapping_mul(77).wrapping_add(number)),
        };
        for round in 0..ROUNDS {
            let done = table.round(round).map_err(|why| format!("history {number}, round {round}: {why}"))?;
            match done {
                Met::Alone => {}
                Met::Merged => merged += 1,
                Met::Refused => refused += 1,
            }
        }
    }
    ensure(merged > 0 && refused > 0, || format!("{merged} merged, {refused} refused"))?;
    Ok((merged, refused))
}

/// How the two sides of a round met.
enum Met {
    Alone,
    Merged,
    Refused,
}

/// Both sides of a history through the server.
struct Table<'t> {
    python: &'t mut Python,
    remote: &'t RemoteStorage,
    connection: &'t Connection,
    history: String,
    model: Things,
    dice: Dice,
}

impl Table<'_> {
    /// Both begin, and must show the model.
    fn begin(&mut self) -> Outcome {
        self.remote.sync()?;
        self.connection.begin()?;
        let ours = Player::new(self.connection, self.history.clone()).shown()?;
        same("ours", &things_json(&ours), &self.model)?;
        let shown = self.python.ask(&json!({ "do": "begin", "history": self.history }))?;
        same("Python", &shown, &self.model)
    }

    fn ours(&mut self, steps: &[Step]) -> Outcome {
        let mut player = Player::new(self.connection, self.history.clone());
        Ok(steps.iter().try_for_each(|step| player.play(step))?)
    }

    fn pythons(&mut self, steps: &[Step]) -> Outcome {
        let ops: Vec<Json> = steps.iter().map(Step::json).collect();
        self.python.ask(&json!({ "do": "steps", "history": self.history, "ops": ops })).map(drop)
    }

    /// Commits on one side. False after a conflict.
    fn commit(&mut self, is_python: bool) -> Result<bool, Trouble> {
        if is_python {
            return Ok(self.python.ask(&json!({ "do": "finish" }))?["conflict"] == false);
        }
        match self.connection.commit() {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => {
                self.connection.abort()?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn steps(&mut self, is_python: bool, steps: &[Step]) -> Outcome {
        if is_python { self.pythons(steps) } else { self.ours(steps) }
    }

    fn round(&mut self, round: u64) -> Result<Met, Trouble> {
        self.begin()?;
        let is_python = (round + self.dice.below(2)).is_multiple_of(2);
        if round == 0 {
            let make = |on: &str, kind| Step::Make { on: on.to_owned(), kind };
            let steps = [make("t0", "counter"), make("t1", "mapping")];
            self.steps(is_python, &steps)?;
            self.commit(is_python)?;
            steps.iter().for_each(|step| step.play(&mut self.model, &mut Vec::new()));
            return Ok(Met::Alone);
        }
        if self.dice.one_in(2) {
            let (steps, after) = some(&mut self.dice, &self.model);
            self.steps(is_python, &steps)?;
            ensure(self.commit(is_python)?, || "a conflict with nobody".to_owned())?;
            self.model = after;
            return Ok(Met::Alone);
        }
        // Both change the same object. Counters are merged, and mappings are not.
        let is_counter = self.dice.one_in(2);
        let step = |by: i64| match is_counter {
            true => Step::Count { on: "t0".to_owned(), by },
            false => Step::Set { on: "t1".to_owned(), key: Plain::Text("met".to_owned()), value: Plain::Int(by) },
        };
        let (first, second) = (step(self.dice.below(100) as i64 + 1), step(-7));
        self.steps(is_python, std::slice::from_ref(&first))?;
        self.steps(!is_python, std::slice::from_ref(&second))?;
        ensure(self.commit(is_python)?, || "the first commit is refused".to_owned())?;
        first.play(&mut self.model, &mut Vec::new());
        let accepted = self.commit(!is_python)?;
        ensure(accepted == is_counter, || format!("a conflict of {second:?}: accepted is {accepted}"))?;
        if accepted {
            second.play(&mut self.model, &mut Vec::new());
        }
        ensure(matches!(self.model["t0"], Thing::Counter(_)), || "no counter".to_owned())?;
        Ok(if accepted { Met::Merged } else { Met::Refused })
    }
}

/// The current and old records of the golden databases, and records of chance, read as values and written back. Many
/// records of chance hold themselves, or are deeper than values may be: those are refused.
pub fn golden(ground: &Ground) -> Result<String, Trouble> {
    let mut records = Vec::new();
    for (_, database) in super::golden() {
        let storage = FileStorage::open_read_only(&database)?;
        for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
            records.extend(transaction?.revisions.into_iter().filter_map(|revision| revision.data));
        }
    }
    let of_golden = records.len();
    let (random, seed) = (RANDOM.to_string(), ground.seed.to_string());
    let mut command = Command::new(&ground.python);
    let made = command.arg(venv::script("state_json.py")).args(["--random", &random, "--seed", &seed]).output()?;
    ensure(made.status.success(), || String::from_utf8_lossy(&made.stderr).into_owned())?;
    for line in String::from_utf8(made.stdout)?.lines() {
        let line: Json = serde_json::from_str(line)?;
        records.push(line["data"].as_str().and_then(unhex).ok_or("a line without data")?.into());
    }
    let mut python = Python::start(ground, &["--same"])?;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        let verdict = match written_back(record) {
            Ok(written) => python.line(&format!("{} {}", hex(record), hex(&written)))?.trim().to_owned(),
            Err(vellum_object::Error::Unreadable { trouble, .. }) if number >= of_golden => {
                let said = python.line(&hex(record))?.trim().to_owned();
                if said == "refused" { format!("refused: {trouble}") } else { said }
            }
            Err(error) => return Err(format!("{}: {error}", hex(record)).into()),
        };
        ensure(verdict != "differs" && (verdict != "unreadable" || number >= of_golden), || {
            format!(
                "{verdict}: {} is {} now",
                hex(record),
                written_back(record).map(|data| hex(&data)).unwrap_or_default()
            )
        })?;
        *times.entry(verdict).or_default() += 1;
    }
    let of = |verdict: &str| times.get(verdict).copied().unwrap_or(0);
    let refused: usize = times.iter().filter(|(said, _)| said.starts_with("refused")).map(|(_, count)| count).sum();
    ensure(refused < records.len() / 5, || format!("{times:?}"))?;
    Ok(format!(
        "{of_golden} records of golden databases and {} of chance: {} written back byte for byte, {} load the same in Python, \
         {} that Python does not load, {} that we refuse",
        records.len() - of_golden,
        of("bytes"),
        of("loads"),
        of("unreadable"),
        refused
    ))
}

/// The record after an object was marked as changed, and stored as it is.
fn written_back(record: &[u8]) -> vellum_object::Result<Vec<u8>> {
    let storage = MemoryStorage::new("records");
    let mut draft = storage.begin(TransactionMeta::new())?;
    draft.store(Oid(7), Tid::ZERO, record.to_vec().into())?;
    storage.commit(draft)?;
    let database = Database::open(storage)?;
    let connection = database.connect()?;
    connection.get::<Generic>(Oid(7)).change(|_| ())?;
    connection.commit()?;
    Ok(database.storage().load(Oid(7), &Version::TRUNK)?.data.to_vec())
}
