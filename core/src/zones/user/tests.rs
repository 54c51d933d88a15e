//! Which records are a zone.

use super::*;
use crate::zones::file;

fn build(text: &str, strictness: Strictness) -> Result<UserZone, String> {
    let apex = Name::absolute("example.").expect("a name");
    let soa = "@ 60 SOA ns hostmaster 1 2 3 4 5\n".to_owned();
    let records = file::parse(&(soa + text), &apex, Some(60)).expect("records");
    let zone = UserZone::build(apex, records, strictness);
    zone.map_err(|errors| {
        errors
            .iter()
            .map(|error| error.to_string() + "\n")
            .collect()
    })
}

fn refused(text: &str) -> String {
    build(text, Strictness::Object).expect_err("refused")
}

#[test]
fn names_between_a_record_and_the_zone_exist() {
    let zone = build("a.b.c A 192.0.2.1\n", Strictness::Object).expect("a zone");
    let name = Name::absolute("c.example.").expect("a name");
    assert!(zone.leaves[name.wire()].is_empty());
    assert_eq!(zone.records(), 2);
}

#[test]
fn an_alias_stands_alone() {
    let wanted =
        "a.example. CNAME: an alias stands alone, and there is A beside it (RFC 1034, 3.6.2)\n";
    assert_eq!(refused("a CNAME b\na A 192.0.2.1\n"), wanted);
    assert_eq!(
        refused("a CNAME b\na CNAME c\n"),
        "a.example. CNAME: a name has one of these at most\n"
    );
}

#[test]
fn records_are_in_the_zone() {
    assert_eq!(
        refused("www.example.org. A 192.0.2.1\n"),
        "www.example.org. A: the record is outside zone example.\n"
    );
    assert_eq!(
        refused("a SOA ns hostmaster 1 2 3 4 5\n"),
        "a.example. SOA: it stands at the zone's own name, example.\n"
    );
    assert_eq!(
        refused("a TYPE252 \\# 0\n"),
        "a.example. AXFR: no record has this type\n"
    );
}

#[test]
fn what_is_always_a_mistake_is_refused_in_objects_alone() {
    let ring = "a CNAME b\nb CNAME c\nc CNAME a\n";
    assert_eq!(
        refused(ring),
        "a.example. CNAME: the aliases lead back to where they began\n"
    );
    assert_eq!(
        refused("a.*.b A 192.0.2.1\n"),
        "a.*.b.example.: a star is a name's first label or none (RFC 4592)\n"
    );
    for text in [ring, "a.*.b A 192.0.2.1\n"] {
        assert!(build(text, Strictness::File).is_ok());
    }
}

#[test]
fn records_of_a_set_share_the_smallest_time_to_live_and_count_once() {
    let zone = build(
        "a 9 A 192.0.2.1\na 7 A 192.0.2.2\na 8 A 192.0.2.2\n",
        Strictness::Object,
    )
    .expect("a zone");
    let name = Name::absolute("a.example.").expect("a name");
    let set = zone.leaves[name.wire()].set(RecordType::A).expect("a set");
    assert_eq!((set.ttl, set.data.len()), (7, 2));
}
