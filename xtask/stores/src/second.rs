//! A second process beside a writer.

use std::path::Path;
use std::process::Command;

use crate::CACHE_BYTES;
use crate::measure::{cut, remove};
use crate::stores::{open, open_beside};
use crate::workload::{MAIL, fill};

/// Opens the store, and lets a second process try.
pub fn second(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let store = open(name, &path, CACHE_BYTES).unwrap();
    fill(&*store, 1_000, MAIL);
    let child = Command::new(std::env::current_exe().unwrap()).args(["second-child", name]).arg(dir).output().unwrap();
    println!("{name:<12} {}", String::from_utf8_lossy(&child.stdout).trim());
    drop(store);
    remove(&path);
}

pub fn second_child(name: &str, dir: &Path) {
    let path = dir.join(name);
    match open(name, &path, CACHE_BYTES) {
        Ok(store) => {
            let loaded = store.reader().and_then(|mut reader| reader.load(5)).map(|loaded| loaded.is_some());
            println!("a second writer opens it; it loads: {loaded:?}");
        }
        Err(error) => println!("a second writer is refused: {}", cut(&error)),
    }
    if let Some(opened) = open_beside(name, &path) {
        println!("             a reader beside it: {:?}", opened.map(|()| "opens"));
    }
}
