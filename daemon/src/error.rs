//! Why a program cannot start.

/// Why a program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration to reach the API server.
    #[error(
        "failed to read the configuration for the API server: give --kubeconfig, or run in a pod with a service account"
    )]
    Configuration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An address in `--api-server` that cannot be used.
    #[error(
        "failed to use {value:?} in --api-server (WEFT_API_SERVER): write host:port, such as 192.0.2.10:6443"
    )]
    ApiServerAddress {
        /// The address.
        value: String,
    },
    /// The port for health and metrics.
    #[error("failed to listen on port {port}: choose another with --health-port")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
