//! A server's storage keeps the rules as any storage does.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use vellum_client::{Access, Config};
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger};
use vellum_harness::shrink::shrink;
use vellum_harness::subject::Can;
use vellum_harness::{run, story};
use vellum_server::Codec;
use vellum_storage::{MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version};

use crate::common::{Served, speaks};
use crate::proxy::Trouble;

/// The operations that the protocol has words for. How a server packs is its operator's choice.
pub const CAN: Can = Can {
    concurrent: false,
    versions: false,
    collect: false,
    dangling: false,
    untold: false,
    blobs: false,
    counts: false,
    ..Can::EVERYTHING
};

/// Storages in memory, behind servers, behind clients. Opening again is another client.
pub fn remote(codec: Codec, trouble: Trouble, can: Can) -> Hosted {
    let mut last: Option<Served> = None;
    let hosted = Hosted::new("a server", can, move |opening| {
        let served = match last.take() {
            Some(served) if !opening.fresh => served,
            _ => {
                let storage = MemoryStorage::with("memory", opening.clock.clone(), Arc::new(Merger));
                Served::new(Arc::new(storage), opening.clock.clone(), speaks(codec))
            }
        };
        let access = if opening.read_only { Access::Read } else { Access::Write };
        let config = Config { access, versions: can.versions, ..Config::default() };
        let storage = served.storage_with(config, trouble.clone());
        last = Some(served);
        Ok(Box::new(storage) as Box<dyn Storage>)
    });
    hosted.without_verdicts()
}

/// Each case plays a history, and asks everything after each of its steps: some thousands of calls.
fn hold(mut subject: Hosted, can: Can, cases: Range<u64>) {
    let mut coverage = Coverage::default();
    for case in cases {
        if let Err(found) = run::case(&mut subject, 1, case, 30, &mut coverage) {
            panic!("case {case}, shrunk:\n{}", shrink(&mut subject, found, 200));
        }
    }
    println!("{} histories, {} steps, {} answers", coverage.histories, coverage.steps, coverage.answers);
    println!("{}", coverage.table(can));
}

#[test]
fn a_remote_storage_keeps_the_rules() {
    hold(remote(Codec::Msgpack, Trouble::none(), CAN), CAN, 0..cases());
}

/// Rules 8.1 to 8.4 and 8.6, over the wire. The protocol has no words for restoring a blob, and a
/// record that is stored before the blob of its object is not written. Nor has it a call for the blob of a revision
/// that a pack keeps only because an undo shares it: so packs and undos have their own histories.
#[test]
fn a_remote_storage_keeps_blobs() {
    let can = Can { blobs: true, restore: false, repeat: false, ..CAN };
    let packs = Can { pack: true, collect: true, edges: true, dangling: true, untold: true, ..Can::default() };
    for can in [can.without(packs), can.without(Can { undo: true, ..Can::default() })] {
        hold(remote(Codec::Pickle, Trouble::by(9, 0), can), can, 2000..2000 + cases() / 8);
    }
}

/// Rules 2.10, 2.11, 3.5 and 3.6, and all others in versions: by an extension of the protocol.
#[test]
fn a_remote_storage_keeps_versions() {
    let can = Can { versions: true, ..CAN };
    hold(remote(Codec::Msgpack, Trouble::none(), can), can, 3000..3000 + cases() / 2);
    hold(remote(Codec::Pickle, Trouble::by(5, 0), can), can, 3000..3000 + cases() / 8);
}

/// The stories of the rules (`model/harness/scenarios`), as far as they can be told over a wire.
#[test]
fn the_stories_that_it_can_tell() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/harness/scenarios");
    let can = Can { versions: true, ..CAN };
    let told = story::tell_folder(&folder, "a server", || remote(Codec::Msgpack, Trouble::none(), can));
    println!("{told} stories");
    assert!(told >= 20, "{told}");
}

/// Rules 2.1 and 2.9: in a version too, an object has the tid that it had when the walk began.
#[test]
fn a_walk_through_the_records_is_of_one_moment() {
    let clock = Arc::new(vellum_storage::ManualClock::at(vellum_harness::tick::tick(1).time().unwrap()));
    let memory = Arc::new(MemoryStorage::with("memory", clock.clone(), Arc::new(Merger)));
    let served = Served::new(memory.clone(), clock, speaks(Codec::Msgpack));
    let remote = served.storage_with(Config { versions: true, ..Config::default() }, Trouble::none());
    let mut serials = [Tid::ZERO; 5];
    let mut commit = |changes: &[(u64, Version)]| {
        let mut draft = memory.begin(TransactionMeta::default()).unwrap();
        for (oid, version) in changes {
            let data = vellum_storage::Data::from(vellum_harness::node::Node::default().encode());
            let (oid, serial) = (Oid(*oid), serials[*oid as usize]);
            draft.push(vellum_storage::Change::Store { oid, serial, version: version.clone(), data }).unwrap();
        }
        let tid = memory.vote(draft).unwrap().finish().unwrap();
        changes.iter().for_each(|(oid, _)| serials[*oid as usize] = tid);
        tid
    };
    let (trunk, draft) = (Version::TRUNK, Version::named("draft"));
    commit(&[(1, trunk.clone()), (2, trunk.clone()), (3, trunk.clone()), (4, trunk.clone())]);
    let last = commit(&[(3, draft.clone()), (4, draft.clone())]);
    // The client has heard of it.
    while remote.last_transaction() < last {
        std::thread::yield_now();
    }
    let (right, walk) = (memory.current_records(Oid::ROOT), remote.current_records(Oid::ROOT));
    for _ in 0..20 {
        commit(&[(2, trunk.clone()), (4, draft.clone())]);
    }
    let right: Vec<_> = right.map(Result::unwrap).collect();
    assert_eq!(walk.map(Result::unwrap).collect::<Vec<_>>(), right);
}

/// This client's storage has no versions, as it did not ask for them. A server of it says so.
#[test]
fn a_server_of_a_storage_without_versions_offers_none() {
    let clock = Arc::new(vellum_storage::ManualClock::at(vellum_harness::tick::tick(1).time().unwrap()));
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::with("memory", clock.clone(), Arc::new(Merger)));
    let first = Served::new(memory, clock.clone(), speaks(Codec::Msgpack));
    let wants = || Config { versions: true, ..Config::default() };
    assert!(first.storage_with(wants(), Trouble::none()).versions().is_some());
    let second = Served::new(Arc::new(first.storage(Access::Write, Trouble::none())), clock, speaks(Codec::Msgpack));
    assert!(second.storage_with(wants(), Trouble::none()).versions().is_none());
}

#[test]
fn so_it_does_in_pickles_whose_bytes_come_in_pieces_and_late() {
    hold(remote(Codec::Pickle, Trouble::by(7, 0), CAN), CAN, 1000..1000 + cases() / 4);
}

/// A history of each kind takes long over a wire; `VELLUM_CASES` asks for more.
fn cases() -> u64 {
    std::env::var("VELLUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}
