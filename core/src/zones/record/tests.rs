//! What each type takes and what it refuses.

use super::*;
use crate::zones::text::tokens;

fn data(kind: RecordType, text: &str) -> Result<Box<[u8]>, DataError> {
    let origin = Name::absolute("example.").expect("a name");
    let tokens = tokens(text).expect("tokens");
    parse_data(kind, &tokens, Some(&origin))
}

fn bytes(kind: RecordType, text: &str) -> Vec<u8> {
    data(kind, text).expect("data").to_vec()
}

#[test]
fn addresses_and_names() {
    assert_eq!(bytes(RecordType::A, "192.0.2.1"), [192, 0, 2, 1]);
    assert_eq!(bytes(RecordType::AAAA, "::1")[15], 1);
    assert_eq!(bytes(RecordType::CNAME, "www"), b"\x03www\x07example\0");
    assert_eq!(bytes(RecordType::MX, "10 @"), b"\0\x0a\x07example\0");
    assert_eq!(
        bytes(RecordType::SRV, "1 2 80 a."),
        b"\0\x01\0\x02\0\x50\x01a\0"
    );
}

#[test]
fn texts_are_strings_of_up_to_255_bytes() {
    assert_eq!(bytes(RecordType::TXT, "\"a b\" c"), b"\x03a b\x01c");
    assert!(data(RecordType::TXT, &"x".repeat(255)).is_ok());
    let error = data(RecordType::TXT, &"x".repeat(256)).expect_err("too long");
    assert!(
        error
            .to_string()
            .ends_with("is not a string of at most 255 bytes")
    );
}

#[test]
fn a_record_holds_no_more_than_its_length_can_say() {
    let text = "\"".to_owned() + &"x".repeat(255) + "\" ";
    assert_eq!(
        data(RecordType::TXT, &text.repeat(257)),
        Err(DataError::Long(65792))
    );
}

#[test]
fn parameters_of_service_bindings_are_in_order_of_their_numbers() {
    let out = bytes(RecordType::SVCB, "1 . port=8443 alpn=h2,h3");
    assert_eq!(out, b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x20\xfb");
    let quoted = bytes(RecordType::HTTPS, "1 . key65400=\"a b\" alpn=\"h2,h3\"");
    assert_eq!(quoted, b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\xff\x78\0\x03a b");
    assert!(data(RecordType::SVCB, "1 . port=a").is_err());
    assert!(data(RecordType::SVCB, "1 . port=1 port=2").is_err());
    assert_eq!(
        bytes(RecordType::SVCB, "1 . ech=aGk="),
        b"\0\x01\0\0\x05\0\x02hi"
    );
}

#[test]
fn other_types_are_written_in_hex() {
    assert_eq!(bytes(RecordType(65280), "\\# 3 0a0b 0c"), [10, 11, 12]);
    assert!(bytes(RecordType(65280), "\\# 0").is_empty());
    assert!(data(RecordType(65280), "\\# 2 0a").is_err());
    assert_eq!(
        data(RecordType(65280), "x"),
        Err(DataError::Generic(RecordType(65280)))
    );
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    assert_eq!(
        data(RecordType::A, ""),
        Err(DataError::Missing("an IPv4 address"))
    );
    assert_eq!(
        data(RecordType::A, "1.2.3.4 5"),
        Err(DataError::Surplus("5".into()))
    );
    let error = data(RecordType::A, "::1").expect_err("wrong family");
    assert_eq!(error.to_string(), "\"::1\" is not an IPv4 address");
    assert!(data(RecordType::CAA, "0 issue! x").is_err());
    assert_eq!(
        bytes(RecordType::CAA, "0 issue \"ca.example\""),
        b"\0\x05issueca.example"
    );
}

#[test]
fn times_have_units_and_a_limit() {
    assert_eq!(seconds("3600"), Some(3600));
    assert_eq!(seconds("1h30m"), Some(5400));
    assert_eq!(seconds("0"), Some(0));
    assert_eq!(seconds("2147483647"), Some(MAX_TTL));
    assert_eq!(seconds("2147483648"), None);
    assert_eq!(seconds(""), None);
    assert_eq!(seconds("1x"), None);
}

#[test]
fn types_have_names_and_numbers() {
    assert_eq!(RecordType::parse("aaaa"), Some(RecordType::AAAA));
    assert_eq!(RecordType::parse("TYPE28"), Some(RecordType::AAAA));
    assert_eq!(RecordType::parse("TYPE70000"), None);
    assert_eq!(RecordType(65280).to_string(), "TYPE65280");
}
