//! Whom others' names are asked of: validated, and compared by value, so that what did not change keeps its cache.

use std::net::SocketAddr;
use std::time::Duration;

use weft_crds::{ForwardPolicy, UpstreamProtocol};

use super::name::{Name, is_at_or_below};

/// Servers that are asked for the names of one zone, for one view of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Object and view, such as `corp` or `corp/office`: no two alike.
    pub key: Box<str>,
    /// The zone.
    pub apex: Name,
    /// The servers.
    pub upstreams: Vec<ForwardServer>,
    /// In which order they are asked.
    pub policy: ForwardPolicy,
    /// How long one may take.
    pub timeout: Duration,
    /// Names at or below these are not the zone's.
    pub except: Vec<Name>,
    /// Questions on their way at once.
    pub max_concurrent: usize,
    /// What is remembered.
    pub cache: CachePlan,
}

/// A server that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardServer {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub protocol: UpstreamProtocol,
    /// The name that its certificate is for.
    pub server_name: Option<String>,
    /// Who may have signed that, in PEM form; none: public authorities.
    pub ca_bundle: Option<String>,
    /// The path of HTTPS.
    pub path: Option<String>,
}

/// What is remembered of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePlan {
    /// Answers that are kept; 0: none.
    pub size: usize,
    /// Seconds that an answer is kept, at most.
    pub max_ttl: u32,
    /// Seconds that a missing name is remembered, at most.
    pub max_negative_ttl: u32,
    /// How long an answer is given out after its time.
    pub serve_stale: Duration,
    /// What is asked for often is asked for anew before its time is over.
    pub prefetch: bool,
}

impl Default for CachePlan {
    /// The defaults of `spec.forward.cache`.
    fn default() -> Self {
        Self {
            size: 10_000,
            max_ttl: 3600,
            max_negative_ttl: 1800,
            serve_stale: Duration::from_secs(86_400),
            prefetch: true,
        }
    }
}

impl Forward {
    /// Whether a name, in lower case, is left to the next zone.
    #[must_use]
    pub fn excepts(&self, name: &[u8]) -> bool {
        self.except
            .iter()
            .any(|other| is_at_or_below(name, other.wire()))
    }
}
