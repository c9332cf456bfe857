//! The port for operations.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use vellum_server::report::State;
use vellum_server::{Description, Monitor, Offered, Server, ServerOptions, Store, monitor};
use vellum_storage::{MemoryStorage, SystemClock, Tid};

use crate::shell::Client;

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn probes_say_what_the_server_is_doing_also_when_it_is_busy() {
    let monitor = Monitor::listen("127.0.0.1:0").unwrap();
    let probes = |wanted: [u16; 3]| {
        let found = ["/live", "/startup", "/ready"].map(|path| get(monitor.address(), path).0);
        assert_eq!(found, wanted, "of /live, /startup and /ready");
    };
    probes([200, 503, 503]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    runtime.block_on(async {
        let storage = Arc::new(MemoryStorage::new("memory"));
        let description = Description {
            location: "memory".to_owned(),
            undoes: true,
            iterates_records: true,
            keeps_blobs: true,
            is_read_only: false,
            interfaces: Vec::new(),
        };
        let offered = vec![Offered { name: "1".to_owned(), description, store: Store::new(storage) }];
        let server = Server::bind(&[], offered, Arc::new(SystemClock), ServerOptions::default()).await.unwrap();
        server.tell(&monitor);
        let door = server.door();
        let server = tokio::spawn(server.run(async move { _ = ended.await }));
        let (client, side) = tokio::io::duplex(1 << 16);
        door.enter(side, "a pipe").await;
        let mut client = Client::new(client);
        client.register().await;
        client.commit(0, Tid::ZERO, "one").await.unwrap();
        client.load(0).await.unwrap();
        // From here on this thread, which is the server's only one, asks and waits: so it is busy.
        probes([200, 200, 200]);
        let (status, metrics) = get(monitor.address(), "/metrics");
        assert_eq!(status, 200);
        for line in [
            "vellum_loads_total{storage=\"1\"} 1",
            "vellum_commits_total{storage=\"1\"} 1",
            "vellum_clients 1",
            "vellum_load_seconds_count 1",
            "vellum_finish_seconds_count 1",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
        }
        assert_eq!(get(monitor.address(), "/elsewhere").0, 404);
        end.send(()).unwrap();
        server.await.unwrap().unwrap();
    });
    probes([200, 200, 503]);
}

#[test]
fn a_report_can_be_asked_for() {
    let monitor = Monitor::listen("127.0.0.1:0").unwrap();
    let error = monitor::ask(&monitor.address().to_string()).unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("starting"), "{error}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let storage = Arc::new(MemoryStorage::new("memory"));
    let description = Description {
        location: "memory".to_owned(),
        undoes: true,
        iterates_records: true,
        keeps_blobs: true,
        is_read_only: false,
        interfaces: Vec::new(),
    };
    let offered = vec![Offered { name: "1".to_owned(), description, store: Store::new(storage) }];
    let server = runtime.block_on(Server::bind(&[], offered, Arc::new(SystemClock), ServerOptions::default())).unwrap();
    server.tell(&monitor);
    let report = monitor::ask(&monitor.address().to_string()).unwrap();
    assert_eq!((report.state, report.storages[0].name.as_str()), (State::Serving, "1"));
}
