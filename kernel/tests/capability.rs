//! CAP_NET_ADMIN is all that this crate needs.

use std::path::Path;

use weft_core::diff::{Change, Changes};
use weft_core::plan::Route;
use weft_kernel::conntrack::ConntrackSocket;
use weft_kernel::monitor::Monitor;
use weft_kernel::netlink::Socket;
use weft_kernel::nft::NftSocket;
use weft_kernel::pod::{own_namespace, unwire, verify, wire};
use weft_kernel::{host, net, sysctl};
use weft_nft::{Batch, Change as TableChange};

use crate::namespace::Namespace;
use crate::pod::wiring;

/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` of linux/capability.h, as bits.
const NET_ADMIN: u32 = 1 << 12;
const SYS_ADMIN: u32 = 1 << 21;

/// Leaves the calling thread these capabilities and no others.
#[expect(
    unsafe_code,
    reason = "no crate in use sets the capabilities of a thread"
)]
fn keep(capabilities: u32) {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    // Effective, permitted and inheritable, of the lower and of the upper 32 capabilities.
    let data = [capabilities, capabilities, 0, 0, 0, 0];
    // SAFETY: both pointers are to live arrays of the layout and length that version 3 prescribes.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn cap_net_admin_is_enough_for_everything() {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let mut in_pod = pod.socket();
    node.enter(|| {
        keep(NET_ADMIN);
        let mut socket = Socket::open().unwrap();
        let wanted = wiring("a", &["10.8.0.1", "fd00:8::1"]);
        let namespace = own_namespace().unwrap();
        assert!(
            wire(&mut socket, &mut in_pod, &namespace, &wanted)
                .unwrap()
                .created
        );
        assert!(
            verify(&mut socket, &mut in_pod, &wanted)
                .unwrap()
                .is_empty()
        );
        let route = Change::ReplaceRoute("10.7.0.0/26".parse().unwrap(), Route::Unreachable);
        net::apply(&mut socket, &Changes(vec![route])).unwrap();
        net::observe(&mut socket).unwrap();
        host::observe(&mut socket, Path::new("/proc/sys/net")).unwrap();
        let mut nft = NftSocket::open().unwrap();
        let flags = nft.supported_flags().unwrap();
        let changes = vec![TableChange::AddTable { flags: Some(flags) }];
        nft.commit(&Batch {
            table: "weftnet".to_owned(),
            changes,
        })
        .unwrap();
        nft.read_table("weftnet").unwrap();
        Monitor::open(&mut socket, Some("weftnet")).unwrap();
        ConntrackSocket::open()
            .unwrap()
            .delete("10.8.0.1".parse().unwrap())
            .unwrap();
        sysctl::set(Path::new("/proc/sys/net"), "ipv4/ip_forward", "1").unwrap();
        assert!(unwire(&mut socket, &wanted.host_link).unwrap());
    });
}

#[test]
fn without_cap_net_admin_the_error_says_that_it_is_needed() {
    let node = Namespace::new();
    let error = node.enter(|| {
        keep(SYS_ADMIN);
        let route = Change::ReplaceRoute("10.7.0.0/26".parse().unwrap(), Route::Unreachable);
        net::apply(&mut Socket::open().unwrap(), &Changes(vec![route]))
            .unwrap_err()
            .to_string()
    });
    assert!(error.contains("CAP_NET_ADMIN is needed"), "{error}");
}
