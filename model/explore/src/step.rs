//! One step of the world: an action, and all that follows from it at once.
//!
//! Some messages are delivered together with what came before them, as no other order can be noticed: the beginning and
//! the changes of a transaction, which touch only their own connection, and the size of the storage.

use std::fmt::Write as _;
use std::time::Duration;

use vellum_client::{self as client, Told};
use vellum_network::show;
use vellum_server::{self as server, ConnectionId};
use vellum_storage::{Oid, Tid};
use vellum_wire::{Ahead, Codec, Greeting, Message, Notice};

use crate::part::Part;
use crate::situation::Lie;
use crate::state::{Broken, Link, NAMES, ServerPart, Stage, State};
use crate::world::World;
use crate::{Action, Seen};

/// A transaction that is voted for so long is given up.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// After so many alarms a client has given up something that it waits for.
const ALARMS_MAX: u32 = 4;

/// A step that is under way.
pub struct Going<'a> {
    pub world: &'a World,
    pub state: State,
    /// The story so far, for a reader.
    pub log: Option<String>,
    /// The clients that something happened at.
    pub touched: [bool; NAMES.len()],
}

macro_rules! note {
    ($going:expr, $($what:tt)*) => {
        if let Some(log) = &mut $going.log {
            writeln!(log, $($what)*).expect("a text takes everything");
        }
    };
}
pub(crate) use note;

impl<'a> Going<'a> {
    pub fn new(world: &'a World, state: State, log: Option<String>) -> Going<'a> {
        Going { world, state, log, touched: [false; NAMES.len()] }
    }

    pub fn seen(&self, seen: Seen) {
        self.world.seen(seen);
    }

    /// A rule is broken. The first one counts.
    pub fn broken(&mut self, broken: Broken, what: &str) {
        note!(self, "     BROKEN: {}: {what}", broken.rule());
        self.state.broken.get_or_insert(broken);
    }

    /// Lets an action happen.
    pub fn go(&mut self, action: Action) {
        match action {
            Action::Ask { client, thread } => self.thread_goes_on(client, thread),
            Action::ToServer { link } => self.deliver_to_server(link),
            Action::ToClient { link } => self.deliver_to_client(link),
            Action::Work { name } => {
                note!(
                    self,
                    "     the storage does connection {}'s {}",
                    name.connection,
                    self.state.store.show_task(name)
                );
                let is_pack = self.state.store.show_task(name) == "pack";
                if is_pack && self.state.store.is_to_load() {
                    self.seen(Seen::PackCrossedLoad);
                }
                self.state.store.edit().work(name);
            }
            Action::Done { name } => {
                if self.state.store.is_ahead(name) {
                    self.seen(Seen::ReadFromTheFuture);
                }
                let event = self.state.store.edit().take_result(name);
                self.server(event);
            }
            Action::Told => {
                if let Some((_, oids, _)) = self.state.store.told.front()
                    && oids.iter().any(|oid| self.state.store.has_read(*oid))
                {
                    self.seen(Seen::CommitCrossedRead);
                }
                if let Some((_, oids, _)) = self.state.store.told.front()
                    && oids.iter().any(|oid| self.state.store.has_fetched_ahead(*oid))
                {
                    self.seen(Seen::CommitCrossedPrefetch);
                }
                if let Some(event) = self.state.store.edit().take_told() {
                    note!(self, "     the server hears of a transaction");
                    self.server(event);
                }
            }
            Action::Woken { name } => {
                self.seen(Seen::VoteWaited);
                if self.state.store.waits_untold(name.connection) {
                    self.seen(Seen::WokenEarly);
                }
                note!(self, "     the server hears that connection {}'s vote may try again", name.connection);
                let event = self.state.store.edit().take_woken(name);
                self.server(event);
            }
            Action::Cut { link } => {
                self.state.left.cuts -= 1;
                note!(self, "     connection {link} is cut");
                self.link(link, |link| link.is_cut = true);
            }
            Action::ServerLoses { link } => self.server_loses(link),
            Action::ClientLoses { link } => self.client_loses(link),
            Action::Restart { loses } => self.restart(loses),
            Action::Wake { client } => self.wake(client),
            Action::ClientTimeout { client } => {
                self.state.left.client_timeouts -= 1;
                self.lose_patience(client);
            }
            Action::Overtake { link } => {
                self.state.left.overtakings -= 1;
                self.seen(Seen::Overtaken);
                note!(self, "     a notice overtakes an answer on connection {link}");
                self.link(link, |link| link.to_client.swap(0, 1));
            }
            Action::ServerTimeout => {
                self.state.left.server_timeouts -= 1;
                let is_finishing = |link: &Part<Link>| {
                    link.to_server.iter().any(|message| message.name.as_text() == Some("tpc_finish"))
                };
                if self.state.links.iter().any(is_finishing) {
                    self.seen(Seen::TimedOutBeforeFinish);
                }
                let times = self.world.situation.server_timeouts - self.state.left.server_timeouts;
                let now = TRANSACTION_TIMEOUT * u32::from(times);
                note!(self, "     it is {} s later at the server", TRANSACTION_TIMEOUT.as_secs());
                self.server(server::Event::Tick { now });
            }
        }
        self.deliver_at_once();
        if self.state.store.finishes() > 1 {
            self.seen(Seen::FinishesOverlapped);
        }
        let gone = |link: &Part<Link>| !link.is_at_server && !link.is_at_client;
        self.state.links.retain(|link| !gone(link));
    }

    /// All parts get their hashes.
    pub fn seal(&mut self) {
        self.state.server.seal();
        self.state.store.seal();
        self.state.clients.iter_mut().for_each(Part::seal);
        self.state.links.iter_mut().for_each(Part::seal);
    }

    /// Changes a connection.
    fn link<R>(&mut self, number: u64, change: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let link = self.state.links.iter_mut().find(|link| link.number() == number)?;
        Some(change(link.edit()))
    }

    /// Messages that no order can tell from those before them.
    fn deliver_at_once(&mut self) {
        loop {
            let is_quiet = |message: &Message| {
                let name = message.name.as_text();
                message.is_one_way() && matches!(name, Some("tpc_begin" | "storea" | "checkCurrentSerialInTransaction"))
            };
            let is_size = |message: &Message| message.name.as_text() == Some("info");
            let to_server =
                self.state.links.iter().find(|link| link.is_at_server && link.to_server.front().is_some_and(is_quiet));
            let to_client =
                self.state.links.iter().find(|link| link.is_at_client && link.to_client.front().is_some_and(is_size));
            match (to_server.map(|link| link.number()), to_client.map(|link| link.number())) {
                (Some(link), _) => self.deliver_to_server(link),
                (None, Some(link)) => self.deliver_to_client(link),
                (None, None) => return,
            }
        }
    }

    fn deliver_to_server(&mut self, number: u64) {
        let message = self.link(number, |link| (link.to_server.pop_front(), link.client));
        let Some((Some(message), client)) = message else { return };
        note!(self, "{:<4} -> {}", NAMES[client], show(&message));
        self.server(server::Event::Received { connection: ConnectionId(number), message });
    }

    fn deliver_to_client(&mut self, number: u64) {
        let message = self.link(number, |link| (link.to_client.pop_front(), link.client, link.line));
        let Some((Some(message), client, line)) = message else { return };
        note!(self, "{:<4} <- {}", NAMES[client], show(&message));
        if message.is_one_way()
            && let Ok(notice) = Notice::parse(&message.name, message.args.clone())
        {
            self.see_notice(client, &notice);
        }
        if self.world.situation.overtakings == 0 {
            self.judge_message(client, &message);
        }
        self.client(client, client::Event::Received { connection: line, message });
    }

    fn see_notice(&self, client: usize, notice: &Notice) {
        let here = &self.state.clients[client];
        match notice {
            Notice::Invalidate { oids, .. } => {
                let loads = |stage: &Stage| match stage {
                    Stage::Loading(asked) | Stage::Reading(asked, _) => oids.contains(&asked.oid),
                    Stage::Fetching { .. } => true,
                    _ => false,
                };
                if here.threads.iter().any(|thread| loads(&thread.stage)) {
                    self.seen(Seen::InvalidationCrossedLoad);
                }
                if !here.machine.is_ready() {
                    self.seen(Seen::ToldWhileVerifying);
                }
            }
            Notice::Prefetched { revisions, .. } => {
                let newest = |oid: Oid| self.state.store.history.newest(oid.0).map(|at| Tid(at.tid()));
                let is_old = |ahead: &Ahead| {
                    newest(ahead.oid).is_some_and(|tid| tid > ahead.revision.tid && Some(tid) <= here.machine.last())
                };
                if revisions.iter().any(is_old) {
                    self.seen(Seen::PrefetchedOld);
                }
            }
            _ => {}
        }
    }

    fn server_loses(&mut self, number: u64) {
        let lost = self.link(number, |link| {
            link.is_at_server = false;
            link.to_server.clear();
            link.client
        });
        if let Some(client) = lost {
            note!(self, "     the server loses {}'s connection {number}", NAMES[client]);
            self.server(server::Event::Lost { connection: ConnectionId(number) });
        }
    }

    fn client_loses(&mut self, number: u64) {
        let lost = self.link(number, |link| {
            link.is_at_client = false;
            link.to_client.clear();
            (link.client, link.line)
        });
        if let Some((client, line)) = lost {
            note!(self, "{:<4} loses connection {number}", NAMES[client]);
            let why = "the connection was cut".to_owned();
            self.client(client, client::Event::Lost { connection: line, why });
        }
    }

    fn restart(&mut self, loses: bool) {
        self.state.left.restarts -= 1;
        let lost = self.state.store.edit().restart(loses);
        if lost > 0 {
            self.seen(Seen::RestartLost);
        }
        note!(self, "     the server is started again; {lost} transactions are lost that nobody was told of");
        *self.state.server.edit() = ServerPart(self.world.new_server(&self.state.store));
        for link in &mut self.state.links {
            let link = link.edit();
            (link.is_at_server, link.is_cut) = (false, true);
            link.to_server.clear();
        }
    }

    /// Time passes until a question is given up. The machine's first alarms may be for what is over.
    fn lose_patience(&mut self, client: usize) {
        let open = self.state.clients[client].open.len();
        for _ in 0..ALARMS_MAX {
            self.wake(client);
            let here = &self.state.clients[client];
            if here.open.len() < open || !here.machine.is_ready() {
                return;
            }
        }
    }

    fn wake(&mut self, client: usize) {
        let Some(now) = self.state.clients[client].edit().wakes_at.take() else { return };
        note!(self, "     {} ms pass at {}", now.as_millis(), NAMES[client]);
        self.client(client, client::Event::Tick { now });
    }

    /// An event at the server, and its effects.
    pub fn server(&mut self, event: server::Event) {
        let mut left = Vec::new();
        for effect in self.state.server.edit().0.step(event) {
            match effect {
                server::Effect::Send { connection, message } => {
                    self.link(connection.0, |link| {
                        if link.is_at_client && !link.is_cut {
                            link.to_client.push_back(message);
                        }
                    });
                }
                server::Effect::Close { connection, why, .. } | server::Effect::Cut { connection, why, .. } => {
                    note!(self, "     the server closes connection {}: {why}", connection.0);
                    self.link(connection.0, |link| {
                        link.is_at_server = false;
                        link.to_server.clear();
                    });
                }
                server::Effect::Run(job) => {
                    if let Some(event) = self.state.store.edit().ask(job) {
                        self.server(event);
                    }
                }
                server::Effect::Abort { connection } => self.state.store.edit().drop_of(connection, true),
                server::Effect::Forget { connection } => self.state.store.edit().drop_of(connection, false),
                server::Effect::Speak { .. } | server::Effect::Pause { .. } | server::Effect::Resume { .. } => {}
                // A piece leaves at once: its client may be slow all the same.
                server::Effect::SendPiece { connection, message, bytes } => {
                    self.link(connection.0, |link| {
                        if link.is_at_client && !link.is_cut {
                            link.to_client.push_back(message);
                        }
                    });
                    left.push(server::Event::PieceSent { connection, bytes });
                }
                server::Effect::SendFrame { .. } => unreachable!("no client of an exploration asks for that"),
            }
        }
        left.into_iter().for_each(|event| self.server(event));
    }

    /// An event at a client, and its effects.
    pub fn client(&mut self, client: usize, event: client::Event) {
        self.touched[client] = true;
        let was_ready = self.state.clients[client].machine.is_ready();
        let effects = self.state.clients[client].edit().machine.step(event);
        let came_back =
            !was_ready && effects.iter().any(|effect| matches!(effect, client::Effect::Tell(Told::Committed { .. })));
        if came_back {
            self.seen(Seen::CameBack);
        }
        for effect in effects {
            match effect {
                client::Effect::Connect { connection, .. } => self.connect(client, connection),
                client::Effect::Speak { .. } => {}
                client::Effect::Send { connection, message } => {
                    let of =
                        |link: &&mut Part<Link>| link.client == client && link.line == connection && link.is_at_client;
                    if let Some(link) = self.state.links.iter_mut().find(of)
                        && link.is_at_server
                        && !link.is_cut
                    {
                        link.edit().to_server.push_back(message);
                    }
                }
                client::Effect::Close { connection, why } => {
                    note!(self, "{:<4} closes its connection: {why}", NAMES[client]);
                    let of = |link: &&mut Part<Link>| link.client == client && link.line == connection;
                    if let Some(link) = self.state.links.iter_mut().find(of) {
                        let link = link.edit();
                        link.is_at_client = false;
                        link.to_client.clear();
                    }
                    if why.starts_with("the server said something that makes no sense") {
                        self.broken(Broken::Disbelieved, NAMES[client]);
                    }
                }
                client::Effect::Resolve { promise, outcome } => self.answered(client, promise, outcome),
                client::Effect::Tell(told) => self.told(client, &told),
                client::Effect::Blob { .. } => unreachable!("no client of an exploration asks for a blob"),
                client::Effect::WakeAt { at } => {
                    let wakes_at = &mut self.state.clients[client].edit().wakes_at;
                    *wakes_at = Some(wakes_at.map_or(at, |earlier| earlier.min(at)));
                }
            }
        }
    }

    /// A connection is made, and both sides greet.
    fn connect(&mut self, client: usize, line: client::ConnectionId) {
        if self.state.connections >= self.world.connections_max {
            return self.broken(Broken::Endless, NAMES[client]);
        }
        let earlier = |link: &&Part<Link>| link.client == client && link.is_cut;
        let earlier = self.state.links.iter().find(earlier);
        if earlier.is_some_and(|link| link.is_at_server) {
            self.seen(Seen::TwoConnections);
        }
        let old = match (self.world.lie, earlier) {
            (Some(Lie::OldMessages), Some(link)) => link.to_server.clone(),
            _ => Default::default(),
        };
        self.state.connections += 1;
        let at_server = ConnectionId(self.state.connections);
        note!(self, "{:<4} connects: connection {}", NAMES[client], at_server.0);
        self.state.links.push(Part::new(Link {
            at_server,
            client,
            line,
            to_server: old,
            to_client: Default::default(),
            is_at_server: true,
            is_at_client: true,
            is_cut: false,
        }));
        self.state.store.edit().connected(at_server);
        self.server(server::Event::Connected { connection: at_server, peer: NAMES[client].to_owned() });
        self.server(server::Event::Greeted { connection: at_server, greeting: Greeting::Speaks(Codec::Pickle) });
        self.client(client, client::Event::Connected { connection: line });
        self.client(client, client::Event::Greeted { connection: line, frame: "Z5".into() });
    }
}
