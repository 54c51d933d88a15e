//! What is taken, what is rejected and with which code.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_crds::{
    BlockState, NatMode, NatOutgoing, NodeOverlay, NodePool, NodePoolCidr, NodeUnderlay,
    OverlayMode,
};

use super::*;
use crate::view::HostInterface;

fn overlay(name: &str) -> NodeOverlay {
    NodeOverlay {
        name: name.to_owned(),
        mode: OverlayMode::Auto,
        vni: 4096,
        port: 4789,
        mtu: None,
        underlay_family: "IPv4".to_owned(),
        underlay_cidrs: Vec::new(),
    }
}

fn pool(name: &str, cidr: &str) -> NodePool {
    NodePool {
        name: name.to_owned(),
        overlay: "default".to_owned(),
        assignable: true,
        priority: 0,
        cidrs: vec![NodePoolCidr {
            cidr: cidr.to_owned(),
            block_size: 26,
            reserved: Vec::new(),
        }],
        prealloc: 16,
        cooldown_seconds: 30,
        nat_outgoing: NatOutgoing {
            mode: NatMode::Masquerade,
            except: Vec::new(),
        },
    }
}

fn block(cidr: &str, node: &str, created: i64, uid: &str) -> BlockObject {
    BlockObject {
        name: format!("block-{uid}"),
        uid: uid.to_owned(),
        resource_version: uid.to_owned(),
        created,
        spec: IPBlockSpec {
            pool: "default".to_owned(),
            cidr: cidr.to_owned(),
            node: node.to_owned(),
            state: BlockState::Active,
        },
    }
}

#[derive(Default)]
struct Cluster {
    network: NodeNetworkSpec,
    peers: BTreeMap<String, NodeNetworkStatus>,
    blocks: Vec<BlockObject>,
    host: HostView,
}

impl Cluster {
    fn parse(&self) -> Parsed {
        parse(&Raw {
            node: "n1",
            internal_ips: &[],
            network: &self.network,
            peers: &self.peers,
            other_addresses: &BTreeMap::new(),
            blocks: &self.blocks,
            host: &self.host,
            pods: &BTreeMap::new(),
        })
    }

    fn rejections(&self) -> Vec<String> {
        let rejections = self.parse().rejections;
        rejections.iter().map(ToString::to_string).collect()
    }
}

fn network(overlays: Vec<NodeOverlay>, pools: Vec<NodePool>) -> Cluster {
    Cluster {
        network: NodeNetworkSpec { overlays, pools },
        ..Cluster::default()
    }
}

#[test]
fn good_objects_are_not_rejected() {
    let mut cluster = network(
        vec![overlay("default")],
        vec![pool("default", "10.64.0.0/16")],
    );
    cluster.blocks = vec![
        block("10.64.0.0/26", "n1", 1, "a"),
        block("10.64.0.64/26", "n2", 2, "b"),
    ];
    let parsed = cluster.parse();
    assert_eq!(parsed.rejections, []);
    assert_eq!(parsed.view.blocks.len(), 2);
    assert!(parsed.view.pools["default"].assignable);
}

#[test]
fn the_older_of_two_overlapping_blocks_is_valid() {
    let cluster = Cluster {
        blocks: vec![
            block("10.64.0.0/26", "n1", 2, "younger"),
            block("10.64.0.32/28", "n2", 1, "older"),
        ],
        ..Cluster::default()
    };
    let parsed = cluster.parse();
    assert_eq!(
        parsed.view.blocks.keys().collect::<Vec<_>>(),
        ["block-older"]
    );
    assert_eq!(
        cluster.rejections(),
        [
            "IPBlock block-younger (10.64.0.0/26, node n1) overlaps the older IPBlock block-older (10.64.0.32/28, node n2) and is not used: delete IPBlock block-younger once no pod has an address of it"
        ]
    );
}

#[test]
fn blocks_of_one_second_are_ordered_by_resource_version() {
    let cluster = Cluster {
        blocks: vec![
            block("10.64.0.0/26", "n1", 1, "10"),
            block("10.64.0.0/24", "n2", 1, "9"),
        ],
        ..Cluster::default()
    };
    let parsed = cluster.parse();
    assert_eq!(parsed.view.blocks.keys().collect::<Vec<_>>(), ["block-9"]);
    assert_eq!(parsed.rejections.len(), 1);
}

#[test]
fn bad_values_name_object_field_value_and_remedy() {
    let mut bad_vni = overlay("vni");
    bad_vni.vni = 0;
    let mut bad_family = overlay("family");
    bad_family.underlay_family = "IPv5".to_owned();
    let mut bad_mtu = overlay("mtu");
    bad_mtu.mtu = Some(100);
    let mut reserved = pool("reserved", "10.65.0.0/16");
    reserved.cidrs[0].reserved = vec!["nonsense".to_owned()];
    reserved.overlay = "mtu".to_owned();
    let cluster = network(
        vec![bad_vni, bad_family, bad_mtu],
        vec![pool("host-bits", "10.64.0.1/16"), reserved],
    );
    assert_eq!(
        cluster.rejections(),
        [
            "Overlay vni: spec.vxlan.vni is \"0\": write a number from 1 to 16777215",
            "Overlay family: spec.underlay.family is \"IPv5\": write IPv4 or IPv6",
            "Overlay mtu: spec.mtu is \"100\": write Auto or a number of bytes from 1280 to 65535",
            "IPPool host-bits: spec.cidrs[].cidr is \"10.64.0.1/16\": write a network without host bits, such as 10.64.0.0/16",
            "IPPool host-bits: its overlay \"default\" is not in force on this node, so no pod here gets an address from it: let the nodeSelector of Overlay default select the node, or exclude the node by the pool's nodeSelector",
            "IPPool reserved: spec.cidrs[].reserved is \"nonsense\": write a network without host bits, such as 10.64.0.0/16",
        ]
    );
    let view = cluster.parse().view;
    assert_eq!(view.overlays.keys().collect::<Vec<_>>(), ["mtu"]);
    assert!(
        !view.pools["reserved"].assignable,
        "what must be kept free is unknown, so nothing may be given out"
    );
}

#[test]
fn of_overlapping_pools_the_first_by_name_keeps_its_network() {
    let cluster = network(
        vec![overlay("default")],
        vec![pool("b", "10.64.0.0/20"), pool("a", "10.64.0.0/16")],
    );
    let parsed = cluster.parse();
    assert!(parsed.view.pools["b"].cidrs.is_empty());
    assert_eq!(parsed.view.pools["a"].cidrs.len(), 1);
    assert_eq!(parsed.rejections[0].code(), "WEFT-1303");
}

#[test]
fn a_peer_cannot_take_this_nodes_address() {
    let mut cluster = Cluster::default();
    cluster.host.interfaces.insert(
        "eth0".to_owned(),
        HostInterface {
            addresses: ["192.0.2.1/24".parse().unwrap()].into(),
            ..HostInterface::default()
        },
    );
    let status = NodeNetworkStatus {
        underlays: vec![NodeUnderlay {
            overlay: "default".to_owned(),
            addresses: ["192.0.2.1/24", "127.0.0.1/8", "fd00::2/64"]
                .map(str::to_owned)
                .into(),
            vtep_mac: Some("02:00".to_owned()),
            device_mtu: Some(68),
            problem: None,
        }],
        ..NodeNetworkStatus::default()
    };
    cluster.peers.insert("n2".to_owned(), status);
    let parsed = cluster.parse();
    let codes: Vec<&str> = parsed.rejections.iter().map(Rejection::code).collect();
    assert_eq!(codes, ["WEFT-1306", "WEFT-1301", "WEFT-1301", "WEFT-1301"]);
    let underlay = &parsed.view.peers["n2"].underlays["default"];
    assert_eq!(underlay.v4, None);
    assert_eq!(underlay.v6, Some("fd00::2/64".parse().unwrap()));
    assert_eq!((underlay.vtep_mac, underlay.device_mtu), (None, None));
}

proptest! {
    /// The oracle compares every pair.
    #[test]
    fn valid_blocks_are_disjoint_and_do_not_depend_on_order(
        cidrs in proptest::collection::vec((0_u8..=255, 22_u8..=30, 0_i64..4), 1..24),
        seed in any::<u64>(),
    ) {
        let objects: Vec<BlockObject> = cidrs
            .iter()
            .enumerate()
            .map(|(number, (third, length, created))| {
                let net: IpNet = format!("10.64.{}.{}/{length}", third >> 5, u32::from(*third) * 7 % 256)
                    .parse()
                    .unwrap();
                block(&net.trunc().to_string(), "n", *created, &format!("{number:02}"))
            })
            .collect();
        let mut shuffled = objects.clone();
        shuffled.sort_by_key(|object| (object.uid.bytes().map(u64::from).sum::<u64>() ^ seed) % 17);
        let valid = |blocks: &[BlockObject]| {
            let cluster = Cluster { blocks: blocks.to_vec(), ..Cluster::default() };
            cluster.parse().view.blocks
        };
        let blocks = valid(&objects);
        prop_assert_eq!(&blocks, &valid(&shuffled));
        let nets: Vec<IpNet> = blocks.values().map(|block| block.cidr).collect();
        for (index, a) in nets.iter().enumerate() {
            for b in &nets[index + 1..] {
                prop_assert!(!overlap(a, b), "{a} {b}");
            }
        }
        for object in &objects {
            let cidr: IpNet = object.spec.cidr.parse().unwrap();
            let age = |object: &BlockObject| (object.created, object.uid.parse::<u32>().unwrap());
            let older = objects.iter().any(|other| {
                age(other) < age(object) && overlap(&other.spec.cidr.parse().unwrap(), &cidr)
            });
            prop_assert_eq!(blocks.contains_key(&object.name), !older, "{}", cidr);
        }
    }
}
