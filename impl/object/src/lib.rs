//! Persistent objects: load the root, follow a reference, change a field, commit.
//!
//! A storage keeps records. This crate makes objects of them. A [`Database`] wraps any storage; a [`Connection`] shows
//! it as of one moment, and has a *heap* of its own:
//!
//! ```text
//!   the program          the heap of a connection                            the storage
//!                        slot   state      count
//!   Ref<Mailbox> ──────▶ 0      loaded     1       ─▶ Mailbox { messages: [Ref, Ref] }   oid 0: record
//!                        1      ghost      1  ◀──────────────────────┘    │              oid 1: record
//!   Ref<Message> ──────▶ 2      changed    2  ◀───────────────────────────┘              oid 2: record
//!                        └── 15.67 bytes ──┘          └── only while it is loaded
//! ```
//!
//! - A **handle**, [`Ref`], is 8 bytes. It names a slot. [`Ref::view`] loads the object if it is a ghost, and
//!   [`Ref::change`] changes it.
//! - A **ghost** is an object whose state is not in memory: less than 16 bytes with its entry in the table of oids.
//!   Ghosts that nothing refers to go.
//! - **Eviction** makes ghosts of loaded objects when they take more than a budget: CLOCK, with one bit for each
//!   object. Objects that were changed, or that the program looks at, stay.
//! - **New objects** are stored when a stored object refers to them. If they never are, and nothing holds them any
//!   more, the collector takes them, cycles included, and runs the finalizers of their classes:
//!   [`Connection::collect`].
//!
//! The rules are part 7 of `docs/semantics.md`; `model/spec/src/heap.rs` states it as code. A test plays
//! random programs on several connections and compares them with that.
//!
//! # Types
//!
//! An object is a [`Generic`], whose state is a [`Value`], or a struct that is [`Persistent`]: its fields are the
//! attributes of the Python class of that name. [`PersistentMapping`] and [`PersistentList`] are such types. The same
//! object can be seen as either ([`Ref::cast`]); there is one state, in the form that was asked for last. [`btree`] has
//! the mappings and sets of the BTrees package.
//!
//! ```
//! use vellum_object::{Database, Generic, PersistentMapping, Value};
//! use vellum_storage::MemoryStorage;
//!
//! let database = Database::open(MemoryStorage::new("memory"))?;
//! let connection = database.connect()?;
//! let inbox = connection.make(PersistentMapping::default());
//! connection.root::<PersistentMapping>().change(|root| root.insert("inbox", &inbox))?;
//! inbox.change(|inbox| inbox.insert("unread", 3))?;
//! connection.commit()?;
//!
//! // Any object can be looked at without a type.
//! let other = database.connect()?;
//! let inbox = other.get::<Generic>(inbox.oid().expect("it was stored"));
//! let Some(Value::Dict(data)) = inbox.view()?.attribute("data").cloned() else { panic!("no data") };
//! assert_eq!(data, [(Value::from("unread"), Value::from(3))]);
//! # Ok::<(), vellum_object::Error>(())
//! ```
//!
//! # What holds for every record
//!
//! A record may be damaged, or malicious. Reading one returns an object or an [`Error`] that names the object, its
//! class and its attribute. Values are at most [`DEPTH_MAX`] deep, and take memory in proportion to the record. No code
//! of a pickle is run.
//!
//! # Not here
//!
//! Blobs: the record of a blob can be read, and its bytes are the storage's; a commit refuses a changed one. Threads: a
//! connection, its handles and its objects belong to one; each thread opens its own.
//!
//! | read | for |
//! |---|---|
//! | `heap` | the parts of a slot, the table of oids, eviction |
//! | `handle`, `object` | handles, and the states that they lead to |
//! | `database`, `connection`, `commit`, `savepoint` | transactions |
//! | `collect`, `search`, `scc`, `census` | the collector; counting objects, and finding leaks |
//! | `value`, `decode`, `encode`, `key` | records as values |
//! | [`btree`](mod@btree) | B-trees, node by node as Python's BTrees package has them |
//! | `persistent`, `state`, `field`, `generic`, `mapping`, `list` | types of objects |
#![forbid(unsafe_code)]

pub mod btree;
mod census;
mod collect;
mod commit;
mod connection;
mod database;
mod decode;
mod encode;
mod error;
mod field;
mod generic;
mod handle;
mod heap;
mod key;
mod list;
mod mapping;
mod object;
mod persistent;
mod savepoint;
mod scc;
mod search;
mod state;
mod value;

pub use census::{Census, Count, Leak, Leaked, leaks};
pub use collect::Collection;
pub use connection::Connection;
pub use database::{Database, Options};
pub use decode::{DEPTH_MAX, Reader};
pub use encode::Writer;
pub use error::{Error, Result, Trouble};
pub use field::{Field, absent, present};
pub use generic::Generic;
pub use handle::{RawRef, Ref, WeakRef};
pub use list::PersistentList;
pub use mapping::PersistentMapping;
pub use object::{Kept, View};
pub use persistent::{Finalizer, Persistent};
pub use savepoint::Savepoint;
pub use state::{Attributes, Named, attributes_of, record_of};
pub use value::{Inside, Outside, Record, Reference, Value};
pub use vellum_object_derive::{Bunch, Persistent};
pub use vellum_pickle::{ClassName, Part};
