//! IPBlocks: of those that overlap the oldest is valid.
//!
//! All nodes see the same objects and judge alike, so that an address is never used by two nodes
//! even if two blocks of different sizes were granted by mistake.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_crds::BlockState;

use super::{BlockObject, Place};
use crate::finding::{Object, Rejection};
use crate::view::BlockView;

/// Valid blocks by name.
pub fn blocks(
    raw: &[BlockObject],
    rejections: &mut Vec<Rejection>,
) -> BTreeMap<String, BlockView> {
    let mut by_age: Vec<&BlockObject> = raw.iter().collect();
    by_age.sort_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
    let mut blocks: BTreeMap<String, BlockView> = BTreeMap::new();
    let mut by_start: BTreeMap<IpAddr, (IpNet, &str)> = BTreeMap::new();
    for object in by_age {
        let named = Object::new("IPBlock", &object.name);
        let mut place = Place {
            object: &named,
            rejections,
        };
        let Some(cidr) = place.network("spec.cidr", &object.spec.cidr) else {
            continue;
        };
        let older = overlapping(&by_start, &cidr)
            .and_then(|name| Some((name, blocks.get(name)?)));
        if let Some((name, older)) = older {
            rejections.push(Rejection::BlockOverlap {
                block: object.name.clone(),
                cidr,
                node: object.spec.node.clone(),
                other: name.to_owned(),
                other_cidr: older.cidr,
                other_node: older.node.clone(),
            });
            continue;
        }
        by_start.insert(cidr.network(), (cidr, &object.name));
        blocks.insert(object.name.clone(), block(object, cidr));
    }
    blocks
}

/// Name of a block that overlaps a network. Those in the map are disjoint, so that the one that
/// starts last at or before its end is the only candidate.
fn overlapping<'a>(
    by_start: &BTreeMap<IpAddr, (IpNet, &'a str)>,
    cidr: &IpNet,
) -> Option<&'a str> {
    let (_, (net, name)) = by_start.range(..=cidr.broadcast()).next_back()?;
    super::overlap(net, cidr).then_some(*name)
}

fn block(object: &BlockObject, cidr: IpNet) -> BlockView {
    BlockView {
        uid: object.uid.clone(),
        pool: object.spec.pool.clone(),
        cidr,
        node: object.spec.node.clone(),
        draining: object.spec.state == BlockState::Draining,
    }
}
