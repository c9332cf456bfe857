//! ZODB still behaves as `docs/findings/filestorage.md` says: each program that it links to finds its fault.
//!
//! If a program does not find its fault any more, the page is wrong, and the adapter of the harness steps over a
//! difference that is gone.

use super::{Ground, Trouble, ensure};
use crate::findings::{Verdict, name, programs, run};
use crate::venv;

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let folder = venv::workspace().join("docs/findings");
    let page = std::fs::read_to_string(folder.join("filestorage.md"))?;
    let mut histories = 0;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "script") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        ensure(page.contains(&text), || {
            format!("docs/findings/filestorage.md shows other steps than {}", path.display())
        })?;
        histories += 1;
    }
    ensure(histories > 0, || format!("no history in {}", folder.display()))?;

    let mut programs = programs()?;
    programs.retain(|program| page.contains(&format!("(../../findings/{}.sh)", name(program))));
    ensure(!programs.is_empty(), || "docs/findings/filestorage.md links to no program".to_owned())?;
    let mut wrong = Vec::new();
    for program in &programs {
        match run(program, Some(&ground.python))? {
            Verdict::StillSo => {}
            other => wrong.push(format!("{}: {other:?}", name(program))),
        }
    }
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    Ok(format!("{} findings are still so, {histories} histories are those of the page", programs.len()))
}
