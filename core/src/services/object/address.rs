//! Addresses and networks as old objects may spell them, and which of them nobody can be reached at.
//!
//! Kubernetes once accepted IPv4 numbers with leading zeros and read them as decimal; objects that
//! were written then still hold them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// An address; IPv4 numbers may have leading zeros and are decimal, an IPv4 address mapped into IPv6 is IPv4.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address.to_canonical()),
        Err(_) => ipv4(text).map(IpAddr::V4),
    }
}

/// A network, by the same rules; bits after the prefix are cleared.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let (ip, prefix) = text.trim().split_once('/')?;
    let prefix = decimal(prefix)?;
    let net = IpNet::new(address(ip)?, u8::try_from(prefix).ok()?).ok()?;
    Some(net.trunc())
}

/// Why nothing can be reached at an address, if so. As the API server's validation of endpoints and
/// external addresses.
pub(super) fn special(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0_u8; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = u8::try_from(decimal(parts.next()?)?).ok()?;
    }
    parts.next().is_none().then(|| bytes.into())
}

fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(address("010.020.000.009"), "10.20.0.9".parse().ok());
        assert_eq!(network(" 010.1.2.3/016 "), "10.1.0.0/16".parse().ok());
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        assert_eq!(address("::ffff:10.1.2.3"), "10.1.2.3".parse().ok());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.0x4",
            "1.2..3",
            "None",
            "-1.2.3.4",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "::/129", "/8"] {
            assert_eq!(network(text), None, "{text}");
        }
    }

    #[test]
    fn nobody_is_reached_at_special_addresses() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(special(text.parse().expect("an address")), "{text}");
        }
        for text in ["10.0.0.1", "fd00::1", "192.168.1.1", "100.64.0.1"] {
            assert!(!special(text.parse().expect("an address")), "{text}");
        }
    }
}
