//! The model: stateright's trait, over the machines that ship.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stateright::{Model, Property};
use vellum_cache::Shape;
use vellum_server::{Config, Description, Memory, Served};
use vellum_storage::{Invalidation, Oid, Tid};

use crate::part::Part;
use crate::state::{Broken, Client, Failures, ServerPart, Stage, State, Thread};
use crate::step::{Going, TRANSACTION_TIMEOUT};
use crate::store::Store;
use crate::{Action, Lie, Seen, Situation, Step};

/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core that holds all records of a situation.
const SHAPE: Shape = Shape { segments: 3, segment_bytes: 768, shards: 1, changes: 8 };

/// A situation as a model. Clones count together.
#[derive(Clone)]
pub struct World {
    /// The situation.
    pub situation: Situation,
    /// The lie that is told in it.
    pub lie: Option<Lie>,
    /// More connections than these are too many.
    pub connections_max: u64,
    start: Option<State>,
    seen: Arc<[AtomicU64; Seen::ALL.len()]>,
    steps: Arc<AtomicU64>,
    /// After so many steps there are no further ones.
    steps_max: Option<u64>,
    is_cut: Arc<AtomicBool>,
    panics_at: Option<u64>,
}

impl World {
    /// The world of a situation. Its clients are connected, and know the last transaction.
    pub fn new(situation: Situation) -> World {
        let Situation { cuts, restarts, server_timeouts, client_timeouts, .. } = situation;
        let clients = situation.clients.len() as u64;
        let ends = u64::from(cuts) + clients * u64::from(restarts + server_timeouts + client_timeouts);
        let mut world = World {
            situation,
            lie: None,
            connections_max: u64::MAX,
            start: None,
            seen: Arc::default(),
            steps: Arc::default(),
            steps_max: None,
            is_cut: Arc::default(),
            panics_at: None,
        };
        world.start = Some(world.begin());
        world.connections_max = clients + ends;
        for seen in world.seen.iter() {
            seen.store(0, Ordering::Relaxed);
        }
        world
    }

    /// The same, with the lie of its self-test.
    pub fn lying(self) -> World {
        let lie = self.situation.lie;
        self.with(lie)
    }

    /// The same, with this lie.
    pub fn with(mut self, lie: Lie) -> World {
        let lie = Some(lie);
        self.lie = lie;
        if let Some(start) = &mut self.start {
            start.store.edit().lie(lie);
            start.store.seal();
        }
        self
    }

    /// The same, and after so many steps there are no further ones.
    pub fn at_most(self, steps: u64) -> World {
        World { steps_max: Some(steps), ..self }
    }

    /// The same, and this step panics outside of the machines: for the test of the wrapper.
    pub fn panicking_at(self, step: u64) -> World {
        World { panics_at: Some(step), ..self }
    }

    /// Steps that were taken, repeated ones included.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether steps were left out.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// An order of events occurred.
    pub fn seen(&self, seen: Seen) {
        self.seen[seen as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub fn times_seen(&self, seen: Seen) -> u64 {
        self.seen[seen as usize].load(Ordering::Relaxed)
    }

    /// The first state.
    pub fn start(&self) -> &State {
        self.start.as_ref().expect("a world has a beginning")
    }

    /// A server of a storage that has just been opened.
    pub fn new_server(&self, store: &Store) -> vellum_server::Machine {
        let config = Config {
            is_read_only: false,
            transaction_timeout: Some(TRANSACTION_TIMEOUT),
            clients_resolve: false,
            started: String::new(),
            memory: Memory::default(),
            offers_extensions: self.situation.extends,
        };
        let description = Description {
            location: String::new(),
            undoes: false,
            iterates_records: false,
            keeps_blobs: false,
            is_read_only: false,
            interfaces: vec![],
        };
        let remembered = self.situation.remembered;
        let invalidations = store.database.last_invalidations(remembered).into_iter();
        let invalidation =
            |(tid, oids): (u64, Vec<u64>)| Invalidation { tid: Tid(tid), oids: oids.into_iter().map(Oid).collect() };
        let served = Served::with("1", description, invalidations.map(invalidation).collect(), remembered);
        vellum_server::Machine::new(config, vec![served])
    }

    fn begin(&self) -> State {
        let store = Store::new(self.situation.objects);
        let Situation { cuts, restarts, server_timeouts, client_timeouts, overtakings, .. } = self.situation;
        let patience =
            vellum_client::Patience { reply: PATIENCE, slow: PATIENCE, ..vellum_client::Patience::default() };
        let heartbeat = PATIENCE * 1000;
        let config =
            vellum_client::Config { cache_bytes: 1 << 16, patience, heartbeat, ..vellum_client::Config::default() };
        let machine = || match self.situation.is_over_core {
            true => vellum_client::Machine::over(config.clone(), vellum_client::Cache::core(SHAPE)),
            false => vellum_client::Machine::new(config.clone()),
        };
        let client = |scripts: &&[&[Step]]| Client {
            machine: machine(),
            wakes_at: None,
            threads: scripts.iter().map(|_| Thread { at: 0, stage: Stage::Ready, asked: 0 }).collect(),
            open: Default::default(),
            told: None,
            fates: Vec::new(),
        };
        let server = ServerPart(self.new_server(&store));
        let state = State {
            server: Part::new(server),
            store: Part::new(store),
            clients: self.situation.clients.iter().map(client).map(Part::new).collect(),
            links: Vec::new(),
            connections: 0,
            left: Failures { cuts, restarts, server_timeouts, client_timeouts, overtakings },
            broken: None,
        };
        let mut going = Going::new(self, state, None);
        going.seal();
        for client in 0..self.situation.clients.len() {
            going.client(client, vellum_client::Event::Tick { now: Default::default() });
            self.settle(&mut going);
            if self.situation.is_warm {
                for oid in (0..self.situation.objects).map(Oid) {
                    going.warm(client, oid);
                    self.settle(&mut going);
                }
            }
        }
        for client in &mut going.state.clients {
            let client = client.edit();
            client.told = client.machine.last();
            client.open.clear();
        }
        going.seal();
        assert_eq!(going.state.broken, None, "the world is broken before it begins");
        going.state
    }

    /// Lets everything happen that happens by itself.
    fn settle(&self, going: &mut Going<'_>) {
        loop {
            going.seal();
            let by_itself = |action: &Action| !action.is_failure() && !matches!(action, Action::Ask { .. });
            let Some(action) = self.enabled(&going.state).into_iter().find(by_itself) else { return };
            going.go(action);
        }
    }

    /// Takes a step, and writes down what happens.
    pub fn step(&self, state: &State, action: Action, log: Option<String>) -> (State, Option<String>) {
        let mut going = Going::new(self, state.clone(), log);
        let gone = catch_unwind(AssertUnwindSafe(|| {
            going.go(action);
            if going.state.broken.is_none() {
                going.look();
            }
            going.seal();
            if going.state.broken.is_none() {
                let enabled = self.enabled(&going.state);
                if enabled.iter().all(|action| action.is_failure()) {
                    going.look_at_rest();
                    if self.lie == Some(Lie::BreaksAtTheEnd) && enabled.is_empty() {
                        going.broken(Broken::Waits, "a planted fault");
                    }
                }
            }
        }));
        if gone.is_err() {
            going.state = state.clone();
            going.broken(Broken::Panic, "see above");
        }
        (going.state, going.log)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start().clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.steps_max.is_some_and(|max| self.steps() >= max) {
            self.is_cut.store(true, Ordering::Relaxed);
            return;
        }
        actions.extend(self.enabled(state));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        assert!(self.panics_at != Some(step), "a planted panic");
        Some(self.step(last, action, None).0)
    }

    fn format_action(&self, action: &Action) -> String {
        action.to_string()
    }

    fn format_step(&self, last: &State, action: Action) -> Option<String> {
        let (state, log) = self.step(last, action, Some(String::new()));
        Some(format!("{}\n{state:?}", log.unwrap_or_default()))
    }

    fn properties(&self) -> Vec<Property<World>> {
        macro_rules! rules {
            ($($broken:ident),*) => {
                vec![$(Property::always(Broken::$broken.rule(), |_: &World, state: &State| {
                    state.broken != Some(Broken::$broken)
                })),*]
            };
        }
        let mut rules = rules!(
            NeverWas,
            Old,
            Future,
            Stale,
            Told,
            Trace,
            Lost,
            Lock,
            Answered,
            Waits,
            Behind,
            Endless,
            Disbelieved,
            Panic,
            Refused,
            Server
        );
        // A run ends when each rule was found broken. This one never is.
        rules.push(Property::always("the world goes on", |_, _| true));
        rules
    }
}
