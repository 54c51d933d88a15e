//! The engine stopped dead at each of its lines, and started again over what it left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_agent::engine::{FaultPoint, Faults, Output};
use weft_cni::wire::{Request, Response};

use super::node::{Node, Pod};

/// Stops once, at this point, after it has been armed.
fn armed(point: FaultPoint) -> (Faults, Arc<AtomicBool>) {
    let arm = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&arm);
    let stop = move |at| at == point && asked.swap(false, Ordering::SeqCst);
    (Faults::at(stop), arm)
}

fn started(point: FaultPoint) -> (Node, Arc<AtomicBool>) {
    let mut node = Node::new();
    let (faults, arm) = armed(point);
    node.start(faults);
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    (node, arm)
}

/// Waits until the engine is dead: its outputs have ended.
fn dies(node: &mut Node) {
    let mut engine = node.engine.take().unwrap();
    while engine.outputs.blocking_recv().is_some() {}
}

#[test]
fn an_add_that_was_cut_off_is_finished_by_the_next_attempt() {
    for point in FaultPoint::ALL.into_iter().take(4) {
        let (mut node, arm) = started(point);
        let bystander = Pod::new("bystander");
        let kept = node.must_add(&bystander);
        let pod = Pod::new("cut-off");
        arm.store(true, Ordering::SeqCst);
        let mut unanswered = node.begin_add(&pod);
        dies(&mut node);
        assert!(
            unanswered.try_recv().is_err(),
            "{point:?}: nothing was answered"
        );
        assert!(pod.namespace().run("true").is_some());
        assert!(
            bystander.reaches("192.0.2.10".parse().unwrap()),
            "{point:?}: traffic goes on without an engine"
        );

        node.restart();
        assert_eq!(node.must_add(&bystander), kept, "{point:?}");
        let added = node.must_add(&pod);
        assert!(
            added
                .addresses
                .iter()
                .all(|address| !kept.addresses.contains(address)),
            "{point:?}"
        );
        assert!(
            pod.reaches(kept.addresses[0]) && bystander.reaches(added.addresses[1]),
            "{point:?}"
        );
        assert_eq!(node.pod_links().len(), 2, "{point:?}");
    }
}

#[test]
fn a_del_that_was_cut_off_is_finished_by_the_next_attempt() {
    for point in [FaultPoint::Released, FaultPoint::Unwired] {
        let (mut node, arm) = started(point);
        let empty = node.routes();
        let pod = Pod::new("cut-off");
        let added = node.must_add(&pod);
        arm.store(true, Ordering::SeqCst);
        let mut unanswered = node.ask(Request::Del(pod.attachment.clone()), None);
        dies(&mut node);
        assert!(
            unanswered.try_recv().is_err(),
            "{point:?}: nothing was answered"
        );

        node.restart();
        assert!(
            !node.routes().contains(&format!("{} ", added.addresses[0])),
            "{point:?}: the release stands"
        );
        assert_eq!(node.del(&pod), Response::Done, "{point:?}");
        assert_eq!(node.routes(), empty, "{point:?}");
        assert!(node.pod_links().is_empty(), "{point:?}");
    }
}

#[test]
fn an_add_that_was_cut_off_and_never_repeated_is_taken_back() {
    for point in FaultPoint::ALL.into_iter().take(4) {
        let (mut node, arm) = started(point);
        let empty = node.routes();
        let mut pod = Pod::new("cut-off");
        arm.store(true, Ordering::SeqCst);
        let unanswered = node.begin_add(&pod);
        dies(&mut node);
        drop(unanswered);
        pod.namespace = None;

        node.restart();
        super::node::eventually("everything is taken back", || {
            node.routes() == empty && node.pod_links().is_empty()
        });
        if point != FaultPoint::Chosen {
            node.wait_for(|output| matches!(output, Output::Event { reason, .. } if *reason == "AddressesReclaimed"));
        }
    }
}
