//! Frames as bytes: Ethernet with IPv4 or IPv6 UDP, ARP (RFC 826), and Neighbour Discovery (RFC 4861).
//! Every field can lie; checksums are right, so that only the lie can be a reason to drop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];

/// Who a frame pretends to come from, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Hardware address of the sender.
    pub from: Mac,
    /// Hardware address of the receiver.
    pub to: Mac,
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A UDP datagram. `None` when the addresses are of different families or the payload is too long.
pub fn udp(
    ends: Ends,
    source: (IpAddr, u16),
    to: (IpAddr, u16),
    payload: &[u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + 8).ok()?;
    let mut segment = Vec::new();
    for word in [source.1, to.1, length, 0] {
        segment.extend(word.to_be_bytes());
    }
    segment.extend(payload);
    let (ethertype, packet) = match (source.0, to.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let pseudo = [
                &from.octets()[..],
                &to.octets(),
                &[0, 17],
                &length.to_be_bytes(),
            ]
            .concat();
            write_checksum(&pseudo, &mut segment, 6);
            (0x0800_u16, ipv4(from, to, &segment)?)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            write_checksum(&pseudo_v6(from, to, length, 17), &mut segment, 6);
            (0x86dd, ipv6(from, to, 17, 64, &segment)?)
        }
        _ => return None,
    };
    Some(ethernet(ends, ethertype, &packet))
}

/// An ARP request (`reply` false) or reply: `sender` claims to be at the frame's own hardware address.
pub fn arp(ends: Ends, reply: bool, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, if reply { 2 } else { 1 }];
    packet.extend(ends.from);
    packet.extend(sender.octets());
    packet.extend(if reply { ends.to } else { [0; 6] });
    packet.extend(target.octets());
    ethernet(ends, 0x0806, &packet)
}

/// A Neighbour Solicitation for `target` by `source`, with the source's hardware address.
pub fn solicitation(
    ends: Ends,
    source: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
) -> Option<Vec<u8>> {
    let body = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &target.octets(),
        &[1, 1],
        &ends.from,
    ]
    .concat();
    icmp6(ends, source, to, body)
}

/// A Neighbour Advertisement that claims `target` for the frame's own hardware address, with override.
pub fn advertisement(
    ends: Ends,
    source: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
) -> Option<Vec<u8>> {
    let body = [
        &[136, 0, 0, 0, 0x20, 0, 0, 0][..],
        &target.octets(),
        &[2, 1],
        &ends.from,
    ]
    .concat();
    icmp6(ends, source, to, body)
}

/// A Router Advertisement to all nodes: a default router, and the /64 of `prefix` for autoconfiguration.
pub fn router(ends: Ends, source: Ipv6Addr, prefix: Ipv6Addr) -> Option<Vec<u8>> {
    let head = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let information = [
        3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
    ];
    let body = [
        &head[..],
        &[1, 1],
        &ends.from,
        &information,
        &prefix.octets(),
    ]
    .concat();
    icmp6(ends, source, ALL_NODES, body)
}

fn icmp6(ends: Ends, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Option<Vec<u8>> {
    let pseudo = pseudo_v6(from, to, u16::try_from(body.len()).ok()?, 58);
    write_checksum(&pseudo, &mut body, 2);
    // Neighbour Discovery demands a hop limit of 255 (RFC 4861, section 6.1).
    Some(ethernet(ends, 0x86dd, &ipv6(from, to, 58, 255, &body)?))
}

fn ethernet(ends: Ends, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&ends.to[..], &ends.from, &ethertype.to_be_bytes(), packet].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(segment.len() + 20).ok()?.to_be_bytes();
    let mut head = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 17, 0, 0];
    head.extend(from.octets());
    head.extend(to.octets());
    write_checksum(&[], &mut head, 10);
    head.extend(segment);
    Some(head)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(body.len()).ok()?.to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, hops];
    Some([&head[..], &from.octets(), &to.octets(), body].concat())
}

fn pseudo_v6(from: Ipv6Addr, to: Ipv6Addr, length: u16, next: u8) -> Vec<u8> {
    [
        &from.octets()[..],
        &to.octets(),
        &[0, 0],
        &length.to_be_bytes(),
        &[0, 0, 0, next],
    ]
    .concat()
}

fn write_checksum(pseudo: &[u8], bytes: &mut [u8], at: usize) {
    let sum = match checksum(pseudo, bytes) {
        // UDP says "none" with 0, so a sum of 0 is written as all ones (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The internet checksum (RFC 1071) over both parts, of which the first has an even length.
fn checksum(first: &[u8], second: &[u8]) -> u16 {
    let words = first.chunks(2).chain(second.chunks(2));
    let mut sum: u32 = words
        .map(|word| (u32::from(word[0]) << 8) + u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 2],
    };

    #[test]
    fn checksums_of_ipv4_udp_add_up() {
        let frame = udp(
            ENDS,
            ("10.0.0.1".parse().unwrap(), 1),
            ("10.0.0.2".parse().unwrap(), 2),
            b"abc",
        )
        .unwrap();
        assert_eq!(frame.len(), 14 + 20 + 8 + 3);
        assert_eq!(checksum(&[], &frame[14..34]), 0);
        let pseudo = [&frame[26..34], &[0, 17, 0, 11]].concat();
        assert_eq!(checksum(&pseudo, &frame[34..]), 0);
    }

    #[test]
    fn checksums_of_neighbour_discovery_add_up() {
        let (from, to) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
        for frame in [
            solicitation(ENDS, from, to, "fd00::9".parse().unwrap()).unwrap(),
            advertisement(ENDS, from, to, "fd00::9".parse().unwrap()).unwrap(),
            router(ENDS, from, "2001:db8::".parse().unwrap()).unwrap(),
        ] {
            let body = &frame[54..];
            let pseudo = pseudo_v6(from, to, u16::try_from(body.len()).unwrap(), 58);
            assert_eq!(checksum(&pseudo, body), 0);
            assert_eq!(frame[21], 255);
        }
    }

    #[test]
    fn families_do_not_mix() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert!(udp(ENDS, (v4, 1), (v6, 2), b"").is_none());
    }
}
