//! Sysctls of a namespace, and names that are none.

use std::path::Path;

use weft_kernel::sysctl::{self, Error};

use crate::namespace::Namespace;

#[test]
fn only_what_differs_is_written() {
    let node = Namespace::new();
    let root = Path::new("/proc/sys/net");
    let wanted = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/lo/rp_filter", "0"),
        ("ipv4/ip_local_port_range", "32768 60999"),
        ("ipv4/conf/none/rp_filter", "0"),
    ];
    let (written, errors) = node.enter(|| sysctl::apply(root, wanted));
    let names: Vec<&str> = written
        .iter()
        .map(|written| written.name.as_str())
        .collect();
    assert_eq!(names, ["ipv4/ip_forward"]);
    assert_eq!(
        (written[0].before.as_str(), written[0].after.as_str()),
        ("0", "1")
    );
    assert_eq!(errors.len(), 1);
    assert!(errors[0].is_absence() && errors[0].to_string().contains("ipv4/conf/none/rp_filter"));
    let (again, _) = node.enter(|| sysctl::apply(root, wanted));
    assert_eq!(again, []);
    assert_eq!(node.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
}

#[test]
fn names_that_lead_out_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("net");
    std::fs::create_dir(&root).unwrap();
    let outside = directory.path().join("outside");
    std::fs::write(&outside, "0").unwrap();
    let absolute = outside.to_str().unwrap();
    for name in [
        "../outside",
        "a/../../outside",
        "./../outside",
        absolute,
        "",
        "/",
    ] {
        let error = sysctl::set(&root, name, "1").unwrap_err();
        assert!(matches!(error, Error::Name(_)), "{name}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "0");
    std::fs::write(root.join("inside"), "0\n").unwrap();
    assert!(sysctl::set(&root, "inside", "1").unwrap().is_some());
}
