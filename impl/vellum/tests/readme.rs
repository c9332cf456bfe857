//! The README's first program is the one that the documentation tests.

/// The lines of the first code block after `heading` that starts with `fence`, without those that rustdoc hides.
fn block(text: &str, heading: &str, fence: &str) -> Vec<String> {
    let after = text.split_once(heading).unwrap_or_else(|| panic!("no `{heading}`")).1;
    let after = after.split_once(&format!("{fence}\n")).unwrap_or_else(|| panic!("no `{fence}`")).1;
    let lines = after
        .lines()
        .map(|line| line.strip_prefix("//!").unwrap_or(line))
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.take_while(|line| *line != "```").filter(|line| !line.starts_with("# ")).map(str::to_owned).collect()
}

#[test]
fn the_readme_shows_what_is_tested() {
    let readme = block(include_str!("../../../README.md"), "## Use it from Rust", "```rust");
    let tested = block(include_str!("../src/lib.rs"), "# Hello, world", "```standalone_crate");
    assert_eq!(readme, tested);
    assert_eq!(readme.iter().filter(|line| line.starts_with("use ")).count(), 1, "one import");
}
