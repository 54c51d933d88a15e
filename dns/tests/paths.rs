//! Fast path and slow path say the same, byte for byte.

use proptest::prelude::*;
use weft_dns::conformance::{Served, judge};
use weft_dns::fast::{self, Manner, Verdict};
use weft_dns::message::Transport;
use weft_dns::slow;

use crate::conformance::suites;

/// What is sent, if anything.
type Answer = Option<Vec<u8>>;

/// Asks both paths; none where the fast path leaves the question to the slow one.
fn both(
    served: &Served,
    packet: &[u8],
    transport: Transport,
    rotation: u32,
) -> Option<(Answer, Answer)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let manner = Manner {
        recursive: served.upstream.is_some(),
    };
    let mut buffer = vec![0xaa; 65_535];
    let fast = match fast::answer(
        &served.zones,
        manner,
        packet,
        None,
        transport,
        rotation,
        &mut buffer,
    ) {
        Verdict::Drop => None,
        Verdict::Slow => return None,
        Verdict::Reply(length) => {
            buffer.truncate(length);
            Some(buffer)
        }
    };
    let answer = slow::answer(
        &served.zones,
        &served.upstream,
        packet,
        None,
        transport,
        rotation,
    );
    Some((fast, runtime.block_on(answer)))
}

/// Everything that the files serve, and everything that they ask.
fn corpus() -> Vec<(Served, Vec<Vec<u8>>)> {
    let mut all: Vec<(Served, Vec<Vec<u8>>)> = Vec::new();
    for suite in suites() {
        judge(&suite, |served, case| {
            let packet = case.query.packet().expect("a message");
            match all
                .last_mut()
                .filter(|(known, _)| std::sync::Arc::ptr_eq(&known.zones, &served.zones))
            {
                Some((_, packets)) => packets.push(packet),
                None => all.push((served.clone(), vec![packet])),
            }
            Vec::new()
        })
        .expect("a report");
    }
    all
}

/// Types that are worth asking for at any name.
const TYPES: [u16; 14] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 43, 64, 65, 255];

fn with_type(packet: &[u8], kind: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let mut at = 12;
    while packet[at] > 0 {
        at += usize::from(packet[at]) + 1;
    }
    packet[at + 1..at + 3].copy_from_slice(&kind.to_be_bytes());
    packet
}

#[test]
fn the_bytes_are_the_same_for_every_name_and_type_of_the_files() {
    let mut compared = 0;
    for (served, packets) in corpus() {
        for packet in packets {
            for kind in TYPES {
                let packet = with_type(&packet, kind);
                for (transport, rotation) in [
                    (Transport::Udp, 0),
                    (Transport::Udp, 7),
                    (Transport::Stream, 3),
                ] {
                    if let Some((fast, slow)) = both(&served, &packet, transport, rotation) {
                        assert_eq!(fast, slow, "{packet:02x?} over {transport:?}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 5000, "only {compared} answers were compared");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Names of the files with bytes, counts, letters and options changed.
    #[test]
    fn the_bytes_are_the_same_for_damaged_messages(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        option in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        size in any::<u16>(),
        stream in any::<bool>(),
    ) {
        thread_local!(static CORPUS: Vec<(Served, Vec<Vec<u8>>)> = corpus());
        CORPUS.with(|corpus| {
            let flat: Vec<_> = corpus.iter().flat_map(|(served, packets)| packets.iter().map(move |packet| (served, packet))).collect();
            let (served, packet) = *pick.get(&flat);
            let mut packet = packet.clone();
            if let Some(option) = &option {
                packet[11] += 1;
                packet.extend_from_slice(&[0, 0, 41]);
                packet.extend_from_slice(&size.to_be_bytes());
                packet.extend_from_slice(&[0, 0, 0, 0]);
                packet.extend_from_slice(&u16::try_from(option.len() + 4).expect("short").to_be_bytes());
                packet.extend_from_slice(&[0xfd, 0xe9]);
                packet.extend_from_slice(&u16::try_from(option.len()).expect("short").to_be_bytes());
                packet.extend_from_slice(option);
            }
            for (place, value) in &changes {
                let place = place.index(packet.len());
                packet[place] = *value;
            }
            if let Some(cut) = cut {
                packet.truncate(cut.index(packet.len()) + 1);
            }
            let transport = if stream { Transport::Stream } else { Transport::Udp };
            if let Some((fast, slow)) = both(served, &packet, transport, 5) {
                let malformed = |answer: &Option<Vec<u8>>| answer.as_ref().is_some_and(|bytes| bytes[3] & 15 == 1);
                // What cannot be read is refused by both; how much of it is repeated differs.
                if malformed(&fast) || malformed(&slow) {
                    prop_assert_eq!(malformed(&fast), malformed(&slow), "{:02x?}", packet);
                } else {
                    prop_assert_eq!(&fast, &slow, "{:02x?}", packet);
                }
            }
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Any bytes: nothing, a refusal that repeats their id, or the slow path; never a panic.
    #[test]
    fn any_bytes_are_dropped_or_answered(mut bytes in prop::collection::vec(any::<u8>(), 0..600), question in any::<bool>()) {
        thread_local!(static SERVED: Served = corpus().swap_remove(0).0);
        if question && bytes.len() > 12 {
            bytes[2..12].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        SERVED.with(|served| {
            let mut buffer = vec![0; 65_535];
            let verdict = fast::answer(&served.zones, Manner::default(), &bytes, None, Transport::Udp, 0, &mut buffer);
            if let Verdict::Reply(length) = verdict {
                prop_assert!(length >= 12 && buffer[..2] == bytes[..2] && buffer[2] & 0x80 != 0);
            }
            Ok(())
        })?;
    }
}
