//! Folders and their files: on either disk the same, and through a crash of the simulated one.
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use vellum_disk::{About, Disk, Kind, RealDisk, SimDisk, Tear, Tree, is_power_cut};

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn write(tree: &dyn Tree, path: &str, bytes: &[u8]) {
    let file = tree.create(p(path), 0o600).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
}

fn content(tree: &dyn Tree, path: &str) -> Vec<u8> {
    let file = tree.read(p(path)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_full_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn names(tree: &dyn Tree, path: &str) -> BTreeSet<String> {
    tree.list(p(path)).unwrap().map(|name| name.unwrap().into_string().unwrap()).collect()
}

/// A folder on each disk, empty.
fn trees() -> (tempfile::TempDir, [Arc<dyn Tree>; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let trees = [RealDisk.tree(folder.path()).unwrap(), SimDisk::new(0).tree(p("")).unwrap()];
    (folder, trees)
}

#[test]
fn either_disk_has_the_same_folders() {
    let (_folder, trees) = trees();
    for tree in trees.iter().map(|tree| &**tree) {
        let kind = |path| tree.about(p(path)).map_err(|error| error.kind()).map(|about| about.kind);
        let refused = |result: std::io::Result<()>| result.unwrap_err().kind();
        assert_eq!(refused(tree.create_directory(p("a/b"))), ErrorKind::NotFound);
        tree.create_directory(p("a")).unwrap();
        tree.create_directory(p("a/b")).unwrap();
        assert_eq!(refused(tree.create_directory(p("a"))), ErrorKind::AlreadyExists);
        assert_eq!(refused(tree.create(p("c/file"), 0o600).map(drop)), ErrorKind::NotFound);
        write(tree, "a/b/file", b"bytes");
        assert_eq!(refused(tree.create(p("a/b/file"), 0o600).map(drop)), ErrorKind::AlreadyExists);
        assert_eq!(tree.about(p("a/b/file")).unwrap(), About { kind: Kind::File, length: 5, mode: 0o600 });
        tree.set_mode(p("a/b/file"), 0o444).unwrap();
        assert_eq!(tree.about(p("a/b/file")).unwrap().mode, 0o444);
        assert_eq!(
            (kind(""), kind("a"), kind("x")),
            (Ok(Kind::Directory), Ok(Kind::Directory), Err(ErrorKind::NotFound))
        );
        assert_eq!(kind("a/b/file/deeper"), Err(ErrorKind::NotADirectory));
        assert_eq!((names(tree, ""), names(tree, "a/b")), (["a".into()].into(), ["file".into()].into()));
        assert_eq!(refused(tree.remove_directory(p("a/b"))), ErrorKind::DirectoryNotEmpty);
        assert_eq!(refused(tree.read(p("a")).map(drop)), ErrorKind::IsADirectory);
        assert_eq!(refused(tree.list(p("x")).map(drop)), ErrorKind::NotFound);
        tree.link(p("a/b/file"), p("a/second")).unwrap();
        assert_eq!(refused(tree.link(p("a/b/file"), p("a/second"))), ErrorKind::AlreadyExists);
        tree.rename(p("a/b/file"), p("first")).unwrap();
        assert_eq!(refused(tree.rename(p("first"), p("x/first"))), ErrorKind::NotFound);
        assert_eq!((content(tree, "first"), content(tree, "a/second")), (b"bytes".to_vec(), b"bytes".to_vec()));
        tree.remove_directory(p("a/b")).unwrap();
        tree.remove(p("a/second")).unwrap();
        tree.sync_directory(p("a")).unwrap();
        tree.remove_directory(p("a")).unwrap();
        assert_eq!(refused(tree.remove_directory(p("a"))), ErrorKind::NotFound);
        assert_eq!(refused(tree.sync_directory(p("a"))), ErrorKind::NotFound);
        assert_eq!(names(tree, ""), ["first".into()].into());
        for outside in ["..", "../x", "/etc", "a/../../x"] {
            assert_eq!(refused(tree.read(p(outside)).map(drop)), ErrorKind::InvalidInput, "{outside}");
            assert_eq!(refused(tree.rename(p("first"), p(outside))), ErrorKind::InvalidInput, "{outside}");
        }
        tree.sync_directory(p("")).unwrap();
    }
    assert_eq!(RealDisk.tree(p("not/there")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(SimDisk::new(0).tree(p("not/there")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn no_link_leads_out_of_a_folder() {
    use std::os::unix::fs::symlink;
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let tree = RealDisk.tree(folder.path()).unwrap();
    let tree = &*tree;
    symlink(outside.path(), folder.path().join("way")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    write(tree, "file", b"mine");
    assert_eq!((tree.about(p("way")).unwrap().kind, tree.about(p("link")).unwrap().kind), (Kind::Link, Kind::Link));
    assert!(tree.read(p("link")).is_err() && tree.read(p("way/secret")).is_err());
    assert!(tree.set_mode(p("link"), 0o777).is_err() && tree.list(p("way")).is_err());
    assert!(tree.create(p("link"), 0o600).is_err() && tree.create(p("way/new"), 0o600).is_err());
    assert!(tree.create_directory(p("way/new")).is_err() && tree.sync_directory(p("way")).is_err());
    assert!(tree.rename(p("file"), p("way/file")).is_err() && tree.rename(p("way/secret"), p("got")).is_err());
    assert!(tree.link(p("file"), p("way/file")).is_err() && tree.link(p("way/secret"), p("got")).is_err());
    assert!(tree.remove(p("way/secret")).is_err() && tree.about(p("way/secret")).is_err());
    assert!(tree.remove_directory(p("way")).is_err());
    let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    // A link itself is as good as any name.
    tree.remove(p("link")).unwrap();
}

#[test]
fn a_pipe_is_not_opened_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let tree = RealDisk.tree(folder.path()).unwrap();
    assert_eq!(tree.about(p("pipe")).unwrap().kind, Kind::Other);
    let error = tree.read(p("pipe")).unwrap_err();
    assert_eq!(error.to_string(), "it is a pipe, a socket or a device, not a file");
}

#[test]
fn a_folder_survives_only_when_the_folder_above_is_synced_and_takes_its_files_with_it() {
    let disk = SimDisk::new(0);
    let tree = disk.tree(p("")).unwrap();
    tree.create_directory(p("a")).unwrap();
    write(&*tree, "a/file", b"synced");
    tree.sync_directory(p("a")).unwrap();
    assert!(!disk.is_durable("a/file"));
    let lost = disk.crash_losing_everything();
    assert_eq!((lost.paths().len(), lost.tree(p("a")).unwrap_err().kind()), (0, ErrorKind::NotFound));
    tree.sync_directory(p("")).unwrap();
    assert!(disk.is_durable("a/file"));
    assert_eq!(disk.crash_losing_everything().read_file("a/file").unwrap(), b"synced");
}

#[test]
fn a_folder_that_was_removed_and_made_again_is_another_one() {
    let disk = SimDisk::new(0);
    let tree = disk.tree(p("")).unwrap();
    tree.create_directory(p("a")).unwrap();
    tree.sync_directory(p("")).unwrap();
    tree.remove_directory(p("a")).unwrap();
    tree.create_directory(p("a")).unwrap();
    write(&*tree, "a/file", b"in the second");
    tree.sync_directory(p("a")).unwrap();
    // The first one may come back; the file was never in that.
    let found = disk.crash_losing_everything();
    assert_eq!((found.paths().len(), names(&*found.tree(p("")).unwrap(), "")), (0, ["a".into()].into()));
    tree.sync_directory(p("")).unwrap();
    assert_eq!(disk.crash_losing_everything().read_file("a/file").unwrap(), b"in the second");
}

#[test]
fn each_change_of_a_tree_is_an_operation_and_a_look_is_none() {
    let disk = SimDisk::new(0);
    let tree = disk.tree(p("")).unwrap();
    let play = || -> std::io::Result<()> {
        tree.create_directory(p("a"))?;
        tree.create(p("a/file"), 0o600)?;
        tree.set_mode(p("a/file"), 0o444)?;
        tree.about(p("a/file"))?;
        drop(tree.list(p("a"))?);
        tree.remove(p("a/file"))?;
        tree.remove_directory(p("a"))?;
        tree.sync_directory(p(""))
    };
    play().unwrap();
    assert_eq!(disk.operations(), 6);
    disk.stop_at(6, Tear::NotAtAll);
    assert!(is_power_cut(&play().unwrap_err()));
    assert!(is_power_cut(&tree.about(p("")).unwrap_err()) && is_power_cut(&tree.list(p("")).err().unwrap()));
}

#[derive(Clone, Debug)]
enum Step {
    CreateDirectory(&'static str),
    Create(&'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    Sync(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let directory = || prop::sample::select(vec!["a", "a/b", "c"]);
    let file = || prop::sample::select(vec!["a/1", "a/b/1", "a/b/2", "c/1"]);
    prop_oneof![
        3 => directory().prop_map(Step::CreateDirectory),
        4 => file().prop_map(Step::Create),
        2 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => prop_oneof![directory(), file()].prop_map(Step::Remove),
        4 => prop::sample::select(vec!["", "a", "a/b", "c"]).prop_map(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn files_are_there_if_every_folder_was_synced_and_gone_with_the_folder_if_not(
        steps in prop::collection::vec(step(), 0..30), seed: u64,
    ) {
        let disk = SimDisk::new(0);
        let tree = disk.tree(p("")).unwrap();
        // The file that each name stands for, and whether the folder that has it was synced since.
        let mut known: BTreeMap<String, (u8, bool)> = BTreeMap::new();
        let mut contents: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
        for (step, number) in steps.iter().zip(1u8..) {
            match *step {
                Step::CreateDirectory(path) => if tree.create_directory(p(path)).is_ok() {
                    known.insert(path.to_owned(), (0, false));
                },
                Step::Create(path) => if let Ok(file) = tree.create(p(path), 0o600) {
                    file.write_at(&[number], 0).unwrap();
                    file.sync().unwrap();
                    known.insert(path.to_owned(), (number, false));
                    contents.entry(path).or_default().insert(number);
                },
                Step::Rename(from, to) => if from != to && tree.rename(p(from), p(to)).is_ok() {
                    let (content, _) = known.remove(from).unwrap();
                    known.insert(to.to_owned(), (content, false));
                    contents.entry(to).or_default().insert(content);
                },
                Step::Remove(path) => if tree.remove(p(path)).or_else(|_| tree.remove_directory(p(path))).is_ok() {
                    known.remove(path);
                },
                // A rename is safe only when the other folder is synced too: the model does not follow that.
                Step::Sync(path) => if tree.sync_directory(p(path)).is_ok() {
                    let moved = |name: &str| steps.iter().any(|step| matches!(step, Step::Rename(_, to) if *to == name));
                    for (name, (_, safe)) in &mut known {
                        *safe |= p(name).parent() == Some(p(path)) && !moved(name);
                    }
                },
            }
        }
        for seed in (0..16).map(|round| seed ^ round) {
            let after = disk.crash(seed);
            let found = after.tree(p("")).unwrap();
            for (name, (content, _)) in &known {
                let is_safe = p(name).ancestors().filter(|above| *above != p("")).all(|above| known[above.to_str().unwrap()].1);
                if is_safe && *content == 0 {
                    prop_assert_eq!(found.about(p(name)).unwrap().kind, Kind::Directory);
                } else if is_safe {
                    prop_assert_eq!(after.read_file(name), Some(vec![*content]), "{} was safe", name);
                }
            }
            for path in after.paths() {
                let name = path.to_str().unwrap();
                prop_assert!(contents[name].contains(&after.read_file(&path).unwrap()[0]), "{} never had that", name);
                prop_assert!(path.ancestors().skip(1).all(|above| found.about(above).unwrap().kind == Kind::Directory));
            }
        }
        let all: BTreeMap<String, u8> = known.iter().map(|(name, (content, _))| (name.clone(), *content)).collect();
        let kept = disk.crash_keeping_everything();
        for (name, content) in all {
            prop_assert_eq!(kept.read_file(&name), (content != 0).then(|| vec![content]));
        }
    }
}
