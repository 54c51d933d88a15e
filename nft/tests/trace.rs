//! The tracer against the kernel: random tables, real packets, the same ends.
//!
//! Needs root and /dev/net/tun; without them the tests fail and say so.

mod fixed;
mod node;
mod random;
mod wire;

use std::collections::BTreeMap;

use nix::sched::{CloneFlags, unshare};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weft_nft::trace::{
    Arrival, Event, Fate, Host, Origin, Outcome, Packet, Trace, Tracer, Tracking,
};
use weft_nft::{Field, Reject, Table, l4proto, replace};

use self::node::{Node, Place};
use self::random::Tape;
use self::wire::{Heard, Phase};
use crate::namespace::Kernel;

/// A node, its packet filter, and what has been seen so far.
struct Bench {
    node: Node,
    host: Host,
    kernel: Kernel,
    ports: std::ops::RangeFrom<u16>,
    /// How many packets came to which end, and how often which events led there.
    seen: BTreeMap<&'static str, usize>,
}

/// Runs a test with a node of its own.
fn run(test: impl FnOnce(&mut Bench) + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes a network namespace: run it as root"
    );
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("CAP_SYS_ADMIN is needed to make a network namespace");
        let node = Node::new();
        let host = node.host();
        test(&mut Bench {
            node,
            host,
            kernel: Kernel::open(),
            ports: 10_000..,
            seen: BTreeMap::new(),
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Bench {
    /// Sends what the arrival describes and compares with the traces; returns the one that came true.
    fn compare<'t>(
        &mut self,
        tracer: &Tracer<'t>,
        arrival: &Arrival,
        sent: &Packet,
        phase: Phase,
    ) -> Result<Option<(Trace<'t>, Option<Packet>)>, String> {
        let traces = tracer.trace(&self.host, arrival);
        let heard = self.node.send(arrival.origin, sent, phase);
        if is_echo(sent) && traces.iter().any(reads_ports) {
            return Ok(None);
        }
        let origin = match arrival.origin {
            Origin::Link(link) => Place::Link(link),
            Origin::Node => Place::Node,
        };
        for trace in &traces {
            if let Some(packet) = agrees(&trace.outcome, &heard, (origin, sent)) {
                let events = trace.steps.iter().map(|step| kind(&step.event));
                for seen in events.chain([end(&trace.outcome.fate)]) {
                    *self.seen.entry(seen).or_default() += 1;
                }
                self.host.learn(&trace.outcome.updates);
                return Ok(Some((trace.clone(), packet)));
            }
        }
        let told: Vec<String> = traces.iter().map(ToString::to_string).collect();
        Err(format!(
            "{sent} ({phase:?}): heard {heard:?}, traced {}",
            told.join("\n")
        ))
    }

    /// A connection: its first packet, again, an answer, and a packet after that.
    fn converse(
        &mut self,
        tracer: &Tracer<'_>,
        origin: Origin,
        packet: Packet,
    ) -> Result<(), String> {
        let first = Arrival {
            packet,
            origin,
            tracking: Tracking::New,
        };
        let Some((first, Some(arrived))) = self.compare(tracer, &first, &packet, Phase::First)?
        else {
            return Ok(());
        };
        let Some(answer) = first.reply() else {
            return Ok(());
        };
        // Taken for a new connection, it may clash with one before it, and its port change.
        if answer.tracking == Tracking::New {
            return Ok(());
        }
        // The node itself answers TCP, and that changes the connection.
        if packet.protocol == l4proto::TCP && answer.origin == Origin::Node {
            return Ok(());
        }
        if let Some(again) = first.again().filter(|_| packet.protocol == l4proto::UDP) {
            self.compare(tracer, &again, &packet, Phase::First)?;
        }
        let real = Packet {
            source: arrived.destination,
            source_port: arrived.destination_port,
            destination: arrived.source,
            destination_port: arrived.source_port,
            ..answer.packet
        };
        let Some((answered, Some(_))) = self.compare(tracer, &answer, &real, Phase::Answer)? else {
            return Ok(());
        };
        // The node itself resets what it does not know.
        if packet.protocol == l4proto::TCP && answered.outcome.fate == Fate::Delivered {
            return Ok(());
        }
        // Without tracking in both directions there is no established connection.
        if answered.outcome.connection.is_some()
            && let Some(later) = first.later()
        {
            self.compare(tracer, &later, &packet, Phase::Later)?;
        }
        Ok(())
    }
}

/// Whether a rule read ports of a packet that may have none: what the kernel finds there is
/// something else, such as a checksum.
fn reads_ports(trace: &Trace<'_>) -> bool {
    let mut read = trace.steps.iter().filter_map(|step| step.place);
    read.any(|place| {
        let mut fields = place.statement.fields();
        fields.any(|field| {
            matches!(
                field,
                Field::ThSport | Field::ThDport | Field::CtOriginalProtoDst
            )
        })
    })
}

fn is_echo(packet: &Packet) -> bool {
    matches!(packet.protocol, l4proto::ICMP | l4proto::ICMPV6)
}

/// Ends and events that random tables must bring about.
const ENDS: [&str; 5] = ["delivered", "sent", "dropped", "rejected", "unroutable"];
const EVENTS: [&str; 18] = [
    "tracked",
    "routed",
    "policy",
    "settled",
    "rewritten",
    "holds",
    "fails",
    "lacks",
    "found",
    "missed",
    "dnat",
    "masquerade",
    "other family",
    "notrack",
    "labelled",
    "carries",
    "verdict",
    "dynamic set",
];

fn end(fate: &Fate) -> &'static str {
    let [delivered, sent, dropped, rejected, unroutable] = ENDS;
    match fate {
        Fate::Delivered => delivered,
        Fate::Sent { .. } => sent,
        Fate::Dropped => dropped,
        Fate::Rejected(_) => rejected,
        Fate::Unroutable => unroutable,
        Fate::Unknown(_) => "unknown",
    }
}

fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Tracked(_) => "tracked",
        Event::Routed(_) => "routed",
        Event::Base(..) => "base",
        Event::Policy(..) => "policy",
        Event::Settled => "settled",
        Event::SourceBecame(_) | Event::DestinationBecame(_) => "rewritten",
        Event::Holds(_) => "holds",
        Event::Fails(_) => "fails",
        Event::Lacks(_) => "lacks",
        Event::Found { .. } => "found",
        Event::Missed { .. } => "missed",
        Event::Dnat(_) => "dnat",
        Event::Masquerade(_) => "masquerade",
        Event::OtherFamily => "other family",
        Event::Notrack => "notrack",
        Event::Labelled(_) => "labelled",
        Event::Updated(_) | Event::Unchanged(_) => "dynamic set",
        Event::Carries(_) => "carries",
        Event::Verdict(_) => "verdict",
        Event::Rejected => "refused",
        Event::Unknown(_) => "unknown",
    }
}

/// Whether what was heard is this outcome; then the packet that arrived, if one did.
fn agrees(
    outcome: &Outcome,
    heard: &[(Place, Heard)],
    (origin, sent): (Place, &Packet),
) -> Option<Option<Packet>> {
    let packets: Vec<(Place, &Packet)> = heard
        .iter()
        .filter_map(|(place, heard)| match heard {
            Heard::Packet(packet) => Some((*place, packet)),
            Heard::Reset | Heard::Unreachable(_) => None,
        })
        .collect();
    // Rules may drop the refusal on its own way, or refuse it in turn, which somebody else hears.
    let refused = |of: &dyn Fn(&Heard) -> bool| {
        let back = heard.iter().filter(|(place, _)| *place == origin);
        packets.is_empty() && back.into_iter().all(|(_, heard)| of(heard))
    };
    let at = |place: Place| match packets.as_slice() {
        [(there, packet)] if *there == place => {
            same(outcome, packet, sent).then_some(Some(**packet))
        }
        _ => None,
    };
    let v4 = outcome.packet.destination.is_ipv4();
    match &outcome.fate {
        Fate::Sent { link } => at(Place::Link(*link)),
        Fate::Delivered => at(Place::Node),
        Fate::Dropped => heard.is_empty().then_some(None),
        Fate::Unroutable => {
            refused(&|heard| matches!(heard, Heard::Unreachable(_))).then_some(None)
        }
        Fate::Rejected(reject) => refused(&|heard| *heard == refusal(*reject, v4)).then_some(None),
        Fate::Unknown(_) => None,
    }
}

/// A source port that masquerading changed is not in the model: neither there nor, in an answer to
/// it that is not translated back, as the destination.
fn same(outcome: &Outcome, heard: &Packet, sent: &Packet) -> bool {
    let Packet {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        icmp_type,
        mark: _,
        priority: _,
    } = outcome.packet;
    let ends = (source, destination, protocol, icmp_type)
        == (
            heard.source,
            heard.destination,
            heard.protocol,
            heard.icmp_type,
        );
    let from = source_port == heard.source_port || outcome.is_snat();
    let to = [destination_port, sent.destination_port].contains(&heard.destination_port);
    ends && (is_echo(heard) || from && to)
}

/// What a refusal looks like.
fn refusal(reject: Reject, v4: bool) -> Heard {
    Heard::Unreachable(match (reject, v4) {
        (Reject::TcpReset, _) => return Heard::Reset,
        (Reject::NoRoute, _) => 0,
        (Reject::PortUnreachable, true) => 3,
        (Reject::PortUnreachable, false) => 4,
        (Reject::HostUnreachable, true) => 1,
        (Reject::HostUnreachable, false) => 3,
        (Reject::AdminProhibited, true) => 13,
        (Reject::AdminProhibited, false) => 1,
    })
}

/// Loads the table and lets the packets of the tape converse.
fn try_table(
    bench: &mut Bench,
    loaded: &Table,
    traced: &Table,
    tape: &mut Tape<'_>,
) -> Result<(), String> {
    bench
        .kernel
        .apply(&replace(loaded))
        .map_err(|refused| format!("{refused:?}\n{loaded}"))?;
    bench.node.forget();
    bench.host.dynamic.clear();
    bench.node.hear();
    let tracer = Tracer::new(traced);
    let links = bench.node.indices();
    for _ in 0..12 {
        let port = bench.ports.next().unwrap();
        let (origin, packet) = random::packet(tape, port, links);
        bench.converse(&tracer, origin, packet)?;
        if !random::goes_on(tape) {
            break;
        }
    }
    Ok(())
}

/// How many rounds of random tables there are at most.
const ROUNDS: usize = 10;

/// Ends and events that were seen too seldom to say that they agree with the kernel.
fn rare(seen: &BTreeMap<&'static str, usize>) -> Vec<&'static str> {
    let often = |what: &&&'static str| seen.get(**what).is_some_and(|count| *count > 10);
    ENDS.iter()
        .chain(&EVENTS)
        .filter(|what| !often(what))
        .copied()
        .collect()
}

#[test]
fn random_tables_do_to_real_packets_what_the_tracer_says() {
    run(|bench| {
        let config = Config {
            failure_persistence: None,
            max_shrink_iters: 500,
            ..Config::default()
        };
        let links = bench.node.indices();
        let bench = std::cell::RefCell::new(bench);
        // A round leaves rare events to chance: rounds are run until each was seen often enough, and
        // one that never comes is still found out.
        for _ in 0..ROUNDS {
            let tapes = (vec(any::<u8>(), 50..400), vec(any::<u8>(), 1..60));
            let result = TestRunner::new(config.clone()).run(&tapes, |(table, packets)| {
                let table = random::table("random", &mut Tape::new(&table), links);
                let tried = try_table(
                    &mut bench.borrow_mut(),
                    &table,
                    &table,
                    &mut Tape::new(&packets),
                );
                tried.map_err(|error| TestCaseError::fail(format!("{error}\n{table}")))
            });
            if let Err(error) = result {
                panic!("{error}");
            }
            if rare(&bench.borrow().seen).is_empty() {
                return;
            }
        }
        let seen = &bench.borrow().seen;
        panic!(
            "too rare after {ROUNDS} rounds are {:?}: {seen:?}",
            rare(seen)
        );
    });
}
