//! `BTrees.Length`: a number beside a collection, so that its items need not be counted. Every added item changes it,
//! so its changes must be merged.

use vellum_pickle::{Part, Piece};

use super::number::Number;

/// The number with both changes in it. The states are the ancestor's, the committed one and the new one.
pub(super) fn resolve<'r>(states: [Part<'r>; 3]) -> Option<Piece<'r>> {
    let [ancestor, committed, new] = states.map(|state| Number::of(&state.view()));
    let sum = committed?.plus(&new?, false)?.plus(&ancestor?, true)?;
    Some(Piece::Value(sum.into_value()))
}
