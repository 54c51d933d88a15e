//! The error object of the CNI specification 1.1 (section 5): a code, a sentence, the next step.

use serde::Serialize;

/// Codes that the specification gives a meaning.
pub mod code {
    /// Incompatible CNI version.
    pub const VERSION: u32 = 1;
    /// A field of the network configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist: nothing needs cleaning up.
    pub const NO_CONTAINER: u32 = 3;
    /// A variable of the environment is missing or wrong.
    pub const ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// Something could not be decoded.
    pub const DECODE: u32 = 6;
    /// The network configuration is wrong.
    pub const CONFIG: u32 = 7;
    /// Try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// The plugin cannot serve requests.
    pub const NOT_AVAILABLE: u32 = 50;
}

/// Why a verb did not succeed, as the runtime is told.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details} (CNI error {code})")]
pub struct CniError {
    /// See [`code`].
    pub code: u32,
    /// A sentence without a full stop.
    pub msg: String,
    /// The cause, and the next step.
    pub details: String,
}

impl CniError {
    /// An error with a code, a sentence, and the cause or next step.
    pub fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }
}
