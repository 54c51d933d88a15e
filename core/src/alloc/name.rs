//! The name of a block: the only spelling of its network, so that the API server itself refuses a
//! second block for the same network. `10.64.0.0/26` is `v4-0a400000-26`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Name of the block of a network; host bits do not count.
#[must_use]
pub fn block_name(cidr: IpNet) -> String {
    let length = cidr.prefix_len();
    match cidr.network() {
        IpAddr::V4(network) => format!("v4-{:08x}-{length}", u32::from(network)),
        IpAddr::V6(network) => format!("v6-{:032x}-{length}", u128::from(network)),
    }
}

/// The network that a block's name says; `None` for a name that no block can have.
#[must_use]
pub fn parse_block_name(name: &str) -> Option<IpNet> {
    let (family, rest) = name.split_once('-')?;
    let (network, length) = rest.split_once('-')?;
    let length = length.parse().ok()?;
    let address = match family {
        "v4" => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(network, 16).ok()?)),
        "v6" => IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(network, 16).ok()?)),
        _ => return None,
    };
    let cidr = IpNet::new(address, length).ok()?;
    (block_name(cidr) == name).then_some(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_name_and_the_name_one_network() {
        for (cidr, name) in [
            ("10.64.0.0/26", "v4-0a400000-26"),
            ("0.0.0.0/20", "v4-00000000-20"),
            ("fd00:64::40/122", "v6-fd000064000000000000000000000040-122"),
        ] {
            let cidr: IpNet = cidr.parse().unwrap();
            assert_eq!(block_name(cidr), name);
            assert_eq!(parse_block_name(name), Some(cidr));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for name in [
            "v4-0A400000-26",
            "v4-a400000-26",
            "v4-0a400001-26",
            "v4-0a400000-33",
            "v4-0a400000-026",
            "v5-0a400000-26",
            "v6-0a400000-26",
            "v4-0a400000",
            "",
        ] {
            assert_eq!(parse_block_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_sort_like_networks() {
        let mut names = ["10.64.0.64/26", "9.0.0.0/26", "10.64.0.0/26"]
            .map(|cidr| block_name(cidr.parse().unwrap()));
        names.sort();
        assert_eq!(
            names,
            ["v4-09000000-26", "v4-0a400000-26", "v4-0a400040-26"]
        );
    }
}
