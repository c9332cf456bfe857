//! Which resolver is for which class.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use vellum_pickle::{ClassName, class_of};

use crate::{BTrees, Contested, Resolver};

/// Resolvers by the class of the object: those of the BTrees package are built in, others can be added.
///
/// An object of an unknown class has a conflict. Here a shop counts its stock, and two sales at the same time are
/// merged:
///
/// ```
/// use vellum_pickle::{Piece, Record, Value, View, encode_record};
/// use vellum_storage::{Bytes, Contested, Oid, Resolver, Resolvers};
///
/// /// An object whose state is `{'count': number}`.
/// #[derive(Debug)]
/// struct Stock;
///
/// fn count(record: &Record<'_>) -> Option<i64> {
///     let View::Dict(state) = record.state().view() else { return None };
///     match state.as_slice() {
///         [(_, value)] => match value.view() {
///             View::Int(count) => Some(count),
///             _ => None,
///         },
///         _ => None,
///     }
/// }
///
/// impl Resolver for Stock {
///     fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
///         let read = |record| Record::read(record).ok();
///         let (ancestor, committed) = (read(contested.ancestor)?, read(contested.committed)?);
///         let new = read(contested.new)?;
///         let left = count(&committed)?.checked_add(count(&new)?)?.checked_sub(count(&ancestor)?)?;
///         // If it would be negative, more was sold than there was.
///         let left = u32::try_from(left).ok()?;
///         let state = vec![(Piece::Value(Value::Text("count".into())), Piece::Value(Value::Int(left.into())))];
///         encode_record(&Piece::Part(new.class()), &Piece::Dict(state), new.protocol()).ok().map(Bytes::from)
///     }
/// }
///
/// let resolvers = Resolvers::built_in().with("shop.models", "Stock", Stock);
///
/// let head = b"\x80\x03cshop.models\nStock\n.\x80\x03}X\x05\0\0\0countK";
/// let record = |count: u8| [&head[..], &[count], b"s."].concat();
/// let resolve = |ancestor, committed, new| {
///     let (ancestor, committed, new) = (record(ancestor), record(committed), record(new));
///     resolvers.resolve(Contested { oid: Oid(7), ancestor: &ancestor, committed: &committed, new: &new })
/// };
/// let merged = resolve(10, 8, 7).expect("5 are left");
/// assert_eq!(count(&Record::read(&merged)?), Some(5));
/// assert_eq!(resolve(2, 0, 1), None);
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    by_class: HashMap<ClassName, Arc<dyn Resolver>>,
    built_in: Option<BTrees>,
}

impl Resolvers {
    /// None at all.
    pub fn none() -> Resolvers {
        Resolvers::default()
    }

    /// Those that need no code of anybody: the classes of the BTrees package.
    pub fn built_in() -> Resolvers {
        Resolvers { built_in: Some(BTrees::new()), ..Resolvers::default() }
    }

    /// These, and one more for the objects of a class. It comes before the built-in ones, and replaces one that was
    /// added before.
    pub fn with(mut self, module: &str, name: &str, resolver: impl Resolver + 'static) -> Resolvers {
        let class = ClassName { module: module.to_owned(), name: name.to_owned() };
        self.by_class.insert(class, Arc::new(resolver));
        self
    }
}

impl Resolver for Resolvers {
    /// Asks the resolver for the class of the new record. It gets plain records, also where they are compressed; what
    /// it merges is compressed if the new record is. If one of the three cannot be read, it is a conflict.
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        let class = class_of(contested.new).ok()?;
        let resolver: &dyn Resolver = match self.by_class.get(&class) {
            Some(resolver) => &**resolver,
            None => self.built_in.as_ref()?,
        };
        contested.as_new(|plain| resolver.resolve(plain))
    }
}
