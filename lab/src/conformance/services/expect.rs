//! What became of a flow, in the words that a file uses.

use std::collections::BTreeSet;
use std::fmt;

/// What became of a flow over all ends that it can come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reaches an endpoint.
    Endpoints {
        /// Every endpoint that it may reach, `address:port`.
        endpoints: BTreeSet<String>,
        /// Those that see the node's address.
        masqueraded: BTreeSet<String>,
        /// For how many seconds the client keeps its endpoint, where that is of interest.
        affinity: Option<u64>,
    },
    /// Refused with an answer.
    Rejected,
    /// Dropped.
    Dropped,
    /// No rule of the services matches.
    Untouched,
    /// Something that no file expects.
    Other(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected => f.write_str("reject"),
            Self::Dropped => f.write_str("drop"),
            Self::Untouched => f.write_str("untouched"),
            Self::Other(what) => f.write_str(what),
            Self::Endpoints {
                endpoints,
                masqueraded,
                affinity,
            } => {
                let list = |set: &BTreeSet<String>| {
                    let list: Vec<&str> = set.iter().map(String::as_str).collect();
                    format!("[{}]", list.join(", "))
                };
                write!(f, "endpoints {}", list(endpoints))?;
                if masqueraded.is_empty() {
                    f.write_str(" not masqueraded")?;
                } else if masqueraded == endpoints {
                    f.write_str(" masqueraded")?;
                } else {
                    write!(f, " masqueraded {}", list(masqueraded))?;
                }
                match affinity {
                    Some(seconds) => write!(f, " affinity {seconds} s"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_the_endpoints_masqueraded_is_told_from_all_and_none() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let of = |masqueraded| {
            Outcome::Endpoints {
                endpoints: set(&["a", "b"]),
                masqueraded,
                affinity: None,
            }
            .to_string()
        };
        assert_eq!(of(set(&[])), "endpoints [a, b] not masqueraded");
        assert_eq!(of(set(&["a", "b"])), "endpoints [a, b] masqueraded");
        assert_eq!(of(set(&["b"])), "endpoints [a, b] masqueraded [b]");
    }
}
