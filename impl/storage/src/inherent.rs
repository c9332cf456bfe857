//! A concrete storage has the methods of the trait as its own: its user imports nothing but the storage.

/// Gives a type that implements [`Storage`](crate::Storage) that trait's methods as its own.
///
/// ```
/// use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta};
///
/// let storage = MemoryStorage::new("memory");
/// let mut draft = storage.begin(TransactionMeta::new())?;
/// draft.store(Oid::ROOT, Tid::ZERO, "one".into())?;
/// assert_eq!(storage.commit(draft)?, storage.last_transaction());
/// # Ok::<(), vellum_storage::Error>(())
/// ```
#[macro_export]
macro_rules! inherent {
    ($storage:ty) => {
        $crate::inherent! { $storage:
            /// Its name: for a file, its path.
            name() -> ::std::string::String;
            /// An object as it is now, in a version: see `Storage::load`.
            ///
            /// # Errors
            ///
            /// A key error for an unknown object, and for a tombstone.
            load(oid: $crate::Oid, version: &$crate::Version) -> $crate::Result<$crate::Loaded>;
            /// An object as it was just before a tid, and until when it was so: see
            /// `Storage::load_before`.
            ///
            /// # Errors
            ///
            /// A key error for an unknown object, and for a tombstone.
            load_before(oid: $crate::Oid, before: $crate::Tid) ->
                $crate::Result<::std::option::Option<$crate::LoadedAt>>;
            /// The record of exactly this revision: see `Storage::load_serial`.
            ///
            /// # Errors
            ///
            /// A key error if there is no such revision, or it is a tombstone.
            load_serial(oid: $crate::Oid, tid: $crate::Tid) -> $crate::Result<$crate::Bytes>;
            /// The newest `limit` revisions of an object, newest first.
            ///
            /// # Errors
            ///
            /// A key error for an unknown object.
            history(oid: $crate::Oid, limit: usize) -> $crate::Result<::std::vec::Vec<$crate::HistoryEntry>>;
            /// The transactions of a range. The iterator sees the transactions that were finished when it was made.
            ///
            /// # Errors
            ///
            /// The storage cannot be read.
            transactions(range: $crate::TidRange, order: $crate::Order) -> $crate::Result<
                ::std::boxed::Box<
                    dyn ::std::iter::Iterator<Item = $crate::Result<$crate::TransactionRecord>> + ::std::marker::Send,
                >,
            >;
            /// The tid of the last finished transaction; `Tid::ZERO` if there is none.
            last_transaction() -> $crate::Tid;
            /// The changes of the last `count` transactions, oldest first.
            ///
            /// # Errors
            ///
            /// The storage cannot be read.
            last_invalidations(count: usize) -> $crate::Result<::std::vec::Vec<$crate::Invalidation>>;
            /// Every object that the trunk shows now, from `first` on, without tombstones. The iterator sees the
            /// transactions that were finished when it was made.
            current_records(first: $crate::Oid) -> ::std::boxed::Box<
                dyn ::std::iter::Iterator<Item = $crate::Result<$crate::CurrentRecord>> + ::std::marker::Send,
            >;
            /// `count` oids, one after the other, that were not given out before.
            ///
            /// # Errors
            ///
            /// Read-only; oids used up.
            new_oids(count: u32) -> $crate::Result<::std::vec::Vec<$crate::Oid>>;
            /// An oid that was not given out before.
            ///
            /// # Errors
            ///
            /// Read-only; oids used up.
            new_oid() -> $crate::Result<$crate::Oid>;
            /// Bytes that it takes.
            size() -> u64;
            /// How many objects it knows, tombstones included.
            object_count() -> u64;
            /// Begins a transaction: see `Storage::begin`.
            ///
            /// # Errors
            ///
            /// Read-only; metadata too long; a tid asked for that is not later than the last.
            begin(meta: $crate::TransactionMeta) -> $crate::Result<$crate::Draft>;
            /// The first phase of a commit: see `Storage::vote`.
            ///
            /// # Errors
            ///
            /// `Error::Refused`, and trouble. The transaction is aborted then.
            vote(draft: $crate::Draft) -> $crate::Result<$crate::Voted>;
            /// The first phase without waiting: see `Storage::try_vote`.
            ///
            /// # Errors
            ///
            /// `Error::Refused`, and trouble. The transaction is aborted then.
            try_vote(draft: $crate::Draft) -> $crate::Result<$crate::Vote>;
            /// Both phases of a commit.
            ///
            /// # Errors
            ///
            /// `Error::Refused`, and trouble. The transaction is aborted then.
            commit(draft: $crate::Draft) -> $crate::Result<$crate::Tid>;
            /// Tells this listener what changes from now on, until what it returns is dropped.
            listen(listener: ::std::sync::Arc<dyn $crate::Listener>) -> $crate::Listening;
        }
    };
    ($storage:ty: $($(#[$doc:meta])* $method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {
        impl $storage {
            $(
                $(#[$doc])*
                pub fn $method(&self, $($name: $type),*) -> $result {
                    <Self as $crate::Storage>::$method(self, $($name),*)
                }
            )*
        }
    };
}

crate::inherent!(crate::MemoryStorage);
crate::inherent!(crate::Overlay);
crate::inherent!(crate::AsOf);
crate::inherent!(crate::Compressed);
