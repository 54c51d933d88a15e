//! Questions that wait for the slow path: a bounded number, shared out fairly.
//!
//! A full queue gives up the oldest, whose client has most likely asked again already. Where it is half full, one client
//! may hold an eighth of it, so that a client that asks without end stands in nobody's way but its own.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

use super::Served;
use crate::message::Transport;
use crate::metrics::Metrics;
use crate::slow;

/// Questions that may wait.
const CAPACITY: usize = 4096;
/// Questions that are asked of others at once.
const AT_ONCE: usize = 1024;

/// A question that waits.
pub struct Job {
    /// The message.
    pub packet: Box<[u8]>,
    /// Who asks.
    pub client: SocketAddr,
    /// Where the answer is sent from.
    pub socket: Arc<UdpSocket>,
    /// Where sets of records begin.
    pub rotation: u32,
}

/// Questions that wait.
pub struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
    capacity: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    held: HashMap<IpAddr, usize>,
}

impl Waiting {
    fn take(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        if let Some(held) = self.held.get_mut(&job.client.ip()) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&job.client.ip());
            }
        }
        Some(job)
    }
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::bounded(CAPACITY, metrics)
    }

    fn bounded(capacity: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            news: Notify::new(),
            capacity,
            metrics,
        }
    }

    /// Puts a question at the end.
    pub fn push(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let held = waiting
            .held
            .get(&job.client.ip())
            .copied()
            .unwrap_or_default();
        if waiting.jobs.len() * 2 >= self.capacity && held * 8 >= self.capacity {
            self.metrics.shed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if waiting.jobs.len() >= self.capacity {
            waiting.take();
            self.metrics.shed.fetch_add(1, Ordering::Relaxed);
        }
        *waiting.held.entry(job.client.ip()).or_default() += 1;
        waiting.jobs.push_back(job);
        drop(waiting);
        self.news.notify_one();
    }

    fn take(&self) -> Option<Job> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Answers what waits, for ever.
    pub async fn run(self: Arc<Self>, served: Arc<Served>) {
        let counters = served.metrics.counters();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Some(job) = self.take() else {
                self.news.notified().await;
                continue;
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let (served, counters) = (Arc::clone(&served), Arc::clone(&counters));
            tokio::spawn(async move {
                let zones = served.zones.load_full();
                let client = Some(job.client.ip());
                let answer = slow::answer(
                    &zones,
                    &served.upstream,
                    &job.packet,
                    client,
                    Transport::Udp,
                    job.rotation,
                );
                match answer.await {
                    Some(answer) => {
                        counters.answered(true, false, &job.packet, &answer);
                        // A client that is gone needs no answer.
                        let _ = job.socket.send_to(&answer, job.client);
                    }
                    None => counters.dropped(),
                }
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, socket: &Arc<UdpSocket>, client: u8, rotation: u32) {
        queue.push(Job {
            packet: Box::default(),
            client: SocketAddr::from(([192, 0, 2, client], 1)),
            socket: Arc::clone(socket),
            rotation,
        });
    }

    #[test]
    fn the_oldest_gives_way_and_one_client_does_not_fill_the_queue() {
        let metrics = Arc::<Metrics>::default();
        let queue = Queue::bounded(16, Arc::clone(&metrics));
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        for client in 0..16 {
            push(&queue, &socket, client, u32::from(client));
        }
        push(&queue, &socket, 100, 100);
        assert_eq!(queue.take().map(|job| job.rotation), Some(1));
        for rotation in 200..210 {
            push(&queue, &socket, 200, rotation);
        }
        let left: Vec<_> = std::iter::from_fn(|| queue.take())
            .map(|job| job.rotation)
            .collect();
        assert_eq!(left.iter().filter(|&&rotation| rotation >= 200).count(), 2);
        assert!(left.contains(&100));
        assert_eq!(metrics.shed.load(Ordering::Relaxed), 1 + 8 + 1);
    }
}
