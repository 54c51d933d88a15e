//! A port on the machine's own 127.0.0.1 that leads to the API server inside its namespace.
//!
//! So kubectl works in any shell, and the machine's network namespace stays as it is: no interface,
//! no route, no rule. The listening socket is opened before this process enters the control plane's
//! network namespace, and stays where it was opened.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, TcpStream};

use crate::place::{Place, own_program, spawn};

/// The hidden subcommand of the forwarder.
pub const COMMAND: &str = "_forward";

/// Starts a forwarder into a place and returns its port.
pub fn start(place: &Place, target: SocketAddr, wanted: Option<u16>, log: &Path) -> Result<u16> {
    let mut command = Command::new(own_program()?);
    command
        .arg(COMMAND)
        .args([place.pid().to_string(), target.to_string()])
        .arg(wanted.unwrap_or(0).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(crate::place::open_log(log)?);
    let entry = spawn::Entry::cgroups_only(place.cgroups())?;
    let mut child = spawn::spawn(&entry, command, true).context("failed to start the forwarder")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    }
    std::thread::spawn(move || child.wait());
    line.trim()
        .parse()
        .with_context(|| format!("the forwarder did not start; see {}", log.display()))
}

/// Runs the forwarder; ends only with the lab.
pub fn run(pid: i32, target: SocketAddr, port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("failed to listen on 127.0.0.1:{port}"))?;
        let file = format!("/proc/{pid}/ns/net");
        let namespace =
            std::fs::File::open(&file).with_context(|| format!("failed to open {file}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("failed to enter the namespace")?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(forward(stream, target));
        }
    })
}

async fn forward(mut here: TcpStream, target: SocketAddr) {
    // A refused connection is closed on this side too: the client sees what a dead server looks like.
    if let Ok(mut there) = TcpStream::connect(target).await {
        let _ = here.set_nodelay(true);
        let _ = there.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    }
}
