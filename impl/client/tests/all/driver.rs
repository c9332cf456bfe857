//! Callers that wait do the client's work: on many threads, beside futures, and at the end.

use std::sync::Arc;

use vellum_client::{Client, ClientError, ClientOptions};
use vellum_server::ServerOptions;
use vellum_storage::{Event, Oid, Tid, TransactionMeta};

use crate::common::{patient, runtime, serve};

fn client() -> Client {
    let mut options = ClientOptions::at(&serve(ServerOptions::default()));
    options.config.patience = patient();
    // Every load asks the server.
    options.config.cache_bytes = 0;
    Client::open(options).unwrap()
}

fn commit(client: &Client, oid: Oid, data: &str) -> Tid {
    let transaction = client.begin(TransactionMeta::new());
    transaction.store(oid, Tid::ZERO, data.to_owned().into());
    transaction.commit().wait().unwrap()
}

#[test]
fn many_threads_wait_at_the_same_time_and_each_gets_its_answer() {
    let client = client();
    let data = |thread: u64, n: u64| format!("object {n} of thread {thread}");
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..20 {
                    let oid = client.new_oid().wait().unwrap();
                    commit(client, oid, &data(thread, n));
                    for _ in 0..5 {
                        let found = client.load(oid).wait().unwrap().unwrap();
                        assert_eq!(found.data, data(thread, n));
                    }
                }
            });
        }
        // Futures of another runtime, which nobody drives by waiting.
        for _ in 0..50 {
            runtime().block_on(client.sync()).unwrap();
        }
    });
}

#[test]
fn within_another_runtime_a_thread_waits_and_drives_nothing() {
    let client = client();
    let tid = commit(&client, Oid(1), "one");
    let there = client.clone();
    let found = runtime().block_on(async move {
        let waits = tokio::task::spawn_blocking(move || there.load(Oid(1)).wait());
        waits.await.unwrap()
    });
    assert_eq!(found.unwrap().unwrap().tid, tid);
}

#[test]
fn news_arrive_while_nobody_waits() {
    let (client, address) = {
        let address = serve(ServerOptions::default());
        (Client::open(ClientOptions::at(&address)).unwrap(), address)
    };
    client.connected().wait().unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    let _listening = client.listen(Arc::new(move |event: &Event| _ = tell.send(event.clone())));
    let other = Client::open(ClientOptions::at(&address)).unwrap();
    for n in 1..5 {
        let tid = commit(&other, Oid(n), "news");
        assert!(matches!(heard.recv().unwrap(), Event::Committed { tid: of, .. } if of == tid));
        client.sync().wait().unwrap();
    }
}

#[test]
fn the_end_of_a_client_answers_those_that_wait() {
    // Nobody listens there.
    let client = Client::open(ClientOptions::at("127.0.0.1:9")).unwrap();
    let promises: Vec<_> = (0..3).map(|_| client.connected()).collect();
    let waiting: Vec<_> = promises.into_iter().map(|promise| std::thread::spawn(move || promise.wait())).collect();
    let late = client.load(Oid(1));
    drop(client);
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), Err(ClientError::Closed));
    }
    assert_eq!(late.wait(), Err(ClientError::Closed));
}

/// The last handle of a client is dropped by the thread that does its work: with an answer, and by a listener.
#[test]
fn a_client_may_end_on_its_own_thread() {
    let (ended, ends) = std::sync::mpsc::channel();
    let address = serve(ServerOptions::default());
    for by_listener in [false, true] {
        let client = Client::open(ClientOptions::at(&address)).unwrap();
        client.connected().wait().unwrap();
        let last = std::sync::Mutex::new(Some(client.clone()));
        let ended = ended.clone();
        let drops = move || {
            let has_dropped = last.lock().unwrap().take().is_some();
            if has_dropped {
                ended.send(()).unwrap();
            }
        };
        if by_listener {
            let listening = client.listen(Arc::new(move |_: &Event| drops()));
            drop(client);
            let other = Client::open(ClientOptions::at(&address)).unwrap();
            commit(&other, Oid(1), "news");
            ends.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for itself");
            drop(listening);
        } else {
            client.sync().finally(move |_| drops());
            drop(client);
            ends.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for itself");
        }
    }
}
