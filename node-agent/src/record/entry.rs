//! What the record says, and what its entries mean together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_core::plan::Mac;
use weft_core::view::AttachmentKey;

/// One change of the record.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "entry", rename_all = "camelCase")]
pub enum Entry {
    /// A sandbox has got its addresses.
    Assign(Assignment),
    /// A sandbox is gone; its addresses rest.
    #[serde(rename_all = "camelCase")]
    Release {
        /// Which.
        container_id: String,
        /// Which interface of it.
        ifname: String,
        /// Its addresses, which rest from now on.
        cooling: Vec<Cooling>,
    },
    /// Addresses have rested long enough.
    CoolDownEnd {
        /// Which.
        addresses: Vec<IpAddr>,
    },
}

/// Everything about an attachment that a restart needs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The sandbox's id.
    pub container_id: String,
    /// The interface inside the sandbox.
    pub ifname: String,
    /// Path of the sandbox's network namespace, as the runtime gave it.
    pub netns: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Host end of the veth pair.
    pub host_link: String,
    /// Its hardware address.
    #[serde(with = "mac")]
    pub host_mac: Mac,
    /// Hardware address inside the sandbox.
    #[serde(with = "mac")]
    pub pod_mac: Mac,
    /// MTU of the pair, in bytes.
    pub mtu: u32,
    /// At most one address of each family.
    pub addresses: Vec<Assigned>,
    /// Host ports that are forwarded to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<RecordedPort>,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// An address and where it came from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// The pool.
    pub pool: String,
}

/// An address that rests.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// The address.
    pub address: IpAddr,
    /// The pool that it came from.
    pub pool: String,
    /// Until when, in seconds since 1970.
    pub until: u64,
}

/// A host port as it was asked for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecordedPort {
    /// The port on the node.
    pub host_port: u16,
    /// Only at this address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port in the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What all entries so far mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Attachments.
    pub assignments: BTreeMap<AttachmentKey, Assignment>,
    /// Resting addresses.
    pub cooling: BTreeMap<IpAddr, Cooling>,
}

impl Assignment {
    /// The attachment.
    pub fn key(&self) -> AttachmentKey {
        AttachmentKey {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

impl State {
    /// How many entries say all of it.
    pub fn len(&self) -> usize {
        self.assignments.len() + self.cooling.len()
    }

    /// Nothing is assigned and nothing rests.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one entry's meaning.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Assign(assignment) => {
                for assigned in &assignment.addresses {
                    self.cooling.remove(&assigned.address);
                }
                self.assignments
                    .insert(assignment.key(), assignment.clone());
            }
            Entry::Release {
                container_id,
                ifname,
                cooling,
            } => {
                let key = AttachmentKey {
                    container_id: container_id.clone(),
                    ifname: ifname.clone(),
                };
                self.assignments.remove(&key);
                for rest in cooling {
                    self.cooling.insert(rest.address, rest.clone());
                }
            }
            Entry::CoolDownEnd { addresses } => {
                addresses.iter().for_each(|address| {
                    self.cooling.remove(address);
                });
            }
        }
    }

    /// The entries of a new record with the same meaning.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self
            .assignments
            .values()
            .cloned()
            .map(Entry::Assign)
            .collect();
        if !self.cooling.is_empty() {
            entries.push(Entry::Release {
                container_id: String::new(),
                ifname: String::new(),
                cooling: self.cooling.values().cloned().collect(),
            });
        }
        entries
    }
}

/// Hardware addresses as text.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use weft_core::plan::Mac;

    pub(super) fn serialize<S: Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
