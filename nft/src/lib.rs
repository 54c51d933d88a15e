//! Typed model of one nf_tables table of family `inet`, and everything that can be done with it as a value.
//!
//! A compiler fills a [`Table`]; its `Display` prints it as nft reads it; [`diff`] turns two tables
//! into [`Batch`]es of [`Change`]s; [`encode`] turns a batch into netlink bytes and [`decode`] turns
//! what the kernel dumps back into a [`Table`]. There are no sockets here: whoever owns one sends
//! the bytes.

mod batch;
mod bytes;
pub mod decode;
mod diff;
pub mod encode;
mod fault;
mod field;
mod model;
mod set;
mod statement;
mod text;
pub mod trace;
mod uapi;
mod value;
mod wire;

pub use batch::{ApplyError, Batch, Change};
pub use diff::{diff, replace};
pub use fault::Fault;
pub use model::{Base, Chain, ChainKind, Hook, Policy, Rule, Table, TableFlags};
pub use set::{Data, DataType, Element, Key, Part, Set, SetFlags};
pub use statement::{
    Class, Field, Match, NatFamily, NatTarget, Operation, Operator, Reject, Right, Statement,
    Verdict,
};
pub use value::{Type, Value, ct_state, ct_status, icmpv6, l4proto};
