//! The message of the mail database, as a program in Rust has it.

use vellum_object::{Persistent, Ref, Value};

/// The message of `xtask/peer/mail.py`.
#[derive(Persistent)]
#[persistent(class = "mail.Message")]
#[allow(dead_code, reason = "the fields are there to be loaded")]
pub struct Message {
    id: String,
    sender: String,
    date: i64,
    subject: String,
    body: String,
    flags: Value,
    parent: Option<Ref<Message>>,
}
