//! Netlink bytes: there and back, and bytes that are none.

use proptest::prelude::*;
use weft_nft::decode::{self, Content, Object, Reader};
use weft_nft::encode::{self, EncodeError, Request};
use weft_nft::{
    Batch, Change, Element, Field, Rule, Set, Statement, Table, TableFlags, Type, Value, Verdict,
    diff,
};

use crate::{arbitrary, sample};

fn encoded(table: &Table) -> Vec<u8> {
    let batches = diff(&Table::default(), table);
    encode::batch(&batches[0], 1, None).unwrap().bytes
}

fn decoded(name: &str, bytes: &[u8]) -> Table {
    let mut reader = Reader::new(name);
    for message in decode::messages(bytes) {
        reader.add(message.unwrap()).unwrap();
    }
    reader.finish()
}

#[test]
fn a_table_comes_back_from_its_encoding() {
    let table = sample::table();
    assert_eq!(decoded("sample", &encoded(&table)), table);
}

#[test]
fn a_dump_that_has_an_element_twice_is_not_whole() {
    let bytes = encoded(&sample::table());
    let mut reader = Reader::new("sample");
    let mut elements = None;
    for message in decode::messages(&bytes) {
        let message = message.unwrap();
        if matches!(message.content, Content::New(Object::Elements(_))) {
            elements = Some(message.clone());
        }
        reader.add(message).unwrap();
    }
    assert!(reader.is_whole());
    reader.add(elements.unwrap()).unwrap();
    assert!(!reader.is_whole());
}

#[test]
fn another_table_does_not_come_back() {
    let bytes = encoded(&sample::table());
    assert_eq!(decoded("other", &bytes), Table::default());
}

proptest! {
    #[test]
    fn any_table_comes_back_from_its_encoding(table in arbitrary::table("t")) {
        prop_assert_eq!(decoded("t", &encoded(&table)), table);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&sample::table());
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(length.index(bytes.len()));
        read_all(&bytes);
    }

    #[test]
    fn damaged_attributes_never_panic(
        kind in 0..35_u16,
        attributes in proptest::collection::vec((0..22_u16, proptest::collection::vec(any::<u8>(), 0..24)), 0..6),
    ) {
        let mut body = vec![1, 0, 0, 0];
        for (kind, value) in attributes {
            let length = u16::try_from(value.len() + 4).unwrap();
            body.extend(length.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        bytes.extend((10 << 8 | kind).to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        read_all(&bytes);
    }
}

/// Reads whatever it is as a dump of the table "sample".
fn read_all(bytes: &[u8]) -> Table {
    let mut reader = Reader::new("sample");
    for message in decode::messages(bytes).flatten() {
        let _ = reader.add(message);
    }
    reader.finish()
}

#[test]
fn a_change_is_found_by_its_message() {
    let batch = Batch {
        table: "t".to_owned(),
        changes: vec![
            Change::AddChain {
                name: "c".into(),
                base: None,
                comment: None,
            },
            Change::AddRule {
                chain: "c".into(),
                rule: Rule::new([Statement::is_any(
                    Field::TcpDport,
                    [sample::port(80), sample::port(81)],
                )]),
            },
        ],
    };
    let encoded = encode::batch(&batch, 100, Some(7)).unwrap();
    assert_eq!(encoded.change(100), None, "begin");
    assert_eq!(encoded.change(101), Some(0), "chain");
    assert_eq!(encoded.change(102), Some(1), "anonymous set");
    assert_eq!(encoded.change(103), Some(1), "its elements");
    assert_eq!(encoded.change(104), Some(1), "rule");
    assert_eq!(encoded.change(105), None, "end");
    assert_eq!(encoded.acknowledged_sequence, 104);
    assert_eq!(encoded.next_sequence, 106);
    let sequences: Vec<u32> = decode::messages(&encoded.bytes)
        .map(|message| message.unwrap().sequence)
        .collect();
    assert_eq!(sequences, [100, 101, 102, 103, 104, 105]);
}

#[test]
fn many_elements_are_divided_among_messages() {
    let elements = (0..20_000_u32).map(|number| {
        let element = Element::default().with_comment(format!("number {number}"));
        (Value::Mark(number).into(), element)
    });
    let mut table = Table::new("t", TableFlags::default());
    let set = Set::new([Type::Mark]).with_elements(elements);
    table.sets.insert("s".to_owned(), set);
    let bytes = encoded(&table);
    let messages = decode::messages(&bytes).filter(|message| {
        let content = &message.as_ref().unwrap().content;
        matches!(content, Content::New(Object::Elements(_)))
    });
    assert!(messages.count() > 10);
    assert_eq!(decoded("t", &bytes), table);
}

#[test]
fn a_rule_that_is_not_of_this_model_comes_back_as_unknown() {
    let mut bytes = encoded(&sample::table());
    let name = b"notrack\0";
    while let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
        bytes[at..at + 7].copy_from_slice(b"foreign");
    }
    let table = decoded("sample", &bytes);
    let unknown = vec![Statement::Unknown("foreign".to_owned())];
    assert_eq!(table.chains["reroute"].rules[0].statements, unknown);
    assert_eq!(table.chains["forward"], sample::table().chains["forward"]);
    let again = diff(&Table::default(), &table);
    let refused = encode::batch(&again[0], 1, None).unwrap_err();
    assert_eq!(refused, EncodeError::Unknown("foreign".to_owned()));
}

#[test]
fn an_unchecked_address_is_not_taken_for_a_checked_one() {
    // A rule that loads an IPv4 address without making sure that there is one.
    let mut table = Table::new("t", TableFlags::default());
    let rule = Rule::new([Statement::is(Field::IpSaddr, sample::address("10.0.0.1"))]);
    table
        .chains
        .insert("c".to_owned(), weft_nft::Chain::regular([rule]));
    let mut bytes = encoded(&table);
    // `meta nfproto` (15) becomes `meta l4proto` (16).
    let key = [0x08, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 15];
    let at = bytes.windows(8).position(|window| window == key).unwrap();
    bytes[at + 7] = 16;
    let back = decoded("t", &bytes);
    let found = &back.chains["c"].rules[0].statements;
    assert!(
        matches!(found.as_slice(), [Statement::Unknown(_)]),
        "{found:?}"
    );
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let long = "x".repeat(128);
    let rule = Rule::new([Statement::Verdict(Verdict::Drop)]).with_comment(long.clone());
    let batch = Batch {
        table: "t".to_owned(),
        changes: vec![Change::AddRule {
            chain: "c".into(),
            rule,
        }],
    };
    let refused = encode::batch(&batch, 1, None).unwrap_err();
    assert_eq!(
        refused,
        EncodeError::TooLong {
            what: "a comment",
            text: long,
            length: 128,
            limit: 127,
        }
    );
}

#[test]
fn an_error_tells_its_number_and_what_the_kernel_says() {
    // nlmsgerr with a capped request and NLMSGERR_ATTR_MSG, as extended acknowledgements have it.
    let text = b"bad\0";
    let mut body = (-16_i32).to_ne_bytes().to_vec();
    body.extend([0; 16]);
    body.extend([8, 0, 1, 0]);
    body.extend(text);
    let mut bytes = u32::try_from(16 + body.len())
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend(0x300_u16.to_ne_bytes());
    bytes.extend(9_u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    let message = decode::messages(&bytes).next().unwrap().unwrap();
    let Content::Refused(refusal) = message.content else {
        panic!("not a refusal: {message:?}");
    };
    assert_eq!((refusal.sequence, refusal.errno), (9, 16));
    assert_eq!(
        refusal.to_string(),
        "the kernel refused message 9: errno 16: bad"
    );
}

#[test]
fn a_truncated_datagram_is_an_error_and_ends_the_messages() {
    let bytes = encode::request(Request::Rules { table: "t" }, 1);
    let mut messages = decode::messages(&bytes[..bytes.len() - 1]);
    assert!(messages.next().unwrap().is_err());
    assert!(messages.next().is_none());
}
