//! ZEO's own tests with `vellum serve` as their server: see `xtask/peer/zeo_suite.py`.

use super::{Ground, Trouble, python_says};

/// Runs the tests that a server outside Python can pass.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let run = |args: &[&str]| python_says(ground, "zeo_suite.py", &ground.path("suite"), args);
    if !ground.everything {
        return run(&["--codec", "pickle"]);
    }
    Ok(format!("{}. {}", run(&["--codec", "pickle", "--everything"])?, run(&["--codec", "msgpack"])?))
}
