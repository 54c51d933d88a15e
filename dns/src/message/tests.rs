//! What is dropped, refused and taken.

use super::*;

/// A question for `a.b.` type A, with a change.
fn packet(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(b"\x01a\x01B\0\0\x01\0\x01");
    change(&mut packet);
    packet
}

fn refusal(packet: &[u8]) -> u16 {
    match read(packet) {
        Message::Refuse { code, .. } => code.0,
        other => panic!("not refused: {other:?}"),
    }
}

fn with_opt(packet: &mut Vec<u8>, opt: &[u8]) {
    packet[11] += 1;
    packet.extend_from_slice(opt);
}

#[test]
fn a_question_is_read() {
    let Message::Ask(request) = read(&packet(|_| {})) else {
        panic!("no question");
    };
    assert_eq!(request.lower(), b"\x01a\x01b\0");
    assert_eq!(
        (request.kind, request.end, request.odd),
        (RecordType::A, 21, false)
    );
    assert_eq!(request.limit(Transport::Udp), 512);
    assert_eq!(request.limit(Transport::Stream), 65535);
}

#[test]
fn answers_and_fragments_are_dropped() {
    assert!(matches!(read(&[0; 11]), Message::Drop));
    assert!(matches!(
        read(&packet(|packet| packet[2] |= 0x80)),
        Message::Drop
    ));
}

#[test]
fn counts_are_checked_first() {
    for (at, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 3)] {
        assert_eq!(
            refusal(&packet(|packet| packet[at] = value)),
            1,
            "byte {at}"
        );
    }
}

#[test]
fn other_operations_are_not_implemented() {
    for operation in [1, 2, 4, 5, 6] {
        assert_eq!(refusal(&packet(|packet| packet[2] = operation << 3)), 4);
    }
}

#[test]
fn names_are_whole_and_not_compressed() {
    assert_eq!(refusal(&packet(|packet| packet[12] = 0xc0)), 1);
    assert_eq!(refusal(&packet(|packet| packet.truncate(18))), 1);
    assert_eq!(refusal(&packet(|packet| packet.push(0))), 1);
}

#[test]
fn edns_sets_the_size_within_bounds() {
    for (size, limit) in [(100_u16, 512), (1000, 1000), (4096, 1232)] {
        let [high, low] = size.to_be_bytes();
        let packet = packet(|packet| with_opt(packet, &[0, 0, 41, high, low, 0, 0, 0x80, 0, 0, 0]));
        let Message::Ask(request) = read(&packet) else {
            panic!("no question");
        };
        assert_eq!(request.limit(Transport::Udp), limit);
        assert!(request.edns.is_some_and(|edns| edns.dnssec));
    }
}

#[test]
fn a_later_version_and_a_second_record_are_errors() {
    let later = [0, 0, 41, 4, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(refusal(&packet(|packet| with_opt(packet, &later))), 16);
    let plain = [0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0];
    let twice = packet(|packet| {
        with_opt(packet, &plain);
        with_opt(packet, &plain);
    });
    assert_eq!(refusal(&twice), 1);
    let cut = packet(|packet| with_opt(packet, &plain[..9]));
    assert_eq!(refusal(&cut), 1);
}

#[test]
fn options_are_skipped_and_other_records_are_odd() {
    let option = [0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0];
    assert!(
        matches!(read(&packet(|packet| with_opt(packet, &option))), Message::Ask(request) if !request.odd)
    );
    let signature = [0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    assert!(
        matches!(read(&packet(|packet| with_opt(packet, &signature))), Message::Ask(request) if request.odd)
    );
}

#[test]
fn classes_and_transfers_are_refused() {
    assert_eq!(refusal(&packet(|packet| packet[20] = 3)), 5);
    assert_eq!(refusal(&packet(|packet| packet[18] = 252)), 5);
    assert_eq!(refusal(&packet(|packet| packet[18] = 41)), 1);
}
