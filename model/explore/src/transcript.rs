//! A path as a story, and back.
//!
//! A saved path has the situation's name in its first line, and then an action a line. [`replay`] finds each action
//! among those that may happen, by its words.

use std::fmt::Write as _;

use crate::{Action, State, World};

/// A story: what happens on a path, in the form of the snapshots.
pub fn transcript(world: &World, path: &[Action]) -> String {
    let (mut story, mut state) = (String::new(), world.start().clone());
    for action in path {
        let (next, log) = world.step(&state, *action, Some(story));
        (state, story) = (next, log.unwrap_or_default());
    }
    story
}

/// A path, to be saved.
pub fn save(world: &World, path: &[Action]) -> String {
    let mut text = format!("{}\n", world.situation.name);
    for action in path {
        writeln!(text, "{action}").expect("a text takes everything");
    }
    text
}

/// Reads a saved path without its first line, and returns it with its last state.
///
/// # Errors
///
/// A line is none of the things that may happen.
pub fn replay(world: &World, lines: &[&str]) -> Result<(Vec<Action>, State), String> {
    let (mut path, mut state) = (Vec::new(), world.start().clone());
    for (n, line) in lines.iter().enumerate() {
        let enabled = world.enabled(&state);
        let Some(action) = enabled.iter().find(|action| action.to_string() == line.trim()) else {
            let others: Vec<String> = enabled.iter().map(|action| format!("  {action}")).collect();
            let line_number = n + 2;
            return Err(format!("line {line_number}: `{line}` cannot happen here. These can:\n{}", others.join("\n")));
        };
        path.push(*action);
        state = world.step(&state, *action, None).0;
    }
    Ok((path, state))
}
