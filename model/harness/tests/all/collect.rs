//! The collector compared with the specification's pack: on the databases of random histories, with versions, undos,
//! packs, unfinished transactions and dangling references, both keep the same revisions and name the same references.

use std::collections::BTreeSet;

use vellum_harness::dice::{Dice, Seed};
use vellum_harness::generate::{history, parts};
use vellum_harness::node::Node;
use vellum_harness::step::{Outcome, Step};
use vellum_harness::subject::Can;
use vellum_harness::world::{Stage, World};
use vellum_spec::{At, Content, Database, How, Revision};
use vellum_storage::{
    AtPlace, Collected, Collecting, EachPlace, Error, Later, Oid, Own, Place, Refers, Result, Tid, collect,
};

/// A database of the specification at a time, as the collector wants to see it.
struct Moment<'a> {
    database: &'a Database,
    to: u64,
    under_way: &'a [Revision],
    /// Whether later revisions are read from their places.
    places: bool,
}

impl Moment<'_> {
    fn place(&self, at: At<'_>) -> Place {
        let t = self.database.transactions.iter().position(|t| t.tid == at.tid()).unwrap();
        let r = at.transaction.revisions.iter().rposition(|r| r.oid == at.revision.oid).unwrap();
        (t as u64 + 1) << 32 | r as u64
    }

    fn at(&self, place: Place) -> At<'_> {
        let transaction = &self.database.transactions[(place >> 32) as usize - 1];
        At { transaction, revision: &transaction.revisions[place as u32 as usize] }
    }

    fn early(&self, oid: u64, tid: Option<u64>) -> Place {
        let at = tid.filter(|tid| *tid <= self.to).and_then(|tid| self.database.at(oid, tid));
        at.map_or(0, |at| self.place(at))
    }
}

impl Collected for Moment<'_> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        let past = self.database.past(oid.0);
        Ok(past.into_iter().find(|at| at.tid() <= self.to).map_or(0, |at| self.place(at)))
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        let to_come = self.under_way.iter().any(|revision| revision.oid == oid.0);
        Ok(to_come || self.database.oids().contains(&oid.0))
    }

    fn is_rootless(&self) -> Result<bool> {
        let oids = self.database.oids();
        Ok(!oids.is_empty() && !oids.contains(&0))
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        assert!(places.is_sorted_by(|one, other| one < other));
        places.iter().map(|place| self.at(*place)).try_for_each(|at| {
            assert!(self.places || at.tid() <= self.to, "nobody was told of this place");
            let under = self.early(at.revision.oid, at.revision.base);
            each(AtPlace { oid: Oid(at.revision.oid), data: self.database.data(at).map(Refers::Record), base: under })
        })
    }

    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        let mut give = |revision: &Revision, place: Place| {
            let data = match &revision.content {
                Content::Data(_) if self.places && place != 0 => Own::At(place),
                Content::Data(data) => Own::Record(data),
                _ => Own::None,
            };
            let source = if let Content::Source(tid) = revision.content { Some(tid) } else { None };
            let (source, under) = (self.early(revision.oid, source), self.early(revision.oid, revision.base));
            each(Later { oid: Oid(revision.oid), data, source, base: under })
        };
        for (t, transaction) in self.database.transactions.iter().enumerate().filter(|(_, t)| t.tid > self.to) {
            for (r, revision) in transaction.revisions.iter().enumerate() {
                give(revision, (t as u64 + 1) << 32 | r as u64)?;
            }
        }
        self.under_way.iter().try_for_each(|revision| give(revision, 0))
    }

    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        for oid in self.database.oids().into_iter().map(Oid) {
            let newest = Some(self.newest(oid)?).filter(|place| *place != 0).map(|place| self.at(place));
            let base = newest.and_then(|at| self.database.at(oid.0, at.revision.base?));
            if [newest, base].into_iter().flatten().any(|at| self.database.data(at).is_some()) {
                each(oid)?;
            }
        }
        Ok(())
    }
}

type Kept = (BTreeSet<(u64, u64)>, Vec<(Oid, Oid)>);

/// Why there is no pack: objects of which it cannot be told what they refer to, or references that dangle.
type Refused = (BTreeSet<u64>, Vec<(Oid, Oid)>);

/// The revisions that the rules keep at or before the time, or the reasons to refuse.
fn by_the_rules(moment: &Moment<'_>, collects: bool, go_on: bool) -> Result<Kept, Refused> {
    let pairs = |dangling: BTreeSet<(u64, u64)>| dangling.into_iter().map(|(from, to)| (Oid(from), Oid(to))).collect();
    let how = How { collect: collects, go_on, under_way: moment.under_way, untold: Some(Node::is_untold) };
    let packed = moment.database.pack(moment.to, how, &Node::references);
    let packed = packed.map_err(|refused| match refused.untold.is_empty() {
        true => (BTreeSet::new(), pairs(refused.dangling)),
        false => (refused.untold, Vec::new()),
    })?;
    let early = packed.database.transactions.iter().filter(|t| t.tid <= moment.to);
    let kept = early.flat_map(|t| t.revisions.iter().map(|revision| (revision.oid, t.tid))).collect();
    Ok((kept, pairs(packed.dangling)))
}

fn by_the_collector(moment: &Moment<'_>, how: Collecting<'_>) -> Result<Kept, Refused> {
    let survivors = match collect(moment, how) {
        Ok(survivors) => survivors,
        Err(Error::Dangling { references }) => return Err((BTreeSet::new(), references)),
        Err(Error::Unreadable { oid, .. }) => return Err((BTreeSet::from([oid.0]), Vec::new())),
        Err(other) => panic!("{other}"),
    };
    let mut kept = BTreeSet::new();
    for transaction in moment.database.transactions.iter().filter(|t| t.tid <= moment.to) {
        for oid in transaction.oids() {
            let place = moment.place(moment.database.at(oid, transaction.tid).unwrap());
            if survivors.keeps(moment, Oid(oid), place).unwrap() {
                kept.insert((oid, transaction.tid));
            }
        }
    }
    Ok((kept, survivors.dangling().to_vec()))
}

/// The world after a random history, played on the rules alone.
fn world(seed: u64) -> World {
    let mut dice = Seed(seed);
    let length = 20 + dice.roll(30) as usize;
    let mut world = World::new(Can::EVERYTHING);
    for step in history(&mut dice, Can::EVERYTHING, length) {
        for part in parts(&world, &step) {
            if matches!(part, Step::Reopen { read_only: true }) {
                continue;
            }
            if let Some(outcome) = world.expect(&part).and_then(|mut right| right.pop()) {
                world.follow(&part, &outcome);
                if let Outcome::Refused { .. } | Outcome::Busy = outcome {
                    break;
                }
            }
        }
    }
    world
}

/// Rules 4.2, 4.3 and 4.10.
#[test]
fn the_collector_keeps_what_the_rules_keep() {
    let (mut refused, mut untold, mut dangling, mut under_way_at_all, mut fewer) = (0, 0, 0, 0, 0);
    for seed in 0..5000 {
        let world = world(seed);
        let voted = world.open.values().filter_map(|open| match &open.stage {
            Stage::Voted(revisions, _) => Some(revisions.clone()),
            Stage::Drafting => None,
        });
        let under_way: Vec<_> = voted.flatten().collect();
        let mut dice = Seed(seed);
        for tid in world.database.transactions.iter().map(|t| t.tid) {
            if tid < world.database.packed_to() {
                continue;
            }
            let moment =
                Moment { database: &world.database, to: tid, under_way: &under_way, places: dice.roll(100) < 50 };
            let (collects, go_on) = (dice.roll(100) < 60, dice.roll(100) < 40);
            let right = by_the_rules(&moment, collects, go_on);
            let threads = [1, 2, 5][dice.roll(3) as usize];
            let places_max = [1, 2, 1 << 20][dice.roll(3) as usize];
            let how = Collecting::new().collect(collects).go_on(go_on).threads(threads).places_max(places_max);
            let found = by_the_collector(&moment, how);
            match (&found, &right) {
                // One of them is named, whichever was read first.
                (Err((named, _)), Err((all, _))) if !all.is_empty() && named.len() == 1 && named.is_subset(all) => {
                    untold += 1;
                }
                _ => assert_eq!(found, right, "seed {seed}, to {}, {how:?}: {:#?}", Tid(tid), world.database),
            }
            refused += u64::from(right.is_err());
            dangling += right.as_ref().map_or(0, |(_, dangling)| dangling.len());
            under_way_at_all += u64::from(!under_way.is_empty());
            fewer += right.map_or(0, |(kept, _)| {
                let early = world.database.transactions.iter().filter(|t| t.tid <= tid);
                u64::from(kept.len() < early.map(|t| t.oids().len()).sum())
            });
        }
    }
    println!(
        "refused {refused} ({untold} since references are not known), dangling {dangling}, with some under way {under_way_at_all}, fewer {fewer}"
    );
    assert!(refused > 100 && untold > 100 && dangling > 100 && under_way_at_all > 1000 && fewer > 1000);
}
