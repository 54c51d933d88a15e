//! Counts the frames that arrive at an interface and match, so that a scenario can say on the
//! receiver's side that nothing arrived, or that something did.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Error;
use super::packet_socket::PacketSocket;
use super::stop::Stop;

/// What to count.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The interface.
    #[arg(long, default_value = "eth0")]
    pub interface: String,
    /// Only frames that contain this address, in a header or an ARP or ND body.
    #[arg(long)]
    pub mentions: Option<IpAddr>,
    /// Only frames that contain this text.
    #[arg(long)]
    pub contains: Option<String>,
    /// Count what leaves too.
    #[arg(long)]
    pub outgoing: bool,
    /// End by itself after so long. Default: at SIGTERM.
    #[arg(long = "for", value_parser = super::duration)]
    pub for_: Option<Duration>,
}

/// What was counted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Matching frames by kind: udp, tcp, icmp, arp-request, arp-reply, ns, na, ra, icmp6, other.
    pub frames: BTreeMap<String, u64>,
    /// All frames that arrived: with 0 the silence proves nothing.
    pub seen: u64,
}

/// Counts until it is stopped, then prints.
///
/// # Errors
/// When the interface cannot be listened at.
pub fn run(args: &Args) -> Result<bool, Error> {
    let stop = Stop::install()?;
    let socket = PacketSocket::open(&args.interface)?;
    super::print(&serde_json::json!({"listening": args.interface}));
    let start = Instant::now();
    let mut counted = Counted::default();
    let mut buffer = vec![0; 65536];
    while !stop.asked() && args.for_.is_none_or(|limit| start.elapsed() < limit) {
        let Some(frame) = socket.receive(&mut buffer)? else {
            continue;
        };
        if frame.outgoing && !args.outgoing {
            continue;
        }
        counted.seen += 1;
        if matches(args, frame.bytes) {
            *counted
                .frames
                .entry(kind(frame.bytes).to_owned())
                .or_default() += 1;
        }
    }
    super::print(&counted);
    Ok(true)
}

fn matches(args: &Args, frame: &[u8]) -> bool {
    let text = args
        .contains
        .as_ref()
        .is_none_or(|text| contains(frame, text.as_bytes()));
    let address = args.mentions.is_none_or(|address| match address {
        IpAddr::V4(address) => contains(frame, &address.octets()),
        IpAddr::V6(address) => contains(frame, &address.octets()),
    });
    text && address
}

fn contains(frame: &[u8], part: &[u8]) -> bool {
    part.is_empty() || frame.windows(part.len()).any(|window| window == part)
}

fn kind(frame: &[u8]) -> &'static str {
    let byte = |at: usize| frame.get(at).copied().unwrap_or(0);
    match (u16::from_be_bytes([byte(12), byte(13)]), byte(23), byte(20)) {
        (0x0806, ..) if byte(21) == 2 => "arp-reply",
        (0x0806, ..) => "arp-request",
        (0x0800, 17, _) | (0x86dd, _, 17) => "udp",
        (0x0800, 6, _) | (0x86dd, _, 6) => "tcp",
        (0x0800, 1, _) => "icmp",
        (0x86dd, _, 58) => match byte(54) {
            134 => "ra",
            135 => "ns",
            136 => "na",
            _ => "icmp6",
        },
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::frames::{Ends, advertisement, arp, router, udp};

    const ENDS: Ends = Ends {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 2],
    };

    #[test]
    fn every_forged_kind_is_recognised() {
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap();
        let v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap();
        assert_eq!(
            kind(&arp(ENDS, true, v4("10.0.0.1"), v4("10.0.0.2"))),
            "arp-reply"
        );
        assert_eq!(
            kind(&arp(ENDS, false, v4("10.0.0.1"), v4("10.0.0.2"))),
            "arp-request"
        );
        assert_eq!(
            kind(&router(ENDS, v6("fe80::1"), v6("2001:db8::")).unwrap()),
            "ra"
        );
        assert_eq!(
            kind(&advertisement(ENDS, v6("fe80::1"), v6("ff02::1"), v6("fd00::9")).unwrap()),
            "na"
        );
        let datagram = udp(
            ENDS,
            (v6("fd00::1").into(), 1),
            (v6("fd00::2").into(), 2),
            b"mark",
        )
        .unwrap();
        assert_eq!(kind(&datagram), "udp");
        assert!(contains(&datagram, b"mark") && !contains(&datagram, b"other"));
    }
}
