//! The rows of B-trees: keys put in, looked up and listed, beside the BTrees package, a `HashMap` and a `BTreeMap`.
//!
//! The tree is an `LOBTree` from numbers, which are scattered over 2^63, to bytes. Both sides have the same keys in the
//! same order. Lookups and ranges are in a tree that is in memory, the same file for both; the package's times include
//! Python's loop over the keys, as a program has it.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use vellum_file::{Durability, FileStorage, Options};
use vellum_object::btree::{BTree, LO};
use vellum_object::{Connection, Database, Options as Limits, PersistentMapping, Ref, Value};

use super::object_mail::text;
use super::objects::{Times, processor, timed};
use super::rows::{Rows, remove};
use super::table::Line;
use super::{Row, Trouble};

/// Keys of the tree.
const KEYS: usize = 50_000;
/// Insertions in a transaction.
const BATCH: usize = 1_000;
/// Bytes of a value.
const VALUE: usize = 32;
/// Keys that are looked up.
const LOOKUPS: usize = 200_000;
/// Ranges, and the keys in each.
const RANGES: usize = 1_000;
const RANGE: usize = 500;

/// Keys, lookups and ranges; in files for the peer too.
struct Ground {
    keys: Vec<i64>,
    lookups: Vec<i64>,
    /// The first and the last key of each range.
    ranges: Vec<i64>,
    value: Vec<u8>,
}

impl Ground {
    fn new() -> Ground {
        let mut dice = 1_u64;
        let mut roll = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice >> 33
        };
        let keys: Vec<i64> = (0..KEYS).map(|_| (roll() << 32 | roll()) as i64).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        let lookups = (0..LOOKUPS).map(|_| keys[roll() as usize % KEYS]).collect();
        let ranges = (0..RANGES).flat_map(|_| {
            let from = roll() as usize % (KEYS - RANGE);
            [sorted[from], sorted[from + RANGE - 1]]
        });
        Ground { ranges: ranges.collect(), lookups, keys, value: vec![b'v'; VALUE] }
    }

    /// The numbers that a row needs, in a file for the peer.
    fn write(&self, path: &Path, numbers: &[i64]) -> std::io::Result<()> {
        std::fs::write(path, numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn hashed(&self) -> HashMap<u64, Vec<u8>> {
        self.keys.iter().map(|key| (*key as u64, self.value.clone())).collect()
    }

    fn sorted(&self) -> BTreeMap<u64, Vec<u8>> {
        self.keys.iter().map(|key| (*key as u64, self.value.clone())).collect()
    }

    /// A new file with an empty tree in the root.
    fn create(&self, path: &Path) -> Result<(Connection, Ref<BTree<LO>>), Trouble> {
        remove(path);
        let storage = Options::new().durability(Durability::Relaxed).create(path)?;
        let connection = Database::open(storage)?.connect()?;
        let tree = connection.make(BTree::<LO>::default());
        connection.root::<PersistentMapping>().change(|root| root.insert("tree", &tree))?;
        connection.commit()?;
        Ok((connection, tree))
    }

    fn fill(&self, connection: &Connection, tree: &Ref<BTree<LO>>, commits: bool) -> Result<(), Trouble> {
        for batch in self.keys.chunks(BATCH) {
            for key in batch {
                tree.set(*key, Value::Bytes(self.value.as_slice().into()))?;
            }
            if commits {
                connection.commit()?;
            }
        }
        Ok(())
    }

    /// The tree of a file, in memory.
    fn loaded(path: &Path) -> Result<(Connection, Ref<BTree<LO>>), Trouble> {
        let options = Limits { bytes_max: u64::MAX, ..Limits::default() };
        let database = Database::with(std::sync::Arc::new(FileStorage::open_read_only(path)?), options)?;
        let connection = database.connect()?;
        let tree = match connection.root::<PersistentMapping>().view()?.get("tree") {
            Some(Value::Reference(found)) => found.object().cast::<BTree<LO>>(),
            _ => return Err("no tree".into()),
        };
        tree.count()?;
        Ok((connection, tree))
    }
}

/// Looks at a value in its place, as Python does: it takes no memory.
fn touch(value: &Value) -> bool {
    black_box(matches!(value, Value::None))
}

impl Rows<'_> {
    /// A row of B-trees.
    pub fn object_tree(&self, row: Row) -> Result<Line, Trouble> {
        let ground = Ground::new();
        match row {
            Row::ObjectTreeInsert => self.tree_insert(&ground),
            Row::ObjectTreeLookup => self.tree_lookup(&ground),
            _ => self.tree_range(&ground),
        }
    }

    fn tree_insert(&self, ground: &Ground) -> Result<Line, Trouble> {
        let [path, theirs, list] =
            ["object-tree.fs", "object-tree-zodb.fs", "keys.bin"].map(|name| self.folder.join(name));
        ground.write(&list, &ground.keys)?;
        let arguments = |commits: &'static str| ["insert", &text(&theirs), &text(&list), commits].map(str::to_owned);
        let in_python = |commits| {
            let arguments = arguments(commits);
            self.seconds_of_script("object_writes_bench.py", &arguments.each_ref().map(String::as_str))
        };
        let filled = |commits: bool| -> Result<Duration, Trouble> {
            let (connection, tree) = ground.create(&path)?;
            let started = processor();
            ground.fill(&connection, &tree, commits)?;
            Ok(processor() - started)
        };
        let [mut alone, mut alone_of_peer] = [Duration::MAX; 2];
        let ours = || {
            alone = alone.min(filled(false)?);
            filled(true)
        };
        let peer = || {
            alone_of_peer = alone_of_peer.min(in_python("0")?);
            in_python("1000")
        };
        let mut of_btree = Duration::MAX;
        let limit = || {
            of_btree = of_btree.min(timed(|| drop(black_box(ground.sorted()))));
            timed(|| drop(black_box(ground.hashed())))
        };
        let best = self.rounds(ours, peer, limit)?;
        [&path, &theirs].iter().for_each(|path| remove(path));
        let times = Times { count: KEYS, best, of_btree };
        let note = format!(
            "LOBTree, keys in an order of chance, a commit every {BATCH}, one sync on both sides: {}\n  without commits: {:.0} \
             thousand a second, ZODB {:.0} thousand",
            times.sentence("insertions", None),
            KEYS as f64 / alone.as_secs_f64() / 1e3,
            KEYS as f64 / alone_of_peer.as_secs_f64() / 1e3
        );
        Ok(times.line(format!("put {KEYS} keys into a B-tree, commit"), "put them into a HashMap", note))
    }

    fn tree_lookup(&self, ground: &Ground) -> Result<Line, Trouble> {
        let path = self.folder.join("object-tree.fs");
        let (connection, tree) = ground.create(&path)?;
        ground.fill(&connection, &tree, true)?;
        drop((connection, tree));
        let list = self.folder.join("lookups.bin");
        ground.write(&list, &ground.lookups)?;
        let (connection, tree) = Ground::loaded(&path)?;
        let ours = || {
            let started = processor();
            for key in &ground.lookups {
                tree.get_with(key, touch)?.ok_or("a key is missing")?;
            }
            Ok(processor() - started)
        };
        let peer = || self.seconds_of_script("object_writes_bench.py", &["lookup", &text(&path), &text(&list)]);
        let (hashed, sorted) = (ground.hashed(), ground.sorted());
        let mut of_btree = Duration::MAX;
        let limit = || {
            let look = |find: &dyn Fn(u64) -> Option<usize>| {
                timed(|| ground.lookups.iter().for_each(|key| _ = black_box(find(*key as u64))))
            };
            of_btree = of_btree.min(look(&|key| sorted.get(&key).map(Vec::len)));
            look(&|key| hashed.get(&key).map(Vec::len))
        };
        let best = self.rounds(ours, peer, limit)?;
        drop((connection, tree));
        remove(&path);
        let times = Times { count: LOOKUPS, best, of_btree };
        let note = format!("LOBTree of {KEYS} keys in memory: {}", times.sentence("lookups", None));
        Ok(times.line(format!("look up {LOOKUPS} keys of a B-tree"), "look them up in a HashMap", note))
    }

    fn tree_range(&self, ground: &Ground) -> Result<Line, Trouble> {
        let path = self.folder.join("object-tree.fs");
        let (connection, tree) = ground.create(&path)?;
        ground.fill(&connection, &tree, true)?;
        drop((connection, tree));
        let list = self.folder.join("ranges.bin");
        ground.write(&list, &ground.ranges)?;
        let (connection, tree) = Ground::loaded(&path)?;
        let ours = || {
            let (started, mut found) = (processor(), 0);
            for range in ground.ranges.chunks(2) {
                let mut items = tree.range(range[0]..=range[1]);
                while let Some(item) = items.next_with(|key, value| black_box((*key, touch(value)))) {
                    item?;
                    found += 1;
                }
            }
            let took = processor() - started;
            if found != RANGES * RANGE { Err(format!("{found} items").into()) } else { Ok(took) }
        };
        let peer = || {
            let script = "object_writes_bench.py";
            let said = self.of_script(script, &["range", &text(&path), &text(&list)])?;
            if said["count"].as_u64() != Some((RANGES * RANGE) as u64) {
                return Err(format!("{script} found {} items", said["count"]).into());
            }
            Ok(Duration::from_secs_f64(said["seconds"].as_f64().ok_or("no seconds")?))
        };
        let (hashed, sorted) = (ground.hashed(), ground.sorted());
        let mut order = ground.keys.clone();
        order.sort_unstable();
        let mut of_btree = Duration::MAX;
        let limit = || {
            of_btree = of_btree.min(timed(|| {
                for range in ground.ranges.chunks(2) {
                    let items = sorted.range(range[0] as u64..=range[1] as u64);
                    items.for_each(|(key, value)| _ = black_box((*key, value.len())));
                }
            }));
            timed(|| {
                for range in ground.ranges.chunks(2) {
                    let from = order.partition_point(|key| *key < range[0]);
                    let keys = order[from..from + RANGE].iter();
                    keys.for_each(|key| _ = black_box((*key, hashed[&(*key as u64)].len())));
                }
            })
        };
        let best = self.rounds(ours, peer, limit)?;
        drop((connection, tree));
        remove(&path);
        let times = Times { count: RANGES * RANGE, best, of_btree };
        let note = format!(
            "LOBTree of {KEYS} keys in memory, {RANGES} ranges of {RANGE} keys with their values: {}",
            times.sentence("items", None)
        );
        Ok(times.line(
            format!("{RANGES} ranges of {RANGE} keys of a B-tree"),
            "sorted keys, looked up in a HashMap",
            note,
        ))
    }
}
