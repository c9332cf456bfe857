//! The same conversations with `runzeo` and with `vellum serve`, frame by frame: see `xtask/peer/recorded.py`.

use super::{Ground, Trouble, python_says};

/// Plays them in the codecs of the day.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut shown = Vec::new();
    for codec in ground.codecs() {
        shown.push(python_says(ground, "recorded.py", &ground.path(codec), &[codec])?);
    }
    Ok(shown.join(". "))
}
