//! The receiving end. Arrival times are the kernel's own, so that a busy machine does not look like
//! a silent network, and the kernel's count of packets dropped at this very socket is told apart.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use super::ledger::Ledger;
use super::packet::Packet;
use super::{GREETING, ReceiveArgs};
use crate::probe::answer::canonical;
use crate::probe::stop::Stop;
use crate::probe::{Error, now_ns, print, serve};

/// Room for two seconds at 10,000 packets a second.
const BUFFER: usize = 16 << 20;

pub(super) fn run(args: &ReceiveArgs) -> Result<bool, Error> {
    let stop = Stop::install()?;
    let socket = serve::udp_socket(args.port)?;
    // Without CAP_NET_ADMIN the largest that the machine allows.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER));
    setsockopt(&socket, sockopt::RxqOvfl, &1).map_err(Error::call("set SO_RXQ_OVFL"))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
        .map_err(Error::call("set SO_TIMESTAMPNS"))?;
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .map_err(Error::io("set a timeout"))?;
    print(&serde_json::json!({"listening": args.port}));
    let mut ledgers: BTreeMap<u64, Ledger> = BTreeMap::new();
    let mut overrun = 0;
    let mut last = Instant::now();
    while !stop.asked() || last.elapsed() < args.drain {
        let Some(arrival) = receive(&socket)? else {
            continue;
        };
        last = Instant::now();
        overrun = arrival.overrun.unwrap_or(overrun);
        let Some(packet) = arrival.packet else {
            continue;
        };
        if packet.flow == GREETING {
            // A greeting that gets lost is sent again.
            let _ = socket.send_to(&packet.encode(), arrival.source_as_seen);
        } else {
            let ledger = ledgers
                .entry(packet.flow)
                .or_insert_with(|| Ledger::new(packet.flow));
            ledger.enter(&packet, arrival.source, arrival.at);
        }
    }
    for ledger in ledgers.values() {
        print(&ledger.close(u64::from(overrun)));
    }
    Ok(true)
}

struct Arrival {
    packet: Option<Packet>,
    source: SocketAddr,
    source_as_seen: SocketAddr,
    at: u64,
    overrun: Option<u32>,
}

/// `None` when nothing came for a while.
fn receive(socket: &UdpSocket) -> Result<Option<Arrival>, Error> {
    let mut bytes = [0; 2048];
    let mut control = nix::cmsg_space!(TimeSpec, u32);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    );
    let message = match message {
        Ok(message) => message,
        Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ECONNREFUSED) => return Ok(None),
        Err(error) => return Err(Error::call("receive")(error)),
    };
    let (mut at, mut overrun) = (now_ns(), None);
    for part in message
        .cmsgs()
        .map_err(Error::call("read control messages"))?
    {
        match part {
            ControlMessageOwned::ScmTimestampns(time) => at = nanoseconds(time),
            ControlMessageOwned::RxqOvfl(count) => overrun = Some(count),
            _ => {}
        }
    }
    let source = message.address.and_then(|address| source(&address));
    let length = message.bytes;
    Ok(source.map(|seen| Arrival {
        packet: Packet::decode(&bytes[..length]),
        source: canonical(seen),
        source_as_seen: seen,
        at,
        overrun,
    }))
}

fn nanoseconds(time: TimeSpec) -> u64 {
    let whole = u64::try_from(time.tv_sec())
        .unwrap_or(0)
        .saturating_mul(1_000_000_000);
    whole + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

fn source(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
    })
}
