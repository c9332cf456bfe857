//! Games by dice, in which clients notice what is wrong.

use proptest::prelude::*;
use vellum_network::play;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Whatever the order of messages, storage answers and departures: every promise of the crate's page holds, and nothing
    /// is left of those who are gone.
    #[test]
    fn clients_are_told_the_truth(dice in proptest::collection::vec(any::<u8>(), 0..200)) {
        play(&dice);
    }
}
