//! What an administrator asks for by hand: show, cleanup, unlock.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Settings, ShowArgs};
use crate::handover;
use crate::{cni_conf, engine};

/// For the agent to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The health port does not answer.
    #[error("no agent answers on port {0} of this node")]
    NoAgent(u16, #[source] io::Error),
    /// It answers that it is not ready.
    #[error("the agent is not ready")]
    NotReady,
    /// A supervisor is there.
    #[error(
        "an agent is running ({0} answers): delete its DaemonSet first, or use weft-agent unlock"
    )]
    Running(PathBuf),
    /// The supervisor did not release.
    #[error("the agent did not release the nft table")]
    Release(#[from] handover::Error),
    /// A file of the run directory.
    #[error("failed to remove {0}")]
    Remove(PathBuf, #[source] io::Error),
    /// Files.
    #[error(transparent)]
    Files(#[from] cni_conf::Error),
    /// Kernel and state.
    #[error("failed to clean up")]
    Engine(#[source] engine::CleanupError),
}

/// Prints whether the agent of this node is ready.
///
/// # Errors
/// Where it is not, or does not answer.
pub fn show(arguments: &ShowArgs) -> Result<(), Error> {
    let port = arguments.health_port;
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer: String = ask().map_err(|error| Error::NoAgent(port, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print!("{body}");
    if head.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(Error::NotReady)
    }
}

/// Removes everything that Weftnet has made on this node.
///
/// # Errors
/// Where an agent is running, or something cannot be removed.
pub fn cleanup(settings: &Settings) -> Result<(), Error> {
    let socket = settings.handover_socket();
    if UnixStream::connect(&socket).is_ok() {
        return Err(Error::Running(socket));
    }
    cni_conf::remove(settings)?;
    engine::cleanup(&settings.state_dir, &settings.sysctl_dir).map_err(Error::Engine)?;
    remove_run_dir(settings)
}

/// The sockets' files and the lock are the last: with them gone nothing says that we were here.
fn remove_run_dir(settings: &Settings) -> Result<(), Error> {
    let files = [
        settings.cni_socket(),
        settings.handover_socket(),
        settings.lock_file(),
    ];
    for file in files {
        remove(std::fs::remove_file(&file), file)?;
    }
    remove(
        std::fs::remove_dir(&settings.run_dir),
        settings.run_dir.clone(),
    )
}

fn remove(result: io::Result<()>, path: PathBuf) -> Result<(), Error> {
    match result {
        // In a container the directory itself is a mount, and goes with it.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(Error::Remove(path, error))
        }
        _ => Ok(()),
    }
}

/// Stops the agent and has it close the socket that owns the nft table.
///
/// # Errors
/// Where the agent did not do it. Without an agent nothing owns the table.
pub fn unlock(settings: &Settings) -> Result<(), Error> {
    match UnixStream::connect(settings.handover_socket()) {
        Ok(mut stream) => {
            handover::release(&mut stream)?;
            println!("released; the agent idles until its pod is restarted");
        }
        Err(_) => println!("no agent is running: nothing owns the table"),
    }
    Ok(())
}
