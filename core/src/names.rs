//! The names, numbers and hardware addresses of what is ours: one place builds and recognises them.
//!
//! A freshly started process without any memory knows by these alone which links of the host are
//! ours; whatever is not recognised here belongs to somebody else and is never touched. All names
//! follow from what they stand for, so that a thing that is made again gets the same name.

use std::net::Ipv6Addr;

use sha2::{Digest, Sha256};

use crate::plan::{LinkName, Mac};
use crate::view::AttachmentKey;

/// Name of our one nft table (family `inet`).
pub const TABLE: &str = "weftnet";

/// Link group (`IFLA_GROUP`) of the host ends of pods' veth pairs, given when they are made.
///
/// Rules ask for the group: comparing a number is cheaper than comparing the beginning of a name.
pub const POD_LINK_GROUP: u32 = 8200;

/// Link group of such links when they are down and about to be deleted: the kernel deletes a group at
/// once in the time of one link.
pub const LEAVING_LINK_GROUP: u32 = 8201;

/// Bit of a connection's label (`ct label`) that says that policies do not allow it any more.
pub const REVOKED_LABEL: u8 = 82;

/// Hexadecimal digits after `weft` in the name of a pod's host link.
const POD_LINK_DIGITS: usize = 11;
/// The longest overlay name that stands in a link's name as it is.
const OVERLAY_NAME_BYTES: usize = 9;

/// A link of ours, recognised by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OurLink {
    /// The host end of a pod's veth pair.
    Pod,
    /// An overlay's VXLAN device.
    Vxlan,
}

/// What a link of this name is to us; `None` if it is somebody else's.
#[must_use]
pub fn recognise(link: &str) -> Option<OurLink> {
    let rest = link.strip_prefix("weft")?;
    if rest.len() == POD_LINK_DIGITS && rest.bytes().all(is_digit) {
        return Some(OurLink::Pod);
    }
    match rest.strip_prefix('x')? {
        literal if literal.strip_prefix('-').is_some_and(is_short_name) => Some(OurLink::Vxlan),
        hashed
            if hashed
                .strip_prefix('_')
                .is_some_and(|hash| hash.len() == 9 && hash.bytes().all(is_digit)) =>
        {
            Some(OurLink::Vxlan)
        }
        _ => None,
    }
}

/// Host end of the veth pair of one interface of one sandbox: `weft` and eleven hexadecimal digits.
#[must_use]
pub fn pod_link(key: &AttachmentKey) -> LinkName {
    format!("weft{}", hex(&attachment("link", key), POD_LINK_DIGITS))
}

/// VXLAN device of an overlay: `weftx-<name>`, or `weftx_<hash>` where the name is long or has dots.
#[must_use]
pub fn vxlan_link(overlay: &str) -> LinkName {
    if is_short_name(overlay) {
        format!("weftx-{overlay}")
    } else {
        format!("weftx_{}", hex(&digest(&["overlay", overlay]), 9))
    }
}

/// Hardware address of the host end of a pod's veth pair.
#[must_use]
pub fn host_mac(key: &AttachmentKey) -> Mac {
    local_mac(&attachment("host", key))
}

/// Hardware address of a pod's own interface.
#[must_use]
pub fn pod_mac(key: &AttachmentKey) -> Mac {
    local_mac(&attachment("pod", key))
}

/// Hardware address of a node's VXLAN device in an overlay.
#[must_use]
pub fn vtep_mac(node: &str, overlay: &str) -> Mac {
    local_mac(&digest(&["vtep", node, overlay]))
}

/// Link-local address that follows from a hardware address (modified EUI-64, RFC 4291, appendix A).
#[must_use]
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        ((a ^ 2) << 8) | b,
        (c << 8) | 0xff,
        0xfe00 | d,
        (e << 8) | f,
    )
}

fn is_short_name(name: &str) -> bool {
    (1..=OVERLAY_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn attachment(purpose: &str, key: &AttachmentKey) -> [u8; 32] {
    digest(&[purpose, &key.container_id, &key.ifname])
}

/// A digest of several texts; each is followed by a zero byte, which none of them contains.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}

/// A unicast address of one's own choosing: bit 1 of the first byte set, bit 0 clear (IEEE 802).
fn local_mac(digest: &[u8; 32]) -> Mac {
    let [first, b, c, d, e, f, ..] = *digest;
    Mac([(first | 2) & 0xfe, b, c, d, e, f])
}

fn hex(bytes: &[u8], digits: usize) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(digits)
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> AttachmentKey {
        AttachmentKey {
            container_id: id.to_owned(),
            ifname: "eth0".to_owned(),
        }
    }

    #[test]
    fn names_fit_the_kernel_and_are_recognised() {
        let links = [
            (pod_link(&key("a")), OurLink::Pod),
            (vxlan_link("default"), OurLink::Vxlan),
            (vxlan_link("a-very-long-name"), OurLink::Vxlan),
            (vxlan_link("with.dots"), OurLink::Vxlan),
        ];
        for (link, kind) in links {
            assert!(link.len() <= 15, "{link}");
            assert_eq!(recognise(&link), Some(kind), "{link}");
        }
    }

    #[test]
    fn links_of_others_are_not_recognised() {
        for link in [
            "eth0",
            "weft",
            "weft0",
            "weft0123456789",
            "weft0123456789A",
            "weft0123456789abcd",
            "weftx",
            "weftx-",
            "weftx-UPPER",
            "weftx_12345678",
            "weftx_12345678g",
            "weave",
            "veth1",
        ] {
            assert_eq!(recognise(link), None, "{link}");
        }
    }

    #[test]
    fn different_things_have_different_names_and_addresses() {
        let (a, b) = (key("a"), key("b"));
        assert_ne!(pod_link(&a), pod_link(&b));
        assert_ne!(host_mac(&a), pod_mac(&a));
        assert_ne!(vtep_mac("n1", "default"), vtep_mac("n2", "default"));
        assert_ne!(vxlan_link("long-overlay-1"), vxlan_link("long-overlay-2"));
    }

    #[test]
    fn hardware_addresses_are_unicast_and_of_our_own_choosing() {
        for id in 0..64 {
            let Mac([first, ..]) = pod_mac(&key(&id.to_string()));
            assert_eq!(first & 3, 2);
        }
    }

    #[test]
    fn link_local_addresses_are_modified_eui_64() {
        let mac = "02:00:5e:10:00:01".parse().unwrap();
        assert_eq!(
            link_local(mac),
            "fe80::5eff:fe10:1".parse::<Ipv6Addr>().unwrap()
        );
    }
}
