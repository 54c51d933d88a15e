//! Sends what a hostile pod might: packets from addresses that are not its own, and answers in the
//! name of others. Says how many frames left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Error;
use super::frames::{self, Ends, Mac};
use super::packet_socket::PacketSocket;

/// What to forge.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The kind of frame.
    #[arg(value_enum)]
    pub kind: Kind,
    /// The address to speak for: source of the packet, or the address that ARP or ND claims.
    #[arg(long)]
    pub claim: IpAddr,
    /// Destination, with a port for UDP; for ARP and ND the address that is asked or told.
    #[arg(long, value_parser = target)]
    pub to: SocketAddr,
    /// The interface.
    #[arg(long, default_value = "eth0")]
    pub interface: String,
    /// Hardware address of the receiver. Default: that of this namespace's next hop, learnt by
    /// sending one ordinary datagram to --to; for ARP requests, NS and RA the group address.
    #[arg(long, value_parser = mac)]
    pub to_mac: Option<Mac>,
    /// How many.
    #[arg(long, default_value_t = 10)]
    pub count: u32,
    /// Payload of UDP, to be recognised by.
    #[arg(long, default_value = "weft-spoof")]
    pub payload: String,
}

/// The kind of frame.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 or IPv6 UDP datagram with a foreign source.
    Udp,
    /// "Who has --to? Tell --claim": a gratuitous request poisons caches as a reply does.
    ArpRequest,
    /// "--claim is here."
    ArpReply,
    /// Neighbour Solicitation by --claim.
    Ns,
    /// Neighbour Advertisement for --claim, with override.
    Na,
    /// Router Advertisement with the prefix of --claim.
    Ra,
}

fn target(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 9));
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is no destination: write an address, with a port for UDP"))
}

fn mac(text: &str) -> Result<Mac, String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is no hardware address: write six hexadecimal bytes separated by colons"
            )
        })
}

/// Sends and prints the count.
///
/// # Errors
/// When the frame cannot be made or sent.
pub fn run(args: &Args) -> Result<bool, Error> {
    let socket = PacketSocket::open(&args.interface)?;
    let from = own_mac(&args.interface)?;
    let to = match (args.to_mac, args.kind) {
        (Some(mac), _) => mac,
        (None, Kind::ArpRequest) => [0xff; 6],
        (None, Kind::Ns | Kind::Ra) => [0x33, 0x33, 0, 0, 0, 1],
        (None, Kind::Udp | Kind::ArpReply | Kind::Na) => socket.next_hop(args.to)?,
    };
    let frame = forge(args, Ends { from, to }).ok_or_else(|| {
        Error::Argument(format!(
            "{:?} with --claim {} and --to {}: wrong or different families",
            args.kind, args.claim, args.to
        ))
    })?;
    for _ in 0..args.count {
        socket.send(&frame)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    super::print(&serde_json::json!({"sent": args.count, "bytes": frame.len()}));
    Ok(true)
}

fn forge(args: &Args, ends: Ends) -> Option<Vec<u8>> {
    let to = (args.to.ip(), args.to.port());
    match args.kind {
        Kind::Udp => frames::udp(ends, (args.claim, 4242), to, args.payload.as_bytes()),
        Kind::ArpRequest => Some(frames::arp(ends, false, v4(args.claim)?, v4(to.0)?)),
        Kind::ArpReply => Some(frames::arp(ends, true, v4(args.claim)?, v4(to.0)?)),
        Kind::Ns => frames::solicitation(ends, v6(args.claim)?, v6(to.0)?, v6(to.0)?),
        Kind::Na => frames::advertisement(ends, v6(args.claim)?, v6(to.0)?, v6(args.claim)?),
        Kind::Ra => frames::router(ends, link_local(ends.from), v6(args.claim)?),
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address {
        Some(address)
    } else {
        None
    }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address {
        Some(address)
    } else {
        None
    }
}

/// The link-local address made from a hardware address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let word = u16::from_be_bytes;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word([a ^ 2, b]),
        word([c, 0xff]),
        word([0xfe, d]),
        word([e, f]),
    )
}

fn own_mac(interface: &str) -> Result<Mac, Error> {
    let all = nix::ifaddrs::getifaddrs().map_err(Error::call("list interfaces"))?;
    let mut own = all.filter(|entry| entry.interface_name == interface);
    own.find_map(|entry| entry.address.as_ref()?.as_link_addr()?.addr())
        .ok_or_else(|| Error::Argument(format!("{interface} has no hardware address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_made_from_a_hardware_address() {
        assert_eq!(
            link_local([0x02, 0, 0, 0, 0, 1]).to_string(),
            "fe80::ff:fe00:1"
        );
    }

    #[test]
    fn hardware_addresses_are_read_and_nonsense_is_refused() {
        assert_eq!(mac("02:00:00:00:00:0a"), Ok([2, 0, 0, 0, 0, 10]));
        assert!(mac("02:00").is_err() && mac("zz:00:00:00:00:00").is_err());
    }
}
