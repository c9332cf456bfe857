//! Input and output for people and for programs.
//!
//! | module | what it has |
//! |---|---|
//! | `args` | oids and times as people type them |
//! | `meta` | a transaction's metadata |
//! | `changes` | an object's state now, and what it becomes |
//! | `classes` | objects by class |
//! | `links` | references to objects that are missing |
//! | `blobs` | objects whose bytes are in files beside the database |
//! | `objects` | all objects, and lists of some |
//! | `untold` | records of which it cannot be told what they refer to |
//! | `faults` | damage |
//!
//! Nothing here opens a file.

pub mod args;
pub mod blobs;
pub mod changes;
pub mod classes;
pub mod faults;
pub mod links;
pub mod meta;
pub mod objects;
pub mod untold;

/// Writes a message that is not an answer to standard error.
pub fn say(message: &str) {
    vellum_terminal::say("vellum", message);
}
