//! Typed model of one nf_tables table.

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {}
