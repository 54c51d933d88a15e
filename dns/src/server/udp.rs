//! Datagrams: each thread has its own socket at the same port, and takes, answers and sends many at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg,
};

use super::Served;
use super::queue::{Job, Queue};
use crate::fast::{self, Verdict};
use crate::message::{Transport, UDP_LIMIT};
use crate::metrics::Counters;

/// Messages taken at once.
const BATCH: usize = 64;
/// Longest question that is taken: names have 255 bytes, options seldom more than these.
const LARGEST: usize = 1500;
/// How soon a thread sees that it has to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// Serves one socket until it is to stop.
pub struct Server {
    served: Arc<Served>,
    queue: Arc<Queue>,
    socket: Arc<UdpSocket>,
    counters: Arc<Counters>,
    turns: Arc<AtomicU64>,
    rotation: u32,
}

/// Room for one batch.
struct Batch {
    questions: Box<[[u8; LARGEST]; BATCH]>,
    lengths: [usize; BATCH],
    clients: [Option<SockaddrStorage>; BATCH],
    answers: Box<[[u8; UDP_LIMIT]; BATCH]>,
    /// Length of each answer, and to whom it goes.
    outgoing: Vec<(usize, usize)>,
}

impl Server {
    /// Takes a socket.
    ///
    /// # Errors
    /// The socket refuses its options.
    pub fn new(served: Arc<Served>, queue: Arc<Queue>, socket: UdpSocket) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            counters: served.metrics.counters(),
            turns: served.turn_counter(),
            served,
            queue,
            socket: Arc::new(socket),
            rotation: 0,
        })
    }

    /// Serves.
    pub fn run(mut self) {
        let mut batch = Batch {
            questions: Box::new([[0; LARGEST]; BATCH]),
            lengths: [0; BATCH],
            clients: [None; BATCH],
            answers: Box::new([[0; UDP_LIMIT]; BATCH]),
            outgoing: Vec::with_capacity(BATCH),
        };
        let mut incoming = MultiHeaders::preallocate(BATCH, None);
        let mut outgoing = MultiHeaders::preallocate(BATCH, None);
        while !self.served.stopped.load(Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
            match batch.receive(&self.socket, &mut incoming) {
                Ok(count) => self.answer(&mut batch, count),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                // An ICMP error of an earlier answer, most likely; a socket that is broken for good does not spin.
                Err(error) => {
                    tracing::debug!(%error, "failed to receive");
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            }
            batch.send(&self.socket, &mut outgoing);
        }
    }

    fn answer(&mut self, batch: &mut Batch, count: usize) {
        let zones = self.served.zones.load();
        let manner = self.served.manner();
        batch.outgoing.clear();
        for index in 0..count {
            let Some(client) = batch.clients[index].as_ref().and_then(to_std) else {
                continue;
            };
            let packet = &batch.questions[index][..batch.lengths[index]];
            let room = &mut batch.answers[batch.outgoing.len()];
            self.rotation = self.rotation.wrapping_add(1);
            let verdict = fast::answer(
                &zones,
                manner,
                packet,
                Some(client.ip()),
                Transport::Udp,
                self.rotation,
                room,
            );
            match verdict {
                Verdict::Drop => self.counters.dropped(),
                Verdict::Reply(length) => {
                    self.counters
                        .answered(false, false, packet, &room[..length]);
                    batch.outgoing.push((length, index));
                }
                Verdict::Slow => self.queue.push(Job {
                    packet: packet.into(),
                    client,
                    socket: Arc::clone(&self.socket),
                    rotation: self.rotation,
                }),
            }
        }
    }
}

impl Batch {
    fn receive(
        &mut self,
        socket: &UdpSocket,
        headers: &mut MultiHeaders<SockaddrStorage>,
    ) -> Result<usize, Errno> {
        let mut rest = self.questions.iter_mut();
        let mut slices: [[io::IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            [io::IoSliceMut::new(
                rest.next().map_or(&mut [], |room| room.as_mut_slice()),
            )]
        });
        let received = recvmmsg(
            socket.as_raw_fd(),
            headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        )?;
        let mut count = 0;
        for message in received {
            self.lengths[count] = message.bytes;
            self.clients[count] = message.address;
            count += 1;
        }
        Ok(count)
    }

    fn send(&mut self, socket: &UdpSocket, headers: &mut MultiHeaders<SockaddrStorage>) {
        let mut from = 0;
        while from < self.outgoing.len() {
            let left = &self.outgoing[from..];
            let slices: [[io::IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
                let length = left.get(index).map_or(0, |(length, _)| *length);
                [io::IoSlice::new(
                    &self.answers[(from + index) % BATCH][..length],
                )]
            });
            let clients: [Option<SockaddrStorage>; BATCH] = std::array::from_fn(|index| {
                left.get(index)
                    .and_then(|(_, client)| self.clients[*client])
            });
            let none: [ControlMessage<'_>; 0] = [];
            let slices = &slices[..left.len()];
            let sent = sendmmsg(
                socket.as_raw_fd(),
                headers,
                slices,
                &clients[..left.len()],
                none,
                MsgFlags::empty(),
            );
            // One that cannot be sent is left out: its client is gone, or asks again.
            from += sent.map_or(1, |sent| sent.count()).max(1);
        }
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((four.ip(), four.port())));
    }
    let six = address.as_sockaddr_in6()?;
    debug_assert!(six.len() > 0);
    Some(SocketAddr::from((six.ip(), six.port())))
}
