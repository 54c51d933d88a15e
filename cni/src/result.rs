//! CNI results: reading one of any version, joining the previous plugin's with ours, and writing
//! the join in the version that was asked for.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{CniError, code};
use crate::version::Version;
use crate::wire::Added;

/// Fields of an interface that only 1.1.0 knows.
const INTERFACE_1_1: [&str; 3] = ["mtu", "socketPath", "pciID"];
/// Fields of a route that only 1.1.0 knows.
const ROUTE_1_1: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// What a plugin made. Fields of other plugins that are not named here pass through.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// Links on both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes inside the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Resolver settings of other plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Value>,
}

/// A link.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Path of the namespace that it is in; absent on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Everything else, such as `mac` and `mtu`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// An address.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Ip {
    /// With prefix length.
    pub address: String,
    /// Which of the interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// `4` or `6`; before 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Everything else, such as `gateway`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The destination with prefix length.
    pub dst: String,
    /// Everything else, such as `gw`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl CniResult {
    /// What the agent's answer means to a runtime.
    pub fn of(added: &Added, ifname: &str, netns: &str) -> Self {
        let interface = |name: &str, mac: &str, sandbox: Option<String>| Interface {
            name: name.to_owned(),
            sandbox,
            more: fields([("mac", mac.into()), ("mtu", added.mtu.into())]),
        };
        let mut result = Self {
            interfaces: vec![
                interface(&added.host_link, &added.host_mac, None),
                interface(ifname, &added.pod_mac, Some(netns.to_owned())),
            ],
            ..Self::default()
        };
        for address in &added.addresses {
            let (length, gateway, everywhere) = match address {
                IpAddr::V4(_) => (32, "169.254.1.1", "0.0.0.0/0"),
                IpAddr::V6(_) => (128, "fe80::1", "::/0"),
            };
            result.ips.push(Ip {
                address: format!("{address}/{length}"),
                interface: Some(1),
                version: None,
                more: fields([("gateway", gateway.into())]),
            });
            result.routes.push(Route {
                dst: everywhere.to_owned(),
                more: fields([("gw", gateway.into())]),
            });
        }
        result
    }

    /// Puts ours behind what the previous plugin of a chain made.
    pub fn after(mut self, previous: Option<Self>) -> Self {
        let Some(mut previous) = previous else {
            return self;
        };
        let shift = previous.interfaces.len();
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|index| index + shift);
        }
        previous.interfaces.append(&mut self.interfaces);
        previous.ips.append(&mut self.ips);
        previous.routes.append(&mut self.routes);
        previous
    }

    /// Whether ADD can put the pod's interface beside what a previous plugin made.
    ///
    /// # Errors
    /// Code 7 where the previous plugin made that interface or a default route.
    pub fn leaves_room_for(&self, ifname: &str) -> Result<(), CniError> {
        let refuse = |details: String| {
            Err(CniError::new(
                code::CONFIG,
                "prevResult leaves no room",
                details,
            ))
        };
        let inside = |interface: &&Interface| {
            interface
                .sandbox
                .as_deref()
                .is_some_and(|path| !path.is_empty())
        };
        if self
            .interfaces
            .iter()
            .filter(inside)
            .any(|interface| interface.name == ifname)
        {
            return refuse(format!(
                "a plugin before weft-cni made {ifname} in the sandbox; put weft-cni first in plugins, as it makes the interface itself"
            ));
        }
        match self.routes.iter().find(|route| route.dst.ends_with("/0")) {
            Some(route) => refuse(format!(
                "a plugin before weft-cni made the default route {}; the pod's default route is weft-cni's",
                crate::environment::excerpt(&route.dst)
            )),
            None => Ok(()),
        }
    }

    /// As JSON of a version.
    pub fn render(mut self, version: Version) -> Value {
        for ip in &mut self.ips {
            let family = if ip.address.contains(':') { "6" } else { "4" };
            ip.version = (version < Version::V1_0_0).then(|| family.to_owned());
        }
        if version < Version::V1_1_0 {
            let newer = |more: &mut Map<String, Value>, keys: &[&str]| {
                more.retain(|key, _| !keys.contains(&key.as_str()))
            };
            self.interfaces
                .iter_mut()
                .for_each(|interface| newer(&mut interface.more, &INTERFACE_1_1));
            self.routes
                .iter_mut()
                .for_each(|route| newer(&mut route.more, &ROUTE_1_1));
        }
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["cniVersion"] = version.as_str().into();
        value
    }
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn added() -> Added {
        Added {
            host_link: "weft1".to_owned(),
            host_mac: "02:00:00:00:00:01".to_owned(),
            pod_mac: "02:00:00:00:00:02".to_owned(),
            mtu: 1450,
            addresses: vec!["10.64.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        }
    }

    #[test]
    fn each_version_has_its_own_fields() {
        for version in Version::ALL {
            let value = CniResult::of(&added(), "eth0", "/run/netns/x").render(version);
            assert_eq!(value["cniVersion"], version.as_str());
            assert_eq!(value["ips"][0]["address"], "10.64.0.5/32");
            assert_eq!(value["ips"][1]["interface"], 1);
            assert_eq!(value["interfaces"][1]["sandbox"], "/run/netns/x");
            assert_eq!(value["routes"][1], json!({"dst": "::/0", "gw": "fe80::1"}));
            let family = (version == Version::V0_4_0).then_some("6");
            assert_eq!(
                value["ips"][1].get("version").and_then(Value::as_str),
                family
            );
            let mtu = (version == Version::V1_1_0).then_some(1450);
            assert_eq!(
                value["interfaces"][0].get("mtu").and_then(Value::as_u64),
                mtu
            );
        }
    }

    #[test]
    fn a_previous_result_passes_through_and_indexes_move() {
        let previous: CniResult = serde_json::from_value(json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "net1", "mac": "aa", "sandbox": "/run/netns/x", "socketPath": "/s"}],
            "ips": [{"version": "4", "address": "192.0.2.1/24", "interface": 0, "gateway": "192.0.2.254"}],
            "dns": {"nameservers": ["192.0.2.53"]},
        }))
        .unwrap();
        assert!(previous.leaves_room_for("eth0").is_ok());
        let value = CniResult::of(&added(), "eth0", "/x")
            .after(Some(previous))
            .render(Version::V1_0_0);
        assert_eq!(
            value["interfaces"][0],
            json!({"name": "net1", "mac": "aa", "sandbox": "/run/netns/x"})
        );
        assert_eq!(value["ips"][0]["gateway"], "192.0.2.254");
        assert!(value["ips"][0].get("version").is_none());
        assert_eq!(value["ips"][1]["interface"], 2);
        assert_eq!(value["dns"]["nameservers"][0], "192.0.2.53");
    }

    #[test]
    fn a_previous_result_with_our_interface_or_a_default_route_is_refused() {
        let rows = [
            json!({"interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}]}),
            json!({"routes": [{"dst": "0.0.0.0/0"}]}),
        ];
        for row in rows {
            let previous: CniResult = serde_json::from_value(row).unwrap();
            assert_eq!(
                previous.leaves_room_for("eth0").unwrap_err().code,
                code::CONFIG
            );
        }
        let host_side: CniResult =
            serde_json::from_value(json!({"interfaces": [{"name": "eth0"}]})).unwrap();
        assert!(host_side.leaves_room_for("eth0").is_ok());
    }
}
