//! The rows of the mail benchmark: messages are made, put into B-trees by id, date and sender, and committed ten at a
//! time.
//!
//! The messages are the first ones of the mail database. Both sides make them of the same texts, which are in memory
//! before the time begins, and write a new file. Both have the same classes and indexes as the mail database.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use vellum_file::{Durability, FileStorage, Options};
use vellum_object::btree::{BTree, LO, OO, TreeSet};
use vellum_object::{Connection, Database, PersistentMapping, Ref, Value};
use vellum_storage::Oid;

use super::message::Message;
use super::objects::{Times, processor, timed};
use super::rows::{Rows, remove};
use super::table::Line;
use super::{Row, Trouble};

/// Messages that are made.
const MESSAGES: usize = 5_000;
/// Messages in a transaction.
const BATCH: usize = 10;

/// A message before it is made.
#[derive(Clone)]
struct Plan {
    id: String,
    sender: String,
    date: i64,
    subject: String,
    body: String,
    flags: Value,
    /// Its place among the messages.
    parent: Option<usize>,
}

/// The mailbox of the mail database.
struct Mailbox {
    by_id: Ref<BTree<OO>>,
    by_date: Ref<BTree<LO>>,
    by_sender: Ref<BTree<OO>>,
}

impl Mailbox {
    fn make(connection: &Connection) -> Result<Mailbox, Trouble> {
        let mailbox = Mailbox {
            by_id: connection.make(BTree::default()),
            by_date: connection.make(BTree::default()),
            by_sender: connection.make(BTree::default()),
        };
        let mail = connection.make(PersistentMapping::default());
        mail.change(|mail| {
            mail.insert("by_id", &mailbox.by_id);
            mail.insert("by_date", &mailbox.by_date);
            mail.insert("by_sender", &mailbox.by_sender);
        })?;
        connection.root::<PersistentMapping>().change(|root| root.insert("mail", &mail))?;
        connection.commit()?;
        Ok(mailbox)
    }

    fn deliver(&self, connection: &Connection, plan: Plan, made: &mut Vec<Ref<Message>>) -> Result<(), Trouble> {
        let Plan { id, sender, date, subject, body, flags, parent } = plan;
        let key = Value::from(sender.as_str());
        let name = Value::from(id.as_str());
        let parent = parent.map(|at| made[at].clone());
        let message = connection.make(Message { id, sender, date, subject, body, flags, parent });
        self.by_id.set(name.clone(), &message)?;
        self.by_date.set(date, &message)?;
        let sent: Ref<TreeSet<OO>> = match self.by_sender.get(&key)? {
            Some(Value::Reference(sent)) => sent.object().cast(),
            _ => {
                let sent = connection.make(TreeSet::default());
                self.by_sender.set(key, &sent)?;
                sent
            }
        };
        sent.add(name)?;
        made.push(message);
        Ok(())
    }
}

impl Rows<'_> {
    /// A row of the mail benchmark.
    pub fn object_mail(&self, row: Row) -> Result<Line, Trouble> {
        let plans = self.plans()?;
        let list = self.folder.join("messages.json");
        let path = self.folder.join("object-mail.fs");
        let is_full = row == Row::ObjectMailFull;
        let [mut wall, mut wall_of_peer] = [Duration::MAX; 2];
        let mut journal = Duration::MAX;
        let ours = || {
            let [cpu, real] = deliver_all(&path, if is_full { Durability::Full } else { Durability::Relaxed }, &plans)?;
            wall = wall.min(real);
            if is_full {
                journal = journal.min(deliver_all(&path, Durability::Journal, &plans)?[1]);
            }
            Ok(cpu)
        };
        let theirs = self.folder.join("object-mail-zodb.fs");
        let peer = || {
            let said = self.of_script("object_writes_bench.py", &["mail", &text(&theirs), &text(&list)])?;
            let seconds = |name: &str| said[name].as_f64().map(Duration::from_secs_f64).ok_or("no seconds");
            wall_of_peer = wall_of_peer.min(seconds("wall")?);
            Ok(seconds("seconds")?)
        };
        let data = |plan: &Plan| [&plan.id, &plan.sender, &plan.subject, &plan.body].map(String::as_bytes).concat();
        let mut of_btree = Duration::MAX;
        let limit = || {
            let mut sorted = BTreeMap::new();
            let all = plans.iter().zip(0_u64..);
            of_btree = of_btree.min(timed(|| sorted.extend(all.clone().map(|(plan, n)| (n, data(plan))))));
            let mut hashed = HashMap::new();
            let took = timed(|| hashed.extend(all.map(|(plan, n)| (n, data(plan)))));
            black_box((sorted, hashed));
            took
        };
        let best = self.rounds(ours, peer, limit)?;
        [&path, &theirs].iter().for_each(|path| remove(path));
        let times = Times { count: plans.len(), best, of_btree };
        let what = format!("{} messages into B-trees, {}", plans.len(), if is_full { "Full" } else { "Relaxed" });
        let mut note = format!(
            "mail, a commit every {BATCH} messages, {}; ZODB with the one sync that it makes: {}",
            if is_full { "two syncs" } else { "one sync" },
            times.sentence("messages", Some(30))
        );
        let second = |took: Duration| plans.len() as f64 / took.as_secs_f64();
        write!(
            note,
            "\n  by the clock, the waits for the disk included: {:.0} messages a second, {:.1} times as many as ZODB ({:.0})",
            second(wall),
            wall_of_peer.as_secs_f64() / wall.as_secs_f64(),
            second(wall_of_peer)
        )?;
        if is_full {
            write!(note, "; with a journal {:.0}", second(journal))?;
        }
        Ok(times.line(what, "put the texts into a HashMap", note))
    }

    /// The first messages of the mail database; in a file too, for the peer.
    fn plans(&self) -> Result<Vec<Plan>, Trouble> {
        let connection = Database::open(FileStorage::open_read_only(self.path)?)?.connect()?;
        let named = |map: &Ref<PersistentMapping>, name: &str| match map.view()?.get(name) {
            Some(Value::Reference(found)) => Ok::<_, Trouble>(found.object()),
            _ => Err(format!("the mail database has no {name}").into()),
        };
        let mail = named(&connection.root(), "mail")?.cast();
        let by_date: Ref<BTree<LO>> = named(&mail, "by_date")?.cast();
        let (mut plans, mut places) = (Vec::new(), HashMap::<Oid, usize>::new());
        for item in by_date.items().take(MESSAGES) {
            let Value::Reference(found) = item?.1 else { return Err("no message".into()) };
            let message: Ref<Message> = found.object().cast();
            let view = message.view()?;
            let parent = view.parent.as_ref().and_then(Ref::oid).and_then(|oid| places.get(&oid).copied());
            places.extend(message.oid().map(|oid| (oid, plans.len())));
            plans.push(Plan {
                id: view.id.clone(),
                sender: view.sender.clone(),
                date: view.date,
                subject: view.subject.clone(),
                body: view.body.clone(),
                flags: view.flags.clone(),
                parent,
            });
        }
        let lines = plans.iter().map(|plan| {
            let Value::Dict(flags) = &plan.flags else { return json!(null) };
            let flags: serde_json::Map<_, _> = flags
                .iter()
                .map(|(key, value)| (key.as_text().unwrap_or_default().to_owned(), json!(*value == Value::Bool(true))))
                .collect();
            json!([plan.id, plan.sender, plan.date, plan.subject, plan.body, flags, plan.parent])
        });
        std::fs::write(self.folder.join("messages.json"), json!(lines.collect::<Vec<_>>()).to_string())?;
        Ok(plans)
    }
}

/// Makes the messages in a new file. Returns the time of the processor, and that of the clock.
fn deliver_all(path: &Path, durability: Durability, plans: &[Plan]) -> Result<[Duration; 2], Trouble> {
    remove(path);
    let connection = Database::open(Options::new().durability(durability).create(path)?)?.connect()?;
    let mailbox = Mailbox::make(&connection)?;
    let plans = plans.to_vec();
    let mut made = Vec::with_capacity(plans.len());
    let (began, started) = (Instant::now(), processor());
    for plan in plans {
        mailbox.deliver(&connection, plan, &mut made)?;
        if made.len().is_multiple_of(BATCH) {
            connection.commit()?;
        }
    }
    connection.commit()?;
    Ok([processor() - started, began.elapsed()])
}

pub(super) fn text(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
