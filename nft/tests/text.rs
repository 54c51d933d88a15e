//! The text of a table.

use weft_nft::{Element, Key, Table, TableFlags, Value, diff};

use crate::sample;

#[test]
fn a_table_prints_as_nft_reads_it() {
    insta::assert_snapshot!("sample", sample::table());
    insta::assert_snapshot!("carrier", sample::carrier());
}

#[test]
fn flags_are_printed_or_left_out() {
    let table = Table::new("weftnet", TableFlags::OWNED);
    assert_eq!(
        table.to_string(),
        "table inet weftnet {\n\tflags owner,persist\n}\n"
    );
    assert_eq!(table.without_flags(), "table inet weftnet {\n}\n");
}

#[test]
fn no_table_prints_as_nothing() {
    assert_eq!(Table::default().to_string(), "");
}

#[test]
fn a_difference_prints_one_line_for_each_change() {
    let have = sample::table();
    let mut want = have.clone();
    let key = Key::of([Value::IfaceIndex(9), sample::address("10.1.0.9")]);
    let element = Element::default().with_comment("default/web-1");
    let pods = want.sets.get_mut("pods").unwrap();
    pods.elements.insert(key, element);
    want.chains.get_mut("reroute").unwrap().rules.clear();
    want.sets.remove("recent");
    let batches: String = diff(&have, &want).iter().map(ToString::to_string).collect();
    let lines: Vec<&str> = batches.lines().collect();
    assert_eq!(
        lines,
        [
            "batch for table inet sample:",
            "\tflush chain reroute",
            "\tadd element pods { 9 . 10.1.0.9 comment \"default/web-1\", }",
            "batch for table inet sample:",
            "\tdelete set recent",
        ]
    );
}
