//! Trouble on the way: bytes that are delayed, split, and cut off, by dice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// The trouble on the way of a client's connections.
#[derive(Clone, Default)]
pub struct Trouble(Option<Arc<Odds>>);

struct Odds {
    seed: AtomicU64,
    /// A connection is cut after some piece, by chance one in so many; never, if zero.
    cut_one_in: u64,
}

impl Trouble {
    /// Nothing.
    pub fn none() -> Trouble {
        Trouble(None)
    }

    /// Splits and delays, and cuts one piece in so many; none, if zero.
    pub fn by(seed: u64, cut_one_in: u64) -> Trouble {
        Trouble(Some(Arc::new(Odds { seed: AtomicU64::new(seed), cut_one_in })))
    }

    pub fn next(&self) -> Option<Dice> {
        let odds = self.0.as_ref()?;
        let state = odds.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        Some(Dice { state: state | 1, cut_one_in: odds.cut_one_in })
    }
}

/// Xorshift.
#[derive(Clone)]
pub struct Dice {
    state: u64,
    cut_one_in: u64,
}

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }
}

/// The client's end of a proxy.
pub struct Proxy;

impl Proxy {
    /// A proxy before a server.
    pub fn before(server: UnixStream, mut dice: Dice) -> DuplexStream {
        let (client, here) = tokio::io::duplex(64 << 10);
        let (from_client, to_client) = tokio::io::split(here);
        let (from_server, to_server) = tokio::io::split(server);
        let second = Dice { state: dice.roll(u64::MAX) | 1, ..dice };
        tokio::spawn(async move {
            tokio::select! {
                () = pass(from_client, to_server, dice) => {}
                () = pass(from_server, to_client, second) => {}
            }
        });
        client
    }
}

async fn pass<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, mut dice: Dice)
where
    R: tokio::io::AsyncRead,
    W: tokio::io::AsyncWrite,
{
    let mut buffer = vec![0; 4096];
    loop {
        let size = if dice.roll(4) == 0 { 16 } else { 4096 };
        let most = 1 + dice.roll(size) as usize;
        let Ok(count @ 1..) = from.read(&mut buffer[..most]).await else { return };
        match dice.roll(16) {
            0 => tokio::time::sleep(Duration::from_micros(dice.roll(3000))).await,
            1..=5 => tokio::task::yield_now().await,
            _ => {}
        }
        if dice.cut_one_in > 0 && dice.roll(dice.cut_one_in) == 0 {
            // Some of it still arrives.
            let rest = dice.roll(count as u64) as usize;
            _ = to.write_all(&buffer[..rest]).await;
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
