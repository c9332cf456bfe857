//! Names say what they were made of, and nothing else says anything.
use proptest::prelude::*;
use vellum_blob::{Layout, file_name, parse_file_name};
use vellum_storage::{Oid, Tid};

/// Numbers of every length.
fn number() -> impl Strategy<Value = u64> {
    (0..64u32, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
}

/// Text that is almost a name.
fn stranger() -> impl Strategy<Value = String> {
    prop_oneof!["(0x)?[0-9a-fA-F+_]{0,18}(\\.blob)?", "(0x[0-9a-f]{1,3}/){0,9}(0x[0-9a-f]{1,3})?/?", ".{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_name_is_read_back(oid in number(), tid in number()) {
        prop_assert_eq!(parse_file_name(&file_name(Tid(tid))), Some(Tid(tid)));
        for layout in Layout::ALL {
            let folder = layout.folder(Oid(oid));
            prop_assert_eq!(folder.components().count(), layout.depth());
            prop_assert_eq!(layout.parse_folder(folder.to_str().unwrap()), Some(Oid(oid)));
            prop_assert_eq!(layout.file(Oid(oid), Tid(tid)), folder.join(file_name(Tid(tid))));
        }
    }

    #[test]
    fn what_is_read_has_no_other_name(name in stranger()) {
        if let Some(tid) = parse_file_name(&name) {
            prop_assert_eq!(file_name(tid), &*name);
        }
        for layout in Layout::ALL {
            if let Some(oid) = layout.parse_folder(&name) {
                prop_assert_eq!(layout.folder(oid).display().to_string(), &*name);
            }
        }
    }
}

#[test]
fn names_are_zodbs() {
    let folder = |layout: Layout, oid| layout.folder(Oid(oid)).to_str().unwrap().to_owned();
    assert_eq!(folder(Layout::Bushy, 0x1234), "0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34");
    assert_eq!(
        ["0x00", "0x0123", "0x1234"],
        [0, 0x123, 0x1234].map(|oid| folder(Layout::Lawn, oid)).each_ref().map(|s| &**s)
    );
    assert_eq!(file_name(Tid(0)), "0x00.blob");
    assert_eq!(file_name(Tid(0x0400_0000_0000_0001)), "0x0400000000000001.blob");
    for stranger in [
        "0x.blob",
        "0x1.blob",
        "0x0001.blob",
        "0x0A.blob",
        "0x+1.blob",
        "0x01",
        "0x01.blob~",
        "0x010000000000000000.blob",
    ] {
        assert_eq!(parse_file_name(stranger), None, "{stranger}");
    }
    assert_eq!(Layout::Bushy.parse_folder("0x00/0x00/0x00/0x00/0x00/0x00/0x12"), None);
    assert_eq!(Layout::Bushy.parse_folder("0x00/0x00/0x00/0x00/0x00/0x00/0x12/0x34/0x56"), None);
    assert_eq!(Layout::Lawn.parse_folder(""), None);
}
