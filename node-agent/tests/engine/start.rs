//! An engine that cannot begin at once, and one that hangs.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{NetlinkAddr, connect};
use weft_agent::engine::{FaultPoint, Faults, Output};

use super::node::{Node, Pod, answer};

#[test]
fn sockets_that_fail_at_the_start_are_tried_again() {
    let mut node = Node::new();
    // What is sent goes to a port that nobody has.
    let nft = node.nft().as_fd().as_raw_fd();
    connect(nft, &NetlinkAddr::new(u32::MAX - 1, 0)).unwrap();
    node.start(Faults::none());
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    let unreachable = |output: &Output| match output {
        Output::Report { report, .. } => report.conditions.iter().any(|condition| {
            condition.reason == "KernelUnreachable" && condition.message.contains("tries again")
        }),
        _ => false,
    };
    node.wait_for(unreachable);
    connect(nft, &NetlinkAddr::new(0, 0)).unwrap();
    node.wait_for(|output| *output == Output::Ready);
    node.must_add(&Pod::new("a"));
    node.drain();
    node.seen.clear();
    let reachable = |output: &Output| match output {
        Output::Report { report, .. } => !unreachable(output) && !report.conditions.is_empty(),
        _ => false,
    };
    node.must_add(&Pod::new("b"));
    node.wait_for(reachable);
}

#[test]
fn a_hung_engine_gives_no_sign_of_life() {
    let mut node = Node::new();
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let (arm, hangs) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (inner, armed, hung) = (Arc::clone(&gate), Arc::clone(&arm), Arc::clone(&hangs));
    node.start(Faults::at(move |point| {
        if point == FaultPoint::Recorded && armed.load(Ordering::SeqCst) {
            hung.store(true, Ordering::SeqCst);
            let closed = inner.0.lock().unwrap();
            drop(inner.1.wait_while(closed, |closed| *closed).unwrap());
        }
        false
    }));
    node.hear(&["10.64.0.0/26", "fd64::/122"]);
    node.wait_for(|output| *output == Output::Ready);
    let signs = |node: &mut Node| {
        node.drain();
        let alive = |output: &&Output| **output == Output::Alive;
        node.seen.iter().filter(alive).count()
    };
    let begun = Instant::now();
    while signs(&mut node) < 2 {
        assert!(begun.elapsed() < super::node::LIMIT, "no sign of life");
        std::thread::sleep(Duration::from_millis(50));
    }
    arm.store(true, Ordering::SeqCst);
    let waiting = node.begin_add(&Pod::new("a"));
    super::node::eventually("it hangs", || hangs.load(Ordering::SeqCst));
    let before = signs(&mut node);
    // Longer than the ten seconds between two signs.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(signs(&mut node), before);
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    answer(waiting);
    let begun = Instant::now();
    while signs(&mut node) == before {
        assert!(
            begun.elapsed() < super::node::LIMIT,
            "no sign of life again"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
