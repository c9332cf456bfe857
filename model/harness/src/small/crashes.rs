//! The power cut in every operation of the disk that a move takes.

use crate::crash::{self, Tried};
use crate::run::Difference;
use crate::step::Step;

use super::Reached;

/// Plays the way and the move, and cuts the power in each operation of the move.
pub(super) fn cut(tried: &Tried, way: &[&Reached], step: &Step, report: &mut crash::Report) -> Result<(), Difference> {
    let steps: Vec<Step> = way.iter().map(|reached| &reached.step).chain([step]).cloned().collect();
    crash::cut_last(tried, &steps, report).map_err(|failure| {
        let at = format!("{}: {}", failure.crash, failure.difference.at);
        Difference { steps, at, ..failure.difference }
    })
}
