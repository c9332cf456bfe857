//! All states of all situations keep the rules, and every self-test finds its lie.

use vellum_explore::{Outcome, SITUATIONS, Situation, World, explore, nobody_waits, transcript};

fn situation(name: &str) -> Situation {
    SITUATIONS.iter().find(|situation| situation.name == name).unwrap().clone()
}

/// Goes through all states of a situation.
fn holds(name: &str) {
    holds_in(situation(name));
}

fn holds_in(situation: Situation) {
    let (name, world) = (situation.name, World::new(situation));
    let run = explore(&world, 1);
    match run.outcome {
        Outcome::Holds { states, unseen } => {
            assert!(unseen.is_empty(), "these orders of events did not occur: {unseen:?}");
            // Another number is no fault. It says that the machines, or the situation, have more to do or less: look
            // at the difference, and write the new number into the situation.
            assert_eq!(Some(states), world.situation.states, "the number of states of {name}");
        }
        Outcome::Broken(failure) => {
            let (story, path) =
                (transcript::transcript(&world, &failure.path), transcript::save(&world, &failure.path));
            panic!("{name}: {} is broken.\n\n{story}\nThe path, for vellum-explore --replay:\n{path}", failure.rule);
        }
        Outcome::Cut { .. } => panic!("{name} was cut short"),
    }
}

macro_rules! situations {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            holds($name);
        })*

        #[test]
        fn each_situation_is_explored() {
            let names: Vec<_> = SITUATIONS.iter().map(|situation| situation.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

situations! {
    a_client_loads_while_another_one_commits = "crossing",
    commits_to_the_same_objects_overlap = "two-phases",
    a_client_comes_back = "coming-back",
    a_client_was_away_for_too_long = "away-too-long",
    locks_end_with_their_owners = "locks",
    the_server_is_started_again = "restart",
    a_client_waits_no_longer = "waiting-no-longer",
    a_pack_runs_beside_loads = "packing",
    two_commits_during_a_finish = "finishes",
    another_server_answers_loads_beside_all_else = "another-server",
    objects_come_ahead_of_their_loads = "fetching-ahead",
}

/// The others with this core take minutes: `vellum-explore --check --core` goes through all of them, each night.
#[test]
fn the_cache_that_ships_holds_in_all_orders() {
    for name in ["coming-back", "away-too-long", "restart", "finishes", "another-server", "fetching-ahead"] {
        holds_in(situation(name).over_core());
    }
}

#[test]
fn nobody_waits_for_ever() {
    for name in ["coming-back", "away-too-long", "restart", "packing"] {
        let world = World::new(situation(name));
        let states = nobody_waits(&world).unwrap_or_else(|failure| {
            panic!("{name}: {}\n{}", failure.rule, transcript::transcript(&world, &failure.path))
        });
        assert_eq!(Some(states), world.situation.states, "both searches find the same states of {name}");
    }
}

#[test]
fn each_self_test_finds_its_lie() {
    for situation in SITUATIONS {
        let world = World::new(situation.clone()).lying();
        let run = explore(&world, 1);
        let Outcome::Broken(failure) = run.outcome else {
            panic!("{}: {:?} is not found: {:?}", situation.name, situation.lie, run.outcome);
        };
        let saved = transcript::save(&world, &failure.path);
        let lines: Vec<&str> = saved.lines().skip(1).collect();
        let (path, state) = transcript::replay(&world, &lines).unwrap();
        assert_eq!(path, failure.path, "a saved path is read as it was");
        assert_eq!(state.broken.map(vellum_explore::Broken::rule), Some(failure.rule));
    }
}

#[test]
fn a_path_is_a_story() {
    let world = World::new(situation("away-too-long")).lying();
    let Outcome::Broken(failure) = explore(&world, 1).outcome else { panic!("the lie is not found") };
    insta::with_settings!({ snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("explore-a-path-is-a-story", transcript::transcript(&world, &failure.path));
    });
}
