//! An index of messages in B-trees: by time, and by the words of their subjects.
//!
//!     cargo run -p vellum --features object --example mail_index
//!
//! A Python program with the BTrees package reads the same trees, and adds to them.

use vellum::MemoryStorage;
use vellum::object::btree::{BTree, LL, LO, Length, OO, TreeSet, intersection};
use vellum::object::{Bunch, Connection, Database, Error, Persistent, PersistentMapping, Ref, Value};

#[derive(Persistent, Bunch)]
#[persistent(class = "mail.Message")]
struct Message {
    subject: String,
    sent: i64,
}

/// The trees of the index, as they are in the root.
struct Index {
    /// Messages by the time at which they were sent.
    by_time: Ref<BTree<LO>>,
    /// For each word, the times of the messages that have it.
    by_word: Ref<BTree<OO>>,
    count: Ref<Length>,
}

impl Index {
    fn create(connection: &Connection) -> Result<Index, Error> {
        let index = Index {
            by_time: connection.make(BTree::default()),
            by_word: connection.make(BTree::default()),
            count: connection.make(Length::default()),
        };
        connection.root::<PersistentMapping>().change(|root| {
            root.insert("by_time", &index.by_time);
            root.insert("by_word", &index.by_word);
            root.insert("count", &index.count);
        })?;
        Ok(index)
    }

    fn add(&self, connection: &Connection, subject: &str, sent: i64) -> Result<(), Error> {
        let message = connection.make(Message { subject: subject.into(), sent });
        if self.by_time.insert(sent, &message)? {
            self.count.change(|count| count.add(1))?;
        }
        for word in subject.split_whitespace() {
            let times = match self.times(word)? {
                Some(times) => times,
                None => {
                    let times = connection.make(TreeSet::default());
                    self.by_word.set(word, &times)?;
                    times
                }
            };
            times.add(sent)?;
        }
        Ok(())
    }

    /// The times of the messages with a word.
    fn times(&self, word: &str) -> Result<Option<Ref<TreeSet<LL>>>, Error> {
        let times = self.by_word.get(&Value::from(word))?;
        Ok(times.and_then(|times| times.as_reference()).map(|times| times.cast()))
    }
}

fn main() -> Result<(), Error> {
    print!("{}", run()?);
    Ok(())
}

/// Indexes some messages, and looks for some.
pub fn run() -> Result<String, Error> {
    let database = Database::open(MemoryStorage::new("mail"))?;
    let connection = database.connect()?;
    let index = Index::create(&connection)?;
    for number in 0..1000 {
        let subject = match number % 10 {
            0 => "lunch today",
            1..=4 => "release today",
            _ => "release tomorrow",
        };
        index.add(&connection, &format!("{subject} {number}"), 1_000_000 + number)?;
        // A commit every ten messages.
        if number % 10 == 9 {
            connection.commit()?;
        }
    }

    let mut shown = format!("{:?} messages\n", index.count.view()?.value());
    // The last three, newest first: a range from its end loads one leaf.
    for item in index.by_time.items().rev().take(3) {
        let (_, message) = item?;
        let Some(message) = message.as_reference() else { continue };
        shown += &format!("{}\n", message.cast::<Message>().view()?.subject);
    }
    if let (Some(one), Some(other)) = (index.times("release")?, index.times("today")?) {
        let both = intersection::<LL>(&one, &other)?;
        shown += &format!("{} about a release today, the first at {:?}\n", both.len(), both.keys().first());
    }
    let checked = index.by_word.check()?;
    Ok(shown + &format!("{} words in {} leaves\n", checked.keys, checked.leaves))
}
