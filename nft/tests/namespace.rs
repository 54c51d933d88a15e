//! A network namespace of a test's own, with nf_tables and `nft` in it.
//!
//! The namespace belongs to one thread and ends with it and the programs that it started.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sched::{CloneFlags, unshare};
use weft_nft::decode::{self, Content, Message, Reader, Refusal};
use weft_nft::encode::{self, Request};
use weft_nft::{Batch, Table};

/// Runs a test in a new network namespace; without root or nft it fails.
pub fn run(test: impl FnOnce() + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes a network namespace: run it as root"
    );
    assert!(
        Command::new("nft").arg("--version").output().is_ok(),
        "this test lists tables with nft: install nftables (1.0.6 or later)"
    );
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("this test makes a network namespace: it needs CAP_SYS_ADMIN");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A program's answer: whether it succeeded, and all it said.
pub fn nft(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("nft").args(arguments).output().unwrap();
    said(&output)
}

/// What nft says to a ruleset as text, without loading it.
pub fn nft_check(text: &str) -> (bool, String) {
    let mut child = Command::new("nft")
        .args(["-c", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    said(&child.wait_with_output().unwrap())
}

fn said(output: &Output) -> (bool, String) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// A socket to the kernel's nf_tables.
pub struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    pub fn open() -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.set_ext_ack(true).unwrap();
        Self {
            socket,
            sequence: 1,
        }
    }

    /// A socket that hears of changes instead (`NFNLGRP_NFTABLES`).
    pub fn listen() -> Self {
        let kernel = Self::open();
        kernel.socket.add_membership(7).unwrap();
        kernel.socket.set_non_blocking(true).unwrap();
        kernel
    }

    /// The socket's port.
    pub fn port(&self) -> u32 {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address).unwrap();
        address.port_number()
    }

    /// Carries out a batch; an error says at which change.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), (Option<String>, Refusal)> {
        let encoded = encode::batch(batch, self.sequence, None).unwrap();
        self.sequence = encoded.next_sequence;
        self.socket.send(&encoded.bytes, 0).unwrap();
        let mut refused = None;
        loop {
            for message in self.receive() {
                if let Content::Refused(refusal) = message.content {
                    let change = encoded.change(refusal.sequence);
                    let change = change.map(|index| batch.changes[index].to_string());
                    refused.get_or_insert((change, refusal));
                }
                if message.sequence == encoded.acknowledged_sequence {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Reads a table.
    pub fn read(&mut self, name: &str) -> Table {
        self.reader(name).finish()
    }

    /// Reads a table and tells who owns it.
    pub fn reader(&mut self, name: &str) -> Reader {
        let mut reader = Reader::new(name);
        for request in [
            Request::Tables,
            Request::Chains,
            Request::Rules { table: name },
            Request::Sets { table: name },
        ] {
            self.ask(request, &mut reader);
        }
        let sets: Vec<String> = reader.set_names().map(str::to_owned).collect();
        for set in &sets {
            self.ask(Request::Elements { table: name, set }, &mut reader);
        }
        reader
    }

    /// Number of the ruleset's generation.
    pub fn generation(&mut self) -> u32 {
        self.sequence += 1;
        let request = encode::request(Request::Generation, self.sequence);
        self.socket.send(&request, 0).unwrap();
        match self.receive().remove(0).content {
            Content::New(decode::Object::Generation { id, .. }) => id,
            other => panic!("no generation: {other:?}"),
        }
    }

    /// What this socket heard so far.
    pub fn heard(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Ok((datagram, _)) = self.socket.recv_from_full() {
            all.extend(decode::messages(&datagram).map(Result::unwrap));
        }
        all
    }

    fn ask(&mut self, request: Request<'_>, reader: &mut Reader) {
        self.sequence += 1;
        let bytes = encode::request(request, self.sequence);
        self.socket.send(&bytes, 0).unwrap();
        loop {
            for message in self.receive() {
                match &message.content {
                    Content::Done => return,
                    // A table that is not there.
                    Content::Refused(Refusal { errno: 2, .. }) => return,
                    Content::Refused(refusal) => panic!("{request:?}: {refusal}"),
                    _ => reader.add(message).unwrap(),
                }
            }
        }
    }

    fn receive(&mut self) -> Vec<Message> {
        let (datagram, _) = self.socket.recv_from_full().unwrap();
        decode::messages(&datagram).map(Result::unwrap).collect()
    }
}
