//! What is wrong with a table, found before the kernel or a reader of `nft list` finds it.
//!
//! A table without faults is taken by the kernel, printed by nft and read back as it was written.
//! A compiler's tests ask for them; nothing asks at run time.

use std::time::Duration;

use crate::decode::{self, Reader};
use crate::{
    Chain, Class, Data, DataType, Element, Field, Key, Match, NatFamily, NatTarget, Part, Right,
    Rule, Set, Statement, Table, Type, Value, Verdict, bytes, diff, encode,
};

mod keywords;

/// Something that is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Fault {
    /// Where: a chain and the number of its rule from 1, or a set and the key of its element.
    pub at: String,
    /// What is wrong there and what to do about it.
    pub problem: String,
}

impl Table {
    /// All that is wrong with the table; empty if nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults {
            table: self,
            found: Vec::new(),
        };
        faults.name("table", &self.name);
        for (name, set) in &self.sets {
            faults.set(name, set);
        }
        for (name, chain) in &self.chains {
            faults.chain(name, chain);
        }
        if faults.found.is_empty() {
            faults.reads_back();
        }
        faults.found
    }
}

struct Faults<'t> {
    table: &'t Table,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, at: &str, problem: impl Into<String>) {
        self.found.push(Fault {
            at: at.to_owned(),
            problem: problem.into(),
        });
    }

    fn name(&mut self, at: &str, name: &str) {
        self.keyword(at, name);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_/\\.-".contains(c);
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !(begins && name.chars().all(plain)) {
            self.add(at, format!("{name:?} is no name: begin with a letter, go on with letters, digits, _ / \\ . -"));
        }
    }

    fn keyword(&mut self, at: &str, name: &str) {
        if keywords::is_keyword(name) {
            self.add(
                at,
                format!("{name:?} is a word of nft's language: choose another name"),
            );
        }
    }

    fn comment(&mut self, at: &str, comment: Option<&String>) {
        let unprintable = |c: char| c == '"' || c.is_control();
        if comment.is_some_and(|comment| comment.is_empty() || comment.contains(unprintable)) {
            self.add(
                at,
                "a comment must not be empty nor have quotes or control characters",
            );
        }
    }

    fn set(&mut self, name: &str, set: &Set) {
        let at = format!("set {name}");
        self.name(&at, name);
        self.comment(&at, set.comment.as_ref());
        if set.key.is_empty() || bytes::length(&set.key) > KEY_LIMIT {
            self.add(
                &at,
                "the key must have one part or more and at most 64 bytes",
            );
        }
        if set.timeout.is_some() && !set.flags.timeout {
            self.add(&at, "a timeout needs the flag timeout");
        }
        if set.flags.dynamic && !set.elements.is_empty() {
            self.add(
                &at,
                "elements of a dynamic set come from packets: leave them out",
            );
        }
        for (key, element) in &set.elements {
            self.element(&format!("{at}, element {key}"), set, key, element);
        }
        self.overlaps(&at, set);
    }

    fn element(&mut self, at: &str, set: &Set, key: &Key, element: &Element) {
        self.comment(at, element.comment.as_ref());
        let kinds: Vec<Type> = key.0.iter().map(|part| part.first().kind()).collect();
        if kinds != set.key {
            self.add(at, "the key has other types than the set");
        }
        for part in &key.0 {
            if let Part::Range(first, last) = part
                && (first.kind() != last.kind() || first >= last)
            {
                self.add(at, "a range must lead from a smaller value to a larger one");
            }
        }
        match (&set.data, &element.data) {
            (None, None) => {}
            (Some(DataType::Verdict), Some(Data::Verdict(verdict))) => self.verdict(at, verdict),
            (Some(DataType::Values(types)), Some(Data::Values(values)))
                if values.iter().map(Value::kind).eq(types.iter().copied()) => {}
            _ => self.add(at, "the data has another type than the set's"),
        }
    }

    fn overlaps(&mut self, at: &str, set: &Set) {
        if !set.flags.interval || set.key.len() != 1 {
            return;
        }
        let parts = set.elements.keys().filter_map(|Key(parts)| parts.first());
        let mut parts: Vec<&Part> = parts.collect();
        parts.sort_by_key(|part| part.first());
        let mut before: Option<&Value> = None;
        for part in parts {
            ranges_overlap(before, part)
                .then(|| self.add(at, format!("{part} overlaps with the element before it")));
            before = before.max(Some(part.last()));
        }
    }

    fn chain(&mut self, name: &str, chain: &Chain) {
        let at = format!("chain {name}");
        self.name(&at, name);
        self.comment(&at, chain.comment.as_ref());
        for (index, rule) in chain.rules.iter().enumerate() {
            let at = format!("{at}, rule {}", index + 1);
            self.comment(&at, rule.comment.as_ref());
            for statement in &rule.statements {
                self.statement(&at, statement);
            }
        }
    }

    fn statement(&mut self, at: &str, statement: &Statement) {
        match statement {
            Statement::Match(comparison) => self.comparison(at, comparison),
            Statement::Lookup {
                key,
                set,
                negated: _,
            } => self.lookup(at, key, set, |data| data.is_none()),
            Statement::Vmap { key, map } => {
                self.lookup(at, key, map, |data| data == Some(&DataType::Verdict));
            }
            Statement::SetPriority(Class::Literal(_)) => {}
            Statement::SetPriority(Class::Map { key, map }) => {
                let class = DataType::Values(vec![Type::ClassId]);
                self.lookup(at, key, map, |data| data == Some(&class));
            }
            Statement::Dynamic {
                operation: _,
                set,
                key,
                timeout,
                data,
            } => self.dynamic(at, set, key, *timeout, *data),
            Statement::Dnat { family, to } => self.dnat(at, *family, to),
            Statement::Verdict(verdict) => self.verdict(at, verdict),
            Statement::Unknown(what) => self.add(at, format!("{what} is unknown: leave it out")),
            Statement::SetLabel(bit) if *bit > 127 => {
                self.add(at, format!("label {bit} is beyond the last, 127"));
            }
            Statement::Masquerade { fully_random: _ }
            | Statement::Notrack
            | Statement::SetLabel(_)
            | Statement::Counter
            | Statement::Reject(_) => {}
        }
    }

    fn comparison(&mut self, at: &str, comparison: &Match) {
        let Match {
            field,
            operator: _,
            right,
        } = comparison;
        let kind = field.kind();
        let bits = kind.is_bits();
        let fits = match right {
            Right::Value(value) => value.kind() == kind && *value != Value::Ifname("*".to_owned()),
            Right::Network(net) => {
                let address = Value::from(net.addr());
                let partial = (1..net.max_prefix_len()).contains(&net.prefix_len());
                address.kind() == kind && partial && net.trunc() == *net
            }
            Right::Range(first, last) => {
                first.kind() == kind && last.kind() == kind && kind.is_big_endian() && first < last
            }
            Right::AnyOf(values) => {
                let of_kind = values.iter().all(|value| value.kind() == kind);
                of_kind && !values.is_empty() && !bits
            }
        };
        if !fits {
            self.add(
                at,
                format!("{comparison} does not compare values of one type"),
            );
        }
    }

    fn lookup(
        &mut self,
        at: &str,
        key: &[Field],
        name: &str,
        fits: impl FnOnce(Option<&DataType>) -> bool,
    ) {
        let Some(set) = self.table.sets.get(name) else {
            return self.add(at, format!("there is no set {name}"));
        };
        if !key
            .iter()
            .map(|field| field.kind())
            .eq(set.key.iter().copied())
        {
            self.add(at, format!("the key has other types than set {name}"));
        }
        if !fits(set.data.as_ref()) {
            self.add(
                at,
                format!("set {name} does not hold what the statement needs"),
            );
        }
    }

    fn dynamic(
        &mut self,
        at: &str,
        set: &str,
        key: &[Field],
        timeout: Option<Duration>,
        data: Option<Field>,
    ) {
        let data = data.map(|field| DataType::Values(vec![field.kind()]));
        self.lookup(at, key, set, |found| found == data.as_ref());
        let Some(flags) = self.table.sets.get(set).map(|set| set.flags) else {
            return;
        };
        if !flags.dynamic {
            self.add(at, format!("set {set} needs the flag dynamic"));
        }
        if timeout.is_some() && !flags.timeout {
            self.add(at, format!("set {set} needs the flag timeout"));
        }
    }

    fn dnat(&mut self, at: &str, family: NatFamily, to: &NatTarget) {
        let kind = match family {
            NatFamily::Ip => Type::Ipv4Addr,
            NatFamily::Ip6 => Type::Ipv6Addr,
        };
        match to {
            NatTarget::Literal { address, port: _ } => {
                if Value::from(*address).kind() != kind {
                    self.add(at, format!("{address} is of another family"));
                }
            }
            NatTarget::Map { key, map } => {
                let data = DataType::Values(vec![kind, Type::InetService]);
                self.lookup(at, key, map, |found| found == Some(&data));
            }
        }
    }

    fn verdict(&mut self, at: &str, verdict: &Verdict) {
        let Some(name) = verdict.chain() else {
            return;
        };
        match self.table.chains.get(name) {
            None => self.add(at, format!("there is no chain {name}")),
            Some(chain) if chain.base.is_some() => {
                self.add(
                    at,
                    format!("chain {name} is a base chain: the kernel alone calls it"),
                );
            }
            Some(_) => {}
        }
    }

    /// Whether the table comes back from its own encoding.
    fn reads_back(&mut self) {
        let encoded = match encode::batch(&diff::create(self.table), 0, None) {
            Ok(encoded) => encoded,
            Err(error) => return self.add("table", error.to_string()),
        };
        let mut reader = Reader::new(&self.table.name);
        for message in decode::messages(&encoded.bytes) {
            let taken = message.and_then(|message| reader.add(message));
            if let Err(error) = taken {
                return self.add("table", error.to_string());
            }
        }
        let back = reader.finish();
        if back == *self.table {
            return;
        }
        for (name, chain) in &self.table.chains {
            let rules = back.chains.get(name).map(|chain| chain.rules.as_slice());
            self.rules_read_back(name, &chain.rules, rules.unwrap_or_default());
        }
        if self.found.is_empty() {
            self.add(
                "table",
                "it does not come back from the kernel's form of it",
            );
        }
    }

    fn rules_read_back(&mut self, chain: &str, rules: &[Rule], back: &[Rule]) {
        for (index, (rule, back)) in rules.iter().zip(back).enumerate() {
            if rule != back {
                let at = format!("chain {chain}, rule {}", index + 1);
                self.add(&at, format!("write it as `{back}`, which is the same"));
            }
        }
    }
}

/// Bytes of the sixteen registers.
const KEY_LIMIT: usize = 64;

fn ranges_overlap(before: Option<&Value>, part: &Part) -> bool {
    before.is_some_and(|last| last >= part.first())
}
