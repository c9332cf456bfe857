//! Objects in place of records: a mailbox, with answers and a counter.
//!
//!     cargo run -p vellum --features object --example objects

use vellum::MemoryStorage;
use vellum::object::{Bunch, Database, Error, Persistent, PersistentMapping, Ref};

#[derive(Persistent, Bunch)]
#[persistent(class = "mail.Message", defaults)]
struct Message {
    subject: String,
    #[persistent(name = "from")]
    sender: Option<String>,
    #[bunch(default = 3)]
    priority: i64,
    answers: Vec<Ref<Message>>,
}

fn main() -> Result<(), Error> {
    print!("{}", run()?);
    Ok(())
}

/// Makes two messages, and shows them.
pub fn run() -> Result<String, Error> {
    let database = Database::open(MemoryStorage::new("mail"))?;
    database.transact(|connection| {
        let question = connection.make(Message { subject: "lunch?".into(), ..Message::default() });
        let answer = connection.make(Message {
            subject: "yes".into(),
            sender: Some("ann".into()),
            priority: 1,
            ..Message::default()
        });
        question.change(|question| question.answers.push(answer))?;
        connection.root::<PersistentMapping>().change(|root| root.insert("question", &question))?;
        Ok(())
    })?;

    // Another connection finds ghosts, and loads those that it looks at.
    let connection = database.connect()?;
    let root = connection.root::<PersistentMapping>().view()?;
    let Some(question) = root.get("question").and_then(|value| value.as_reference()) else { return Ok(String::new()) };
    let question: Ref<Message> = question.cast();
    let mut shown = format!("{:?}\n", *question.view()?);
    for answer in &question.view()?.answers {
        shown += &format!("  {:?}\n", *answer.view()?);
    }
    Ok(shown + &connection.census().to_string())
}
