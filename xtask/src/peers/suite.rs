//! ZEO's own tests with `vellum serve` as their server: see `xtask/peer/zeo_suite.py`.

use super::{Ground, Trouble, python_says};

/// Runs the tests that a server outside Python can pass.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    python_says(ground, "zeo_suite.py", &ground.path("suite"), &["--codec", "pickle"])
}
