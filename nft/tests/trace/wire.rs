//! Packets as bytes and back: IPv4 and IPv6 with TCP, UDP or ICMP in them, checksums right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_nft::l4proto;
use weft_nft::trace::Packet;

/// Where a segment stands in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    First,
    Answer,
    Later,
}

/// TCP flags.
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Sequence numbers that both sides begin with.
const CLIENT: u32 = 1000;
const SERVER: u32 = 5000;

/// What came out of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A packet of a test.
    Packet(Packet),
    /// A TCP reset.
    Reset,
    /// An ICMP or ICMPv6 "destination unreachable" of this code.
    Unreachable(u8),
}

/// The bytes of a packet.
pub fn bytes(packet: &Packet, phase: Phase) -> Vec<u8> {
    let mut transport = match packet.protocol {
        l4proto::TCP => segment(packet, phase),
        l4proto::UDP => {
            let mut datagram = ports(packet);
            datagram.extend([0, 12, 0, 0]);
            datagram.extend(*b"weft");
            datagram
        }
        // An echo: type, code, checksum, identifier, number. The identifier is its own.
        _ => {
            let [high, low] = packet
                .source_port
                .max(packet.destination_port)
                .to_be_bytes();
            vec![packet.icmp_type, 0, 0, 0, high, low, 0, 1]
        }
    };
    let at = match packet.protocol {
        l4proto::TCP => 16,
        l4proto::UDP => 6,
        _ => 2,
    };
    let pseudo = match packet.protocol {
        l4proto::ICMP => Vec::new(),
        protocol => pseudo(packet, protocol, transport.len()),
    };
    let sum = checksum(&[pseudo, transport.clone()].concat());
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut all = header(packet, transport.len());
    all.extend(transport);
    all
}

/// What bytes from a node are; none if they are of no concern here.
pub fn heard(bytes: &[u8]) -> Option<Heard> {
    let (source, destination, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) =
        match bytes.first()? >> 4 {
            4 => {
                let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
                let length = usize::from(bytes[0] & 15) * 4;
                (address(12), address(16), bytes[9], &bytes[length..])
            }
            _ => {
                let address = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap().into();
                (address(8), address(24), bytes[6], &bytes[40..])
            }
        };
    transport(source, destination, protocol, rest)
}

/// The same for what a socket without the IP header gets.
pub fn transport(source: IpAddr, destination: IpAddr, protocol: u8, rest: &[u8]) -> Option<Heard> {
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let mut packet = Packet::icmp(source, destination, 0);
    packet.protocol = protocol;
    match protocol {
        l4proto::TCP if rest[13] & RST != 0 => return Some(Heard::Reset),
        l4proto::TCP | l4proto::UDP => {
            packet.source_port = port(0);
            packet.destination_port = port(2);
        }
        l4proto::ICMP | l4proto::ICMPV6 => match (protocol, rest[0]) {
            (l4proto::ICMP, 3) | (l4proto::ICMPV6, 1) => return Some(Heard::Unreachable(rest[1])),
            (l4proto::ICMP, 0 | 8) | (l4proto::ICMPV6, 128 | 129) => {
                packet.icmp_type = rest[0];
                packet.source_port = port(4);
            }
            _ => return None,
        },
        _ => return None,
    }
    Some(Heard::Packet(packet))
}

fn segment(packet: &Packet, phase: Phase) -> Vec<u8> {
    let (flags, sequence, acknowledged) = match phase {
        Phase::First => (SYN, CLIENT, 0),
        Phase::Answer => (SYN | ACK, SERVER, CLIENT + 1),
        Phase::Later => (ACK, CLIENT + 1, SERVER + 1),
    };
    let mut segment = ports(packet);
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

fn ports(packet: &Packet) -> Vec<u8> {
    [
        packet.source_port.to_be_bytes(),
        packet.destination_port.to_be_bytes(),
    ]
    .concat()
}

fn header(packet: &Packet, length: usize) -> Vec<u8> {
    let number = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = number(length + 20);
            let mut header = vec![0x45, 0, high, low, 0, 1, 0, 0, 64, packet.protocol, 0, 0];
            header.extend(addresses4(source, destination));
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = number(length);
            let mut header = vec![0x60, 0, 0, 0, high, low, packet.protocol, 64];
            header.extend(addresses6(source, destination));
            header
        }
        _ => panic!("{packet} has two families"),
    }
}

fn pseudo(packet: &Packet, protocol: u8, length: usize) -> Vec<u8> {
    let mut pseudo = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => addresses4(source, destination),
        (IpAddr::V6(source), IpAddr::V6(destination)) => addresses6(source, destination),
        _ => panic!("{packet} has two families"),
    };
    pseudo.extend(u32::try_from(length).unwrap().to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo
}

fn addresses4(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    [source.octets(), destination.octets()].concat()
}

fn addresses6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    [source.octets(), destination.octets()].concat()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
