//! The message of the mail database, as a program in Rust has it.

use vellum_object::{Persistent, Ref, Value};

/// The message of `xtask/peer/mail.py`.
#[derive(Persistent)]
#[persistent(class = "mail.Message")]
pub struct Message {
    pub id: String,
    pub sender: String,
    pub date: i64,
    pub subject: String,
    pub body: String,
    pub flags: Value,
    pub parent: Option<Ref<Message>>,
}
