//! Games by dice, in which clients notice a broken promise.

use proptest::prelude::*;
use vellum_network::play;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// For every order of messages, storage answers and departures, each promise of the crate's page holds, and nothing
    /// is left of departed clients.
    #[test]
    fn clients_are_told_the_truth(dice in proptest::collection::vec(any::<u8>(), 0..200)) {
        play(&dice);
    }
}
