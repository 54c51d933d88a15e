//! Answers from a user's zone: RFC 1034, 4.3.2 with stars (RFC 4592), redirections (RFC 6672) and referrals.

use super::{Leaf, Set, UserZone};
use crate::zones::answer::{Question, Section, Sections};
use crate::zones::input::Key;
use crate::zones::name::{NameBuf, is_at_or_below};
use crate::zones::record::RecordType;

/// What came of looking in one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Records are written.
    Written,
    /// The name exists and has none of the type.
    Nothing,
    /// The name does not exist.
    Missing,
    /// An alias is written; its target is the next to look for.
    Alias,
    /// Another server knows; who it is, is written.
    Referral,
    /// The addresses of this name are wanted under the name that was asked.
    Borrow(u32, &'a [u8]),
    /// The addresses of this service are wanted.
    Service(u32, &'a Key),
    /// A redirection makes a name that is too long (RFC 6672, 2.2).
    TooLong,
}

/// How many targets of one answer get their addresses.
const TARGETS: usize = 16;

impl UserZone {
    pub(crate) fn write<S: Sections + ?Sized>(
        &self,
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Step<'_> {
        let name = question.lower;
        let Some(below) = name.len().checked_sub(self.apex.wire().len()) else {
            return Step::Missing;
        };
        let mut starts = [0_u8; 128];
        let count = starts_before(name, below, &mut starts);
        let Some(mut leaf) = self.leaves.get(self.apex.wire()) else {
            return Step::Missing;
        };
        let mut at = below;
        for start in starts[..count]
            .iter()
            .rev()
            .map(|&start| usize::from(start))
        {
            if let Some(set) = leaf.set(RecordType::DNAME) {
                return redirect(set, question, at, out, next);
            }
            let Some(child) = self.leaves.get(&name[start..]) else {
                return self.star(&name[at..], question, out, next);
            };
            let cut = child.set(RecordType::NS);
            if let Some(set) = cut.filter(|_| start > 0 || question.kind != RecordType::DS) {
                self.refer(&question.name[start..], set, out);
                return Step::Referral;
            }
            (leaf, at) = (child, start);
        }
        self.leaf(leaf, question, out, next)
    }

    /// Whether the name takes its addresses from another name.
    pub(crate) fn borrows(&self, question: &Question<'_>) -> bool {
        self.leaves
            .get(question.lower)
            .is_some_and(|leaf| leaf.alias.is_some())
    }

    /// The name does not exist; a star beside it may stand for it.
    fn star<S: Sections + ?Sized>(
        &self,
        closest: &[u8],
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Step<'_> {
        let mut star = NameBuf::default();
        if star
            .append(b"\x01*")
            .and_then(|()| star.append(closest))
            .is_err()
        {
            return Step::Missing;
        }
        match self.leaves.get(star.wire()) {
            Some(leaf) => self.leaf(leaf, question, out, next),
            None => Step::Missing,
        }
    }

    fn leaf<'a, S: Sections + ?Sized>(
        &self,
        leaf: &'a Leaf,
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Step<'a> {
        if let Some(set) = leaf.set(question.kind) {
            self.put_set(Section::Answer, question.name, set, question.rotation, out);
            self.targets(set, out);
            return Step::Written;
        }
        if let Some(set) = leaf.set(RecordType::CNAME) {
            self.put_set(Section::Answer, question.name, set, 0, out);
            next.set(&set.data[0]);
            return Step::Alias;
        }
        if matches!(question.kind, RecordType::A | RecordType::AAAA) {
            if let Some((ttl, key)) = &leaf.service {
                return Step::Service(*ttl, key);
            }
            if let Some((ttl, target)) = &leaf.alias {
                return Step::Borrow(*ttl, target.wire());
            }
        }
        if question.kind == RecordType::ANY && !leaf.is_empty() {
            put_any(question.name, out);
            return Step::Written;
        }
        Step::Nothing
    }

    fn put_set<S: Sections + ?Sized>(
        &self,
        section: Section,
        owner: &[u8],
        set: &Set,
        rotation: u32,
        out: &mut S,
    ) {
        let first = (rotation as usize)
            .checked_rem(set.data.len())
            .unwrap_or_default();
        let turned = set.data[first..].iter().chain(&set.data[..first]);
        for data in turned {
            if !out.put(section, owner, set.kind, set.ttl, data) {
                return;
            }
        }
    }

    /// Addresses of the names that a set points at, each once.
    fn targets<S: Sections + ?Sized>(&self, set: &Set, out: &mut S) {
        if !matches!(
            set.kind,
            RecordType::NS
                | RecordType::MX
                | RecordType::SRV
                | RecordType::SVCB
                | RecordType::HTTPS
        ) {
            return;
        }
        self.point(set, Section::Additional, out);
    }

    fn refer<S: Sections + ?Sized>(&self, owner: &[u8], set: &Set, out: &mut S) {
        self.put_set(Section::Authority, owner, set, 0, out);
        self.point(set, Section::Glue, out);
    }

    fn point<S: Sections + ?Sized>(&self, set: &Set, section: Section, out: &mut S) {
        let target = |data: &'_ [u8]| -> NameBuf {
            let mut name = NameBuf::default();
            let rest = set.kind.target(data).unwrap_or_default();
            name.set_first(rest);
            name
        };
        for (index, data) in set.data.iter().take(TARGETS).enumerate() {
            let name = target(data);
            let known = is_at_or_below(name.wire(), self.apex.wire());
            let Some(leaf) = self.leaves.get(name.wire()).filter(|_| known) else {
                continue;
            };
            let twice = set.data[..index]
                .iter()
                .any(|before| target(before).wire() == name.wire());
            if twice || (section == Section::Additional && self.is_cut(name.wire())) {
                continue;
            }
            for kind in [RecordType::A, RecordType::AAAA] {
                if let Some(set) = leaf.set(kind) {
                    self.put_set(section, name.wire(), set, 0, out);
                }
            }
        }
    }

    /// Whether a name stands at or below a delegation.
    fn is_cut(&self, name: &[u8]) -> bool {
        let mut rest = name;
        while rest.len() > self.apex.wire().len() {
            if self
                .leaves
                .get(rest)
                .is_some_and(|leaf| leaf.set(RecordType::NS).is_some())
            {
                return true;
            }
            rest = &rest[usize::from(rest[0]) + 1..];
        }
        false
    }

    /// The SOA record, for the authority section: its time to live is the one of missing names (RFC 2308, 3).
    pub(crate) fn put_start<S: Sections + ?Sized>(&self, question: &Question<'_>, out: &mut S) {
        let set = self
            .leaves
            .get(self.apex.wire())
            .and_then(|leaf| leaf.set(RecordType::SOA));
        let Some((set, data)) = set.and_then(|set| Some((set, set.data.first()?))) else {
            return;
        };
        let minimum = data
            .last_chunk()
            .map_or(set.ttl, |bytes| u32::from_be_bytes(*bytes));
        let owner = &question.name[question.name.len() - self.apex.wire().len()..];
        out.put(
            Section::Authority,
            owner,
            RecordType::SOA,
            set.ttl.min(minimum),
            data,
        );
    }
}

/// The short answer to a question for anything (RFC 8482, 4.2).
pub(crate) fn put_any<S: Sections + ?Sized>(owner: &[u8], out: &mut S) {
    out.put(
        Section::Answer,
        owner,
        RecordType::HINFO,
        3600,
        b"\x07RFC8482\0",
    );
}

/// The starts of the labels of a name before a place in it.
fn starts_before(name: &[u8], end: usize, starts: &mut [u8; 128]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < end && count < 128 {
        starts[count] = u8::try_from(at).unwrap_or_default();
        count += 1;
        at += usize::from(name[at]) + 1;
    }
    count
}

/// Writes a redirection and the alias that it makes (RFC 6672, 3.1). `at` is where its owner begins in the name.
fn redirect<S: Sections + ?Sized>(
    set: &Set,
    question: &Question<'_>,
    at: usize,
    out: &mut S,
    next: &mut NameBuf,
) -> Step<'static> {
    out.put(
        Section::Answer,
        &question.name[at..],
        set.kind,
        set.ttl,
        &set.data[0],
    );
    next.truncate(0);
    if next
        .append(&question.lower[..at])
        .and_then(|()| next.append(&set.data[0]))
        .is_err()
    {
        return Step::TooLong;
    }
    out.put(
        Section::Answer,
        question.name,
        RecordType::CNAME,
        set.ttl,
        next.wire(),
    );
    if question.kind == RecordType::CNAME {
        return Step::Written;
    }
    Step::Alias
}
