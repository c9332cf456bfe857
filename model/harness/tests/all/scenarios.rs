//! Each rule and each of its corners as a story: `scenarios/` has the scripts, the workspace's `snapshots/` the
//! minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use vellum_harness::coverage::{Corner, Coverage};
use vellum_harness::hosted::Hosted;
use vellum_harness::story::{self, Told};
use vellum_harness::subject::{Can, Subject};

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots");

/// The names and texts of the stories, in the order of the rules.
fn stories() -> BTreeMap<String, String> {
    let read = |path: &PathBuf| Some((stem(path, ".script")?, fs::read_to_string(path).ok()?));
    files(SCENARIOS).unwrap().iter().map(|path| read(path).expect("a story")).collect()
}

fn files(directory: &str) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn stem(path: &Path, end: &str) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(end)?.to_owned())
}

fn tell(subject: &mut dyn Subject, name: &str, story: &str, coverage: &mut Coverage) -> Told {
    story::tell(subject, story, coverage).unwrap_or_else(|trouble| panic!("{name}.script, {trouble}"))
}

#[test]
fn the_stories_are_told_as_they_were() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    // All of them are compared, so that one run shows every difference.
    let differs = |(name, story): &(&String, &String)| {
        let told = AssertUnwindSafe(|| {
            let minutes = tell(&mut story::rules(story), name, story, &mut Coverage::default()).to_string();
            settings.bind(|| insta::assert_snapshot!(format!("rules@{name}"), minutes));
        });
        catch_unwind(told).is_err()
    };
    let stories = stories();
    let different: Vec<_> = stories.iter().filter(differs).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{} of {} stories went otherwise: {different:?}", different.len(), stories.len());
}

#[test]
fn every_snapshot_has_its_story() {
    let names: BTreeSet<String> = stories().into_keys().collect();
    let snapshots = files(SNAPSHOTS).unwrap().into_iter().filter_map(|path| stem(&path, ".snap"));
    let left: Vec<_> = snapshots.filter_map(|name| Some(name.strip_prefix("rules@")?.to_owned())).collect();
    let left: Vec<_> = left.into_iter().filter(|name| !names.contains(name)).collect();
    assert!(left.is_empty(), "the stories of these snapshots are gone: {left:?}");
}

#[test]
fn the_stories_go_to_every_corner_of_the_rules() {
    let mut coverage = Coverage::default();
    for (name, story) in stories() {
        tell(&mut story::rules(&story), &name, &story, &mut coverage);
    }
    println!("{}", coverage.table(Can::EVERYTHING));
    assert_eq!(coverage.missing(Can::EVERYTHING), []);
    let of_history_free = Corner::ALL.iter().filter(|corner| corner.needs().forgets.is_some());
    let missing: Vec<_> = of_history_free.filter(|corner| coverage.count(**corner) == 0).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_story_says_first_which_rule_it_tells() {
    for (name, story) in stories() {
        let rule = name.split('-').next().unwrap_or_default();
        assert!(story.starts_with(&format!("# Rule {rule}. ")), "{name}.script should begin with `# Rule {rule}. `");
    }
}

#[test]
fn minutes_can_be_played_again() {
    for (name, story) in stories() {
        let told = tell(&mut story::rules(&story), &name, &story, &mut Coverage::default());
        assert_eq!(tell(&mut story::rules(&story), &name, &told.to_string(), &mut Coverage::default()), told, "{name}");
    }
}

/// A storage chooses when it refuses a change; the database afterwards is no choice.
#[test]
fn the_storage_in_memory_tells_the_stories_that_it_can() {
    let mut memory = Hosted::memory();
    let (mut told, all) = (0, stories());
    for (name, story) in &all {
        let right = tell(&mut story::rules(story), name, story, &mut Coverage::default());
        if right.suits(memory.can()) {
            assert_eq!(tell(&mut memory, name, story, &mut Coverage::default()).afterwards, right.afterwards, "{name}");
            told += 1;
        }
    }
    println!("{told} of {} stories", all.len());
    assert_ne!(told, 0);
}
