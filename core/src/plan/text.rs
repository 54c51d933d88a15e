//! Plans as text: lines in the manner of `ip`, sorted, then sysctls, then the nft table.

use std::fmt;

use super::{LinkAddress, NetState, NodePlan, PodLink, Route, VxlanLink};

impl fmt::Display for NodePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            net,
            table,
            sysctls,
        } = self;
        write!(f, "{net}")?;
        for (path, value) in sysctls {
            writeln!(f, "sysctl {path} = {value}")?;
        }
        write!(f, "{table}")
    }
}

impl fmt::Display for NetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vxlans,
            pod_links,
            addresses,
            neighbours,
            forwarding,
            routes,
        } = self;
        for (link, vxlan) in vxlans {
            writeln!(f, "link {link} {vxlan}")?;
        }
        for (link, pod) in pod_links {
            writeln!(f, "link {link} {pod}")?;
        }
        for address in addresses {
            writeln!(f, "address {address}")?;
        }
        for ((link, ip), mac) in neighbours {
            writeln!(f, "neighbour {ip} lladdr {mac} dev {link}")?;
        }
        for ((link, mac), ip) in forwarding {
            writeln!(f, "fdb {mac} dst {ip} dev {link}")?;
        }
        for (destination, route) in routes {
            writeln!(f, "route {destination} {route}")?;
        }
        Ok(())
    }
}

impl fmt::Display for VxlanLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vni,
            port,
            local,
            mac,
            mtu,
        } = self;
        write!(
            f,
            "vxlan id {vni} port {port} local {local} address {mac} mtu {mtu}"
        )
    }
}

impl fmt::Display for PodLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mac, mtu } = self;
        write!(f, "pod address {mac} mtu {mtu}")
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            link,
            address,
            link_scope,
        } = self;
        let scope = if *link_scope { " scope link" } else { "" };
        write!(f, "{address} dev {link}{scope}")
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => write!(f, "unreachable"),
            Self::Local { source } => {
                write!(f, "local")?;
                source.map_or(Ok(()), |source| write!(f, " src {source}"))
            }
            Self::Unicast {
                link,
                via,
                onlink,
                source,
                mtu,
            } => {
                if let Some(via) = via {
                    write!(f, "via {via} ")?;
                }
                write!(f, "dev {link}")?;
                if *onlink {
                    write!(f, " onlink")?;
                }
                if let Some(source) = source {
                    write!(f, " src {source}")?;
                }
                if let Some(mtu) = mtu {
                    write!(f, " mtu {mtu}")?;
                }
                Ok(())
            }
        }
    }
}
