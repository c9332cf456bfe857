//! The harness on ZODB: random histories, every answer as the rules have it, except for known differences.

use std::process::Command;

use vellum_harness::campaign::Campaign;
use vellum_harness::pipe::Pipe;
use vellum_harness::subject::Subject;

use super::{Ground, Trouble, ensure};
use crate::venv;

/// ZODB's differences that no declaration of its adapter avoids, as `campaign::kind` names them; the last
/// section of docs/findings/filestorage.md has them. Anything else is new: the rules, the adapter or ZODB have changed.
const KNOWN: [&str; 3] = [
    // After a pack, the objects of a transaction with several undos come in another order.
    "last_invalidations: @: | @:",
    // A transaction of nothing at the beginning of the file is in no undo log.
    "undo_log: @",
    // It does not see that an object is deleted as before, by way of two undos.
    "vote: voted | refused: the undo would take back more, of",
];

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let adapter = venv::workspace().join("model/harness/peer/zodb.py").display().to_string();
    let python = ground.python.display().to_string();
    let start = || Ok(Box::new(Pipe::start(&python, std::slice::from_ref(&adapter))?) as Box<dyn Subject>);
    // First what the adapter says of itself.
    let mut test = Command::new(env!("CARGO"));
    test.args(["test", "--quiet", "--workspace", "--test", "all", "--", "--ignored", "zodb::"]);
    let tested = test.current_dir(venv::workspace()).env("VELLUM_PEER_PYTHON", &ground.python).output()?;
    let said = || [tested.stdout.as_slice(), &tested.stderr].map(String::from_utf8_lossy).concat();
    ensure(tested.status.success(), said)?;
    let campaign = Campaign {
        seed: ground.seed,
        cases: ground.histories * 2,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        keep_going: true,
        shrink_budget: 300,
        ..Campaign::default()
    };
    let report = campaign.run(&start, &|_| ())?;
    let is_known = |kind: &str| KNOWN.iter().any(|known| kind.starts_with(known));
    let (known, new): (Vec<_>, Vec<_>) = report.found.iter().partition(|found| is_known(&found.kind));
    if let Some(found) = new.first() {
        return Err(format!("{}, in case {}:\n{}", found.kind, found.case, found.difference).into());
    }
    ensure(report.coverage.histories >= campaign.cases, || "not all histories were played".to_owned())?;
    let times: u64 = known.iter().map(|found| found.times).sum();
    let (histories, steps) = (report.coverage.histories, report.coverage.steps);
    Ok(format!("{histories} histories of {steps} steps, {times} of them with a difference that is known"))
}
