//! A full disk. The folder is a small file system of its own, and holds a file that makes room when it goes.

use std::fs;
use std::path::Path;

use crate::measure::{cut, remove};
use crate::stores::{Store, open};
use crate::workload::{MAIL, SMALL, adding, record};

/// Bytes of the file that makes room.
const BALLAST: usize = 24 << 20;

/// A small cache, since the file system is small.
const CACHE_BYTES: usize = 8 << 20;

pub fn full(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();
    let s = match open(name, &path, CACHE_BYTES) {
        Ok(s) => s,
        Err(e) => {
            println!("{name:<12} full disk: does not open: {e}");
            return;
        }
    };
    let mut n = 0;
    let error = loop {
        n += 1;
        match s.apply(&adding(n)) {
            Ok(()) => {}
            Err(e) => break e,
        }
        if n > 200_000 {
            println!("{name:<12} full disk: never full");
            return;
        }
    };
    let check = |s: &dyn Store, last: u64| -> String {
        let mut r = match s.reader() {
            Ok(reader) => reader,
            Err(e) => return format!("read error {}", cut(&e)),
        };
        let mut bad = 0;
        for n in 1..=last {
            for k in 0..SMALL {
                let oid = n * SMALL + k;
                match r.load(oid) {
                    Ok(Some((tid, d))) if tid >= n && d == record(oid, tid, MAIL) => {}
                    Ok(_) => bad += 1,
                    Err(e) => return format!("read error {}", cut(&e)),
                }
            }
        }
        if bad == 0 { "all readable".into() } else { format!("{bad} LOST") }
    };
    let now = check(&*s, n - 1);
    let again = match s.apply(&adding(n)) {
        Ok(()) => {
            n += 1;
            "a retry succeeds".into()
        }
        Err(e) => format!("retry: {}", cut(&e)),
    };
    println!("{name:<12} full after {} commits: {}; {now}; {again}", n - 1, cut(&error));
    fs::remove_file(&ballast).unwrap();
    let freed = match s.apply(&adding(n)) {
        Ok(()) => {
            n += 1;
            "commits go on".into()
        }
        Err(e) => cut(&e),
    };
    let then = check(&*s, n - 1);
    drop(s);
    match open(name, &path, CACHE_BYTES) {
        Ok(s) => {
            let opened = check(&*s, n - 1);
            let last = match s.apply(&adding(n)) {
                Ok(()) => "commits".into(),
                Err(e) => cut(&e),
            };
            println!("{name:<12}   room made: {freed}, {then}; reopened: {opened}, {last}");
        }
        Err(e) => println!("{name:<12}   room made: {freed}, {then}; reopening FAILS: {}", cut(&e)),
    }
    remove(&path);
}
