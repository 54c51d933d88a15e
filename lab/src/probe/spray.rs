//! Datagrams to every address of some networks, again and again: whoever gets one of the addresses is
//! sent to from its first instant.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Error, stop};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(2);

/// Where to, and for how long.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Networks of at most 4096 addresses.
    #[arg(required = true)]
    pub networks: Vec<IpNet>,
    /// The destination port.
    #[arg(long, default_value_t = 7474)]
    pub port: u16,
}

/// What was sent.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sprayed {
    /// Rounds: datagrams to each address.
    pub rounds: u64,
    /// The longest time between two datagrams to an address, in microseconds.
    pub longest_us: u64,
}

/// Sends until SIGTERM. The first line is printed after the first round.
///
/// # Errors
/// When a network is too large or a socket cannot be made.
pub fn run(args: &Args) -> Result<bool, Error> {
    let stop = stop::Stop::install()?;
    let mut targets: Vec<SocketAddr> = Vec::new();
    for net in &args.networks {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        if bits > 12 {
            return Err(Error::Argument(format!("{net} has too many addresses")));
        }
        let first = net.network();
        targets.extend((0..1_u32 << bits).map(|at| SocketAddr::new(plus(first, at), args.port)));
    }
    let any = |ip: &str| {
        let socket = UdpSocket::bind((ip, 0)).map_err(Error::io("open a socket"))?;
        socket
            .set_nonblocking(true)
            .map_err(Error::io("open a socket"))?;
        Ok::<_, Error>(socket)
    };
    let (v4, v6) = (any("0.0.0.0")?, any("::")?);
    let mut sprayed = Sprayed::default();
    let mut last = Instant::now();
    while !stop.asked() {
        for to in &targets {
            let socket = if to.is_ipv4() { &v4 } else { &v6 };
            // Nobody may have the address: the node says so, which is no error of ours.
            let _ = socket.send_to(b"spray", to);
        }
        sprayed.rounds += 1;
        let took = u64::try_from(last.elapsed().as_micros()).unwrap_or(u64::MAX);
        sprayed.longest_us = sprayed.longest_us.max(took);
        last = Instant::now();
        if sprayed.rounds == 1 {
            super::print(&sprayed);
        }
        std::thread::sleep(PAUSE);
    }
    super::print(&sprayed);
    Ok(true)
}

fn plus(first: IpAddr, at: u32) -> IpAddr {
    match first {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + at).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + u128::from(at)).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_network_follow_each_other() {
        assert_eq!(
            plus("10.0.0.255".parse().unwrap(), 1).to_string(),
            "10.0.1.0"
        );
        assert_eq!(
            plus("fd00::ff".parse().unwrap(), 1).to_string(),
            "fd00::100"
        );
    }
}
