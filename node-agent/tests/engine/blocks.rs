//! Blocks that are given back: when, and not before.

use std::sync::Arc;

use weft_agent::engine::{ClusterInput, Faults, Input, Output};
use weft_cni::wire::Response;
use weft_crds::{BlockState, BlockUsage};

use super::node::{Node, Pod};

const OWN: &str = "10.64.0.0/26";

fn drain(cluster: &mut ClusterInput, cidr: &str) {
    for block in cluster
        .blocks
        .iter_mut()
        .filter(|block| block.spec.cidr == cidr)
    {
        block.spec.state = BlockState::Draining;
    }
}

fn tell(node: &Node, cluster: ClusterInput) {
    node.send(Input::Cluster(Arc::new(cluster)));
}

/// What a report says of a block of which something holds.
fn says(output: &Output, cidr: &str, holds: impl Fn(&BlockUsage) -> bool) -> bool {
    let uid = format!("uid-{cidr}");
    match output {
        Output::Report { report, .. } => report
            .blocks
            .iter()
            .any(|block| block.uid == uid && holds(block)),
        _ => false,
    }
}

#[test]
fn a_block_is_given_back_only_after_the_disk_says_that_it_drains() {
    let mut node = Node::ready();
    let blocks = [OWN, "10.64.1.0/26", "fd64::/122"];
    // Soon after a write, so that the next is not due.
    let mut cluster = node.cluster(&blocks, 0);
    drain(&mut cluster, OWN);
    tell(&node, cluster);
    node.wait_for(|output| says(output, OWN, |block| block.released));
    let path = node.state.path().join("cluster.json");
    let at_the_report = std::fs::read_to_string(&path).unwrap();
    assert!(at_the_report.contains("Draining"), "{at_the_report}");

    // Killed right after the report, and started without an API server.
    node.stop();
    std::fs::write(&path, at_the_report).unwrap();
    node.start(Faults::none());
    node.wait_for(|output| *output == Output::Ready);
    let added = node.must_add(&Pod::new("a"));
    assert_eq!(added.addresses[0].to_string(), "10.64.1.0");
}

#[test]
fn an_overlapped_block_is_given_back_once_it_drains_and_is_empty() {
    let mut node = Node::ready();
    let pod = Pod::new("a");
    node.must_add(&pod);
    let overlapped = |state| {
        let mut cluster = node.cluster(&[OWN, "10.64.0.0/25", "fd64::/122"], 0);
        cluster.blocks[1].spec.node = "n2".to_owned();
        cluster.blocks[1].created = 0;
        cluster.blocks[0].spec.state = state;
        cluster
    };
    let (active, draining) = (
        overlapped(BlockState::Active),
        overlapped(BlockState::Draining),
    );
    tell(&node, draining.clone());
    node.wait_for(|output| says(output, OWN, |block| block.overlaps.is_some()));
    // Reports are made every moment; ones that say more of the pod would have come meanwhile.
    let bystander = Pod::new("b");
    assert!(matches!(node.del(&bystander), Response::Done));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    node.drain();
    let released = |output: &Output| says(output, OWN, |block| block.released);
    assert!(
        !node.seen.iter().any(released),
        "a pod has an address of it"
    );
    tell(&node, active);
    assert_eq!(node.del(&pod), Response::Done);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    node.drain();
    assert!(!node.seen.iter().any(released), "it is Active");
    tell(&node, draining);
    node.wait_for(released);
    let path = node.state.path().join("cluster.json");
    let at_the_report = std::fs::read_to_string(path).unwrap();
    assert!(at_the_report.contains("Draining"), "{at_the_report}");
}
