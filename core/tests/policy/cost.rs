//! What policies cost on a node of a large cluster: elements of its maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;
use weft_core::policy::{
    Elements, Known, Labels, LocalPod, PodObject, Policies, PolicyName, object,
};
use weft_core::view::AttachmentKey;
use weft_nft::l4proto;

const LOCAL: u32 = 250;
const PODS: u32 = 20_000;
const NAMESPACES: u32 = 500;
/// Sets of labels in each namespace: 5,000 identities in all.
const APPS: u32 = 10;
/// Issue of the design: fewer elements than this.
const LIMIT: usize = 100_000;

fn addresses(number: u32) -> Box<[IpAddr]> {
    let four = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
    let six =
        Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)) + u128::from(number));
    [four.into(), six.into()].into()
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    let pairs = pairs.iter();
    Labels::new(&pairs.map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
}

fn namespace(number: u32) -> String {
    format!("ns-{}", number % NAMESPACES)
}

fn app(number: u32) -> Labels {
    labels(&[("app", format!("app-{}", number / NAMESPACES % APPS))])
}

/// A node with local pods in half of the namespaces, and in each namespace the policy that `from` makes.
fn node(from: impl Fn(u32) -> serde_json::Value) -> Policies {
    let mut policies = Policies::new();
    policies.set_synced(true);
    for number in 0..NAMESPACES {
        let name = namespace(number);
        policies.set_namespace(&name, Some(labels(&[("team", format!("t{}", number % 7))])));
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": {"name": "allow", "namespace": name},
            "spec": {"podSelector": {}, "ingress": [{"from": [from(number)]}]},
        }))
        .unwrap();
        let parsed = object::network_policy(&policy);
        assert_eq!(parsed.rejections, []);
        policies.set_policy(&PolicyName::network(&name, "allow"), parsed.policy);
    }
    for number in 0..PODS {
        let pod = PodObject {
            namespace: namespace(number).into(),
            labels: app(number),
            ports: Box::default(),
            addresses: addresses(number),
            created: 0,
        };
        policies.set_pod(&number.to_string(), Some(pod));
    }
    for number in 0..LOCAL {
        let key = AttachmentKey {
            container_id: number.to_string(),
            ifname: "eth0".to_owned(),
        };
        let pod = LocalPod {
            link: 100 + number,
            namespace: namespace(number).into(),
            name: number.to_string().into(),
            addresses: addresses(number),
            known: Some(Known {
                labels: app(number),
                ports: Box::default(),
            }),
        };
        policies.set_local(&key, Some(pod));
    }
    policies.compile();
    policies
}

fn count(elements: &Elements) -> usize {
    elements.values().map(std::collections::BTreeMap::len).sum()
}

/// Whether a pod of another node, and an address outside, reach a local pod.
fn reach(policies: &Policies) -> [bool; 2] {
    let to = addresses(0)[0];
    let outside = IpAddr::from([192, 0, 2, 9]);
    [addresses(PODS - 1)[0], outside].map(|from| policies.allows(from, to, l4proto::TCP, 80))
}

#[test]
fn allowing_all_namespaces_everywhere_costs_an_element_for_an_address() {
    let policies = node(|_| json!({"namespaceSelector": {}}));
    assert_eq!(reach(&policies), [true, false]);
    let elements = count(&policies.elements());
    let addresses = 2 * PODS as usize;
    assert!(elements > addresses, "{elements}: the pods are not there");
    assert!(elements < LIMIT, "{elements}");
}

/// The count would tell: policies that each ask for another thing cost more.
#[test]
fn policies_that_tell_everybody_apart_cost_more() {
    let same = count(&node(|_| json!({"namespaceSelector": {}})).elements());
    let policies = node(|number| {
        json!({"namespaceSelector": {}, "podSelector": {"matchExpressions": [
            {"key": "app", "operator": "NotIn", "values": [format!("app-{}", number % APPS), format!("x-{number}")]},
        ]}})
    });
    let apart = count(&policies.elements());
    assert!(apart > same + 1_000, "{same}, and {apart} apart");
}
