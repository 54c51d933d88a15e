//! A table as text for people and golden files, which `nft -f` reads too but for random numbers in keys: for those it
//! wants a type told by an example (`typeof`).
//!
//! The same table always prints the same text: one line for a rule, one for an element, names in
//! order. Where nft knows a word for a number, the word is printed.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::{
    Base, Chain, ChainKind, Data, DataType, Element, Hook, Key, Policy, Rule, Set, SetFlags, Table,
    TableFlags, Type,
};

mod change;
mod statement;
mod value;

impl Table {
    /// The table as text without its flags, which nft 1.0.6 does not read.
    #[must_use]
    pub fn without_flags(&self) -> String {
        Self {
            flags: TableFlags::default(),
            ..self.clone()
        }
        .to_string()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            flags,
            chains,
            sets,
        } = self;
        if name.is_empty() {
            return Ok(());
        }
        writeln!(f, "table inet {name} {{")?;
        table_flags(f, *flags)?;
        let mut gap = *flags != TableFlags::default();
        let mut separate = |f: &mut Formatter<'_>| {
            let gap = std::mem::replace(&mut gap, true);
            if gap { writeln!(f) } else { Ok(()) }
        };
        for (name, set) in sets {
            separate(f)?;
            write_set(f, name, set)?;
        }
        for (name, chain) in chains {
            separate(f)?;
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn table_flags(f: &mut Formatter<'_>, flags: TableFlags) -> fmt::Result {
    let TableFlags { owner, persist } = flags;
    let words = words([(owner, "owner"), (persist, "persist")]);
    if words.is_empty() {
        return Ok(());
    }
    writeln!(f, "\tflags {words}")
}

fn write_set(f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let Set {
        key,
        data,
        flags,
        size,
        timeout,
        elements,
        comment,
    } = set;
    let word = if data.is_some() { "map" } else { "set" };
    writeln!(f, "\t{word} {name} {{")?;
    write!(f, "\t\ttype {}", concatenation(key))?;
    match data {
        None => writeln!(f)?,
        Some(DataType::Verdict) => writeln!(f, " : verdict")?,
        Some(DataType::Values(types)) => writeln!(f, " : {}", concatenation(types))?,
    }
    let SetFlags {
        interval,
        timeout: times_out,
        dynamic,
        constant,
    } = *flags;
    let flags = words([
        (constant, "constant"),
        (interval, "interval"),
        (times_out, "timeout"),
        (dynamic, "dynamic"),
    ]);
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {flags}")?;
    }
    if let Some(size) = size {
        writeln!(f, "\t\tsize {size}")?;
    }
    if let Some(timeout) = timeout {
        writeln!(f, "\t\ttimeout {}ms", timeout.as_millis())?;
    }
    write_comment(f, comment.as_deref())?;
    write_elements(f, elements)?;
    writeln!(f, "\t}}")
}

fn write_elements(f: &mut Formatter<'_>, elements: &BTreeMap<Key, Element>) -> fmt::Result {
    if elements.is_empty() {
        return Ok(());
    }
    writeln!(f, "\t\telements = {{")?;
    for (key, element) in elements {
        f.write_str("\t\t\t")?;
        write_element(f, key, element)?;
        writeln!(f, ",")?;
    }
    writeln!(f, "\t\t}}")
}

fn write_element(f: &mut Formatter<'_>, key: &Key, element: &Element) -> fmt::Result {
    let Element { data, comment } = element;
    write!(f, "{key}")?;
    if let Some(comment) = comment {
        write!(f, " comment \"{comment}\"")?;
    }
    match data {
        None => Ok(()),
        Some(data) => write!(f, " : {data}"),
    }
}

fn write_chain(f: &mut Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    let Chain {
        base,
        rules,
        comment,
    } = chain;
    writeln!(f, "\tchain {name} {{")?;
    write_comment(f, comment.as_deref())?;
    if let Some(base) = base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

fn write_comment(f: &mut Formatter<'_>, comment: Option<&str>) -> fmt::Result {
    match comment {
        None => Ok(()),
        Some(comment) => writeln!(f, "\t\tcomment \"{comment}\""),
    }
}

/// The words whose condition holds, separated by commas.
fn words<const N: usize>(table: [(bool, &'static str); N]) -> String {
    let chosen: Vec<&str> = table
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
        .collect();
    chosen.join(",")
}

fn concatenation<T: Display>(parts: &[T]) -> String {
    let parts: Vec<String> = parts.iter().map(T::to_string).collect();
    parts.join(" . ")
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            hook,
            priority,
            policy,
        } = self;
        let policy = match policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(
            f,
            "type {kind} hook {hook} priority {priority}; policy {policy};"
        )
    }
}

impl Display for ChainKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        })
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            statements,
            comment,
        } = self;
        let statements: Vec<String> = statements.iter().map(ToString::to_string).collect();
        f.write_str(&statements.join(" "))?;
        match comment {
            None => Ok(()),
            Some(comment) => write!(f, " comment \"{comment}\""),
        }
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&concatenation(&self.0))
    }
}

impl Display for Data {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Values(values) => f.write_str(&concatenation(values)),
        }
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::IfaceIndex => "iface_index",
            Self::Ifname => "ifname",
            Self::ClassId => "classid",
            Self::DevGroup => "devgroup",
            Self::NfProto => "nf_proto",
            Self::Icmpv6Type => "icmpv6_type",
            Self::CtState => "ct_state",
            Self::CtStatus => "ct_status",
            Self::CtLabel => "ct_label",
            Self::CtDir => "ct_dir",
            Self::FibAddrType => "fib_addrtype",
        })
    }
}
