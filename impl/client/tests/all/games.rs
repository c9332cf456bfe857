//! Games by dice, in which every answer is checked against the database.

use proptest::prelude::*;
use vellum_network::{play_clients, play_clients_over_core};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Messages, storage answers, cuts and restarts come in any order: each answer is what the database was like, each
    /// question has one answer, and at the end nothing in a cache is stale.
    #[test]
    fn clients_tell_the_truth(dice in proptest::collection::vec(any::<u8>(), 0..400)) {
        play_clients(&dice);
    }
    /// The same with the cache that ships, which is kept when a client is killed.
    #[test]
    fn clients_over_a_kept_cache_tell_the_truth(dice in proptest::collection::vec(any::<u8>(), 0..400)) {
        play_clients_over_core(&dice);
    }
}
