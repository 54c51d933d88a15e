//! New connections through a Service to the outside world's echo: of both nodes in turn, and without
//! a break while something else happens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::bench::inside::{enter, inside};
use crate::bench::sample::Sample;
use crate::place::Place;

/// The echo of the lab's outside world.
pub const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 7070);
/// Connections of one figure.
const CONNECTIONS: u32 = 400;

/// Microseconds of a connection, of both nodes.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Ours.
    pub ours: Sample,
    /// The peer's.
    pub peer: Sample,
}

/// Measures both nodes in turn, the first of them changing.
///
/// # Errors
/// When a connection fails.
pub fn in_turn(ours: &Place, peer: &Place, to: SocketAddr, rounds: usize) -> Result<Pair> {
    let mut pair = Pair::default();
    for round in 0..rounds + 1 {
        let figures = if round % 2 == 0 {
            let first = one(ours, to)?;
            (first, one(peer, to)?)
        } else {
            let first = one(peer, to)?;
            (one(ours, to)?, first)
        };
        // The first fills caches.
        if round > 0 {
            pair.ours.push(figures.0);
            pair.peer.push(figures.1);
        }
    }
    Ok(pair)
}

fn one(place: &Place, to: SocketAddr) -> Result<f64> {
    inside(place, || {
        let begin = Instant::now();
        for _ in 0..CONNECTIONS {
            connect(to).with_context(|| format!("in {}", place.name()))?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CONNECTIONS))
    })
}

fn connect(to: SocketAddr) -> std::io::Result<()> {
    TcpStream::connect_timeout(&to, Duration::from_secs(3)).map(drop)
}

/// Connections without a break.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(u64, u64)>>,
}

impl Load {
    /// Starts them.
    ///
    /// # Errors
    /// Never at present.
    pub fn start(place: &Place, to: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, pid) = (stop.clone(), place.pid());
        let thread = std::thread::spawn(move || {
            enter(pid)?;
            let (mut tried, mut failed) = (0, 0);
            while !asked.load(Ordering::Acquire) {
                tried += 1;
                failed += u64::from(connect(to).is_err());
            }
            Ok((tried, failed))
        });
        Ok(Self { stop, thread })
    }

    /// Ends them: how many were tried, and how many failed.
    ///
    /// # Errors
    /// When the node could not be entered.
    pub fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread panicked")))
    }
}
