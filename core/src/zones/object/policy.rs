//! Rules.

use std::net::IpAddr;

use weft_crds::{PolicyAction, PolicyBody, PolicyRule};

use super::{Fault, Reader};
use crate::zones::policy::{Policy, Rule, RuleName, Target};

impl Reader<'_> {
    /// Reads rules; all of them or nothing.
    pub(super) fn policy(&self, body: &PolicyBody) -> Result<Policy, Vec<Fault>> {
        let mut policy = Policy::default();
        policy.in_cluster_domain = self.in_cluster_domain;
        let mut faults = Vec::new();
        for (index, rule) in body.rules.iter().enumerate() {
            let field = format!("{}.policy.rules[{index}]", self.path);
            match self.rule(&field, rule) {
                Ok((names, rule)) => policy.push(&names, rule),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(faults)
        }
    }

    fn rule(&self, field: &str, rule: &PolicyRule) -> Result<(Vec<RuleName>, Rule), Fault> {
        let PolicyRule {
            names,
            action,
            answer,
            addresses,
            target,
            ttl,
        } = rule;
        let listed = names.iter().enumerate().map(|(index, text)| {
            let field = format!("{field}.names[{index}]");
            let listed = self.listed(&field, text)?;
            if listed.name.is_at_or_below(self.apex) {
                return Ok(listed);
            }
            let rule = format!("{} is outside zone {}", listed.name, self.apex);
            Err(Fault::field(&field, rule))
        });
        let listed: Vec<RuleName> = listed.collect::<Result<_, _>>()?;
        let rule = match action {
            PolicyAction::Allow => Rule::Allow,
            PolicyAction::Block => Rule::Block(answer.unwrap_or_default()),
            PolicyAction::Override => {
                let address = |text: &String| -> Result<IpAddr, Fault> {
                    text.parse().map_err(|_| {
                        let rule = format!("{text:?} is no IP address");
                        Fault::field(&format!("{field}.addresses"), rule)
                    })
                };
                Rule::Override {
                    addresses: addresses.iter().map(address).collect::<Result<_, _>>()?,
                    ttl: *ttl,
                }
            }
            PolicyAction::Rewrite => {
                Rule::Rewrite(self.target(field, target.as_deref(), &listed)?)
            }
        };
        Ok((listed, rule))
    }

    fn target(
        &self,
        field: &str,
        text: Option<&str>,
        listed: &[RuleName],
    ) -> Result<Target, Fault> {
        let field = format!("{field}.target");
        let text = text.ok_or_else(|| Fault::field(&field, "it is missing"))?;
        let target = self.listed(&field, text)?;
        if !target.below {
            return Ok(Target::Name(target.name));
        }
        if listed.iter().all(|name| name.below) {
            return Ok(Target::Below(target.name));
        }
        Err(Fault::field(
            &field,
            format!(
                "{text:?} keeps what a star stands for, and not all names of the rule have one"
            ),
        ))
    }

    /// A name, with or without a star before it.
    fn listed(&self, field: &str, text: &str) -> Result<RuleName, Fault> {
        let (rest, below) = match text.strip_prefix("*.") {
            Some("") => (".", true),
            Some(rest) => (rest, true),
            None if text == "*" => (".", true),
            None => (text, false),
        };
        Ok(RuleName {
            name: self.absolute(field, rest)?,
            below,
        })
    }
}
