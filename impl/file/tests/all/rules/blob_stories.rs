//! Blobs as a user tells of them, with every operation on the disk: what is durable before what.

use std::fmt::Write;

use crate::common::*;
use vellum_disk::{SimDisk, Tear};
use vellum_file::{FileStorage, Options, Packing, Unwatched};
use vellum_storage::{Blobs, Error, Oid, Tid, TransactionMeta, Voted};

const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
const ROOT: &[u8] = b"\x80\x03cm\nC\n.\x80\x03}.";
const PICTURE: Oid = Oid(1);

/// What is told, and how far the disk's operations were told.
struct Story {
    disk: SimDisk,
    clock: SharedClock,
    text: String,
    told: usize,
}

impl Story {
    fn new() -> Story {
        let disk = SimDisk::new(0);
        disk.keep_trace(10_000);
        Story { disk, clock: SharedClock::new(), text: String::new(), told: 0 }
    }

    fn options(&self) -> Options {
        options(&self.disk, &self.clock).threads(1).blobs(BLOBS).blob_layout(vellum_blob::Layout::Lawn)
    }

    /// What was done, and what the disk heard of it.
    fn tell(&mut self, what: &str) {
        writeln!(self.text, "\n{what}").unwrap();
        let trace = self.disk.trace();
        trace[self.told..].iter().for_each(|line| writeln!(self.text, "    {}", line[5..].trim_end()).unwrap());
        self.told = trace.len();
    }

    /// What was done, without the disk.
    fn tell_only(&mut self, what: &str) {
        writeln!(self.text, "\n{what}").unwrap();
        self.told = self.disk.trace().len();
    }

    /// The folder's files, and what the database shows of them.
    fn look(&mut self, storage: &FileStorage) {
        let paths =
            self.disk.paths().into_iter().filter(|path| path.starts_with("blobs") || path.starts_with("blobs.old"));
        for path in paths.filter(|path| path.extension().is_some_and(|end| end == "blob" || end == "tmp")) {
            let bytes = self.disk.read_file(&path).unwrap();
            writeln!(self.text, "  {}: {}", path.display(), String::from_utf8_lossy(&bytes)).unwrap();
        }
        let tid = serial(storage, PICTURE);
        let shown = match Blobs::load_blob(storage, PICTURE, tid) {
            Ok(blob) => format!("{:?}", blob.bytes().unwrap()),
            Err(error @ (Error::KeyError { .. } | Error::NoBlob { .. })) => error.to_string(),
            Err(other) => panic!("{other}"),
        };
        writeln!(self.text, "  the database shows {shown}").unwrap();
    }

    fn vote(&mut self, storage: &FileStorage, bytes: &'static str) -> Voted {
        self.clock.tick();
        let mut writer = Blobs::new_blob(storage).unwrap();
        writer.append(bytes.as_bytes()).unwrap();
        let mut draft = storage.begin(TransactionMeta::new().user("ann")).unwrap();
        draft.store_blob(PICTURE, serial(storage, PICTURE), RECORD.into(), writer.finish().unwrap()).unwrap();
        storage.vote(draft).unwrap()
    }

    fn assert(&self, name: &str) {
        insta::with_settings!({ snapshot_path => "../../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, self.text.trim_start());
        });
    }
}

#[test]
fn a_picture_is_stored_changed_undone_and_packed() {
    let mut story = Story::new();
    let storage = story.options().create(PATH).unwrap();
    commit(&storage, "root", &[(0, Some(ROOT.into()))]).unwrap();
    story.tell_only("A database with a blob folder.");
    let voted = story.vote(&storage, "a cat");
    story.tell("Ann uploads a picture. First phase: it is filled and synced.");
    voted.finish().unwrap();
    story.tell(
        "Second phase: the file tells of the picture, then the picture gets its name, then the transaction is marked.",
    );
    let changed = story.vote(&storage, "a dog").finish().unwrap();
    story.tell_only("She uploads another one.");
    story.look(&storage);
    story.clock.tick();
    let mut undo = storage.begin(TransactionMeta::new().user("ann")).unwrap();
    undo.undo(changed).unwrap();
    let voted = storage.vote(undo).unwrap();
    story.tell("She undoes that. First phase: the first picture gets a second name.");
    voted.finish().unwrap();
    story.tell("Second phase.");
    story.look(&storage);
    story.clock.tick();
    storage.pack_with(changed, Packing::new().keep_old(true), &mut Unwatched).unwrap();
    story.tell("The operator packs to the time of the second upload. The first one stays, since the undo shows it; nothing goes.");
    storage.pack_with(Tid::MAX, Packing::new().keep_old(true), &mut Unwatched).unwrap();
    story.tell_only("He packs to now: what the page shows stays, the two uploads go, and both are kept beside.");
    story.look(&storage);
    drop(storage);
    story.assert("file-blobs");
}

#[test]
fn the_power_goes_between_the_vote_and_the_end_of_the_finish() {
    // In which operation of the finish the power goes, as far as they go.
    let finish = |cut: Option<u64>| {
        let mut story = Story::new();
        let storage = story.options().create(PATH).unwrap();
        story.vote(&storage, "a cat").finish().unwrap();
        let voted = story.vote(&storage, "a dog");
        let begin = story.disk.operations();
        if let Some(cut) = cut {
            story.disk.stop_at(begin + cut, Tear::NotAtAll);
        }
        let finished = voted.finish();
        let end = story.disk.operations();
        (story.disk.clone(), story.clock.clone(), finished.is_ok(), end - begin)
    };
    let (.., operations) = finish(None);
    let mut story = Story::new();
    for cut in 0..=operations {
        let (disk, clock, is_finished, _) = finish(Some(cut).filter(|cut| *cut < operations));
        for (how, found) in [
            ("nothing that was not synced", disk.crash_losing_everything()),
            ("everything", disk.crash_keeping_everything()),
        ] {
            let opened = options(&found, &clock).threads(1).blobs(BLOBS).open(PATH).unwrap();
            check_blobs(&opened).unwrap();
            let what = if cut == operations {
                "after the finish".to_owned()
            } else {
                format!("in operation {cut} of the finish")
            };
            writeln!(
                story.text,
                "\nThe power goes {what}; {how} is left. The finish {}.",
                if is_finished { "returned" } else { "had not returned" }
            )
            .unwrap();
            if let Some(recovery) = opened.recovery() {
                writeln!(story.text, "  opening cuts {} bytes off", recovery.cut).unwrap();
            }
            story.disk = found;
            story.look(&opened);
        }
    }
    story.assert("file-blobs-crash");
}

/// ZODB leaves files of commits that failed, and what was on its way.
#[test]
fn what_zodb_left_is_taken_over() {
    let mut story = Story::new();
    let storage = story.options().create(PATH).unwrap();
    let tid = story.vote(&storage, "a cat").finish().unwrap();
    drop(storage);
    let left = [
        (format!("blobs/0x01/0x{:016x}.blob", tid.0 + 1), "never committed"),
        ("blobs/0x05/0x03bf35fd00000000.blob".to_owned(), "an object that is not there"),
        ("blobs/tmp/BUCx81kq2vd".to_owned(), "a client's, which was killed"),
        ("blobs/tmp/vellum-7.tmp".to_owned(), "ours, which was killed"),
    ];
    left.iter().for_each(|(path, bytes)| story.disk.write_file(path, bytes.as_bytes()));
    story.tell_only("A folder that was ZODB's, with what crashes and conflicts left in it.");
    let storage = story.options().open(PATH).unwrap();
    story.tell("It is opened: what is ours is removed from tmp/, and nothing else.");
    story.look(&storage);
    story.vote(&storage, "a dog").finish().unwrap();
    story.clock.tick();
    storage.pack_with(Tid::MAX, Packing::new(), &mut Unwatched).unwrap();
    story.tell_only("A picture is uploaded, and the database packed. Files without a record are left alone.");
    story.look(&storage);
    let kept: Vec<_> =
        left.iter().filter(|(path, _)| story.disk.read_file(path).is_some()).map(|(path, _)| &path[..]).collect();
    writeln!(story.text, "  left: {}", kept.join(", ")).unwrap();
    story.assert("file-blobs-leftovers");
}
