//! Sockets in, answers out: what all of them share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use weft_core::zones::Zones;

use crate::fast::{self, Manner, Verdict};
use crate::message::Transport;
use crate::metrics::{Counters, Metrics};
use crate::slow;
use crate::upstream::Upstream;

mod https;
pub mod queue;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod udp;

/// What is served.
pub struct Served {
    /// What names answer.
    pub zones: ArcSwap<Zones>,
    /// Who is asked for the rest.
    pub upstream: Upstream,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set: no more is taken.
    pub stopped: AtomicBool,
    rotation: AtomicU32,
    turns: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Served {
    /// Serves zones.
    #[must_use]
    pub fn new(zones: Zones, upstream: Upstream, metrics: Arc<Metrics>) -> Self {
        Self {
            zones: ArcSwap::from_pointee(zones),
            upstream,
            metrics,
            stopped: AtomicBool::new(false),
            rotation: AtomicU32::new(0),
            turns: Mutex::default(),
        }
    }

    /// What the server is beside its zones.
    #[must_use]
    pub fn manner(&self) -> Manner {
        Manner {
            recursive: self.upstream.is_some(),
        }
    }

    /// A number for a serving thread to count its turns by: one that stands still hangs.
    #[must_use]
    pub fn turn_counter(&self) -> Arc<AtomicU64> {
        let counter = Arc::<AtomicU64>::default();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.push(Arc::clone(&counter));
        counter
    }

    /// How many turns each serving thread has made.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .collect()
    }

    /// Answers a message on whichever path it needs; for transports where a message is not worth a path of its own.
    pub async fn answer(
        &self,
        counters: &Counters,
        packet: &[u8],
        client: IpAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let zones = self.zones.load_full();
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        let stream = transport == Transport::Stream;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        match fast::answer(
            &zones,
            self.manner(),
            packet,
            Some(client),
            transport,
            rotation,
            &mut buffer,
        ) {
            Verdict::Drop => {
                counters.dropped();
                None
            }
            Verdict::Reply(length) => {
                buffer.truncate(length);
                counters.answered(false, stream, packet, &buffer);
                Some(buffer)
            }
            Verdict::Slow => {
                let answer = slow::answer(
                    &zones,
                    &self.upstream,
                    packet,
                    Some(client),
                    transport,
                    rotation,
                )
                .await;
                match &answer {
                    Some(answer) => counters.answered(true, stream, packet, answer),
                    None => counters.dropped(),
                }
                answer
            }
        }
    }
}
