//! Changes as one line each, for logs and for reviews of differences.

use std::fmt::{self, Display, Formatter};

use crate::{Batch, Change, TableFlags};

impl Display for Batch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { table, changes } = self;
        writeln!(f, "batch for table inet {table}:")?;
        changes
            .iter()
            .try_for_each(|change| writeln!(f, "\t{change}"))
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable { flags: None } => f.write_str("add table"),
            Self::AddTable {
                flags: Some(TableFlags { owner, persist }),
            } => write!(f, "add table with owner {owner}, persist {persist}"),
            Self::DeleteTable => f.write_str("delete table"),
            Self::AddSet { name, set: _ } => write!(f, "add set {name}"),
            Self::DeleteSet { name } => write!(f, "delete set {name}"),
            Self::AddChain {
                name,
                base: None,
                comment: _,
            } => write!(f, "add chain {name}"),
            Self::AddChain {
                name,
                base: Some(base),
                comment: _,
            } => write!(f, "add chain {name} {{ {base} }}"),
            Self::FlushChain { name } => write!(f, "flush chain {name}"),
            Self::DeleteChain { name } => write!(f, "delete chain {name}"),
            Self::AddRule { chain, rule } => write!(f, "add rule {chain} {rule}"),
            Self::AddElements {
                set,
                interval: _,
                elements,
            } => {
                write!(f, "add element {set} {{ ")?;
                for (key, element) in elements {
                    super::write_element(f, key, element)?;
                    f.write_str(", ")?;
                }
                f.write_str("}")
            }
            Self::DeleteElements {
                set,
                interval: _,
                keys,
            } => {
                write!(f, "delete element {set} {{ ")?;
                keys.iter().try_for_each(|key| write!(f, "{key}, "))?;
                f.write_str("}")
            }
        }
    }
}
