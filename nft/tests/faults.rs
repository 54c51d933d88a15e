//! Faults: none in good tables, and a sentence for each bad one.

use proptest::prelude::*;
use weft_nft::{
    Element, Field, Key, NatFamily, NatTarget, Rule, Set, Statement, Table, TableFlags, Type, Value,
};

use crate::{arbitrary, sample};

#[test]
fn the_sample_has_no_faults() {
    assert_eq!(sample::table().faults(), []);
}

proptest! {
    #[test]
    fn good_tables_have_no_faults(table in arbitrary::table("t")) {
        prop_assert_eq!(table.faults(), vec![]);
    }
}

fn with_rule(statements: impl IntoIterator<Item = Statement>) -> Table {
    let mut table = Table::new("t", TableFlags::default());
    let chain = weft_nft::Chain::regular([Rule::new(statements)]);
    table.chains.insert("c".to_owned(), chain);
    table
}

fn only_fault(table: &Table) -> String {
    let faults = table.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

#[test]
fn a_comparison_of_two_types_is_a_fault() {
    let table = with_rule([Statement::is(Field::IpSaddr, sample::port(80))]);
    assert_eq!(
        only_fault(&table),
        "chain c, rule 1: ip saddr 80 does not compare values of one type"
    );
}

#[test]
fn what_is_not_there_is_a_fault() {
    let table = with_rule([Statement::in_set([Field::Mark], "nothing")]);
    assert_eq!(
        only_fault(&table),
        "chain c, rule 1: there is no set nothing"
    );
    let table = with_rule([Statement::jump("nowhere")]);
    assert_eq!(
        only_fault(&table),
        "chain c, rule 1: there is no chain nowhere"
    );
}

#[test]
fn a_rule_that_reads_back_differently_is_a_fault() {
    let table = with_rule([
        Statement::is(Field::L4proto, sample::TRANSPORTS[0].clone()),
        Statement::is(Field::ThDport, sample::port(80)),
    ]);
    assert_eq!(
        only_fault(&table),
        "chain c, rule 1: write it as `tcp dport 80`, which is the same"
    );
}

#[test]
fn an_address_of_another_family_is_a_fault() {
    let table = with_rule([Statement::Dnat {
        family: NatFamily::Ip,
        to: NatTarget::Literal {
            address: "fd00::1".parse().unwrap(),
            port: None,
        },
    }]);
    assert_eq!(
        only_fault(&table),
        "chain c, rule 1: fd00::1 is of another family"
    );
}

#[test]
fn bad_sets_are_faults() {
    let with = |set: Set| {
        let mut table = Table::new("t", TableFlags::default());
        table.sets.insert("s".to_owned(), set);
        only_fault(&table)
    };
    let overlapping = ["10.0.0.0/8", "10.1.0.0/16"];
    let elements = overlapping.map(|net| (sample::network(net).into(), Element::default()));
    let set = Set::new([Type::Ipv4Addr])
        .with_intervals()
        .with_elements(elements);
    assert_eq!(
        with(set),
        "set s: 10.1.0.0/16 overlaps with the element before it"
    );
    let element = (Key::of([Value::Mark(1)]), Element::default());
    let set = Set::new([Type::InetService]).with_elements([element]);
    assert_eq!(
        with(set),
        "set s, element 0x00000001: the key has other types than the set"
    );
    let element = Element::default().with_comment("say \"hi\"");
    let set = Set::new([Type::Mark]).with_elements([(Value::Mark(1).into(), element)]);
    assert_eq!(
        with(set),
        "set s, element 0x00000001: a comment must not be empty nor have quotes or control characters"
    );
}
