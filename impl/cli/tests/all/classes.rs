//! `vellum info --class` and `vellum check --classes`: all objects of a class, and all that need one that is gone.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};

use crate::common::site::{Site, Store, StoreIn, record};
use crate::common::{Sandbox, golden};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::Oid;

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
    let session = common::story::play(
        &sandbox,
        &[
            &["info", "shop.fs", "--class", "shop.Shelf"],
            &["info", "shop.fs", "--class", "shop"],
            &["info", "shop.fs", "--class", "shop.Table", "--json"],
            &["info", "shop.fs", "--class", "shop.Chair"],
            &["info", "mail.fs", "--class", "mail.Mailbox"],
        ],
    );
    site.commit("eve", "no pickle", vec![Store(2, "no pickle".into())]);
    let unreadable = common::story::play(&sandbox, &[&["info", "shop.fs", "--class", "shop.Shelf"]]);
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

/// A record whose state names an interface, and refers to an object with its class; in the pickles of protocol 2 or 4.
fn marked(class: &str, protocol: u8) -> Vec<u8> {
    let name = |module: &str, name: &str| match protocol {
        4 => [&[0x8c, module.len() as u8], module.as_bytes(), &[0x8c, name.len() as u8], name.as_bytes(), b"\x93"]
            .concat(),
        _ => format!("c{module}\n{name}\n").into_bytes(),
    };
    let state =
        [name("addon.interfaces", "IMarked"), b"C\x08\0\0\0\0\0\0\0\x01".to_vec(), name("shop", "Shelf")].concat();
    [&[0x80, protocol], &name("shop", class)[..], b".", &[0x80, protocol], b"(", &state, b"\x86Qt."].concat()
}

#[test]
fn what_names_a_class_that_is_gone() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1, 2, 3, 4], &[], 0)),
            Store(1, record("Shelf", &[], &[], 20)),
            Store(2, marked("Product", 2).into()),
            Store(3, marked("Offer", 4).into()),
            Store(4, b"\x80\x03((X\x05\0\0\0addonX\x06\0\0\0WidgettNt.\x80\x03N.".to_vec().into()),
            Store(5, record("Shelf", &[], &[], 20)),
        ],
    );
    site.commit("bob", "a mark for a while", vec![Store(5, marked("Shelf", 2).into())]);
    site.commit("bob", "no mark any more", vec![Store(5, record("Shelf", &[], &[], 10))]);
    site.commit("cleo", "a draft", vec![StoreIn("spring", 1, marked("Shelf", 4).into())]);
    sandbox
        .file("known.txt", b"# what the site has\nshop\n\naddon.interfaces.IMarked\n")
        .file("empty.txt", b"# nothing\n");
    let session = sandbox.session(&[
        &["check", "shop.fs", "--classes", "addon"],
        &["check", "shop.fs", "--classes", "addon.interfaces.IMarked,shop.Root", "--max", "2"],
        &["check", "shop.fs", "--classes", "add"],
        &["check", "shop.fs", "--known-classes", "known.txt"],
        &["check", "shop.fs", "--known-classes", "known.txt", "--json"],
        &["check", "shop.fs", "--known-classes", "empty.txt"],
        &["check", "shop.fs", "--known-classes", "known.txt", "--classes", "addon"],
    ]);
    assert_session!("cli-check-classes", session);
    let found = lines(&sandbox, &["check", "shop.fs", "--classes", "addon", "--json"], 1);
    let oids: Vec<_> = found.iter().filter(|l| l["kind"] == "gone_class").map(|l| l["oid"].as_str().unwrap()).collect();
    // Newest first: the record in the version, and those of the first transaction, the last one first.
    let expected = [1, 4, 3, 2].map(|oid| Oid(oid).to_string());
    assert_eq!(oids, expected);
    site.commit("eve", "no pickle", vec![Store(5, "no pickle".into())]);
    let found = lines(&sandbox, &["check", "shop.fs", "--classes", "nothing.of.this", "--json"], 1);
    assert_eq!(found.last().unwrap()["gone_class_unreadable"], 1);
}
