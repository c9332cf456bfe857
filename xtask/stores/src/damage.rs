//! A file that was shortened or changed. A child process reads it, since a mapped file can end the process.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::CACHE_BYTES;
use crate::measure::{child, cut, files, remove};
use crate::stores::open;
use crate::workload::{MAIL, Rng, fill, record};

const OBJECTS: u64 = 20_000;

/// The longest file with data. fjall's journals end with `.jnl`.
fn longest(path: &Path) -> PathBuf {
    let mut files = files(path);
    files.retain(|file| file.extension().is_none_or(|end| end != "jnl"));
    files.into_iter().max_by_key(|file| fs::metadata(file).map_or(0, |file| file.len())).expect("there is a file")
}

pub fn damage(name: &str, dir: &Path) {
    for how in ["truncated to half", "bytes of 100 pages changed", "truncated while open"] {
        let path = dir.join(name);
        remove(&path);
        {
            let mut s = open(name, &path, CACHE_BYTES).unwrap();
            fill(&*s, OBJECTS, MAIL);
            if name.starts_with("fjall") {
                s.compact().unwrap()
            }
        }
        println!("{name:<12} {how}:");
        if how != "truncated while open" {
            let file = longest(&path);
            let f = fs::OpenOptions::new().write(true).open(&file).unwrap();
            let len = f.metadata().unwrap().len();
            if how.starts_with("trunc") {
                f.set_len(len / 2).unwrap()
            } else {
                let mut r = Rng(9);
                for _ in 0..100 {
                    f.write_all_at(&[0xAA; 16], len / 10 + r.below(len * 8 / 10)).unwrap()
                }
            }
        }
        child(&["damage-child", name, dir.to_str().unwrap(), how]);
        remove(&path);
    }
}
pub fn damage_child(name: &str, dir: &Path, how: &str) {
    let path = dir.join(name);
    let s = match open(name, &path, 1 << 20) {
        Ok(s) => s,
        Err(e) => {
            println!("    opening: error {}", cut(&e));
            return;
        }
    };
    if how == "truncated while open" {
        let f = fs::OpenOptions::new().write(true).open(longest(&path)).unwrap();
        f.set_len(f.metadata().unwrap().len() / 2).unwrap();
    }
    let (mut good, mut missing, mut wrong, mut errors, mut first) = (0, 0, 0, 0, String::new());
    let mut r = s.reader().unwrap();
    for oid in 0..OBJECTS {
        match r.load(oid) {
            Ok(Some((_, d))) if d == record(oid, 0, MAIL) => good += 1,
            Ok(Some(_)) => wrong += 1,
            Ok(None) => missing += 1,
            Err(e) => {
                errors += 1;
                if first.is_empty() {
                    first = cut(&e)
                }
            }
        }
    }
    println!(
        "    opens; of {OBJECTS} loads: {good} right, {wrong} WRONG DATA, {missing} not found, {errors} errors {first}"
    );
    drop(r);
    drop(s);
}
