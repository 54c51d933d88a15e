//! Networks as users write them: from text to a network without host bits, or a problem.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_crds::reason;

use crate::problem::{Code, Problem};

/// Reads a network.
///
/// # Errors
/// A problem that names field, value and remedy.
pub fn parse(field: &str, text: &str) -> Result<IpNet, Problem> {
    let wrong = |remedy: String| {
        Problem::new(
            reason::INVALID_CIDR,
            Code::INVALID_CIDR,
            format!("{field} is {text:?}: {remedy}"),
        )
    };
    let network: IpNet = text.parse().map_err(|_| {
        wrong("write a network in CIDR form, such as 10.64.0.0/16 or fd00:64::/56".to_owned())
    })?;
    if network != network.trunc() {
        return Err(wrong(format!(
            "it has host bits set: write the network's own address, {}",
            network.trunc()
        )));
    }
    Ok(network)
}

/// Whether two networks share an address.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The network of one address.
#[must_use]
pub fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
