//! An answer, for people (its text) and for programs (its fields).

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// The policies of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `namespace/name`
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Why policies are not about it.
    pub not_judged: Option<String>,
    /// What comes in.
    pub ingress: Option<Side>,
    /// What goes out.
    pub egress: Option<Side>,
    /// What cannot do what it seems to.
    pub warnings: Vec<Note>,
    /// What of policies is not understood.
    pub errors: Vec<Note>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// NetworkPolicies isolate the pod: what none of them allows is denied.
    pub isolated: bool,
    /// In the order in which they are asked.
    pub policies: Vec<Applied>,
}

/// A policy that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Kind and name.
    pub policy: String,
    /// Tier and priority of a ClusterNetworkPolicy.
    pub tier: Option<String>,
    /// Why it applies: what it selects.
    pub selects: String,
    /// Its rules for this direction.
    pub rules: Vec<RuleLine>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleLine {
    /// Accept, Deny or Pass.
    pub action: String,
    /// The other side; none: anybody.
    pub peers: Option<Vec<String>>,
    /// Ports; none: everything.
    pub ports: Option<Vec<String>>,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The stable code; it has a page in docs/codes.
    pub code: &'static str,
    /// One word.
    pub reason: &'static str,
    /// A sentence with the next step.
    pub message: String,
}

/// Objects that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// Which.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// Whether something that the answer depends on could not be seen.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.unseen.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pod,
            node,
            addresses,
            not_judged,
            ingress,
            egress,
            warnings,
            errors,
            unseen,
        } = self;
        write!(f, "Pod {pod}")?;
        if let Some(node) = node {
            write!(f, " on node {node}")?;
        }
        for (at, address) in addresses.iter().enumerate() {
            write!(f, "{} {address}", if at == 0 { ":" } else { "," })?;
        }
        writeln!(f)?;
        if let Some(why) = not_judged {
            writeln!(f, "\nNo policy is about it: {why}.")?;
        }
        for (title, side, peers) in [("INGRESS", ingress, "from"), ("EGRESS", egress, "to")] {
            if let Some(side) = side {
                write_side(f, title, side, peers)?;
            }
        }
        for (title, notes) in [("ERRORS", errors), ("WARNINGS", warnings)] {
            if !notes.is_empty() {
                writeln!(f, "\n{title}")?;
            }
            for Note { code, message, .. } in notes {
                writeln!(f, "  {code} {message}")?;
            }
        }
        if !unseen.is_empty() {
            writeln!(f, "\nNOT SEEN, so this may not be all")?;
        }
        for Unseen { what, why } in unseen {
            writeln!(f, "  {what}: {why}")?;
        }
        Ok(())
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, title: &str, side: &Side, word: &str) -> fmt::Result {
    let Side { isolated, policies } = side;
    let said = match (isolated, policies.is_empty()) {
        (true, _) => "isolated: what is not accepted below is denied",
        (false, true) => "no policy: everything is allowed",
        (false, false) => "not isolated: what is not denied below is allowed",
    };
    writeln!(f, "\n{title}  {said}")?;
    for applied in policies {
        let Applied {
            policy,
            tier,
            selects,
            rules,
        } = applied;
        let tier = tier.as_ref().map(|tier| format!(" ({tier})"));
        writeln!(f, "  {policy}{}", tier.unwrap_or_default())?;
        writeln!(f, "    selects {selects}")?;
        if rules.is_empty() {
            writeln!(f, "    accepts nothing")?;
        }
        for rule in rules {
            write_rule(f, rule, word)?;
        }
    }
    Ok(())
}

fn write_rule(f: &mut fmt::Formatter<'_>, rule: &RuleLine, word: &str) -> fmt::Result {
    let RuleLine {
        action,
        peers,
        ports,
    } = rule;
    let list = |list: &Option<Vec<String>>, all: &str| match list {
        None => all.to_owned(),
        Some(list) if list.is_empty() => "nothing that is understood".to_owned(),
        Some(list) => list.join("; "),
    };
    let (peers, ports) = (
        list(peers, "anybody"),
        list(ports, "every port and protocol"),
    );
    writeln!(f, "    {action} {word} {peers}, at {ports}")
}
