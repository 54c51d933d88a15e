//! What all policies together say about one direction of one pod, and its settlement.
//!
//! A program is asked for a class of peers and answers with what is allowed. Tiers, priorities and
//! passes are settled here once; what comes out is plain sets of ports.

use super::bulk::Default;
use super::object::Action;
use super::peers::{PredicateId, Signature};
use super::ports::PortSet;
use crate::view::Protocol;

/// The rules of one direction of one pod, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Admin tier.
    pub admin: Vec<Step>,
    /// NetworkPolicies; none if none isolates the pod in this direction.
    pub network: Option<Vec<Step>>,
    /// Baseline tier.
    pub baseline: Vec<Step>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub action: Action,
    /// The other side has one of these; none: whoever it is.
    pub peers: Option<Box<[PredicateId]>>,
    /// Some of these ask for pods.
    pub asks_for_pods: bool,
    /// Ports whose numbers are known.
    pub ports: PortSet,
    /// Ports by the names that the other side gives them.
    pub names: Box<[(Option<Protocol>, Box<str>)]>,
}

/// For whom a program is asked.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    /// A class.
    Class(&'a Signature),
    /// Nobody in particular: what is allowed to everybody.
    Everybody,
    /// Nobody in particular: what is allowed to somebody.
    Somebody,
}

/// A program's settlement, less the classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settlement {
    /// What becomes of what is not listed.
    pub rest: Default,
    /// What is listed for every class.
    pub anybody: PortSet,
    /// Something is listed for classes that no rule asks for.
    pub is_wide: bool,
}

impl Program {
    /// Says nothing: everything is allowed.
    pub fn is_empty(&self) -> bool {
        let Self {
            admin,
            network,
            baseline,
        } = self;
        admin.is_empty() && network.is_none() && baseline.is_empty()
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let network = self.network.iter().flatten();
        self.admin.iter().chain(network).chain(&self.baseline)
    }

    /// What a class is allowed.
    pub fn allowed(&self, class: &Signature) -> PortSet {
        self.ask(Asked::Class(class))
    }

    /// How it is told by lists.
    pub fn settle(&self) -> Settlement {
        let strangers = self.allowed(&Signature::default());
        let (rest, anybody) = if strangers.has_others() {
            (Default::Allow, self.ask(Asked::Somebody).complement())
        } else {
            (Default::Deny, self.ask(Asked::Everybody))
        };
        let mut settlement = Settlement {
            rest,
            anybody,
            is_wide: false,
        };
        settlement.is_wide = !settlement.listed(&strangers).is_empty();
        settlement
    }

    fn ask(&self, asked: Asked<'_>) -> PortSet {
        let mut allowed = PortSet::default();
        let mut open = run(&self.admin, asked, PortSet::all(), &mut allowed);
        if let Some(steps) = &self.network {
            run(steps, asked, open, &mut allowed);
            return allowed;
        }
        open = run(&self.baseline, asked, open, &mut allowed);
        allowed.union(&open)
    }
}

impl Settlement {
    /// What is listed for a class that is allowed this.
    pub fn listed(&self, allowed: &PortSet) -> PortSet {
        match self.rest {
            Default::Deny => allowed.minus(&self.anybody),
            Default::Allow => allowed.complement().minus(&self.anybody),
        }
    }
}

/// Asks the rules of a tier about what is open; answers what goes on to the next tier.
fn run(steps: &[Step], asked: Asked<'_>, mut open: PortSet, allowed: &mut PortSet) -> PortSet {
    let mut passed = PortSet::default();
    for step in steps {
        let Some((action, ports)) = step.ask(asked) else {
            continue;
        };
        let hit = open.intersection(&ports);
        match action {
            Action::Accept => *allowed = allowed.union(&hit),
            Action::Deny => {}
            Action::Pass => passed = passed.union(&hit),
        }
        open = open.minus(&hit);
    }
    open.union(&passed)
}

impl Step {
    fn ask(&self, asked: Asked<'_>) -> Option<(Action, PortSet)> {
        match asked {
            Asked::Class(class) => self.ask_class(class),
            Asked::Everybody => self.ask_everybody(),
            Asked::Somebody => self.ask_somebody(),
        }
    }

    fn ask_class(&self, class: &Signature) -> Option<(Action, PortSet)> {
        let certain = match &self.peers {
            None => true,
            Some(peers) => peers.iter().any(|peer| class.has(*peer)),
        };
        if class.unknown && self.action != Action::Accept {
            // A pod that is not known yet may be one that is denied.
            if self.asks_for_pods && !certain {
                let names = !self.names.is_empty();
                let ports = if names {
                    PortSet::all()
                } else {
                    self.ports.clone()
                };
                return Some((Action::Deny, ports));
            }
            if certain && !self.names.is_empty() {
                return Some((Action::Deny, PortSet::all()));
            }
        }
        certain.then(|| {
            let mut ports = self.ports.clone();
            for (protocol, name) in &self.names {
                for (of, port) in class.named(name) {
                    if protocol.is_none_or(|protocol| protocol == *of) {
                        ports.add(*of, *port, *port);
                    }
                }
            }
            (self.action, ports)
        })
    }

    /// Takes every doubt for a denial.
    fn ask_everybody(&self) -> Option<(Action, PortSet)> {
        let doubtful = self.peers.is_some() || !self.names.is_empty();
        match self.action {
            Action::Accept if self.peers.is_some() => None,
            Action::Accept => Some((Action::Accept, self.ports.clone())),
            action if !doubtful => Some((action, self.ports.clone())),
            Action::Deny | Action::Pass => Some((Action::Deny, self.ports_at_most())),
        }
    }

    /// Takes every doubt for an allowance.
    fn ask_somebody(&self) -> Option<(Action, PortSet)> {
        let doubtful = self.peers.is_some() || !self.names.is_empty();
        match self.action {
            Action::Deny if self.peers.is_some() => None,
            Action::Deny => Some((Action::Deny, self.ports.clone())),
            action if !doubtful => Some((action, self.ports.clone())),
            Action::Accept | Action::Pass => Some((Action::Accept, self.ports_at_most())),
        }
    }

    fn ports_at_most(&self) -> PortSet {
        if self.names.is_empty() {
            self.ports.clone()
        } else {
            PortSet::all()
        }
    }
}
