//! Who sees a zone or a view of one: what a user wrote in, and how specifically a client is meant out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use weft_crds::ZoneAudience;

use super::selector::{matches, operators_are_known};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// How specifically a client is meant; 0: like everybody. Pods outrank namespaces, these outrank nodes, these outrank
/// networks; of networks the smaller one counts.
pub type Rank = u16;

/// Clients, as a user wrote them; validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    namespaces: Option<LabelSelector>,
    pods: Option<LabelSelector>,
    nodes: Option<LabelSelector>,
    /// Networks, as they are: no host bits.
    pub(crate) networks: Vec<IpNet>,
}

/// What is known of a client but its address.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// A pod, with the labels of its namespace, of itself, and of its node.
    Pod {
        /// Of its namespace.
        namespace: &'a Labels,
        /// Of the pod.
        pod: &'a Labels,
        /// Of its node.
        node: &'a Labels,
    },
    /// A node itself.
    Node(&'a Labels),
    /// Anybody else.
    Unknown,
}

impl Audience {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// The first field that cannot be used, and why.
    pub fn parse(spec: &ZoneAudience) -> Result<Self, String> {
        let ZoneAudience {
            namespaces,
            pods,
            nodes,
            cidrs,
        } = spec;
        let selectors = [("namespaces", namespaces), ("pods", pods), ("nodes", nodes)];
        for (field, selector) in selectors {
            if selector
                .as_ref()
                .is_some_and(|selector| !operators_are_known(selector))
            {
                return Err(format!(
                    "{field}: an operator is none of In, NotIn, Exists and DoesNotExist"
                ));
            }
        }
        let network = |text: &String| {
            let network = text.parse::<IpNet>().map(|network| network.trunc());
            network.map_err(|_| format!("cidrs: {text:?} is no network in CIDR form"))
        };
        Ok(Self {
            namespaces: namespaces.clone(),
            pods: pods.clone(),
            nodes: nodes.clone(),
            networks: cidrs.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// Whether who a client is matters, beside its address.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.namespaces.is_some() || self.pods.is_some() || self.nodes.is_some()
    }

    /// Whether labels of nodes matter.
    #[must_use]
    pub fn needs_nodes(&self) -> bool {
        self.nodes.is_some()
    }

    /// How specifically a client is meant; none: not at all.
    #[must_use]
    pub fn rank(&self, address: IpAddr, identity: Identity<'_>) -> Option<Rank> {
        let networks = self
            .networks
            .iter()
            .filter(|network| network.contains(&address));
        let smallest = networks.map(|network| rank_of(*network)).max();
        self.identity_rank(identity).max(smallest)
    }

    fn identity_rank(&self, identity: Identity<'_>) -> Option<Rank> {
        let meets = |selector: &Option<LabelSelector>, labels: &Labels| {
            selector
                .as_ref()
                .is_none_or(|selector| matches(selector, labels))
        };
        let meant = match identity {
            _ if !self.needs_identity() => false,
            Identity::Pod {
                namespace,
                pod,
                node,
            } => {
                meets(&self.namespaces, namespace)
                    && meets(&self.pods, pod)
                    && meets(&self.nodes, node)
            }
            Identity::Node(labels) => {
                self.namespaces.is_none() && self.pods.is_none() && meets(&self.nodes, labels)
            }
            Identity::Unknown => false,
        };
        let given = |selector: &Option<LabelSelector>, rank: Rank| {
            if selector.is_some() { rank } else { 0 }
        };
        meant.then(|| {
            given(&self.pods, 1024) + given(&self.namespaces, 512) + given(&self.nodes, 256)
        })
    }
}

/// The rank of a network: more than 0, less than that of any label; both families count from the same end.
fn rank_of(network: IpNet) -> Rank {
    let host_bits = network.max_prefix_len() - network.prefix_len();
    129 - Rank::from(host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(text: &str) -> Audience {
        let spec: ZoneAudience = serde_json::from_str(text).expect("an audience");
        Audience::parse(&spec).expect("a valid audience")
    }

    fn labels(key: &str) -> Labels {
        [(key.to_owned(), "x".to_owned())].into()
    }

    #[test]
    fn all_selectors_have_to_match_and_networks_stand_beside_them() {
        let who = audience(
            r#"{"namespaces":{"matchLabels":{"a":"x"}},"pods":{"matchLabels":{"b":"x"}},"cidrs":["192.0.2.0/24"]}"#,
        );
        let (a, b) = (labels("a"), labels("b"));
        let pod = |namespace, pod| Identity::Pod {
            namespace,
            pod,
            node: &a,
        };
        let (inside, outside) = ([192, 0, 2, 1].into(), [198, 51, 100, 1].into());
        assert_eq!(who.rank(outside, pod(&a, &b)), Some(1536));
        assert_eq!(who.rank(outside, pod(&a, &a)), None);
        assert_eq!(who.rank(outside, pod(&b, &b)), None);
        assert_eq!(who.rank(outside, Identity::Node(&a)), None);
        assert_eq!(who.rank(inside, Identity::Unknown), Some(121));
        assert_eq!(who.rank(inside, pod(&a, &b)), Some(1536));
    }

    #[test]
    fn a_node_is_never_a_pod() {
        let (nodes, pods) = (
            audience(r#"{"nodes":{"matchLabels":{"a":"x"}}}"#),
            audience(r#"{"pods":{}}"#),
        );
        let (a, address) = (labels("a"), [192, 0, 2, 1].into());
        assert_eq!(nodes.rank(address, Identity::Node(&a)), Some(256));
        assert_eq!(pods.rank(address, Identity::Node(&a)), None);
    }

    #[test]
    fn the_smaller_network_is_the_more_specific_one() {
        let wide = audience(r#"{"cidrs":["0.0.0.0/0","192.0.0.0/8"]}"#);
        let rank = |address: [u8; 4]| wide.rank(address.into(), Identity::Unknown);
        assert_eq!(
            (rank([192, 0, 2, 1]), rank([10, 0, 0, 1])),
            (Some(105), Some(97))
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |text: &str| {
            let spec: ZoneAudience = serde_json::from_str(text).expect("an audience");
            Audience::parse(&spec).expect_err("refused")
        };
        assert_eq!(
            refused(r#"{"cidrs":["ten"]}"#),
            "cidrs: \"ten\" is no network in CIDR form"
        );
        let selector = r#"{"pods":{"matchExpressions":[{"key":"a","operator":"Like"}]}}"#;
        assert!(refused(selector).starts_with("pods: an operator is none of In"));
    }
}
