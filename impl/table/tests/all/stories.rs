//! The stories of the rules (`model/harness/scenarios`), the same texts that FileStorage is told by.

use std::path::Path;

use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::Hosted;
use vellum_harness::story::{self, Trouble};

use crate::common::CAN;
use crate::histories::subject;

#[test]
fn the_stories_that_it_can_tell() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/harness/scenarios");
    let mut told = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let right = story::tell(&mut Hosted::rules(), &text, &mut Coverage::default()).unwrap();
        if CAN.covers(right.needs) {
            let ours = story::tell(&mut subject(1, u64::MAX), &text, &mut Coverage::default());
            ours.unwrap_or_else(|trouble| {
                let name = path.file_name().unwrap_or_default().display();
                match trouble {
                    Trouble::Differs { line, difference } => {
                        panic!("{name}, line {line}; to play it again:\n\n{}", difference.command("--storage table"))
                    }
                    other => panic!("{name}: {other}"),
                }
            });
            told += 1;
        }
    }
    assert!(told >= 20, "{told}");
}
