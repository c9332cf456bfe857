//! The stories of the rules (`model/harness/scenarios`), the same texts that FileStorage is told by.

use std::path::Path;

use vellum_harness::story;

use crate::histories::subject;

#[test]
fn the_stories_that_it_can_tell() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/harness/scenarios");
    let told = story::tell_folder(&folder, "--storage table", || subject(1, u64::MAX));
    assert!(told >= 20, "{told}");
}
