//! What can go wrong on a netlink socket, in words that a person can act upon.

use nix::errno::Errno;

/// A netlink socket failed, as opposed to one request on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No socket, or not one that can be used.
    #[error("failed to {action} a netlink socket: {}", words(*errno))]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The kernel did not take a message at all.
    #[error("failed to send {bytes} bytes to the kernel: {}", words(*errno))]
    Send {
        /// Size of the datagram.
        bytes: usize,
        /// Why not.
        errno: Errno,
    },
    /// Replies could not be read.
    #[error("failed to receive from the kernel: {}", words(*.0))]
    Receive(Errno),
    /// The receive queue overflowed, or an acknowledgement is missing: what was done must be read back.
    #[error("the kernel's replies were lost: its receive queue for this socket was full")]
    Lost,
    /// The objects changed while they were read, again and again.
    #[error("the objects changed faster than they could be listed")]
    Interrupted,
    /// The kernel refused a dump.
    #[error("the kernel refused to list: {0}")]
    Refused(Refusal),
    /// A reply is not what its type says.
    #[error("a reply of the kernel could not be read: {0}")]
    Unreadable(String),
}

/// The kernel's refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number.
    pub errno: Errno,
    /// What the kernel says besides (extended acknowledgement).
    pub explanation: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.explanation {
            Some(explanation) => write!(f, "{} ({explanation})", words(self.errno)),
            None => f.write_str(&words(self.errno)),
        }
    }
}

impl std::error::Error for Refusal {}

/// An error number as text and name: `no such device (ENODEV)`, with the remedy where there is one.
#[must_use]
pub fn words(errno: Errno) -> String {
    let remedy = match errno {
        Errno::EPERM => ": CAP_NET_ADMIN is needed",
        Errno::EMFILE | Errno::ENFILE => ": raise the limit of open files",
        Errno::EOPNOTSUPP => ": this kernel lacks the function",
        _ => "",
    };
    format!("{} ({errno:?}){remedy}", errno.desc().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_is_said_in_words() {
        assert_eq!(words(Errno::ENODEV), "no such device (ENODEV)");
        assert!(words(Errno::EPERM).ends_with("CAP_NET_ADMIN is needed"));
    }

    #[test]
    fn the_kernels_own_explanation_is_passed_on() {
        let refusal = Refusal {
            errno: Errno::EINVAL,
            explanation: Some("Invalid prefix".to_owned()),
        };
        assert_eq!(
            refusal.to_string(),
            "invalid argument (EINVAL) (Invalid prefix)"
        );
    }
}
