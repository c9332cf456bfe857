//! `vellum info --class`: all objects of a class, and nothing said that was not read.

#[macro_use]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::site::{Site, Store, StoreIn, record};
use common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Storage};

fn lines(sandbox: &Sandbox, arguments: &[&str], code: i32) -> Vec<Value> {
    let run = sandbox.run(arguments);
    assert_eq!(run.code, code, "{}", run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1, 2], &[], 0)),
            Store(1, record("Shelf", &[], &[], 20)),
            Store(2, record("ShelfOfOld", &[], &[], 10)),
        ],
    );
    site.commit("bob", "a shelf of another kind", vec![StoreIn("spring", 1, record("Table", &[], &[], 5))]);
    sandbox.golden("mail");
    let session = sandbox.session(&[
        &["info", "shop.fs", "--class", "shop.Shelf"],
        &["info", "shop.fs", "--class", "shop"],
        &["info", "shop.fs", "--class", "shop.Table", "--json"],
        &["info", "shop.fs", "--class", "shop.Chair"],
        &["info", "mail.fs", "--class", "mail.Mailbox"],
    ]);
    site.commit("eve", "no pickle", vec![Store(2, "no pickle".into())]);
    let unreadable = sandbox.session(&[&["info", "shop.fs", "--class", "shop.Shelf"]]);
    assert_session!("cli-info-class", [session, unreadable].join("\n"));
}

/// Class by class, the lists have each object once, and packages have those of their classes.
#[test]
fn every_object_is_in_the_list_of_its_class() {
    for name in ["mail", "undo", "unpacked", "packed"] {
        let sandbox = Sandbox::new();
        sandbox.golden(name);
        let file = format!("{name}.fs");
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for record in FileStorage::open_read_only(golden(&file)).unwrap().current_records(Oid::ROOT) {
            let record = record.unwrap();
            let class = vellum_pickle::class_of(&record.data).unwrap().to_string();
            let names = class.match_indices('.').map(|(end, _)| class[..end].to_owned()).chain([class.clone()]);
            for name in names {
                expected.entry(name).or_default().insert(record.oid.to_string());
            }
        }
        assert!(expected.len() > 3, "{expected:?}");
        for (class, oids) in expected {
            let found = lines(&sandbox, &["info", &file, "--class", &class, "--json"], 0);
            let (summary, objects) = found.split_last().unwrap();
            assert_eq!(summary["objects"], oids.len(), "{name}: {class}");
            let listed: BTreeSet<String> = objects.iter().map(|o| o["oid"].as_str().unwrap().to_owned()).collect();
            assert_eq!((listed, objects.len()), (oids.clone(), oids.len()), "{name}: {class}");
        }
    }
}
