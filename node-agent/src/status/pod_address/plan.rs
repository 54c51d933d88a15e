//! Attachments, Pods and PodAddresses become the writes that make the last agree with the others.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use weft_core::view::AttachmentKey;
use weft_crds::{PodAddress, PodAddressSpec};

use super::Change;
use crate::engine::Attached;
use crate::watch::objects::{Address, Pod};

/// What is known.
#[derive(Debug, Default)]
pub struct State {
    node: String,
    attached: BTreeMap<AttachmentKey, (u64, Attached)>,
    order: u64,
    complete: bool,
    /// This node's Pods by UID; `None` until synced.
    pub pods: Option<BTreeMap<String, Pod>>,
    /// This node's PodAddresses by namespace and name; `None` until synced.
    pub existing: Option<BTreeMap<String, Address>>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Not there yet.
    Create {
        /// What is wanted.
        address: Address,
        /// The owner: name and UID.
        pod: (String, String),
    },
    /// There, and different.
    Update {
        /// What is wanted.
        address: Address,
        /// What is there.
        before: Address,
    },
    /// There, and not wanted.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Write {
    /// Namespace and name of what is written.
    pub fn key(&self) -> String {
        let (namespace, name) = match self {
            Self::Create { address, .. } | Self::Update { address, .. } => {
                (&address.namespace, &address.name)
            }
            Self::Delete { namespace, name } => (namespace, name),
        };
        format!("{namespace}/{name}")
    }
}

impl State {
    /// Nothing is known yet.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            ..Self::default()
        }
    }

    /// Takes what the engine says.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Attached(attached) => {
                self.order += 1;
                self.attached
                    .insert(attached.key.clone(), (self.order, attached));
            }
            Change::Released(key) => {
                self.attached.remove(&key);
            }
            Change::Complete => self.complete = true,
        }
    }

    /// Takes note of a write that succeeded, before the watch tells of it.
    pub fn written(&mut self, write: Write) {
        let key = write.key();
        let existing = self.existing.get_or_insert_default();
        match write {
            Write::Create { address, .. } | Write::Update { address, .. } => {
                existing.insert(key, address);
            }
            Write::Delete { .. } => {
                existing.remove(&key);
            }
        }
    }

    /// The difference. Nothing before both stores have synced, and no deletion before the engine has
    /// told every attachment.
    pub fn plan(&self) -> Vec<Write> {
        let (Some(pods), Some(existing)) = (&self.pods, &self.existing) else {
            return Vec::new();
        };
        let mut wanted: BTreeMap<String, (&Attached, &Pod)> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        let mut newest_last: Vec<_> = self.attached.values().collect();
        newest_last.sort_by_key(|(order, _)| *order);
        for (_, attached) in newest_last {
            match find(pods, attached) {
                Some(pod) => {
                    wanted.insert(format!("{}/{}", pod.namespace, pod.uid), (attached, pod));
                }
                // Without its Pod there is nothing to copy labels from; what is there stays until
                // the attachment goes, or the owner reference takes it.
                None => {
                    kept.insert(format!("{}/{}", attached.namespace, attached.pod_uid));
                }
            }
        }
        let mut writes = Vec::new();
        for (key, (attached, pod)) in &wanted {
            let address = self.address(attached, pod);
            match existing.get(key) {
                None => writes.push(Write::Create {
                    address,
                    pod: (pod.name.clone(), pod.uid.clone()),
                }),
                Some(before) if *before != address => {
                    writes.push(Write::Update {
                        address,
                        before: before.clone(),
                    });
                }
                Some(_) => {}
            }
        }
        if self.complete {
            let gone = existing
                .iter()
                .filter(|(key, _)| !wanted.contains_key(*key) && !kept.contains(*key));
            writes.extend(gone.map(|(_, address)| Write::Delete {
                namespace: address.namespace.clone(),
                name: address.name.clone(),
            }));
        }
        writes
    }

    fn address(&self, attached: &Attached, pod: &Pod) -> Address {
        let spec = PodAddressSpec {
            node: self.node.clone(),
            pod: pod.name.clone(),
            addresses: attached.addresses.iter().map(ToString::to_string).collect(),
            pools: attached.pools.clone(),
            labels: pod.labels.clone(),
            ports: pod.ports.clone(),
        };
        Address {
            namespace: pod.namespace.clone(),
            name: pod.uid.clone(),
            spec,
        }
    }
}

/// The Pod of an attachment: by UID, which a static pod's mirror has as an annotation; by name where
/// the runtime gave no UID.
fn find<'a>(pods: &'a BTreeMap<String, Pod>, attached: &Attached) -> Option<&'a Pod> {
    let uid = &attached.pod_uid;
    pods.get(uid).or_else(|| {
        pods.values().find(|pod| {
            pod.namespace == attached.namespace
                && pod.name == attached.name
                && (uid.is_empty() || pod.static_uid.as_ref() == Some(uid))
        })
    })
}

/// The object to create. The owner reference takes it away when the node cannot.
pub fn object(address: &Address, (pod, uid): &(String, String)) -> PodAddress {
    let mut object = PodAddress::new(&address.name, address.spec.clone());
    object.metadata.namespace = Some(address.namespace.clone());
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    }]);
    object
}

/// The JSON merge patch (RFC 7386) from what is there to what is wanted: a label that is no longer
/// there must be named with null.
pub fn patch(address: &Address, before: &Address) -> Value {
    let PodAddressSpec {
        node,
        pod,
        addresses,
        pools,
        labels,
        ports,
    } = &address.spec;
    let mut merged: BTreeMap<&str, Value> = BTreeMap::new();
    merged.extend(
        before
            .spec
            .labels
            .keys()
            .map(|key| (key.as_str(), Value::Null)),
    );
    merged.extend(
        labels
            .iter()
            .map(|(key, value)| (key.as_str(), json!(value))),
    );
    json!({"spec": {
        "node": node, "pod": pod, "addresses": addresses, "pools": pools, "labels": merged, "ports": ports,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(container: &str, uid: &str, address: &str) -> Attached {
        Attached {
            key: AttachmentKey {
                container_id: container.to_owned(),
                ifname: "eth0".to_owned(),
            },
            pod_uid: uid.to_owned(),
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            addresses: vec![address.parse().unwrap()],
            pools: vec!["default".to_owned()],
        }
    }

    fn pod(uid: &str, label: &str) -> Pod {
        Pod {
            uid: uid.to_owned(),
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            labels: [("app".to_owned(), label.to_owned())].into(),
            ..Pod::default()
        }
    }

    fn synced(pods: &[Pod]) -> State {
        State {
            pods: Some(
                pods.iter()
                    .map(|pod| (pod.uid.clone(), pod.clone()))
                    .collect(),
            ),
            existing: Some(BTreeMap::new()),
            ..State::new("a")
        }
    }

    /// Plans and takes every write as done; returns a word for each.
    fn settle(state: &mut State) -> Vec<String> {
        let writes = state.plan();
        let told = writes.iter().map(|write| match write {
            Write::Create { address, .. } => format!(
                "create {} {}",
                address.name,
                address.spec.addresses.join(",")
            ),
            Write::Update { address, .. } => format!(
                "update {} {}",
                address.name,
                address.spec.addresses.join(",")
            ),
            Write::Delete { name, .. } => format!("delete {name}"),
        });
        let told = told.collect();
        writes.into_iter().for_each(|write| state.written(write));
        assert_eq!(state.plan(), [], "what was written is not written again");
        told
    }

    #[test]
    fn an_attachment_lives_from_creation_to_deletion() {
        let mut state = synced(&[pod("u", "x")]);
        state.change(Change::Complete);
        state.change(Change::Attached(attached("c1", "u", "10.64.0.5")));
        assert_eq!(settle(&mut state), ["create u 10.64.0.5"]);
        state.pods = Some([("u".to_owned(), pod("u", "y"))].into());
        assert_eq!(settle(&mut state), ["update u 10.64.0.5"]);
        state.change(Change::Released(attached("c1", "u", "10.64.0.5").key));
        assert_eq!(settle(&mut state), ["delete u"]);
    }

    #[test]
    fn a_new_sandbox_of_the_same_pod_wins_over_the_old_one() {
        let mut state = synced(&[pod("u", "x")]);
        state.change(Change::Complete);
        state.change(Change::Attached(attached("zz-old", "u", "10.64.0.5")));
        settle(&mut state);
        state.change(Change::Attached(attached("aa-new", "u", "10.64.0.6")));
        assert_eq!(settle(&mut state), ["update u 10.64.0.6"]);
        state.change(Change::Released(attached("zz-old", "u", "10.64.0.5").key));
        assert_eq!(settle(&mut state), [""; 0]);
    }

    #[test]
    fn nothing_is_written_before_the_stores_and_nothing_deleted_before_the_engine() {
        let mut state = State::new("a");
        state.change(Change::Attached(attached("c1", "u", "10.64.0.5")));
        assert_eq!(state.plan(), []);
        state = synced(&[pod("u", "x")]);
        let stale = Address {
            namespace: "n".to_owned(),
            name: "stale".to_owned(),
            spec: state
                .address(&attached("c0", "stale", "10.64.0.9"), &pod("stale", "x"))
                .spec,
        };
        state.existing = Some([("n/stale".to_owned(), stale)].into());
        assert_eq!(state.plan(), []);
        state.change(Change::Complete);
        assert_eq!(settle(&mut state), ["delete stale"]);
    }

    #[test]
    fn without_its_pod_an_attachment_creates_nothing_and_loses_nothing() {
        let mut state = synced(&[pod("u", "x")]);
        state.change(Change::Complete);
        state.change(Change::Attached(attached("c1", "u", "10.64.0.5")));
        settle(&mut state);
        state.pods = Some(BTreeMap::new());
        assert_eq!(state.plan(), []);
        state.existing = Some(BTreeMap::new());
        assert_eq!(state.plan(), []);
    }

    #[test]
    fn a_static_pod_and_a_runtime_without_uids_find_their_pod() {
        let mirror = Pod {
            static_uid: Some("hash".to_owned()),
            ..pod("u", "x")
        };
        let mut state = synced(&[mirror]);
        state.change(Change::Attached(attached("c1", "hash", "10.64.0.5")));
        assert_eq!(settle(&mut state), ["create u 10.64.0.5"]);
        let mut state = synced(&[pod("u", "x")]);
        state.change(Change::Attached(attached("c1", "", "10.64.0.5")));
        assert_eq!(settle(&mut state), ["create u 10.64.0.5"]);
        let mut state = synced(&[pod("u", "x")]);
        state.change(Change::Attached(attached("c1", "another", "10.64.0.5")));
        assert_eq!(
            state.plan(),
            [],
            "a pod of the same name that came later is not this one"
        );
    }

    #[test]
    fn an_object_names_node_and_owner_and_a_patch_takes_labels_away() {
        let state = synced(&[]);
        let wanted = state.address(&attached("c1", "u", "10.64.0.5"), &pod("u", "x"));
        let object = object(&wanted, &("p".to_owned(), "u".to_owned()));
        assert_eq!(
            (object.spec.node.as_str(), object.metadata.name.as_deref()),
            ("a", Some("u"))
        );
        let owner = &object.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.block_owner_deletion),
            ("u", None)
        );
        let mut before = wanted.clone();
        before.spec.labels.insert("old".to_owned(), "1".to_owned());
        assert_eq!(
            patch(&wanted, &before)["spec"]["labels"],
            json!({"app": "x", "old": null})
        );
        assert_eq!(patch(&wanted, &before)["spec"]["ports"], json!([]));
    }
}
