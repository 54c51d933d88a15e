//! Single steps in words.

use std::fmt::{self, Display, Formatter};

use super::super::{Event, Place, Step, Update, Way};
use crate::{
    Base, ChainKind, Class, Field, Match, NatTarget, Operation, Policy, Statement, Value, Verdict,
};

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.in_words()),
            None => write!(f, "{}: {}", self.hook, self.in_words()),
        }
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            chain,
            rule,
            comment,
            statement: _,
        } = self;
        write!(f, "chain {chain}, rule {rule}")?;
        match comment {
            Some(comment) => write!(f, " ({comment})"),
            None => Ok(()),
        }
    }
}

impl Step<'_> {
    /// The step without its place.
    #[must_use]
    pub fn in_words(&self) -> String {
        let statement = self.place.map(|place| place.statement);
        match (&self.event, statement) {
            (Event::Holds(value), Some(statement)) => held(statement, value.as_ref()),
            (Event::Fails(value), Some(statement)) => {
                format!("not {statement}: it is {}", Shown(value.as_ref()))
            }
            (Event::Lacks(absent), Some(statement)) => format!("not {statement}: {absent}"),
            (Event::OtherFamily, Some(statement)) => format!("not {statement}: {}", self.event),
            (Event::Found { .. } | Event::Missed { .. }, Some(statement)) => {
                let (fields, set) = looked_up(statement);
                let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                format!(
                    "{} {} @{set}{}",
                    fields.join(" . "),
                    self.event,
                    self.event.found()
                )
            }
            (event, _) => event.to_string(),
        }
    }
}

/// A comparison that holds, with what was loaded where that says more.
fn held(statement: &Statement, value: Option<&Value>) -> String {
    let plain = match statement {
        Statement::Match(Match { field, .. }) => format!("{field} {}", Shown(value)),
        _ => String::new(),
    };
    let statement = statement.to_string();
    if plain == statement {
        statement
    } else {
        format!("{statement} (it is {})", Shown(value))
    }
}

/// What a statement looks up, and where.
fn looked_up(statement: &Statement) -> (&[Field], &str) {
    match statement {
        Statement::Lookup { key, set, .. }
        | Statement::Vmap { key, map: set }
        | Statement::SetPriority(Class::Map { key, map: set })
        | Statement::Dnat {
            to: NatTarget::Map { key, map: set },
            ..
        }
        | Statement::Dynamic { key, set, .. } => (key, set),
        Statement::Match(_)
        | Statement::Dnat { .. }
        | Statement::Masquerade { .. }
        | Statement::SetPriority(Class::Literal(_))
        | Statement::Notrack
        | Statement::SetLabel(_)
        | Statement::Counter
        | Statement::Verdict(_)
        | Statement::Reject(_)
        | Statement::Unknown(_) => (&[], ""),
    }
}

impl Event<'_> {
    /// What was found, behind the set's name.
    fn found(&self) -> String {
        let Self::Found {
            key: _,
            data,
            comment,
        } = self
        else {
            return String::new();
        };
        let comment = comment.map_or_else(String::new, |comment| format!(" ({comment})"));
        let data = data
            .as_ref()
            .map_or_else(String::new, |data| format!(" -> {data}"));
        comment + &data
    }
}

impl Display for Event<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracked(state) => {
                write!(f, "connection tracking says {}", Value::CtState(*state))
            }
            Self::Routed(Way::Local) => f.write_str("routed to the node itself"),
            Self::Routed(Way::Out(link)) => write!(f, "routed to interface {link}"),
            Self::Routed(Way::Nowhere) => f.write_str("no route"),
            Self::Base(name, base) => {
                let Base {
                    kind,
                    hook: _,
                    priority,
                    policy: _,
                } = base;
                let nat = match kind {
                    ChainKind::Nat => ", asked for the first packet",
                    ChainKind::Filter | ChainKind::Route => "",
                };
                write!(f, "chain {name} (priority {priority}{nat})")
            }
            Self::Policy(name, Policy::Accept) => write!(f, "end of chain {name}: goes on"),
            Self::Policy(name, Policy::Drop) => {
                write!(f, "end of chain {name}: dropped by its policy")
            }
            Self::Settled => f.write_str("translation is settled, its chains are not asked"),
            Self::SourceBecame(to) => write!(f, "source becomes {to}"),
            Self::DestinationBecame(to) => write!(f, "destination becomes {to}"),
            Self::Holds(value) => write!(f, "holds for {}", Shown(value.as_ref())),
            Self::Fails(value) => write!(f, "does not hold for {}", Shown(value.as_ref())),
            Self::Lacks(absent) => absent.fmt(f),
            Self::Found { key, .. } => write!(f, "{} is in", Key(key)),
            Self::Missed { key } => write!(f, "{} is not in", Key(key)),
            Self::Dnat(to) => write!(f, "destination shall be {to}"),
            Self::Masquerade(Some(to)) => write!(f, "source shall be {}", to.ip()),
            Self::Masquerade(None) => f.write_str("the node has no address to give: dropped"),
            Self::OtherFamily => f.write_str("the packet is of the other network protocol"),
            Self::Notrack => f.write_str("exempt from connection tracking"),
            Self::Labelled(bit) => write!(f, "the connection has label {bit}"),
            Self::Unchanged(why) => f.write_str(why),
            Self::Carries(class) => write!(f, "carries {}", Value::ClassId(*class)),
            Self::Updated(update) => updated(f, update),
            Self::Verdict(Verdict::Accept) => f.write_str("accepted, on to the next base chain"),
            Self::Verdict(Verdict::Drop) => f.write_str("dropped"),
            Self::Verdict(Verdict::Return) => f.write_str("back"),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Rejected => f.write_str("refused"),
            Self::Unknown(what) => write!(f, "cannot be followed: {what}"),
        }
    }
}

fn updated(f: &mut Formatter<'_>, update: &Update) -> fmt::Result {
    let Update {
        operation,
        set,
        key,
        data,
        timeout,
    } = update;
    let has = match operation {
        Operation::Add | Operation::Update => "has",
        Operation::Delete => "no longer has",
    };
    write!(f, "@{set} {has} ")?;
    joined(f, key.iter())?;
    if !data.is_empty() && *operation != Operation::Delete {
        f.write_str(" -> ")?;
        joined(f, data.iter())?;
    }
    match timeout {
        Some(timeout) if *operation != Operation::Delete => {
            write!(f, " for {} s", timeout.as_secs_f64())
        }
        _ => Ok(()),
    }
}

/// A loaded value.
struct Shown<'v>(Option<&'v Value>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// The bits of `ct_status` that have words.
        const NAMED: u32 = 0x3f;
        match self.0 {
            Some(Value::CtStatus(bits)) => Value::CtStatus(bits & NAMED).fmt(f),
            Some(value) => value.fmt(f),
            None => f.write_str("something else"),
        }
    }
}

struct Key<'v>(&'v [Option<Value>]);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.iter().map(|value| Shown(value.as_ref())))
    }
}

fn joined(f: &mut Formatter<'_>, parts: impl Iterator<Item = impl Display>) -> fmt::Result {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            f.write_str(" . ")?;
        }
        part.fmt(f)?;
    }
    Ok(())
}
