//! The inputs to begin with, made by program from the golden databases, and from histories.
//!
//! They are not kept as they are: `cargo xtask corpus` keeps, of these and of what a fuzzer found, those that take
//! branches that no smaller one takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Buf;
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::hosted::Hosted;
use vellum_harness::question::{self, Question};
use vellum_harness::step::Step;
use vellum_harness::subject::Subject;
use vellum_harness::{generate, world::World};
use vellum_pickle::{class_of, compressed};

use vellum_storage::{Oid, Tid};
use vellum_wire::{Begin, Call, Codec, Fault, Message, MessageId, NotUndone, Notice, Rope, Value};

use crate::{btrees, cache_file, damaged_file, data_file, layout, record, wire, zeo_conf};

/// The seeds of a target, each with a name that a file can have. `golden` is the folder of the golden databases.
pub fn seeds(target: &str, golden: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    match target {
        "data_file" => data_files(golden),
        // The first of three records is the object, and the others follow behind it.
        "record" | "object" => records(golden),
        "peer_pipe" => Ok(answers()),
        // An input that is made from dice begins with dice.
        "damaged_file" => Ok(dice("damage", 120, 200)),
        "history" => Ok(dice("history", 60, 800)),
        "crash" => Ok(dice("crash", 60, 300)),
        "table" => Ok(dice("table", 60, 400)),
        "server" => Ok(dice("server", 120, 200)),
        "client" => Ok(dice("client", 120, 300)),
        "journal" => Ok(crate::journal::seeds()),
        "btrees" | "btree" => Ok(trees()),
        "wire" => Ok(messages()),
        "cache_file" => Ok(cache_file::seeds().into_iter().collect()),
        "trace" => Ok(crate::trace::seeds().into_iter().collect()),
        "zeo_conf" => Ok(configurations()),
        _ => Ok(BTreeMap::new()),
    }
}

/// The files of the field, and some that use every word.
fn configurations() -> BTreeMap<String, Vec<u8>> {
    let zeo = "<zeo>\n address 8100\n</zeo>\n";
    let demo = "<demostorage a>\n <filestorage base>\n path $a\n quota 1GB\n </filestorage>\n</demostorage>\n";
    let zlib = "%import zc.zlibstorage\n<zlibstorage>\n compress no\n <mappingstorage>\n name m\n </mappingstorage>\n</zlibstorage>\n";
    let blobs = "<blobstorage>\n blob-dir b\n <filestorage>\n path a\n </filestorage>\n</blobstorage>\n";
    let ssl =
        "<zeo>\n address [::1]:$(PORT)\n <ssl>\n certificate c\n authenticate a\n </ssl>\n</zeo>\n<mappingstorage/>\n";
    let log = "<eventlog>\n level 15\n <logfile>\n path STDOUT\n format %(asctime)s %(message)-9s\n </logfile>\n</eventlog>\n";
    let toml = "listen = [\"8100\", \"/s\"]\ntransaction-timeout = 1.5\n[storages.1.filestorage]\npath = \"a\"\n\
                [storages.2.demostorage.base.zlibstorage]\ncompress = true\nbase.mappingstorage = {}\n\
                [eventlog]\nlogfile = [{ path = \"a\", level = 5 }]\n";
    let grows: String = (0..20).map(|n| format!("%define a{} $a{n}$a{n}\n", n + 1)).collect();
    let conf = |files: &[&str]| zeo_conf::input(false, files);
    let whole = [
        ("container", conf(&[include_str!("../../../fixtures/conf/container.conf")])),
        ("buildout", conf(&[include_str!("../../../fixtures/conf/buildout.conf")])),
        ("documentation", conf(&[include_str!("../../../fixtures/conf/documentation.conf")])),
        ("include", conf(&["%define a b\n%include 1.conf\n%include 2.conf\n", zeo, demo])),
        ("loop", conf(&["%include 1.conf\n%include 1.conf\n", "%include zeo.conf\n"])),
        ("zlib", conf(&[&format!("{zeo}{zlib}")])),
        ("blobs", conf(&[&format!("{zeo}{blobs}")])),
        ("ssl", conf(&[&format!("{ssl}{log}")])),
        ("grows", conf(&[&format!("%define a0 $(LONG)\n{grows}{zeo}<mappingstorage/>\n")])),
        ("deep", conf(&[&"<demostorage>\n".repeat(70)])),
        ("toml", zeo_conf::input(true, &[toml])),
    ];
    let mut seeds = BTreeMap::new();
    for (name, input) in whole {
        // Files that end too early, too.
        for fifths in 1..5 {
            seeds.insert(format!("{name}-{fifths}"), input[..input.len() * fifths / 5].to_vec());
        }
        seeds.insert(name.to_owned(), input);
    }
    seeds
}

/// Trees that keep their rules, and the same with bytes of them otherwise.
fn trees() -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for (levels, width, keys) in [(1, 2, 2), (1, 6, 4), (2, 2, 2), (2, 3, 1), (3, 2, 2)] {
        seeds.insert(format!("whole-{levels}-{width}-{keys}"), btrees::input(levels, width, keys, &[]));
        for at in 0..12 {
            let change = [(at * 5, at as u8 + 1)];
            seeds.insert(format!("changed-{levels}-{width}-{keys}-{at}"), btrees::input(levels, width, keys, &change));
        }
    }
    seeds.insert("inside".to_owned(), vec![4, 3, 1, 2, 3]);
    seeds.insert("circle".to_owned(), vec![1, 3, 1, 2, 1, 3, 1, 1, 5, 3, 1, 7]);
    seeds.insert("nothing".to_owned(), vec![0]);
    seeds
}

/// One message of each kind, in both codecs.
fn messages() -> BTreeMap<String, Vec<u8>> {
    let (oid, tid, transaction) = (Oid(1), Tid(2), MessageId(Value::Int(7)));
    let data = bytes::Bytes::from_static(b"cmail\nMessage\n.N.");
    let begin = Begin {
        transaction: transaction.clone(),
        user: "ann".into(),
        description: "a change".into(),
        extension: Value::Dict(vec![(Value::Text("key".to_owned()), Value::Float(1.5))]),
        tid: Some(tid),
        status: Value::Text(" ".to_owned()),
    };
    let calls = [
        Call::Register { storage: Value::Text("1".to_owned()), read_only: false },
        Call::GetInfo,
        Call::LoadBefore { oid, before: tid },
        Call::TpcBegin(Box::new(begin)),
        Call::Store { oid, serial: tid, data: data.clone(), transaction: transaction.clone() },
        Call::Restore { oid, tid, data: Some(data), source: Some(tid), transaction: transaction.clone() },
        Call::Vote { transaction: transaction.clone() },
        Call::Pack { time: 1.5e9, wait: true },
        Call::UndoInfo { first: 0, last: -20, specification: Value::None },
        Call::IteratorGc { iterators: vec![1, 2] },
        Call::SetClientLabel { label: "ann".to_owned() },
        Call::Undo { undone: "BA1RcAAAAAE=".into(), transaction: transaction.clone() },
        Call::History { oid, size: 20 },
        Call::StoreBlobChunk { chunk: "a piece".into() },
    ];
    let calls = calls.map(|call| (call.name().to_owned(), call.into_message(Some(MessageId(Value::Int(3))))));
    let notices = [Notice::Invalidate { tid, oids: vec![oid] }, Notice::Info { length: 1, size: 70_000 }];
    let notices = notices.map(|notice| (format!("{notice:?}"), notice.into_message()));
    let why = NotUndone { oid: Some(oid), reason: "changed".to_owned() };
    let mut seeds = BTreeMap::new();
    for codec in [Codec::Pickle, Codec::Msgpack] {
        let faults = [
            Fault::Conflict { oid, committed: tid, serial: tid, class: Some("mail.Message".to_owned()) },
            Fault::NoObject { oid },
            Fault::UndoOfObjects(vec![why.clone()]),
            Fault::Transaction { current: Some(transaction.clone()), given: transaction.clone() },
        ];
        let faults = faults.map(|fault| (fault.to_string(), Message::error(Value::Int(3), fault.into_value(codec))));
        for (n, (_, message)) in calls.iter().chain(&notices).chain(&faults).cloned().enumerate() {
            let mut rope = Rope::default();
            codec.encode(message, &mut rope).expect("it can be written");
            let frame = rope.copy_to_bytes(rope.remaining());
            seeds.insert(format!("{codec:?}-{n}").to_lowercase(), wire::input(&frame[4..]));
        }
    }
    for greeting in ["Z5", "M5", "ruok", "Z4"] {
        seeds.insert(format!("greeting-{greeting}"), wire::input(greeting.as_bytes()));
    }
    seeds
}

const GOLDEN: [&str; 5] = ["mail.fs", "packed.fs", "undo.fs", "unpacked.fs", "versions.fs"];

/// The beginnings of the golden databases, and what small histories leave; with their indexes and without.
fn data_files(golden: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut seeds = BTreeMap::new();
    let mut add = |name: &str, file: &[u8], how: u8| {
        seeds.insert(name.to_owned(), data_file::input(file, &[], how));
        seeds.insert(format!("{name}-index"), data_file::input(file, &damaged_file::index_of(file), how | 1));
    };
    for (n, name) in GOLDEN.iter().enumerate() {
        let file = std::fs::read(golden.join(name))?;
        for bytes_max in [1 << 10, 4 << 10, 12 << 10] {
            add(&format!("{name}-{bytes_max}"), &damaged_file::beginning(&file, bytes_max), (n as u8) << 1);
        }
    }
    for seed in 0..24 {
        // With its index, a history must fit into an input.
        let file = damaged_file::beginning(&damaged_file::of_history(seed), 48 << 10);
        add(&format!("history-{seed}"), &file, (seed as u8).wrapping_mul(37) & !1);
    }
    for file in [&b""[..], b"FS30", b"FS21", b"FS20", b"FS3"] {
        seeds.insert(format!("begins-{}", file.escape_ascii()), data_file::input(file, &[], 0));
    }
    Ok(seeds)
}

/// One record of each class, the shortest, and three of each that can be merged.
fn records(golden: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    const RECORD_MAX: usize = 4 << 10;
    let mut seeds = BTreeMap::new();
    for name in GOLDEN {
        let file = std::fs::read(golden.join(name))?;
        let mut by_class: BTreeMap<String, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        let transactions = layout::parse(&file).unwrap_or_default();
        for record in transactions.into_iter().flat_map(|transaction| transaction.records) {
            if let (Ok(class), true) = (class_of(&record.data), record.data.len() <= RECORD_MAX) {
                by_class.entry(class.to_string()).or_default().push((record.oid, record.data));
            }
        }
        for (class, mut all) in by_class {
            // Three revisions of one object, if there is one that has as many.
            let mut by_oid: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
            all.iter().for_each(|(oid, data)| by_oid.entry(*oid).or_default().push(data));
            if let Some(three) = by_oid.values().find(|revisions| revisions.len() >= 3) {
                seeds.insert(format!("{name}-{class}-three"), record::input(three[0], three[1], three[2]));
            }
            all.sort_by_key(|(_, data)| data.len());
            let shortest = &all[0].1;
            seeds.insert(format!("{name}-{class}"), record::input(shortest, shortest, shortest));
        }
    }
    for (name, [ancestor, committed, new]) in merges() {
        seeds.insert(name, record::input(&ancestor, &committed, &new));
    }
    for (name, [ancestor, committed, new]) in long_merges() {
        seeds.insert(name, record::input(&ancestor, &committed, &new));
    }
    let odd: [&[u8]; 16] = [
        b"(S'mail'\nS'Folder'\ntN\x86.}(S'x'\n(S'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01'\nN\x86Qu.",
        b"cm\nC\n.]X\x01\0\0\0wC\x08\0\0\0\0\0\0\0\x01X\x02\0\0\0db\x86\x86lQ.",
        b"cm\nC\n.(X\x01\0\0\0m(X\x02\0\0\0dbC\x08\0\0\0\0\0\0\0\x01cm\nC\ntlQ.",
        b"cm\nC\n.c_codecs\nencode\nV\\u0000\\u0000ABCDE\\u00ff\nVlatin1\n\x86RQ.",
        b"cm\nC\n.czodbpickle\nbinary\nC\x08\0\0\0\0\0\0\0\x01\x85RQP12345678\n0.",
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x01m\x8c\x01C\x93\x94.\x80\x04](K\x01e\x94h\x01\x86\x94h\x02Q.",
        b"cm\nC\n.(lp1\nccopy_reg\n_reconstructor\n(cm\nD\nc__builtin__\nobject\nNtRa.",
        b"cm\nC\n.ccopy_reg\n__newobj__\n(cm\nD\nK\x01tR.",
        b"cm\nC\n.c__builtin__\nset\n](K\x01K\x02e\x85R.",
        b"cm\nC\n.cbuiltins\nfrozenset\n](K\x01e\x85R.",
        b"cm\nC\n.cbuiltins\nfrozenset\n]\x85R.",
        b"cm\nC\n.cdatetime\ntime\nC\x06\x0c\x1e\0\0\0\0\x85R.",
        b"cm\nC\n.cdatetime\ndatetime\n(C\x0a\x07\xea\x0b\x18\x0c\0\0\0\0\0cpytz\n_UTC\n)RtR.",
        b"cm\nC\n.V\\ud83d\\ude00\n.",
        b"cm\nC\n.\x8a\x09\0\0\0\0\0\0\0\0\xff.",
        b"cm\nC\n.](X\x01\0\0\0w(C\x08\0\0\0\0\0\0\0\x01X\x02\0\0\0dbteQ.",
    ];
    for (n, record) in odd.into_iter().enumerate() {
        seeds.insert(format!("odd-{n}"), [record, &[0; 4]].concat());
    }
    Ok(seeds)
}

/// Records that can be merged, of a few classes.
fn merges() -> Vec<(String, [Vec<u8>; 3])> {
    let of = |module: &str, class: &str, state: &[u8]| {
        [b"\x80\x03c", module.as_bytes(), b"\n", class.as_bytes(), b"\nq\x00.\x80\x03", state, b"."].concat()
    };
    let length = [b"K\x01", b"K\x05", b"K\x03"].map(|state| of("BTrees.Length", "Length", state));
    let items = |class: &str, states: [&[u8]; 3]| {
        let module =
            format!("BTrees.{}", class.trim_end_matches("Bucket").trim_end_matches("Set").to_owned() + "BTree");
        states.map(|state| of(&module, class, state))
    };
    vec![
        ("merge-length".to_owned(), length),
        (
            "merge-bucket".to_owned(),
            items("IIBucket", [b"(K\x01K\x02t\x85", b"(K\x01K\x02K\x03K\x04t\x85", b"(K\x01K\x05t\x85"]),
        ),
        ("merge-set".to_owned(), items("OOSet", [b"(X\x01\0\0\0at\x85", b"(X\x01\0\0\0aX\x01\0\0\0bt\x85", b")\x85"])),
        (
            "merge-tree".to_owned(),
            ["K\x01", "K\x02", "K\x03"].map(|last| {
                let state = [b"((K\x01", last.as_bytes(), b"t\x85\x85\x85"].concat();
                of("BTrees.IIBTree", "IIBTree", &state)
            }),
        ),
    ]
}

/// The same three records plain and compressed, each beside each.
fn long_merges() -> Vec<(String, [Vec<u8>; 3])> {
    let bucket = |items: &[(u8, u8)]| {
        let text = |byte: u8| [b"X\x28\0\0\0", [byte; 40].as_slice()].concat();
        let items: Vec<u8> = items.iter().flat_map(|(key, value)| [text(*key), text(*value)].concat()).collect();
        [b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03((", items.as_slice(), b"t\x85."].concat()
    };
    let plain = [bucket(&[(b'a', b'1')]), bucket(&[(b'a', b'1'), (b'b', b'2')]), bucket(&[(b'a', b'3')])];
    let forms = |n: usize| {
        let form = |at: usize| match n >> at & 1 {
            0 => plain[at].clone(),
            _ => compressed(&plain[at]).unwrap_or_default(),
        };
        [form(0), form(1), form(2)]
    };
    (0..8).map(|n| (format!("merge-compressed-{n:03b}"), forms(n))).collect()
}

/// The specification's answers to the harness, with the lines of a pipe around them; and dice for the changes.
fn answers() -> BTreeMap<String, Vec<u8>> {
    const STEPS: usize = 12;
    let mut seeds = BTreeMap::new();
    for seed in 0..12_u8 {
        let mut rules = Hosted::rules();
        let mut lines = vec![format!(
            r#"{{"name":"rules","can":{}}}"#,
            serde_json::to_string(&rules.can()).expect("words are JSON")
        )];
        lines.push(r#"{"is":"done"}"#.to_owned());
        let _ = rules.reset();
        let (mut world, mut dice) = (World::new(rules.can()), Seed(u64::from(seed)));
        for _ in 0..STEPS {
            let step = generate::next(&mut dice, &world);
            let mut done = false;
            for part in generate::parts(&world, &step) {
                if world.expect(&part).is_none() {
                    break;
                }
                let outcome = rules.perform(&part);
                lines.push(serde_json::to_string(&outcome).expect("an outcome is JSON"));
                world.follow(&part, &outcome);
                done = true;
            }
            if done && !matches!(step, Step::Begin { .. }) {
                let known = &world.known;
                let questions: Vec<Question> = question::all(world.can(), &known.oids, &known.versions, &known.tids);
                lines.push(serde_json::to_string(&rules.ask(&questions)).expect("answers are JSON"));
            }
        }
        let text = lines.join("\n") + "\n";
        // No longer than an input may be: it ends where it ends.
        let text = &text.as_bytes()[..text.len().min((16 << 10) - 1)];
        seeds.insert(format!("rules-{seed}"), [&[seed], text].concat());
    }
    for (name, bytes) in dice("twisted", 40, 300) {
        seeds.insert(name, [&[128 | bytes[0]], &bytes[1..]].concat());
    }
    seeds
}

fn dice(name: &str, count: u64, length: usize) -> BTreeMap<String, Vec<u8>> {
    let of = |seed: u64| {
        let mut dice = Seed(seed);
        let length = 16 + dice.roll(length as u64);
        (format!("{name}-{seed}"), (0..length).map(|_| dice.roll(256) as u8).collect())
    };
    (0..count).map(of).collect()
}

/// The words of a target's inputs, as libFuzzer reads them.
pub fn dictionary(target: &str) -> Option<String> {
    let words: BTreeSet<Vec<u8>> = match target {
        "data_file" => data_file_words(),
        "record" => record_words(),
        "peer_pipe" => peer_words(),
        "zeo_conf" => conf_words(),
        _ => return None,
    };
    let line = |word: &Vec<u8>| {
        let byte = |byte: &u8| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(*byte)),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        let bytes: String = word.iter().map(byte).collect();
        format!("\"{bytes}\"\n")
    };
    Some(words.iter().map(line).collect())
}

fn words(all: &[&[u8]]) -> BTreeSet<Vec<u8>> {
    all.iter().map(|word| word.to_vec()).collect()
}

fn conf_words() -> BTreeSet<Vec<u8>> {
    words(&[
        b"$$",
        b"$(LONG)",
        b"$(NAME)",
        b"$a",
        b"${a}",
        b"%define ",
        b"%import zc.zlibstorage\n",
        b"%include ",
        b"1.conf\n",
        b"</blobstorage>\n",
        b"</demostorage>\n",
        b"</eventlog>\n",
        b"</filestorage>\n",
        b"</logfile>\n",
        b"</runner>\n",
        b"</ssl>\n",
        b"</zeo>\n",
        b"</zlibstorage>\n",
        b"<blobstorage>\n",
        b"<demostorage>\n",
        b"<eventlog>\n",
        b"<filestorage>\n",
        b"<logfile>\n",
        b"<mappingstorage/>\n",
        b"<runner>\n",
        b"<ssl>\n",
        b"<zeo>\n",
        b"<zlibstorage>\n",
        b"[eventlog]\n",
        b"[storages.1.demostorage.base.mappingstorage]\n",
        b"[storages.1.filestorage]\n",
        b"address ",
        b"authenticate ",
        b"blob-dir ",
        b"certificate ",
        b"format %(message)s\n",
        b"invalidation-age ",
        b"listen = [\"8100\"]\n",
        b"logfile = [{ path = \"a\" }]\n",
        b"path ",
        b"path = \"a\"\n",
        b"quota 1 GB\n",
        b"read-only yes\n",
        b"transaction-timeout ",
        b"zeo.conf\n",
    ])
}

fn data_file_words() -> BTreeSet<Vec<u8>> {
    let mut all = words(&[b"FS30", b"FS21", b" ", b"p", b"u", b"c", b"draft"]);
    for number in [0_u64, 1, 4, 23, 31, 42, 50, 65, 1 << 48, u64::MAX, u64::MAX - 7] {
        all.insert(number.to_be_bytes().to_vec());
    }
    all.insert(b"\x80\x03K\x04.".to_vec());
    all.insert(b"N.".to_vec());
    all
}

fn record_words() -> BTreeSet<Vec<u8>> {
    let mut all = words(&[
        b"C\x08\0\0\0\0\0\0\0\x01",
        b"U\x08\0\0\0\0\0\0\0\x02",
        b"X\x08\0\0\0ABCDEFGH",
        b"S'\\x00\\x01234567'\n",
        b"V\\u0041BCDEFG\n",
        b"X\x01\0\0\0w",
        b"X\x01\0\0\0m",
        b"X\x01\0\0\0n",
        b"X\x02\0\0\0db",
        b"U\x01w",
        b"](",
        b"c_codecs\nencode\n",
        b"X\x06\0\0\0latin1",
        b"\x86R",
        b"\x85R",
        b"czodbpickle\nbinary\n",
        b"cBTrees.Length\nLength\n",
        b"cBTrees.IIBTree\nIIBucket\n",
        b"cBTrees.OOBTree\nOOBucket\n",
        b"cBTrees.OOBTree\nOOSet\n",
        b"cBTrees.LOBTree\nLOBTree\n",
        b"cBTrees.fsBTree\nfsBucket\n",
        b"cdatetime\ndatetime\n",
        b"ccopy_reg\n_reconstructor\n",
        b"c__builtin__\nset\n",
        b"\x80\x03",
        b"\x80\x04\x95",
        b"\x8c\x01",
        b"I01\n",
        b"L123456789012345678901234567890L\n",
        b"F1e999\n",
        b"p1\n",
        b"g1\n",
        b"j\0\0\0\0",
        b"r\xff\xff\xff\xff",
    ]);
    // Each opcode.
    all.extend(
        (0..=0x98_u8)
            .filter(|code| *code >= 0x80 || b"(.012FIJKLMNPQRSTUVX])abcdeghijloqrpsut}G".contains(code))
            .map(|code| vec![code]),
    );
    all
}

fn peer_words() -> BTreeSet<Vec<u8>> {
    let mut all = words(&[
        br#"{"is":""#,
        br#""}"#,
        br#""tid":""#,
        br#""data":""#,
        br#""why":""#,
        b"null",
        b"[]",
        b"\n",
        b"0000000000000000",
        b"ffffffffffffffff",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"18446744073709551615",
    ]);
    let outcomes =
        ["done", "voted", "finished", "busy", "packed", "refused", "failed", "key_error", "not_yet", "loaded"];
    let answers = ["shown", "record", "history", "undo_log", "transactions", "tid", "invalidations", "current_records"];
    all.extend(outcomes.iter().chain(&answers).map(|word| word.as_bytes().to_vec()));
    all.extend(vellum_harness::subject::Can::WORDS.iter().map(|word| format!("\"{word}\"").into_bytes()));
    all
}
