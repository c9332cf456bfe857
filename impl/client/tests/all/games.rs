//! Games by dice, in which every answer is checked against the database.

use proptest::prelude::*;
use vellum_network::play_clients;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Messages, storage answers, cuts and restarts come in any order: each answer is what the database was like, each
    /// question has one answer, and at the end nothing in a cache is stale.
    #[test]
    fn clients_tell_the_truth(dice in proptest::collection::vec(any::<u8>(), 0..400)) {
        play_clients(&dice);
    }
}
