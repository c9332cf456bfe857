//! The keys of all tables as numbers, so that one walk goes over each of them.

use std::path::Path;

use redb::{Key, Range, ReadOnlyTable, StorageError, Value};
use vellum_storage::{Oid, Result, Tid};

use super::walk::{Rows, Walk};
use crate::tables::trouble;

/// A walk over a table. `take` makes of a value what is wanted of it.
pub(super) fn walk<'a, K: Number, V: Value + 'static, T: 'a>(
    path: &'a Path,
    table: &'a ReadOnlyTable<K, V>,
    take: impl Fn(V::SelfType<'_>) -> T + Copy + 'a,
) -> Walk<'a, T> {
    Walk::new(path, K::MAX, move |from| {
        let range = K::range(table, from).map_err(|e| trouble(path, e))?;
        let rows = range.map(move |row| {
            let (key, value) = row.map_err(|e| trouble(path, e))?;
            Ok((K::number(key.value()), take(value.value())))
        });
        Ok(Box::new(rows) as Rows<'a, T>)
    })
}

/// A key of a table as a number.
pub(super) trait Number: Key + Sized + 'static {
    const MAX: u128;
    fn number(key: Self::SelfType<'_>) -> u128;
    /// The rows from a key on.
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<Self, V>,
        from: u128,
    ) -> Result<Range<'static, Self, V>, StorageError>;
}

impl Number for u32 {
    const MAX: u128 = u32::MAX as u128;
    fn number(key: u32) -> u128 {
        key.into()
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<u32, V>,
        from: u128,
    ) -> Result<Range<'static, u32, V>, StorageError> {
        table.range(u32::try_from(from).unwrap_or(u32::MAX)..)
    }
}

impl Number for u64 {
    const MAX: u128 = u64::MAX as u128;
    fn number(key: u64) -> u128 {
        key.into()
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<u64, V>,
        from: u128,
    ) -> Result<Range<'static, u64, V>, StorageError> {
        table.range(low(from)..)
    }
}

impl Number for (u64, u64) {
    const MAX: u128 = u128::MAX;
    fn number((first, second): (u64, u64)) -> u128 {
        u128::from(first) << 64 | u128::from(second)
    }
    fn range<V: Value + 'static>(
        table: &ReadOnlyTable<(u64, u64), V>,
        from: u128,
    ) -> Result<Range<'static, (u64, u64), V>, StorageError> {
        table.range((low(from >> 64), low(from))..)
    }
}

/// The low half.
pub(super) fn low(number: u128) -> u64 {
    (number & u128::from(u64::MAX)) as u64
}

pub(super) fn nothing(_: &[u8]) {}

pub(super) fn oid_of(key: u128) -> String {
    Oid(low(key)).to_string()
}

pub(super) fn tid_of(key: u128) -> String {
    Tid(low(key)).to_string()
}

pub(super) fn pair_of(key: u128) -> String {
    format!("{} {}", Oid(low(key >> 64)), Tid(low(key)))
}
