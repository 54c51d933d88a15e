//! What it takes to send a suite's rows through network namespaces: namespaces held by threads, servers
//! that answer at any address, ip(8), and the compiled transactions for a kernel.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use weft_core::view::Protocol;
use weft_kernel::nft::NftSocket;
use weft_nft::{Batch, Change};

pub mod namespace;
pub mod serve;

use namespace::Namespace;

/// Fails early with a sentence where packets cannot be sent at all.
///
/// # Errors
/// When the caller is not root.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("--packets makes network namespaces: run it as root");
    }
    Ok(())
}

/// Whether the kernel has SCTP.
pub fn has_sctp() -> bool {
    open(AddressFamily::Inet, Protocol::Sctp, SockFlag::empty()).is_ok()
}

/// A socket that speaks a protocol.
///
/// # Errors
/// When the kernel has none.
pub fn open(
    family: AddressFamily,
    protocol: Protocol,
    flags: SockFlag,
) -> std::io::Result<OwnedFd> {
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SockType::Stream, None),
        Protocol::Udp => (SockType::Datagram, None),
        Protocol::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    Ok(socket(family, kind, flags, protocol)?)
}

/// Commits transactions in a namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn commit(place: &Namespace, batches: Vec<Batch>) -> Result<()> {
    place.run(move || -> Result<()> {
        let mut socket = NftSocket::open()?;
        for batch in &batches {
            socket.commit(&ownerless(batch)).context("the kernel")?;
        }
        Ok(())
    })?
}

/// The same batch for a table that belongs to no socket, so that it does not matter which one commits.
pub fn ownerless(batch: &Batch) -> Batch {
    let Batch { table, changes } = batch;
    let changes = changes.iter().map(|change| match change {
        Change::AddTable { flags: Some(_) } => Change::AddTable { flags: None },
        other => other.clone(),
    });
    Batch {
        table: table.clone(),
        changes: changes.collect(),
    }
}

/// Prefix length of a single address, and what ip(8) wants to hear when it is added.
pub fn length(address: IpAddr) -> (u8, &'static str) {
    if address.is_ipv4() {
        (32, "")
    } else {
        (128, "nodad")
    }
}

/// Lines for ip(8) in a namespace; those that begin with `-6` are about IPv6 and come last.
///
/// # Errors
/// When ip(8) is not there or refuses.
pub fn ip(place: &Namespace, batch: String) -> Result<()> {
    place.run(move || -> Result<()> {
        let mut six = String::new();
        let mut rest = String::new();
        for line in batch.lines() {
            let (into, line) = match line.strip_prefix("-6 ") {
                Some(line) => (&mut six, line),
                None => (&mut rest, line),
            };
            let _ = writeln!(into, "{line}");
        }
        fed(&["ip", "-batch", "-"], &rest)?;
        fed(&["ip", "-6", "-batch", "-"], &six)
    })?
}

fn fed(argv: &[&str], input: &str) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    crate::place::succeeded(&output, &format!("ip with:\n{input}"))
}

/// Forwarding, no checks of sources, no limits for refusals, for the namespace of this thread and the
/// links that come into it later.
///
/// # Errors
/// When a value cannot be written.
pub fn sysctls() -> Result<()> {
    let on = [
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv4/conf/all/accept_local",
    ];
    let off = [
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter",
        "ipv4/icmp_ratelimit",
        "ipv6/icmp/ratelimit",
    ];
    let links = ["eth0", "clients", "world"].map(|link| format!("ipv4/conf/{link}/rp_filter"));
    let all = on
        .iter()
        .map(|name| ((*name).to_owned(), "1"))
        .chain(off.iter().map(|name| ((*name).to_owned(), "0")))
        .chain(links.map(|name| (name, "0")));
    for (name, value) in all {
        let file = format!("/proc/sys/net/{name}");
        match std::fs::write(&file, value) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            written => written.with_context(|| format!("failed to write {file}"))?,
        }
    }
    Ok(())
}
