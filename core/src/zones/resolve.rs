//! From a question to its answer: which zone, what stands there, where aliases lead (RFC 1034, 4.3.2).

use super::answer::{Ask, Outcome, Question, Rcode, Section, Sections};
use super::builtin::{BuiltIn, Context};
use super::cluster::lookup::Node;
use super::cluster::records::Found;
use super::input::Face;
use super::name::{NameBuf, is_at_or_below};
use super::record::RecordType;
use super::user::{Step, UserZone, put_any};
use super::{Holder, Zones};

/// Aliases that one answer follows; more are a ring, or as good as one.
const ALIASES: usize = 10;

/// Where one zone has led.
enum Turn<'a> {
    Done(Rcode, bool),
    /// The name is not there, and others may have it.
    Elsewhere,
    Follow,
    Borrow(u32, &'a [u8]),
    Service(u32, &'a [u8]),
}

impl Zones {
    /// Writes the answer to a question, as far as it is ours.
    pub fn answer<S: Sections + ?Sized>(&self, question: &Question<'_>, out: &mut S) -> Outcome {
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
            let Some((at, holder)) = self.table.find(asked.lower) else {
                return ask(asked.name, step > 0, None);
            };
            let mut target = NameBuf::default();
            let turn = match holder {
                Holder::BuiltIn(index) => {
                    self.builtin(&self.builtin[*index], at, &asked, out, &mut target)
                }
                Holder::User(zone) => self.user(zone, &asked, out, &mut target),
            };
            match turn {
                Turn::Done(rcode, ours) => {
                    let authoritative = ours && *authoritative.get_or_insert(ours);
                    return Outcome::Done {
                        rcode,
                        authoritative,
                    };
                }
                Turn::Elsewhere => return ask(asked.name, step > 0, None),
                Turn::Borrow(ttl, name) => return self.borrow(&asked, ttl, name, out),
                Turn::Service(ttl, key) => {
                    self.service_addresses(&asked, ttl, key, out);
                    return done(Rcode::NoError);
                }
                Turn::Follow => authoritative = Some(*authoritative.get_or_insert(true)),
            }
            current = target;
        }
        out.clear();
        done(Rcode::ServFail)
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
        question: &Question<'_>,
        ttl: u32,
        target: &[u8],
        out: &mut S,
    ) -> Outcome {
        let mut inner = Borrower {
            out: &mut *out,
            owner: question.name,
            ttl,
        };
        let asked = Question {
            name: target,
            lower: target,
            ..*question
        };
        match self.answer_plain(&asked, &mut inner) {
            Outcome::Ask(mut ask) => {
                let mut owner = NameBuf::default();
                owner.set(question.name);
                ask.owner = Some(owner);
                Outcome::Ask(ask)
            }
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

    /// As [`Zones::answer`], behind a call that does not repeat itself without end: an ALIAS that leads to an ALIAS ends here.
    fn answer_plain<S: Sections + ?Sized>(
        &self,
        question: &Question<'_>,
        out: &mut Borrower<'_, S>,
    ) -> Outcome {
        let sections: &mut dyn Sections = out;
        match self.table.find(question.lower) {
            Some((_, Holder::User(zone))) if zone.borrows(question) => done(Rcode::ServFail),
            _ => self.answer(question, sections),
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
        let put = |out: &mut S, address: std::net::IpAddr| match (address, question.kind) {
            (std::net::IpAddr::V4(address), RecordType::A) => out.put(
                Section::Answer,
                question.name,
                RecordType::A,
                ttl,
                &address.octets(),
            ),
            (std::net::IpAddr::V6(address), RecordType::AAAA) => out.put(
                Section::Answer,
                question.name,
                RecordType::AAAA,
                ttl,
                &address.octets(),
            ),
            _ => true,
        };
        let own: &[std::net::IpAddr] = match &unit.face {
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
        for address in addresses {
            if !put(out, address) {
                return;
            }
        }
    }
}

fn done(rcode: Rcode) -> Outcome {
    Outcome::Done {
        rcode,
        authoritative: rcode == Rcode::NoError,
    }
}

fn ask(name: &[u8], continued: bool, owner: Option<NameBuf>) -> Outcome {
    let mut wanted = NameBuf::default();
    wanted.set(name);
    Outcome::Ask(Box::new(Ask {
        name: wanted,
        continued,
        owner,
    }))
}

/// Passes addresses on under another owner, and nothing else.
struct Borrower<'a, S: Sections + ?Sized> {
    out: &'a mut S,
    owner: &'a [u8],
    ttl: u32,
}

impl<S: Sections + ?Sized> Sections for Borrower<'_, S> {
    fn put(&mut self, section: Section, _: &[u8], kind: RecordType, ttl: u32, data: &[u8]) -> bool {
        let address =
            matches!(kind, RecordType::A | RecordType::AAAA) && section == Section::Answer;
        !address
            || self
                .out
                .put(section, self.owner, kind, ttl.min(self.ttl), data)
    }

    fn clear(&mut self) {
        self.out.clear();
    }
}
