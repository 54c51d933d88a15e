//! Table, chains and rules: the frame that statements and sets stand in.
//!
//! Ordered collections throughout, so that two tables that mean the same are equal and print alike.

use std::collections::BTreeMap;

use crate::{Set, Statement};

/// A table of family `inet`.
///
/// The default is a table without a name; it stands for "nothing there" on either side of a
/// [`diff`](crate::diff).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Name, at most 255 bytes.
    pub name: String,
    /// Who may change the table, and what happens when its owner goes.
    pub flags: TableFlags,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
}

/// Flags of a table (`NFT_TABLE_F_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFlags {
    /// Only the netlink socket that made or adopted the table may change it (kernel 5.12).
    pub owner: bool,
    /// The table outlives its owner's socket, then without an owner (kernel 6.9).
    pub persist: bool,
}

/// A chain: a base chain that the kernel calls, or a regular one that rules jump to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls this chain; none for a regular chain.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
    /// What the chain is for, at most 127 bytes.
    pub comment: Option<String>,
}

/// Where and when the kernel calls a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// What the chain may do.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// Order among the chains of the hook, lowest first, such as -100 (`dstnat`).
    pub priority: i32,
    /// What happens to a packet that no rule decided.
    pub policy: Policy,
}

/// Type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection and sets up its translation.
    Nat,
    /// Packets of the node itself are routed again when the chain changed them.
    Route,
}

/// Hook of a base chain (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// For the node itself.
    Input,
    /// Routed through the node.
    Forward,
    /// From the node itself.
    Output,
    /// After the routing decision.
    Postrouting,
}

/// Policy of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// The packet goes on.
    Accept,
    /// The packet is gone.
    Drop,
}

/// A rule: statements from left to right, until one does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// Why the rule exists, at most 127 bytes.
    pub comment: Option<String>,
}

impl Table {
    /// A table with a name and flags, and nothing in it.
    #[must_use]
    pub fn new(name: impl Into<String>, flags: TableFlags) -> Self {
        Self {
            name: name.into(),
            flags,
            ..Self::default()
        }
    }
}

impl TableFlags {
    /// Owned by one socket, and outliving it.
    pub const OWNED: Self = Self {
        owner: true,
        persist: true,
    };
}

impl Chain {
    /// A base chain without rules.
    #[must_use]
    pub fn base(kind: ChainKind, hook: Hook, priority: i32, policy: Policy) -> Self {
        Self {
            base: Some(Base {
                kind,
                hook,
                priority,
                policy,
            }),
            ..Self::default()
        }
    }

    /// A regular chain of these rules.
    #[must_use]
    pub fn regular(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same chain with rules.
    #[must_use]
    pub fn with_rules(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            ..self
        }
    }

    /// The same chain with a comment.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }
}

impl Rule {
    /// A rule of these statements.
    #[must_use]
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self {
            statements: statements.into_iter().collect(),
            comment: None,
        }
    }

    /// The same rule with a comment.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }
}
