//! A server of ours, and clients that reach it by pairs of sockets.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use vellum_client::{Access, Client, Config, Dial, Dialing, Patience, RemoteStorage, Stream};
use vellum_server::{Address, Codec, Description, Door, Offered, Server, ServerOptions, Store};
use vellum_storage::{Clock, MemoryStorage, PackOptions, Storage, SystemClock};

use crate::proxy::{Proxy, Trouble};

/// The threads of all servers and clients of these tests.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    &RUNTIME
}

/// The interfaces of a storage, as far as clients look at them.
fn ready_for(storage: &dyn Storage) -> Vec<(String, String)> {
    let blobs = storage.blobs().map(|_| "IBlobStorage");
    let names = ["IStorageRestoreable"].into_iter().chain(blobs);
    names.map(|name| ("ZODB.interfaces".to_owned(), name.to_owned())).collect()
}

/// A running server.
pub struct Served {
    pub door: Door,
    end: Option<oneshot::Sender<()>>,
}

impl Served {
    /// Serves a storage as "1".
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, options: ServerOptions) -> Served {
        let description = Description {
            location: storage.name(),
            undoes: storage.undo_log().is_some(),
            keeps_blobs: storage.blobs().is_some(),
            iterates_records: true,
            is_read_only: false,
            interfaces: ready_for(&*storage),
        };
        let store = Store { packing: PackOptions::default(), ..Store::new(storage) };
        let offered = vec![Offered { name: "1".to_owned(), description, store }];
        let server = runtime().block_on(Server::bind(&[], offered, clock, options)).unwrap();
        let (end, ended) = oneshot::channel();
        let door = server.door();
        runtime().spawn(server.run(async move { _ = ended.await }));
        Served { door, end: Some(end) }
    }

    /// A client's way to it, with trouble on it.
    pub fn way(&self, trouble: Trouble) -> Arc<Way> {
        Arc::new(Way { door: self.door.clone(), trouble })
    }

    /// A client.
    pub fn client(&self, config: Config, trouble: Trouble) -> Client {
        Client::on(runtime().handle(), config, self.way(trouble), 64 << 20)
    }

    /// A client's storage.
    pub fn storage(&self, access: Access, trouble: Trouble) -> RemoteStorage {
        self.storage_with(Config { access, ..Config::default() }, trouble)
    }

    /// A client's storage, with these options.
    pub fn storage_with(&self, config: Config, trouble: Trouble) -> RemoteStorage {
        let config = Config { patience: patient(), ..config };
        RemoteStorage::of(self.client(config, trouble), "a server").unwrap()
    }
}

/// Tests fail if nothing happens for so long.
pub fn patient() -> Patience {
    let long = Duration::from_secs(60);
    Patience { connect: long, server: long, reply: long, slow: long, pack: long }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end.take().map(|end| end.send(()));
    }
}

/// Options of a server that greets with this codec.
pub fn speaks(codec: Codec) -> ServerOptions {
    ServerOptions { codec, ..ServerOptions::default() }
}

/// Makes connections by pairs of sockets.
pub struct Way {
    door: Door,
    trouble: Trouble,
}

impl Dial for Way {
    fn dial(&self, _: usize) -> Dialing<'_> {
        Box::pin(async move {
            let (client, server) = UnixStream::pair()?;
            self.door.enter(server, "a pair of sockets").await;
            let stream: Box<dyn Stream> = match self.trouble.next() {
                None => Box::new(client),
                Some(dice) => Box::new(Proxy::before(client, dice)),
            };
            Ok(stream)
        })
    }
}

/// The address of a server of a storage in memory.
pub fn serve(options: ServerOptions) -> String {
    let description = Description {
        location: "memory".to_owned(),
        undoes: true,
        iterates_records: true,
        keeps_blobs: false,
        is_read_only: false,
        interfaces: Vec::new(),
    };
    let store = Store::new(Arc::new(MemoryStorage::new("memory")));
    let offered = vec![Offered { name: "1".to_owned(), description, store }];
    let anywhere = [Address::Tcp("127.0.0.1:0".to_owned())];
    let server = runtime().block_on(Server::bind(&anywhere, offered, Arc::new(SystemClock), options)).unwrap();
    let address = server.addresses().unwrap().remove(0);
    runtime().spawn(server.run(std::future::pending()));
    address
}
