//! Questions: as many as a server takes, at a steady rate, and with the time to each answer.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{NAMESPACE, SERVICES};

/// Clients that ask at once, each with its own socket: more than servers have threads.
const CLIENTS: usize = 4;
/// Questions of one client that are under way.
const WINDOW: usize = 64;
/// How long a client waits before it counts what is under way as lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A name that has an address.
    Hit,
    /// The same, of a type that it does not have.
    NoData,
    /// What a search list asks for first.
    NoName,
}

impl Question {
    fn packets(self) -> Vec<Vec<u8>> {
        (0..SERVICES).map(|number| self.packet(number)).collect()
    }

    fn packet(self, number: usize) -> Vec<u8> {
        let mut name = format!("web-{number}.{NAMESPACE}.svc.cluster.local");
        if self == Self::NoName {
            name = format!("{name}.{NAMESPACE}.svc.cluster.local");
        }
        let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap_or(63));
            packet.extend(label.as_bytes());
        }
        let kind = if self == Self::NoData { 28 } else { 1 };
        packet.extend([0, 0, kind, 0, 1]);
        packet
    }
}

fn socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// One question of a kind, and whether the answer is right.
pub(super) fn check(at: SocketAddr, question: Question) -> Result<()> {
    let socket = socket(at)?;
    socket.send(&question.packet(7))?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).context("no answer")?;
    let (code, records) = (answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]]));
    let right = match question {
        Question::Hit => code == 0 && records == 1,
        Question::NoData => code == 0 && records == 0,
        Question::NoName => code == 3 && records == 0,
    };
    if !right || length < 12 {
        bail!("{question:?} was answered with code {code} and {records} records");
    }
    Ok(())
}

/// Asks without a pause; how many were answered.
pub(super) fn flat_out(at: SocketAddr, question: Question, time: Duration) -> Result<u64> {
    let packets = question.packets();
    // Inside the node: threads of this thread are there too.
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| client(at, &packets, time)))
            .collect();
        let mut answered = 0;
        for client in clients {
            let counted = client
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a client panicked")));
            answered += counted?;
        }
        Ok(answered)
    })
}

fn client(at: SocketAddr, packets: &[Vec<u8>], time: Duration) -> io::Result<u64> {
    let socket = socket(at)?;
    let mut answer = [0; 1500];
    let (mut sent, mut answered, mut under_way) = (0_usize, 0, 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        while under_way < WINDOW {
            socket.send(&packets[sent % packets.len()])?;
            sent += 1;
            under_way += 1;
        }
        // Half the window comes back before more is sent.
        while under_way > WINDOW / 2 {
            match socket.recv(&mut answer) {
                Ok(_) => {
                    answered += 1;
                    under_way -= 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => under_way = 0,
                Err(error) => return Err(error),
            }
        }
    }
    while under_way > 0 && socket.recv(&mut answer).is_ok() {
        answered += 1;
        under_way -= 1;
    }
    Ok(answered)
}

/// Asks one question after another at a rate; how many were answered. Fails where the server does not keep up.
pub(super) fn steady(at: SocketAddr, question: Question, rate: u32, time: Duration) -> Result<u64> {
    let (packets, socket) = (question.packets(), socket(at)?);
    let mut answer = [0; 1500];
    let begin = Instant::now();
    let total = (f64::from(rate) * time.as_secs_f64()) as u32;
    let mut answered = 0;
    for number in 0..total {
        let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        socket.send(&packets[number as usize % packets.len()])?;
        answered += u64::from(socket.recv(&mut answer).is_ok());
    }
    let late = begin.elapsed().as_secs_f64() / time.as_secs_f64();
    if late > 1.1 || answered < u64::from(total) * 99 / 100 {
        bail!(
            "{answered} of {total} questions were answered, in {late:.2} of the time: the rate was not held"
        );
    }
    Ok(answered)
}

/// Asks at a rate without waiting for answers: 99 of 100 came within so many microseconds.
pub(super) fn waits(at: SocketAddr, rate: u32, time: Duration) -> Result<f64> {
    let (packets, socket) = (Question::Hit.packets(), socket(at)?);
    let total = (f64::from(rate) * time.as_secs_f64()) as usize;
    let begin = Instant::now();
    let receiving = socket.try_clone()?;
    let took = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut took = Vec::with_capacity(total);
            let mut answer = [0; 1500];
            // Numbers are sixteen bits: the nearest one below the present is meant.
            while let Ok(length) = receiving.recv(&mut answer) {
                if length < 12 {
                    continue;
                }
                let now = begin.elapsed();
                let present = (now.as_secs_f64() * f64::from(rate)) as i64;
                let number = i64::from(u16::from_be_bytes([answer[0], answer[1]]));
                let behind = (present - number).rem_euclid(65_536);
                let behind = if behind > 65_000 {
                    behind - 65_536
                } else {
                    behind
                };
                let due = (present - behind) as f64 / f64::from(rate);
                took.push((now.as_secs_f64() - due) * 1e6);
                if took.len() == total {
                    break;
                }
            }
            took
        });
        for number in 0..total {
            let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
            // Sleeping is too coarse for a question each 20 µs.
            while begin.elapsed() < due {
                std::hint::spin_loop();
            }
            let mut packet = packets[number % packets.len()].clone();
            packet[..2].copy_from_slice(&u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes());
            socket.send(&packet)?;
        }
        receiver
            .join()
            .map_err(|_| anyhow::anyhow!("the receiver panicked"))
    })?;
    if took.len() < total * 99 / 100 {
        bail!("{} of {total} questions were answered", took.len());
    }
    let sample: crate::bench::sample::Sample = took.into_iter().collect();
    Ok(sample.figure(crate::bench::sample::Statistic::P99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_asked_at_a_rate_and_flat_out() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0; 1500];
            while let Ok((length, client)) = server.recv_from(&mut datagram) {
                let _ = server.send_to(&datagram[..length], client);
            }
        });
        let time = Duration::from_millis(200);
        assert!(flat_out(at, Question::Hit, time).unwrap() > 100);
        assert_eq!(steady(at, Question::NoData, 100, time).unwrap(), 20);
        assert!(waits(at, 1000, time).unwrap() > 0.0);
        assert!(check(at, Question::Hit).is_err(), "an echo is no answer");
    }
}
