fn main() {
    for situation in vellum_explore::SITUATIONS {
        let only = std::env::args().nth(1);
        if only.is_some_and(|only| only != situation.name) { continue }
        let world = vellum_explore::World::new(situation.clone()).at_most(std::env::args().nth(2).map_or(300_000, |n| n.parse().unwrap()));
        let run = vellum_explore::explore(&world, 2);
        match &run.outcome {
            vellum_explore::Outcome::Broken(failure) => {
                println!("{}: BROKEN {} {} steps\n{}", situation.name, failure.rule, failure.path.len(), vellum_explore::transcript::transcript(&world, &failure.path));
            }
            other => println!("{}: {other:?} {} {:?}", situation.name, run.steps, run.time),
        }
        for seen in vellum_explore::Seen::ALL { println!("   {} {}", world.times_seen(seen), seen.name()); }
    }
}
