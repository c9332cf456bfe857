//! The databases that the real ZODB wrote, and what it finds in them.

use crate::common;
use std::fs;

use vellum_pickle::{Reference, RenderOptions, class_of, references, render};

const DATABASES: [&str; 4] = ["mail", "undo", "packed", "unpacked"];

#[test]
fn references_and_classes_of_every_object_are_those_that_zodb_finds() {
    for name in DATABASES {
        let file = fs::read(common::golden(&format!("{name}.fs"))).unwrap();
        let json = fs::read(common::golden(&format!("{name}.json"))).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let mut compared = 0;
        for (oid, record) in common::current_records(&file) {
            let Some(record) = record else { continue };
            let oid = format!("{oid:016x}");
            // A deleted object has a last record in the file, and ZODB does not load it.
            let Some(wanted) = golden["references"].get(&oid) else {
                continue;
            };
            let mut found: Vec<String> = references(&record)
                .unwrap()
                .iter()
                .filter_map(|reference| match reference {
                    Reference::Strong { oid, .. } => Some(format!("{oid:016x}")),
                    _ => None,
                })
                .collect();
            found.sort();
            assert_eq!(serde_json::json!(found), *wanted, "{name}, object {oid}");
            assert_eq!(class_of(&record).unwrap().to_string(), golden["classes"][&oid], "{name}, object {oid}");
            compared += 1;
        }
        assert_eq!(compared, golden["references"].as_object().unwrap().len(), "{name}: every object was compared");
    }
}

#[test]
fn weak_references_are_found_and_told_from_strong_ones() {
    let file = fs::read(common::golden("mail.fs")).unwrap();
    let mut weak = 0;
    for record in common::current_records(&file).into_values().flatten() {
        for reference in references(&record).unwrap() {
            weak += u32::from(matches!(reference, Reference::Weak { database: None, .. }));
            assert!(!matches!(reference, Reference::Bad { .. }), "{reference:?}");
        }
    }
    assert!(weak > 5, "the mail has notes about messages, and this finds {weak}");
}

#[test]
fn every_state_is_shown_with_all_its_references() {
    for name in DATABASES {
        let file = fs::read(common::golden(&format!("{name}.fs"))).unwrap();
        for record in common::current_records(&file).into_values().flatten() {
            let shown = render(&record, &RenderOptions::default()).unwrap();
            for reference in references(&record).unwrap() {
                if let Reference::Strong { oid, class } = reference {
                    let class = class.map(|class| format!(" {class}")).unwrap_or_default();
                    assert!(shown.contains(&format!("→ {oid:016x}{class}")), "{shown}");
                }
            }
        }
    }
}

#[test]
fn records_of_2004_are_read_as_well() {
    let json = fs::read(common::golden("versions.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let create = golden["steps"][0]["ops"][0]["data"].as_str().unwrap();
    let record = common::from_hex(create);
    assert_eq!(class_of(&record).unwrap().to_string(), "mail.Folder");
    assert_eq!(
        render(&record, &RenderOptions::default()).unwrap(),
        "{'text': 'root', 'refs': [→ 0000000000000001, → 0000000000000002, → 0000000000000003]}"
    );
}
