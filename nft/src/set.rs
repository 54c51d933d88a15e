//! Sets and maps: what a key is made of, and what stands under it.
//!
//! A key is a concatenation of parts, each one value or, in an interval set, a range of values.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::{Type, Value, Verdict};

/// A named set, or a map if it has a data type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Types of the key's parts, one or more.
    pub key: Vec<Type>,
    /// What an element holds; none for a plain set.
    pub data: Option<DataType>,
    /// Flags.
    pub flags: SetFlags,
    /// Largest number of elements; none for no limit.
    pub size: Option<u32>,
    /// How long an element stays that does not say so itself; needs the flag `timeout`. Milliseconds are the kernel's unit.
    pub timeout: Option<Duration>,
    /// The elements. In a dynamic set they come from packets and are not described here.
    pub elements: BTreeMap<Key, Element>,
    /// What the set is for, at most 127 bytes.
    pub comment: Option<String>,
}

/// What the elements of a map hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataType {
    /// A verdict. The kernel checks every element of such a map at each commit: keep them small.
    Verdict,
    /// A concatenation of values of these types.
    Values(Vec<Type>),
}

/// Flags of a set (`NFT_SET_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetFlags {
    /// Parts of keys may be ranges.
    pub interval: bool,
    /// Elements may go after a time.
    pub timeout: bool,
    /// Rules add elements.
    pub dynamic: bool,
    /// Elements do not change once a rule uses the set.
    pub constant: bool,
}

/// The key of an element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub Vec<Part>);

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// This value.
    One(Value),
    /// All values from the first to the last, both included; the first is the smaller one.
    Range(Value, Value),
}

/// What stands under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The data; none in a plain set.
    pub data: Option<Data>,
    /// What the element is for, at most 127 bytes.
    pub comment: Option<String>,
}

/// Data of a map's element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A verdict.
    Verdict(Verdict),
    /// A concatenation of values.
    Values(Vec<Value>),
}

impl Set {
    /// A set with a key of these types.
    #[must_use]
    pub fn new(key: impl IntoIterator<Item = Type>) -> Self {
        Self {
            key: key.into_iter().collect(),
            ..Self::default()
        }
    }

    /// A map from a key of these types to data.
    #[must_use]
    pub fn map(key: impl IntoIterator<Item = Type>, data: DataType) -> Self {
        Self {
            data: Some(data),
            ..Self::new(key)
        }
    }

    /// The same set for intervals.
    #[must_use]
    pub fn with_intervals(mut self) -> Self {
        self.flags.interval = true;
        self
    }

    /// The same set with a comment.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }

    /// The same set with elements.
    #[must_use]
    pub fn with_elements(self, elements: impl IntoIterator<Item = (Key, Element)>) -> Self {
        Self {
            elements: elements.into_iter().collect(),
            ..self
        }
    }
}

impl Key {
    /// A key of single values.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = Value>) -> Self {
        Self(values.into_iter().map(Part::One).collect())
    }
}

impl From<Value> for Key {
    fn from(value: Value) -> Self {
        Self(vec![Part::One(value)])
    }
}

impl From<IpNet> for Key {
    fn from(net: IpNet) -> Self {
        Self(vec![net.into()])
    }
}

impl Part {
    /// From one value to another, both included; a single value if they are the same.
    #[must_use]
    pub fn range(first: Value, last: Value) -> Self {
        if first == last {
            Self::One(first)
        } else {
            Self::Range(first, last)
        }
    }
}

impl From<IpNet> for Part {
    fn from(net: IpNet) -> Self {
        let last = match net {
            IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(
                u32::from(net.network()) | u32::from(net.hostmask()),
            )),
            IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(
                u128::from(net.network()) | u128::from(net.hostmask()),
            )),
        };
        Self::range(net.network().into(), last.into())
    }
}

impl Element {
    /// An element of a map.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = Value>) -> Self {
        Self {
            data: Some(Data::Values(values.into_iter().collect())),
            comment: None,
        }
    }

    /// An element of a verdict map.
    #[must_use]
    pub fn verdict(verdict: Verdict) -> Self {
        Self {
            data: Some(Data::Verdict(verdict)),
            comment: None,
        }
    }

    /// The same element with a comment.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }
}
