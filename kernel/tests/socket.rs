//! The rtnetlink socket itself: replies that nobody read, lost ones, wrong descriptors.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{MsgFlags, send};
use weft_core::plan::NetState;
use weft_kernel::net;
use weft_kernel::netlink::Socket;

use crate::namespace::Namespace;

/// `RTM_GETLINK` for all links.
fn list_links(sequence: u32) -> Vec<u8> {
    let mut bytes = 32_u32.to_ne_bytes().to_vec();
    bytes.extend(18_u16.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 20]);
    bytes
}

#[test]
fn what_a_predecessor_left_unread_does_no_harm() {
    let node = Namespace::new();
    let predecessor = node.socket();
    let inherited: OwnedFd = predecessor.as_fd().try_clone_to_owned().unwrap();
    send(
        predecessor.as_fd().as_raw_fd(),
        &list_links(1),
        MsgFlags::empty(),
    )
    .unwrap();
    drop(predecessor);
    let mut socket = Socket::from_fd(inherited).unwrap();
    assert!(net::exists(&mut socket, "lo").unwrap());
    assert!(!net::exists(&mut socket, "none").unwrap());
    assert_eq!(net::observe(&mut socket).unwrap(), NetState::default());
}

#[test]
fn dumps_are_counted_and_lookups_are_none() {
    let node = Namespace::new();
    let mut socket = node.socket();
    let found = net::indices(&mut socket, ["lo".to_owned(), "none".to_owned()]).unwrap();
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("lo".to_owned(), 1)]
    );
    assert_eq!(socket.dumps(), 0);
    net::observe(&mut socket).unwrap();
    assert_eq!(socket.dumps(), 9);
}

#[test]
fn only_an_rtnetlink_socket_is_taken_over() {
    let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = Socket::from_fd(left.into()).unwrap_err().to_string();
    assert!(
        error.contains("failed to take over a netlink socket"),
        "{error}"
    );
    let other = Namespace::new().enter(|| weft_kernel::nft::NftSocket::open().unwrap());
    assert!(Socket::from_fd(other.into()).is_err());
}

#[test]
fn a_socket_works_on_the_namespace_it_was_opened_in() {
    let (one, other) = (Namespace::new(), Namespace::new());
    one.run("ip link add only type veth peer name here");
    let mut socket = one.socket();
    assert!(other.enter(|| net::exists(&mut socket, "only")).unwrap());
}
