//! The options of a client.

use std::path::PathBuf;
use std::sync::Arc;

use crate::machine::{Access, Config};
use crate::shell::dial::Address;
use crate::shell::tls::Certificates;

/// Objects in a hint.
const HINT_SIZE: usize = 16;
/// How a client is run.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where servers are. They are tried in order.
    pub addresses: Vec<Address>,
    /// The choices that the protocol leaves to the client.
    pub config: Config,
    /// The certificates, where servers speak TLS.
    pub tls: Option<Arc<Certificates>>,
    /// Bytes that a message may have: 512 MiB.
    pub message_size_max: usize,
    /// The file in which hints are kept over a restart. None: they are not kept.
    pub hints: Option<PathBuf>,
    /// The file of the cache, and its bytes. None: the cache is in memory.
    pub cache_file: Option<(PathBuf, u64)>,
    /// The file to which a trace of the cache is appended. None: there is no trace.
    pub trace: Option<PathBuf>,
}

impl ClientOptions {
    /// The options for a server at one address: host and port, or the path of a Unix socket.
    pub fn at(address: &str) -> ClientOptions {
        ClientOptions {
            addresses: vec![Address::parse(address)],
            config: Config::default(),
            tls: None,
            message_size_max: 512 << 20,
            hints: None,
            cache_file: None,
            trace: None,
        }
    }

    /// Adds an address, for when there is no server at the earlier ones.
    pub fn or_at(mut self, address: &str) -> ClientOptions {
        self.addresses.push(Address::parse(address));
        self
    }

    /// Sets what the server calls the storage.
    pub fn storage(mut self, name: &str) -> ClientOptions {
        self.config.storage = name.to_owned();
        self
    }

    /// Has the client work with versions, if its server has them. A commit in a version names objects whose trunk it
    /// does not change, so this client forgets more than others at each invalidation, and asks the server for each
    /// load of now.
    pub fn versions(mut self, versions: bool) -> ClientOptions {
        self.config.versions = versions;
        self
    }

    /// Has the client learn which objects are loaded after which, and keep that in a file: rule 9.7. After a restart
    /// the server sends what will probably be loaded next.
    pub fn hints(mut self, file: impl Into<PathBuf>) -> ClientOptions {
        self.hints = Some(file.into());
        if self.config.hint_size == 0 {
            self.config.hint_size = HINT_SIZE;
        }
        self
    }

    /// Has the client cache in a file of so many bytes, which it makes. The next start finds there what this one
    /// loaded: the server says which objects were changed in between. A file of another database is emptied.
    pub fn cache_file(mut self, path: impl Into<PathBuf>, bytes: u64) -> ClientOptions {
        self.cache_file = Some((path.into(), bytes));
        self
    }

    /// Has all loads, stores and invalidations of the cache appended to a file, in the format of ZEO's clients.
    pub fn trace(mut self, file: impl Into<PathBuf>) -> ClientOptions {
        self.trace = Some(file.into());
        self
    }

    /// Sets whether the client writes.
    pub fn access(mut self, access: Access) -> ClientOptions {
        self.config.access = access;
        self
    }
}
