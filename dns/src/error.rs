//! Why the server cannot start or go on.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What every program starts with.
    #[error(transparent)]
    Start(#[from] weft_daemon::error::Error),
    /// The client of the servers that names outside are asked of.
    #[error("failed to set up the client of the name servers")]
    Forwarder(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A port that cannot be opened.
    #[error("failed to listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be read or written.
    #[error("failed to use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Values that cannot be used.
    #[error("{path}: {fault}")]
    Values {
        /// The file.
        path: PathBuf,
        /// The rule.
        fault: String,
    },
    /// A thread that cannot be started.
    #[error("failed to start a thread")]
    Thread(#[source] std::io::Error),
}
