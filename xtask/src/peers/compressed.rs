//! zc.zlibstorage's layer and ours: the same histories through both, in each of its forms, and each other's files.
//!
//! Two compressors do not write the same bytes. So of each record is compared whether it is compressed, and what it is
//! when it no longer is; with everything around it. Only where a record would become a few bytes shorter or longer may
//! one of the two leave it as it is. Then each file is read by both, and packed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use vellum_file::{FileStorage, Options};
use vellum_pickle::{JsonOptions, Record, View, class_of, compressed, is_compressed, plain, to_json};
use vellum_storage::{
    Bytes, Compressed, Compression, Error, Oid, Order, PackOptions, Resolvers, Storage, Tid, TidRange,
    TransactionRecord, Version,
};

use super::dice::Dice;
use super::script::{Change, Commit};
use super::zodb::{Zodb, hex};
use super::{Ground, Trouble, clear, ensure, same};
use crate::Outcome;

const TRANSACTIONS: usize = 20;
/// The root; three buckets; two mappings; a length, which is too short to be compressed.
const OBJECTS: u64 = 7;

/// The forms of the layer, as zc.zlibstorage's configuration has them.
const FORMS: [(&str, bool, Compression); 4] = [
    ("zlib", true, Compression::On),
    ("zlib", false, Compression::Off),
    ("server", true, Compression::ByClients { merged: true }),
    ("server", false, Compression::ByClients { merged: false }),
];

#[derive(Default)]
struct Counts {
    commits: u64,
    refused: u64,
    merged: u64,
    undos: u64,
    compressed: u64,
    plain: u64,
    close: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let (mut zodb, mut counts) = (ground.zodb()?, Counts::default());
    for n in 0..ground.histories {
        let seed = ground.seed.wrapping_mul(1_000_037).wrapping_add(n);
        let form = FORMS[n as usize % FORMS.len()];
        history(ground, &mut zodb, seed, form, &mut counts)
            .map_err(|why| format!("history {n} (seed {seed}, {form:?}): {why}"))?;
    }
    let Counts { commits, refused, merged, undos, compressed, plain, close } = counts;
    ensure(
        ground.histories < 20 || [refused, merged, undos, compressed, plain].iter().all(|count| *count > 0),
        || "the dice never reached some of it".to_owned(),
    )?;
    Ok(format!(
        "{} histories in {} forms, {commits} commits, {undos} with undos, {merged} records merged, {refused} commits refused; \
         {compressed} records compressed and {plain} plain on both sides, {close} on one; each file read and packed by both",
        ground.histories,
        FORMS.len()
    ))
}

fn history(
    ground: &Ground,
    zodb: &mut Zodb,
    seed: u64,
    form: (&str, bool, Compression),
    counts: &mut Counts,
) -> Outcome {
    let (kind, compresses, compression) = form;
    let _ = zodb.close();
    let paths = [ground.path("ours.fs"), ground.path("zodb.fs")];
    paths.iter().for_each(|path| clear(path));
    let ours = layer(&paths[0], compression)?;
    zodb.open_compressed(&paths[1], kind, compresses)?;
    let mut author = Author { dice: Dice::new(seed), past: BTreeMap::new(), undoable: Vec::new(), last: first() };
    for n in 0..TRANSACTIONS {
        let commit = if n == 0 { author.first() } else { author.next() };
        let commit = match compression {
            // Clients of such a server have the layer themselves.
            Compression::ByClients { .. } => by_a_client(commit),
            _ => commit,
        };
        counts.commits += 1;
        let is_undo = matches!(commit.changes[0], Change::Undo { .. });
        match (commit.vote(&ours), zodb.vote(&commit)) {
            (Ok(voted), Ok(())) => {
                counts.merged += voted.merged().len() as u64;
                counts.undos += u64::from(is_undo);
                let touched = voted.touched().to_vec();
                let tid = voted.finish()?;
                same("tid of a commit", &tid, &zodb.finish()?)?;
                author.learn(&ours, tid, &touched)?;
            }
            (Err(Error::Refused(_)), Err(theirs)) if theirs.class().is_some() => counts.refused += 1,
            (ours, theirs) => return Err(format!("{commit:?}: we say {ours:?}, ZODB says {theirs:?}").into()),
        }
    }
    drop(ours);
    zodb.close()?;
    same_records(&paths, counts)?;
    // Each file, read by both.
    for (path, packer) in paths.iter().zip([false, true]) {
        let ours = layer(path, compression)?;
        let here = objects(&ours)?;
        drop(ours);
        zodb.open_compressed(path, kind, compresses)?;
        let there: Vec<_> = zodb.objects()?;
        same(format!("objects of {}", path.display()), &here, &there)?;
        let last = zodb.last_transaction()?;
        // Theirs is packed by us, and ours by them.
        if packer {
            zodb.close()?;
            let ours = layer(path, compression)?;
            ours.pack().ok_or("it cannot pack")?.pack(last, PackOptions::default().collect(true))?;
        } else {
            zodb.pack(last, true, &[], &[])?;
            zodb.close()?;
        }
    }
    let packed =
        paths.iter().map(|path| plain_objects(&layer(path, compression)?)).collect::<Result<Vec<_>, Trouble>>()?;
    same("the files after two packs", &packed[0], &packed[1])
}

fn layer(path: &Path, compression: Compression) -> Result<Compressed, Trouble> {
    let options = Options::new().resolver(compression.resolver(Arc::new(Resolvers::built_in())));
    Ok(Compressed::new(Arc::new(options.open_or_create(path)?), compression))
}

/// Every object, with its tid and what its record hashes to, as this storage gives it.
fn objects(storage: &dyn Storage) -> Result<Vec<(Oid, Tid, Option<String>)>, Trouble> {
    let one = |record: vellum_storage::Result<vellum_storage::CurrentRecord>| {
        let record = record?;
        Ok((record.oid, record.tid, Some(hex(&Sha256::digest(&record.data)))))
    };
    storage.current_records(Oid::ROOT).map(one).collect()
}

/// Every object, with its tid and its state.
fn plain_objects(storage: &dyn Storage) -> Result<Vec<(Oid, Tid, String)>, Trouble> {
    let one = |record: vellum_storage::Result<vellum_storage::CurrentRecord>| {
        let record = record?;
        Ok((record.oid, record.tid, shown(&record.data)?))
    };
    storage.current_records(Oid::ROOT).map(one).collect()
}

fn shown(record: &[u8]) -> Result<String, Trouble> {
    Ok(format!("{} {}", class_of(record)?, to_json(record, &JsonOptions::default())?))
}

/// The same transactions in both files, down to where data is shared; and of each record the same form.
fn same_records(paths: &[std::path::PathBuf; 2], counts: &mut Counts) -> Outcome {
    let read = |path: &Path| -> Result<Vec<TransactionRecord>, Trouble> {
        let storage = FileStorage::open_read_only(path)?;
        Ok(storage.transactions(TidRange::ALL, Order::OldestFirst)?.collect::<Result<_, _>>()?)
    };
    let (ours, theirs) = (read(&paths[0])?, read(&paths[1])?);
    same("number of transactions", &ours.len(), &theirs.len())?;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let shape = |t: &TransactionRecord| {
            let revisions = t.revisions.iter().map(|r| (r.oid, r.version.clone(), r.source, r.data.is_some()));
            (t.tid, t.status, revisions.collect::<Vec<_>>())
        };
        same("a transaction", &shape(ours), &shape(theirs))?;
        for (ours, theirs) in ours.revisions.iter().zip(&theirs.revisions).filter(|(r, _)| r.source.is_none()) {
            let (Some(one), Some(other)) = (&ours.data, &theirs.data) else { continue };
            let length = plain(one)?.len();
            same(format!("object {}", ours.oid), &shown(one)?, &shown(other)?)?;
            match (is_compressed(one), is_compressed(other)) {
                (true, true) => counts.compressed += 1,
                (false, false) => counts.plain += 1,
                _ => {
                    let shorter = length - one.len().min(other.len());
                    ensure(shorter <= 8, || format!("one of two records is compressed: {one:?} and {other:?}"))?;
                    counts.close += 1;
                }
            }
        }
    }
    Ok(())
}

fn by_a_client(mut commit: Commit) -> Commit {
    for change in &mut commit.changes {
        if let Change::Store { data, .. } = change
            && let Some(shorter) = compressed(data)
        {
            *data = shorter.into();
        }
    }
    commit
}

fn first() -> Tid {
    Tid::at("2024-02-29T12:00:00Z".parse().expect("a moment"))
}

/// The items of a bucket: the first letters of its keys and values.
type Items = Vec<(u8, u8)>;

/// Makes up commits about a few objects, of which some come too late.
struct Author {
    dice: Dice,
    /// Of each object, the tids of its revisions and what a bucket had then.
    past: BTreeMap<Oid, Vec<(Tid, Items)>>,
    undoable: Vec<Tid>,
    last: Tid,
}

impl Author {
    fn commit(&self, changes: Vec<Change>) -> Commit {
        Commit { tid: Some(Tid(self.last.0 + (1 << 32))), changes, ..Commit::default() }
    }

    fn first(&mut self) -> Commit {
        let oids = (0..OBJECTS).map(Oid);
        let changes =
            oids.map(|oid| Change::Store { oid, serial: Tid::ZERO, data: self.record(oid, &[(b'a', b'0')]) }).collect();
        self.commit(changes)
    }

    fn next(&mut self) -> Commit {
        if !self.undoable.is_empty() && self.dice.one_in(4) {
            let tid = self.dice.pick(&self.undoable.clone());
            return self.commit(vec![Change::Undo { tid }]);
        }
        let oid = Oid(self.dice.below(OBJECTS));
        let past = &self.past[&oid];
        let back = if self.dice.one_in(2) { self.dice.below(past.len().min(3) as u64) as usize } else { 0 };
        let (serial, mut items) = past[past.len() - 1 - back].clone();
        let key = b'a' + self.dice.below(8) as u8;
        match items.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) if items.len() > 1 && self.dice.one_in(2) => drop(items.remove(at)),
            Ok(at) => items[at].1 = b'0' + self.dice.below(10) as u8,
            Err(at) => items.insert(at, (key, b'0' + self.dice.below(10) as u8)),
        }
        let data = self.record(oid, &items);
        self.commit(vec![Change::Store { oid, serial, data }])
    }

    fn record(&mut self, oid: Oid, items: &[(u8, u8)]) -> Bytes {
        let length = self.dice.pick(&[1, 8, 60]);
        let text = |byte: u8| [b"X", (length as u32).to_le_bytes().as_slice(), &vec![byte; length]].concat();
        match oid.0 {
            1..=3 => {
                let items: Vec<u8> =
                    items.iter().flat_map(|(key, value)| [text(*key), text(*value)].concat()).collect();
                [b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03((", items.as_slice(), b"t\x85."].concat().into()
            }
            6 => [b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K".as_slice(), &[self.dice.below(100) as u8], b"."]
                .concat()
                .into(),
            _ => {
                let mut record =
                    b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\x04\0\0\0data}(".to_vec();
                for to in 1..OBJECTS {
                    if self.dice.one_in(2) {
                        record.extend([&text(b'a' + to as u8)[..], b"C\x08", &to.to_be_bytes(), b"Q"].concat());
                    }
                }
                record.extend([&text(b'z')[..], &text(b'0' + self.dice.below(10) as u8), b"us."].concat());
                record.into()
            }
        }
    }

    /// Notes the result of a commit.
    fn learn(&mut self, storage: &dyn Storage, tid: Tid, touched: &[Oid]) -> Outcome {
        if self.last > first() {
            self.undoable.push(tid);
        }
        self.last = tid;
        for &oid in touched {
            let record = storage.load(oid, &Version::TRUNK)?.data;
            let items = if (1..=3).contains(&oid.0) { items(&plain(&record)?)? } else { Vec::new() };
            self.past.entry(oid).or_default().push((tid, items));
        }
        Ok(())
    }
}

fn items(record: &[u8]) -> Result<Items, Trouble> {
    let record = Record::read(record)?;
    let View::Tuple(state) = record.state().view() else { return Err("an invalid bucket".into()) };
    let Some(View::Tuple(texts)) = state.get(0).map(|part| part.view()) else {
        return Err("a bucket without items".into());
    };
    let letter = |at: usize| match texts.get(at).map(|part| part.view()) {
        Some(View::Text(text)) => text.first().copied(),
        _ => None,
    };
    let pair = |at: usize| Some((letter(2 * at)?, letter(2 * at + 1)?));
    (0..texts.len() / 2).map(pair).collect::<Option<_>>().ok_or_else(|| "an item that is no text".into())
}
