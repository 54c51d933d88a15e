//! The text of a table.

use weft_nft::{Table, TableFlags};

use crate::sample;

#[test]
fn a_table_prints_as_nft_reads_it() {
    insta::assert_snapshot!("sample", sample::table());
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
