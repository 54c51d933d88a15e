//! IPBlocks: of those that overlap the oldest is valid.
//!
//! All nodes see the same objects and judge alike ([`overlapped`]), so that an address is never used
//! by two nodes even if two blocks of different sizes were granted by mistake.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_crds::BlockState;

use super::{BlockObject, Place};
use crate::alloc::{BlockAge, overlapped};
use crate::finding::{Object, Rejection};
use crate::view::BlockView;

/// Valid blocks by name.
pub fn blocks(raw: &[BlockObject], rejections: &mut Vec<Rejection>) -> BTreeMap<String, BlockView> {
    let mut blocks: BTreeMap<String, BlockView> = BTreeMap::new();
    let mut ages: Vec<BlockAge<'_>> = Vec::new();
    for object in raw {
        let named = Object::new("IPBlock", &object.name);
        let mut place = Place {
            object: &named,
            rejections,
        };
        let Some(cidr) = place.network("spec.cidr", &object.spec.cidr) else {
            continue;
        };
        ages.push(BlockAge {
            name: &object.name,
            cidr,
            created: object.created,
            draining: object.spec.state == BlockState::Draining,
            resource_version: &object.resource_version,
        });
        blocks.insert(object.name.clone(), block(object, cidr));
    }
    let younger = overlapped(ages);
    let reports = younger.iter().filter_map(|(name, other)| {
        let (block, older) = (blocks.get(*name)?, blocks.get(*other)?);
        Some(Rejection::BlockOverlap {
            block: (*name).to_owned(),
            cidr: block.cidr,
            node: block.node.clone(),
            other: (*other).to_owned(),
            other_cidr: older.cidr,
            other_node: older.node.clone(),
        })
    });
    rejections.extend(reports);
    blocks.retain(|name, _| !younger.contains_key(name.as_str()));
    blocks
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
