//! The port for operations: probes, metrics, and what `vellum status` shows.
//!
//! It has a thread and a runtime of its own, so that it answers whatever the server is doing:
//!
//! | path | answer |
//! |---|---|
//! | `/live` | 200 |
//! | `/startup` | 200 once the storages are open; 503 before |
//! | `/ready` | 200 as long as clients are accepted; 503 before and at the end |
//! | `/metrics` | the counters in Prometheus' text format |
//! | `/status` | a [`Report`] as JSON |

mod metrics;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use vellum_sync::Mutex;

use crate::hub::Hub;
use crate::report::{Report, State};

/// A client of the port that says nothing is gone after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A question is given up after this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers at the port for operations, from before the storages are opened until the process ends.
#[derive(Debug)]
pub struct Monitor {
    address: SocketAddr,
    watched: Arc<Watched>,
}

#[derive(Default)]
struct Watched {
    hub: Mutex<Option<Weak<Hub>>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.state())
    }
}

impl Watched {
    /// The state of the server, without its lock.
    fn state(&self) -> State {
        match &*self.hub.lock() {
            None => State::Starting,
            Some(hub) => match hub.upgrade() {
                Some(hub) if !hub.is_ending() => State::Serving,
                _ => State::Ending,
            },
        }
    }

    fn report(&self) -> Option<Report> {
        let hub = self.hub.lock().as_ref().and_then(Weak::upgrade);
        hub.map(|hub| hub.report())
    }
}

impl Monitor {
    /// Listens, and answers on a thread of its own.
    ///
    /// # Errors
    ///
    /// The address is in use, or invalid.
    pub fn listen(address: &str) -> io::Result<Monitor> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let watched = Arc::<Watched>::default();
        let shared = Arc::clone(&watched);
        let thread = std::thread::Builder::new().name("vellum-monitor".to_owned());
        thread.spawn(move || {
            if let Err(error) = runtime.block_on(answer_all(listener, shared)) {
                tracing::error!(%error, "the port for operations is closed");
            }
        })?;
        Ok(Monitor { address, watched })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn watch(&self, hub: Weak<Hub>) {
        *self.watched.hub.lock() = Some(hub);
    }
}

async fn answer_all(listener: TcpListener, watched: Arc<Watched>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Too many files are open, for example.
            Err(error) => {
                tracing::warn!(%error, "the port for operations could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let watched = Arc::clone(&watched);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(request.uri().path(), &watched);
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A client that is gone is no trouble of ours.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(path: &str, watched: &Watched) -> Response<Full<Bytes>> {
    let state = watched.state();
    let probe = |is_good: bool| {
        let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        respond(status, "text/plain", format!("{state:?}\n").to_lowercase())
    };
    let report = |show: fn(&Report) -> (&'static str, String)| match watched.report() {
        None => probe(false),
        Some(report) => {
            let (kind, text) = show(&report);
            respond(StatusCode::OK, kind, text)
        }
    };
    match path {
        "/live" => probe(true),
        "/startup" => probe(state != State::Starting),
        "/ready" => probe(state == State::Serving),
        "/metrics" => report(|report| (metrics::CONTENT_TYPE, metrics::text(report))),
        "/status" => report(|report| {
            ("application/json", serde_json::to_string(report).expect("a report has only names and numbers"))
        }),
        _ => {
            let known = "there are /live, /startup, /ready, /metrics and /status\n";
            respond(StatusCode::NOT_FOUND, "text/plain", known.to_owned())
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(Bytes::from(text)));
    response.expect("a status and a type are a right answer")
}

/// Asks the port for operations of a server for its report.
///
/// # Errors
///
/// No server answers there, or not with a report.
pub fn ask(address: &str) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, get(address, "/status")).await });
    let (status, body) = asked.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "there is no answer"))??;
    let text = String::from_utf8_lossy(&body);
    if status != StatusCode::OK {
        return Err(io::Error::other(format!("the answer is {status}: {}", text.trim())));
    }
    serde_json::from_slice(&body).map_err(|_| io::Error::other("the answer is no report: is it the port of a monitor?"))
}

async fn get(address: &str, path: &str) -> io::Result<(StatusCode, Bytes)> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request =
        Request::get(path).header("host", address).body(Full::<Bytes>::default()).map_err(io::Error::other)?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((status, body))
    };
    // The sender goes with the exchange, and the connection ends with the sender.
    let (exchanged, _) = tokio::join!(exchange, connection);
    exchanged.map_err(io::Error::other)
}
