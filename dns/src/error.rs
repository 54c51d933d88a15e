//! Why the server cannot start or go on.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client of the API server cannot be made.
    #[error("failed to set up the client of the API server")]
    Configuration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An address of the API server that is none.
    #[error(
        "{value:?} is not an address of an API server: write host:port, such as 192.0.2.1:6443"
    )]
    ApiServerAddress {
        /// The value.
        value: String,
    },
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
