//! The stories of the rules (`model/harness/scenarios`), the same texts that FileStorage is told by.

use std::path::Path;

use vellum_harness::story;

use crate::{histories, history_free};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../model/harness/scenarios");

#[test]
fn the_stories_that_it_can_tell() {
    let told = story::tell_folder(Path::new(FOLDER), "--storage table", || histories::subject(1, u64::MAX));
    assert!(told >= 20, "{told}");
}

#[test]
fn the_stories_of_a_history_free_database() {
    for (seconds, count) in [(0, 4), (120, 4)] {
        let subject = || history_free::subject(seconds, 1, u64::MAX);
        let told = story::tell_folder(Path::new(FOLDER), history_free::storage_name(seconds), subject);
        assert_eq!(told, count, "a grace of {seconds} s");
    }
}
