//! Ownership of a table: protected while the socket is open, orphaned after, adopted again.

use weft_nft::{Batch, Change, TableFlags, diff, replace};

use crate::namespace::{self, Kernel, nft};
use crate::sample;

fn owned() -> weft_nft::Table {
    let mut table = sample::table();
    table.flags = TableFlags::OWNED;
    table
}

/// Tries to remove the table as an administrator would.
fn attack() -> bool {
    assert!(nft(&["add", "table", "inet", "control"]).0);
    let (flushed, said) = nft(&["flush", "ruleset"]);
    assert!(flushed, "{said}");
    let (control, _) = nft(&["list", "table", "inet", "control"]);
    assert!(!control, "the flush removes what nobody owns");
    nft(&["delete", "table", "inet", "sample"]).0
}

#[test]
fn an_owned_table_outlives_attacks_its_owner_and_its_adoption() {
    namespace::run(|| {
        let table = owned();
        let mut first = Kernel::open();
        first.apply(&replace(&table)).unwrap();
        assert!(!attack(), "deleted although it has an owner");
        assert_eq!(first.read("sample"), table);
        assert_eq!(first.reader("sample").owner_port(), Some(first.port()));

        drop(first);
        let mut second = Kernel::open();
        let orphan = second.read("sample");
        let mut expected = owned();
        expected.flags.owner = false;
        assert_eq!(orphan, expected);
        assert_eq!(second.reader("sample").owner_port(), None);

        let adoption = diff(&orphan, &table);
        assert_eq!(adoption.len(), 1);
        second.apply(&adoption[0]).unwrap();
        assert_eq!(second.reader("sample").owner_port(), Some(second.port()));
        assert!(!attack(), "deleted although it was adopted");
        assert_eq!(second.read("sample"), table);

        drop(second);
        let (deleted, said) = nft(&["delete", "table", "inet", "sample"]);
        assert!(deleted, "an orphan is unprotected: {said}");
    });
}

#[test]
fn an_orphan_is_replaced_whole_in_one_batch() {
    namespace::run(|| {
        let mut first = Kernel::open();
        first.apply(&replace(&owned())).unwrap();
        drop(first);
        let mut second = Kernel::open();
        let mut table = owned();
        table.chains.remove("leave");
        second.apply(&replace(&table)).unwrap();
        assert_eq!(second.read("sample"), table);
        assert!(!attack());
    });
}

#[test]
fn another_socket_may_not_change_an_owned_table() {
    namespace::run(|| {
        let mut owner = Kernel::open();
        owner.apply(&replace(&owned())).unwrap();
        let mut other = Kernel::open();
        let batch = Batch {
            table: "sample".to_owned(),
            changes: vec![Change::FlushChain {
                name: "forward".to_owned(),
            }],
        };
        let (_, refusal) = other.apply(&batch).unwrap_err();
        assert_eq!(refusal.errno, 1, "EPERM: {refusal}");
        owner.apply(&batch).unwrap();
    });
}
