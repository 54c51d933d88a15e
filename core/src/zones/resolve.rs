//! From a question to its answer: which zone, what stands there, where aliases lead (RFC 1034, 4.3.2).

use std::net::IpAddr;
use std::sync::Arc;

use weft_crds::{BlockAnswer, OnMiss};

use super::Zones;
use super::answer::{Ask, Outcome, Question, Rcode, Section, Sections};
use super::builtin::{BuiltIn, Context};
use super::cluster::lookup::Node;
use super::cluster::records::Found;
use super::forward::Forward;
use super::input::Face;
use super::name::{NameBuf, is_at_or_below};
use super::policy::Rule;
use super::record::RecordType;
use super::table::{Holder, Table};
use super::user::{Step, UserZone, put_any};

/// Aliases that one answer follows; more are a ring, or as good as one.
const ALIASES: usize = 10;

/// Where one zone has led.
enum Turn<'a> {
    Done(Rcode, bool),
    /// The name is not there, and the next zone may have it.
    Elsewhere,
    /// Others know; the node's resolvers where none are named.
    Ask(Option<&'a Arc<Forward>>),
    Follow,
    Borrow(u32, &'a [u8]),
    Service(u32, &'a [u8]),
    /// Another name is asked for.
    Rewrite(Box<NameBuf>),
}

impl Zones {
    /// Writes the answer to a question, as far as it is ours.
    pub fn answer<S: Sections + ?Sized>(&self, question: &Question<'_>, out: &mut S) -> Outcome {
        let table = self.directory.table(question.client);
        self.answer_from(table, true, question, out)
    }

    /// As [`Zones::answer`], from one table, with its rules or without.
    fn answer_from<S: Sections + ?Sized>(
        &self,
        table: &Table,
        rules: bool,
        question: &Question<'_>,
        out: &mut S,
    ) -> Outcome {
        let mut current = NameBuf::default();
        let mut authoritative = None;
        for step in 0..=ALIASES {
            let (name, lower) = match step {
                0 => (question.name, question.lower),
                _ => (current.wire(), current.wire()),
            };
            let asked = Question {
                name,
                lower,
                ..*question
            };
            let mut target = NameBuf::default();
            let ruled = match &table.policies[..] {
                policies if rules && !policies.is_empty() => self.ruled(table, &asked, out),
                _ => None,
            };
            let turn = ruled.unwrap_or_else(|| self.turn(table, &asked, out, &mut target));
            match turn {
                Turn::Done(rcode, ours) => {
                    let authoritative = ours && *authoritative.get_or_insert(ours);
                    return Outcome::Done {
                        rcode,
                        authoritative,
                    };
                }
                Turn::Elsewhere => return ask(asked.name, step > 0, None),
                Turn::Ask(via) => return ask(asked.name, step > 0, via),
                Turn::Borrow(ttl, name) => return self.borrow(table, &asked, ttl, name, out),
                Turn::Service(ttl, key) => {
                    self.service_addresses(&asked, ttl, key, out);
                    return done(Rcode::NoError);
                }
                Turn::Rewrite(target) => return self.rewritten(table, &asked, target.wire(), out),
                Turn::Follow => authoritative = Some(*authoritative.get_or_insert(true)),
            }
            current = target;
        }
        out.clear();
        done(Rcode::ServFail)
    }

    /// Asks the zones that a name is in, one after the other.
    fn turn<'z, S: Sections + ?Sized>(
        &'z self,
        table: &'z Table,
        asked: &Question<'_>,
        out: &mut S,
        target: &mut NameBuf,
    ) -> Turn<'z> {
        for (at, holder) in table.candidates(asked.lower) {
            let turn = match holder {
                Holder::BuiltIn(index) => {
                    self.builtin(&self.builtin[*index], at, asked, out, target)
                }
                Holder::User(zone, on_miss) => self.user(zone, *on_miss, asked, out, target),
                Holder::Forward(forward) if forward.excepts(asked.lower) => Turn::Elsewhere,
                Holder::Forward(forward) => Turn::Ask(Some(forward)),
                Holder::Broken => Turn::Done(Rcode::ServFail, false),
            };
            if !matches!(turn, Turn::Elsewhere) {
                return turn;
            }
        }
        Turn::Elsewhere
    }

    /// What the first rule for a name says; none: there is none, or it goes its way.
    fn ruled<'z, S: Sections + ?Sized>(
        &self,
        table: &Table,
        asked: &Question<'_>,
        out: &mut S,
    ) -> Option<Turn<'z>> {
        let in_cluster_domain = self
            .cluster_zones()
            .any(|zone| is_at_or_below(asked.lower, zone.wire()));
        let mut policies = table
            .policies
            .iter()
            .filter(|policy| policy.in_cluster_domain || !in_cluster_domain);
        let (rule, at) = policies.find_map(|policy| policy.rule(asked.lower))?;
        Some(match rule {
            Rule::Allow => return None,
            Rule::Block(answer) => Turn::Done(
                match answer {
                    BlockAnswer::NXDomain => Rcode::NxDomain,
                    BlockAnswer::NoData => Rcode::NoError,
                    BlockAnswer::Refused => Rcode::Refused,
                },
                false,
            ),
            Rule::Override { addresses, ttl } => {
                put_addresses(addresses.iter().copied(), *ttl, asked, out);
                Turn::Done(Rcode::NoError, false)
            }
            Rule::Rewrite(target) => match target.of(asked.lower, at) {
                Some(target) => Turn::Rewrite(Box::new(target)),
                None => Turn::Done(Rcode::YxDomain, false),
            },
        })
    }

    fn context(&self) -> Context<'_> {
        Context {
            config: &self.config,
            base: &self.base,
            external_base: self.external_base.as_deref(),
            serial: self.serial,
        }
    }

    fn builtin<S: Sections + ?Sized>(
        &self,
        zone: &BuiltIn,
        at: usize,
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Turn<'_> {
        let context = self.context();
        let node = self.data.find(
            &self.config,
            zone.kind,
            zone.apex.wire(),
            &question.lower[..at],
        );
        let mut found = match (&node, question.kind) {
            (Node::Missing | Node::Empty, _) | (_, RecordType::A | RecordType::AAAA) => None,
            (_, RecordType::ANY) => {
                put_any(question.name, out);
                Some(Found::Written)
            }
            _ => None,
        };
        let found = found
            .get_or_insert_with(|| self.data.write(&context, zone, &node, question, out, next));
        match found {
            Found::Written => Turn::Done(Rcode::NoError, true),
            Found::Alias => Turn::Follow,
            Found::Missing if self.falls_through(question.lower) => Turn::Elsewhere,
            Found::Missing if !self.synced => Turn::Done(Rcode::ServFail, false),
            Found::Nothing | Found::Missing => {
                let mut buffer = [0; 530];
                let data = zone.soa(&context, &mut buffer);
                out.put(
                    Section::Authority,
                    &question.name[at..],
                    RecordType::SOA,
                    context.soa_ttl(),
                    data,
                );
                let missing = *found == Found::Missing;
                Turn::Done(
                    if missing {
                        Rcode::NxDomain
                    } else {
                        Rcode::NoError
                    },
                    true,
                )
            }
        }
    }

    fn user<'z, S: Sections + ?Sized>(
        &self,
        zone: &'z UserZone,
        on_miss: OnMiss,
        question: &Question<'_>,
        out: &mut S,
        next: &mut NameBuf,
    ) -> Turn<'z> {
        match zone.write(question, out, next) {
            Step::Written => Turn::Done(Rcode::NoError, true),
            Step::Alias => Turn::Follow,
            Step::Referral => Turn::Done(Rcode::NoError, false),
            Step::Borrow(ttl, target) => Turn::Borrow(ttl, target),
            Step::Service(ttl, key) => Turn::Service(ttl, key),
            Step::TooLong => Turn::Done(Rcode::YxDomain, true),
            Step::Missing if on_miss == OnMiss::NextZone => Turn::Elsewhere,
            Step::Missing if on_miss == OnMiss::Forward => Turn::Ask(None),
            Step::Missing if self.falls_through(question.lower) => Turn::Elsewhere,
            step @ (Step::Nothing | Step::Missing) => {
                zone.put_start(question, out);
                let missing = step == Step::Missing;
                Turn::Done(
                    if missing {
                        Rcode::NxDomain
                    } else {
                        Rcode::NoError
                    },
                    true,
                )
            }
        }
    }

    fn falls_through(&self, name: &[u8]) -> bool {
        self.config
            .fallthrough
            .iter()
            .any(|zone| is_at_or_below(name, zone.wire()))
    }

    /// Gives out the addresses of another name as those of the name that was asked (ALIAS).
    fn borrow<S: Sections + ?Sized>(
        &self,
        table: &Table,
        question: &Question<'_>,
        ttl: u32,
        target: &[u8],
        out: &mut S,
    ) -> Outcome {
        let mut inner = Borrower {
            out: &mut *out,
            owner: question.name,
            kind: question.kind,
            ttl,
        };
        let asked = Question {
            name: target,
            lower: target,
            ..*question
        };
        // An ALIAS that leads to an ALIAS ends here, so that none leads on without end.
        let outcome = match table.find(asked.lower) {
            Some((_, Holder::User(zone, _))) if zone.borrows(&asked) => done(Rcode::ServFail),
            _ => {
                let sections: &mut dyn Sections = &mut inner;
                self.answer_from(table, true, &asked, sections)
            }
        };
        match outcome {
            Outcome::Ask(ask) => for_owner(ask, question.name, true),
            Outcome::Done { rcode, .. } => {
                let rcode = if rcode == Rcode::NxDomain {
                    Rcode::NoError
                } else {
                    rcode
                };
                done(rcode)
            }
        }
    }

    /// Gives out the records of another name as those of the name that was asked, for which no rule is looked for.
    fn rewritten<S: Sections + ?Sized>(
        &self,
        table: &Table,
        question: &Question<'_>,
        target: &[u8],
        out: &mut S,
    ) -> Outcome {
        let mut inner = Borrower {
            out: &mut *out,
            owner: question.name,
            kind: question.kind,
            ttl: u32::MAX,
        };
        let asked = Question {
            name: target,
            lower: target,
            ..*question
        };
        let sections: &mut dyn Sections = &mut inner;
        match self.answer_from(table, false, &asked, sections) {
            Outcome::Ask(ask) => for_owner(ask, question.name, false),
            Outcome::Done { rcode, .. } => Outcome::Done {
                rcode,
                authoritative: false,
            },
        }
    }

    fn service_addresses<S: Sections + ?Sized>(
        &self,
        question: &Question<'_>,
        ttl: u32,
        key: &[u8],
        out: &mut S,
    ) {
        let Some(unit) = self.data.service(key) else {
            return;
        };
        let own: &[IpAddr] = match &unit.face {
            Face::Addresses(addresses) => addresses,
            Face::Headless | Face::Alias(_) => &[],
        };
        let endpoints = unit
            .endpoints
            .list
            .iter()
            .filter(|_| unit.face == Face::Headless);
        let addresses = own
            .iter()
            .copied()
            .chain(endpoints.map(|endpoint| endpoint.address));
        put_addresses(addresses, ttl, question, out);
    }
}

/// Writes those of some addresses that are of the family asked for.
fn put_addresses<S: Sections + ?Sized>(
    addresses: impl Iterator<Item = IpAddr>,
    ttl: u32,
    question: &Question<'_>,
    out: &mut S,
) {
    let mut put = |kind, data: &[u8]| out.put(Section::Answer, question.name, kind, ttl, data);
    for address in addresses {
        let room = match (address, question.kind) {
            (IpAddr::V4(address), RecordType::A) => put(RecordType::A, &address.octets()),
            (IpAddr::V6(address), RecordType::AAAA) => put(RecordType::AAAA, &address.octets()),
            _ => true,
        };
        if !room {
            return;
        }
    }
}

fn done(rcode: Rcode) -> Outcome {
    Outcome::Done {
        rcode,
        authoritative: rcode == Rcode::NoError,
    }
}

fn ask(name: &[u8], continued: bool, via: Option<&Arc<Forward>>) -> Outcome {
    let mut wanted = NameBuf::default();
    wanted.set(name);
    Outcome::Ask(Box::new(Ask {
        name: wanted,
        continued,
        owner: None,
        owner_exists: false,
        via: via.map(Arc::clone),
    }))
}

/// What others say is given out under another name.
fn for_owner(mut ask: Box<Ask>, name: &[u8], exists: bool) -> Outcome {
    let mut owner = NameBuf::default();
    owner.set(name);
    ask.owner = Some(owner);
    ask.owner_exists = exists;
    Outcome::Ask(ask)
}

/// Passes records of the type that was asked for on under another owner, and nothing else.
struct Borrower<'a, S: Sections + ?Sized> {
    out: &'a mut S,
    owner: &'a [u8],
    kind: RecordType,
    ttl: u32,
}

impl<S: Sections + ?Sized> Sections for Borrower<'_, S> {
    fn put(&mut self, section: Section, _: &[u8], kind: RecordType, ttl: u32, data: &[u8]) -> bool {
        let wanted = kind == self.kind && section == Section::Answer;
        !wanted
            || self
                .out
                .put(section, self.owner, kind, ttl.min(self.ttl), data)
    }

    fn clear(&mut self) {
        self.out.clear();
    }
}
