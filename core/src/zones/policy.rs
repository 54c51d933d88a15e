//! Rules by name: what becomes of a question before any zone is asked.
//!
//! A name is looked for by its labels, the longest first, so that a list of ten thousand names costs what one costs.

use std::collections::HashMap;
use std::net::IpAddr;

use weft_crds::BlockAnswer;

use super::name::{self, Name, NameBuf};

/// The rules of one zone, for one view of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
    names: HashMap<Box<[u8]>, Entry>,
    /// Bit n: some rule has a name of n labels.
    depths: u128,
    /// It holds in the cluster's own domain too.
    pub in_cluster_domain: bool,
}

/// What is done with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It goes its way.
    Allow,
    /// It is answered with nothing.
    Block(BlockAnswer),
    /// It is answered with addresses.
    Override {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// Seconds that others may keep them.
        ttl: u32,
    },
    /// Another name is asked for.
    Rewrite(Target),
}

/// What is asked for in place of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This name.
    Name(Name),
    /// What the star of the rule stands for, in front of this name.
    Below(Name),
}

/// The rules that a name has: for itself, and for all names below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    exact: Option<u16>,
    below: Option<u16>,
}

impl Policy {
    /// Adds a rule behind those that are there.
    pub fn push(&mut self, names: &[RuleName], rule: Rule) {
        let Ok(number) = u16::try_from(self.rules.len()) else {
            return;
        };
        self.rules.push(rule);
        for RuleName { name, below } in names {
            self.depths |= 1 << name.count().min(127);
            let entry = self.names.entry(name.wire().into()).or_default();
            let place = if *below {
                &mut entry.below
            } else {
                &mut entry.exact
            };
            place.get_or_insert(number);
        }
    }

    /// The rule for a name, in lower case, and where in the name begins what comes behind the star of the rule.
    #[must_use]
    pub fn rule(&self, name: &[u8]) -> Option<(&Rule, usize)> {
        let mut depth = name::labels(name).count();
        let mut at = 0;
        loop {
            let has_depth = self.depths >> depth.min(127) & 1 == 1;
            if has_depth && let Some(entry) = self.names.get(&name[at..]) {
                let number = if at == 0 { entry.exact } else { entry.below };
                if let Some(number) = number {
                    return Some((&self.rules[usize::from(number)], at));
                }
            }
            depth = depth.checked_sub(1)?;
            at += usize::from(name[at]) + 1;
        }
    }

    /// How many names have rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A name as a rule has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The name, without the star.
    pub name: Name,
    /// All names below it, and not itself.
    pub below: bool,
}

impl Target {
    /// The name to ask for; none where it is too long. `at` is where in the name begins what comes behind the star.
    #[must_use]
    pub fn of(&self, name: &[u8], at: usize) -> Option<NameBuf> {
        let mut target = NameBuf::default();
        match self {
            Self::Name(name) => target.set(name.wire()),
            Self::Below(suffix) => {
                target.append(&name[..at]).ok()?;
                target.append(suffix.wire()).ok()?;
            }
        }
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::absolute(text).expect("a name")
    }

    fn listed(text: &str) -> RuleName {
        match text.strip_prefix("*.") {
            Some(rest) => RuleName {
                name: name(rest),
                below: true,
            },
            None => RuleName {
                name: name(text),
                below: false,
            },
        }
    }

    #[test]
    fn the_most_specific_name_holds_and_of_equals_the_first() {
        let mut policy = Policy::default();
        policy.push(
            &[listed("*.example.org")],
            Rule::Block(BlockAnswer::NXDomain),
        );
        policy.push(
            &[listed("ok.example.org"), listed("*.b.example.org")],
            Rule::Allow,
        );
        policy.push(
            &[listed("ok.example.org")],
            Rule::Block(BlockAnswer::Refused),
        );
        let rule = |text: &str| policy.rule(name(text).wire()).map(|(rule, _)| rule.clone());
        let blocked = Some(Rule::Block(BlockAnswer::NXDomain));
        assert_eq!(rule("a.example.org"), blocked);
        assert_eq!(rule("c.a.example.org"), blocked);
        assert_eq!(rule("ok.example.org"), Some(Rule::Allow));
        assert_eq!(rule("x.b.example.org"), Some(Rule::Allow));
        assert_eq!(rule("b.example.org"), blocked);
        assert_eq!(rule("example.org"), None);
        assert_eq!(rule("org"), None);
    }

    #[test]
    fn a_star_keeps_what_it_stands_for() {
        let mut policy = Policy::default();
        policy.push(
            &[listed("*.old.example")],
            Rule::Rewrite(Target::Below(name("new.example"))),
        );
        let asked = name("a.b.old.example");
        let Some((Rule::Rewrite(target), at)) = policy.rule(asked.wire()) else {
            panic!("no rule");
        };
        let target = target.of(asked.wire(), at).expect("a name");
        assert_eq!(target.wire(), name("a.b.new.example").wire());
    }
}
