//! Configurations: ZConfig's language with ZEO's words, and TOML.
//!
//! The first byte says which of the two; the rest is the files, with a zero byte between them. They are called
//! `zeo.conf`, `1.conf`, `2.conf`, and so on, so that they can include each other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use vellum_server::conf::{ConfError, Plan, Section, Source, zconfig};

struct Made {
    files: BTreeMap<PathBuf, String>,
}

impl Source for Made {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8100".to_owned()),
            "LONG" => Some("long ".repeat(1000)),
            "NAME" => Some("$name %include <zeo>".to_owned()),
            _ => None,
        }
    }
}

const MAIN: &str = "zeo.conf";
/// Values of all keys together, whatever they name.
const VALUES_MAX: usize = 16 << 20;

/// Reads the configuration in every way. Each error has a place in one of its files.
pub fn zeo_conf(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let names = (0..).map(|n| if n == 0 { PathBuf::from(MAIN) } else { PathBuf::from(format!("{n}.conf")) });
    let texts = rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let made = Made { files: names.zip(texts).collect() };
    let held = |error: ConfError| {
        let place = error.place.file.to_path_buf();
        assert!(made.files.contains_key(&place), "{error}");
        let lines = made.files[&place].lines().count().max(1);
        // TOML may miss something behind the last line.
        assert!(error.place.line <= lines + 1, "{error}");
    };
    if how % 2 == 1 {
        Plan::of_toml(Path::new(MAIN), &made).map_or_else(held, served);
        return;
    }
    match zconfig(Path::new(MAIN), &made) {
        Ok(top) => assert!(values(&top) <= VALUES_MAX),
        Err(error) => held(error),
    }
    Plan::of_zeo_conf(Path::new(MAIN), &made).map_or_else(held, served);
}

/// A configuration that was read can be served: it has an address and a storage.
fn served(plan: Plan) {
    assert!(!plan.addresses.is_empty() && !plan.storages.is_empty(), "{plan:?}");
}

fn values(section: &Section) -> usize {
    section.keys.iter().map(|key| key.value.len()).sum::<usize>() + section.sections.iter().map(values).sum::<usize>()
}

/// These files as an input.
pub fn input(is_toml: bool, files: &[&str]) -> Vec<u8> {
    [&[u8::from(is_toml)], files.join("\0").as_bytes()].concat()
}
