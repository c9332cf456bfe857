//! ZEO's own tests with `vellum serve` as their server: see `xtask/peer/zeo_suite.py`.

use super::{Ground, Trouble, python_says};

/// Runs the tests that a server outside Python can pass, in the codecs of the day.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut shown = Vec::new();
    for codec in ground.codecs() {
        let mut args = vec!["--codec", codec];
        args.extend(ground.everything.then_some("--everything"));
        shown.push(python_says(ground, "zeo_suite.py", &ground.path(codec), &args)?);
    }
    Ok(shown.join(". "))
}
