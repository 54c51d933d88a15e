//! What the steps of one running scenario share: the cluster, the pods, what was kept and counted.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use super::lab::{Lab, Node};
use super::model::{Family, ObjectRef, Scenario};
use super::number::Random;
use super::spot::{self, Pods};
use super::step::talk::Talking;
use super::template::{self, Facts};

/// A running scenario.
pub struct Stage<'a> {
    /// The cluster.
    pub lab: &'a Lab,
    /// What is run.
    pub scenario: &'a Scenario,
    /// The scenario's own namespace.
    pub namespace: String,
    /// Pods that run.
    pub pods: Pods,
    /// Outputs kept by `exec`, as `kept.NAME`.
    pub kept: Facts,
    /// Connections that go on, by name.
    pub talks: BTreeMap<String, Talking>,
    /// What was applied and is not in the namespace: deleted at the end, the last first.
    pub applied: Vec<ObjectRef>,
    /// Random numbers of this run.
    pub random: Random,
    /// The long set.
    pub is_full: bool,
    /// When the scenario began.
    pub began: jiff::Timestamp,
    /// What was done and counted.
    pub tally: Tally,
}

/// What a scenario did.
#[derive(serde::Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps done, repetitions included.
    pub steps: u64,
    /// Questions to servers that ended as expected.
    pub connections: u64,
    /// Numbered packets sent.
    pub packets: u64,
    /// Numbered packets lost.
    pub lost: u64,
}

impl Stage<'_> {
    /// What `${…}` may name now.
    pub fn facts(&self) -> Facts {
        let mut facts = spot::facts(self.lab, &self.pods, &self.namespace);
        let cluster = self.lab.cluster();
        let kubectl = cluster.state().programs.path("kubectl");
        let kubectl = format!(
            "{} --kubeconfig {} --namespace {}",
            kubectl.display(),
            cluster.kubeconfig().display(),
            self.namespace
        );
        facts.insert("kubectl".to_owned(), kubectl);
        facts.extend(self.kept.clone());
        let values = self.scenario.values.iter();
        facts.extend(
            values.map(|(name, text)| (format!("value.{name}"), text.get(self.is_full).to_owned())),
        );
        facts
    }

    /// Replaces `${…}`.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn fill(&self, text: &str) -> Result<String> {
        template::fill(text, &self.facts()).map_err(|error| anyhow!(error))
    }

    /// Does the cluster have the family?
    pub fn has(&self, family: Family) -> bool {
        let families = self.lab.options().families;
        match family {
            Family::Ipv4 => families.has_ipv4(),
            Family::Ipv6 => families.has_ipv6(),
        }
    }

    /// Those of the wanted families that the cluster has; none named: all of them.
    pub fn families(&self, wanted: &[Family]) -> Vec<Family> {
        let all = [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .filter(|family| self.has(*family));
        all.filter(|family| wanted.is_empty() || wanted.contains(family))
            .collect()
    }

    /// The nodes that a number means: 0 is all.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn nodes(&self, number: usize) -> Result<Vec<&Node>> {
        if number == 0 {
            Ok(self.lab.nodes.iter().collect())
        } else {
            Ok(vec![self.lab.node(number)?])
        }
    }
}
