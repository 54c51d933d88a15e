//! A trace in words, line by line, for people and for golden files.

use std::fmt::{self, Display, Formatter};

use super::{Event, Fate, Origin, Packet, Share, Step, Trace, Tracking};
use crate::{Value, l4proto};

impl Display for Trace<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            arrival,
            outcome,
            share,
            steps,
        } = self;
        write!(f, "{}", arrival.packet)?;
        match arrival.origin {
            Origin::Link(index) => write!(f, " by interface {index}")?,
            Origin::Node => f.write_str(" of the node itself")?,
        }
        writeln!(f, ", {}", arrival.tracking)?;
        for step in steps.iter().filter(|step| !step.is_idle()) {
            writeln!(f, "  {step}")?;
        }
        write!(f, "-> {}", outcome.fate)?;
        if outcome.arrives() {
            write!(f, " as {}", outcome.packet)?;
        }
        if *share != Share::ALL {
            write!(f, " ({share} of the packets)")?;
        }
        writeln!(f)
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", Value::InetProto(self.protocol))?;
        match self.protocol {
            l4proto::ICMP | l4proto::ICMPV6 => {
                let Self {
                    source,
                    destination,
                    icmp_type,
                    ..
                } = self;
                write!(f, "type {icmp_type} {source} > {destination}")
            }
            _ => write!(f, "{} > {}", self.from(), self.to()),
        }
    }
}

impl Display for Tracking {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new connection",
            Self::Announced => "announced connection",
            Self::Of(_, super::Direction::Original) => "known connection",
            Self::Of(_, super::Direction::Reply) => "answer in a known connection",
            Self::Error(..) => "error about a known connection",
            Self::Invalid => "invalid",
        })
    }
}

impl Display for Fate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered to the node itself"),
            Self::Sent { link } => write!(f, "sent by interface {link}"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected(reject) => write!(f, "rejected with {reject}"),
            Self::Unroutable => f.write_str("no route"),
            Self::Unknown(what) => write!(f, "unknown: {what}"),
        }
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            numerator,
            denominator,
        } = self;
        write!(f, "{numerator}/{denominator}")
    }
}

impl Trace<'_> {
    /// The steps by which rules decided: what applied, without what did not.
    pub fn decisive(&self) -> impl Iterator<Item = &Step<'_>> {
        self.steps.iter().filter(|step| match step.event {
            Event::Tracked(_) | Event::Settled => false,
            _ => !step.is_idle(),
        })
    }
}
