//! Tables committed, owned, read back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use weft_kernel::nft::{Error, Found, NftSocket};
use weft_nft::{
    Base, Batch, Chain, ChainKind, Change, Element, Hook, Key, Policy, Rule, Set, Statement, Table,
    TableFlags, Type, Value, Verdict, diff,
};

use crate::namespace::Namespace;

fn open(node: &Namespace) -> NftSocket {
    node.enter(|| NftSocket::open().unwrap())
}

fn address(number: u32) -> Key {
    Key::from(Value::from(IpAddr::from(Ipv4Addr::from(
        0x0a00_0000 + number,
    ))))
}

/// A table with a set of so many addresses.
fn table(flags: TableFlags, elements: u32) -> Table {
    let mut table = Table::new("weftnet", flags);
    let elements: BTreeMap<Key, Element> = (0..elements)
        .map(|number| (address(number), Element::default()))
        .collect();
    table.sets.insert(
        "pods".to_owned(),
        Set::new([Type::Ipv4Addr])
            .with_comment("all pods")
            .with_elements(elements),
    );
    let input = Base {
        kind: ChainKind::Filter,
        hook: Hook::Input,
        priority: 0,
        policy: Policy::Accept,
    };
    let rules = [Rule::new([Statement::Verdict(Verdict::Accept)]).with_comment("all of it")];
    let chain = Chain::base(input.kind, input.hook, input.priority, input.policy).with_rules(rules);
    table.chains.insert("input".to_owned(), chain);
    table
}

fn make(socket: &mut NftSocket, want: &Table) {
    let have = socket.read_table("weftnet").unwrap().table;
    socket.commit_all(&diff(&have, want)).unwrap();
}

#[test]
fn what_is_read_back_is_what_was_committed() {
    let node = Namespace::new();
    let mut socket = open(&node);
    assert_eq!(socket.read_table("weftnet").unwrap(), Found::default());
    for elements in [0, 3, 20_000, 2] {
        let want = table(TableFlags::default(), elements);
        make(&mut socket, &want);
        assert!(
            socket.read_table("weftnet").unwrap().table == want,
            "with {elements} elements"
        );
    }
    assert!(
        node.run("nft list table inet weftnet")
            .contains("all of it")
    );
}

#[test]
fn elements_told_one_by_one_are_those_of_the_table() {
    let node = Namespace::new();
    let mut socket = open(&node);
    let mut want = table(TableFlags::default(), 20_000);
    let range = |first: u8, last: u8| {
        let [first, last] = [first, last].map(|last| Value::from(IpAddr::from([10, 1, 0, last])));
        weft_nft::Part::range(first, last)
    };
    let port = weft_nft::Part::One(Value::InetService(80));
    for (name, types, keys) in [
        (
            "ranges",
            vec![Type::Ipv4Addr],
            [Key(vec![range(1, 9)]), Key(vec![range(10, 10)])],
        ),
        (
            "ports",
            vec![Type::Ipv4Addr, Type::InetService],
            [
                Key(vec![range(1, 9), port.clone()]),
                Key(vec![range(10, 255), port]),
            ],
        ),
    ] {
        let elements = keys.map(|key| (key, Element::default().with_comment("of a pod")));
        let set = Set::new(types).with_intervals().with_elements(elements);
        want.sets.insert(name.to_owned(), set);
    }
    make(&mut socket, &want);
    let mut read = |set: &str| {
        let insert = |all: &mut BTreeMap<Key, Element>, key, element| {
            assert_eq!(all.insert(key, element), None);
        };
        socket
            .fold_set("weftnet", set, BTreeMap::new, insert)
            .unwrap()
    };
    for (name, set) in &want.sets {
        assert!(read(name).as_ref() == Some(&set.elements), "{name}");
    }
    assert_eq!(read("nodes"), None);
}

#[test]
fn a_refusal_names_the_change_and_leaves_nothing() {
    let node = Namespace::new();
    let mut socket = open(&node);
    let want = table(TableFlags::default(), 2);
    let jump = Rule::new([Statement::Verdict(Verdict::Jump("nowhere".to_owned()))])
        .with_comment("leads astray");
    let mut changes = diff(&Table::default(), &want).remove(0).changes;
    changes.push(Change::AddRule {
        chain: "input".to_owned(),
        rule: jump,
    });
    let error = socket
        .commit(&Batch {
            table: "weftnet".to_owned(),
            changes,
        })
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("leads astray") && text.contains("ENOENT"),
        "{text}"
    );
    assert_eq!(socket.read_table("weftnet").unwrap(), Found::default());
}

#[test]
fn an_owned_table_is_protected_while_its_socket_is_open_and_can_be_adopted() {
    let node = Namespace::new();
    let mut first = open(&node);
    let flags = first.supported_flags().unwrap();
    if flags == TableFlags::default() {
        println!("skipped: this kernel is older than 6.9 and has no table that persists");
        return;
    }
    let want = table(flags, 2);
    make(&mut first, &want);
    let found = first.read_table("weftnet").unwrap();
    assert_eq!(found.owner_port, Some(first.port().unwrap()));
    node.run("nft flush ruleset; ! nft delete table inet weftnet 2>/dev/null");
    let mut second = open(&node);
    let delete = Batch {
        table: "weftnet".to_owned(),
        changes: vec![Change::DeleteTable],
    };
    let error = second.commit(&delete).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { refusal, .. } if refusal.errno == Errno::EPERM),
        "{error}"
    );
    // The descriptor outlives its first user: so does the protection.
    let inherited: OwnedFd = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    assert!(second.commit(&delete).is_err());
    let mut heir = NftSocket::from_fd(inherited).unwrap();
    assert_eq!(
        heir.read_table("weftnet").unwrap().owner_port,
        Some(heir.port().unwrap())
    );
    make(&mut heir, &table(flags, 5));
    drop(heir);
    // Without any socket the table is there, and free to be adopted.
    assert_eq!(second.read_table("weftnet").unwrap().owner_port, None);
    let adopt = Batch {
        table: "weftnet".to_owned(),
        changes: vec![Change::AddTable { flags: Some(flags) }],
    };
    second.commit(&adopt).unwrap();
    let found = second.read_table("weftnet").unwrap();
    assert_eq!(found.owner_port, Some(second.port().unwrap()));
    assert!(found.table == table(flags, 5));
}

#[test]
fn finding_out_which_flags_there_are_leaves_no_table() {
    let node = Namespace::new();
    let mut socket = open(&node);
    socket.supported_flags().unwrap();
    assert_eq!(node.run("nft list tables"), "");
}

#[test]
fn what_a_predecessor_left_unread_does_no_harm() {
    let node = Namespace::new();
    let mut predecessor = open(&node);
    let want = table(TableFlags::default(), 5000);
    make(&mut predecessor, &want);
    let inherited: OwnedFd = predecessor.as_fd().try_clone_to_owned().unwrap();
    // It died in the middle of reading, with errors of a batch unread as well.
    let bad = Batch {
        table: "none".to_owned(),
        changes: vec![Change::DeleteTable; 50],
    };
    let bytes = weft_nft::encode::batch(&bad, 1, None).unwrap().bytes;
    send(inherited.as_raw_fd(), &bytes, MsgFlags::empty()).unwrap();
    let list = weft_nft::encode::Request::Elements {
        table: "weftnet",
        set: "pods",
    };
    send(
        inherited.as_raw_fd(),
        &weft_nft::encode::request(list, 99),
        MsgFlags::empty(),
    )
    .unwrap();
    drop(predecessor);
    let mut heir = NftSocket::from_fd(inherited).unwrap();
    let less = table(TableFlags::default(), 4);
    heir.commit_all(&diff(&want, &less)).unwrap();
    assert!(heir.read_table("weftnet").unwrap().table == less);
}

#[test]
fn a_batch_beyond_the_send_buffer_is_an_error_that_says_so() {
    let node = Namespace::new();
    let mut socket = open(&node);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBuf, &4096).unwrap();
    let batches = diff(&Table::default(), &table(TableFlags::default(), 20_000));
    let error = socket.commit_all(&batches).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn commits_and_dumps_are_counted() {
    let node = Namespace::new();
    let mut socket = open(&node);
    make(&mut socket, &table(TableFlags::default(), 1));
    assert_eq!((socket.commits(), socket.dumps()), (1, 4));
}
