//! `suite: policy`: who may reach whom under which policies.
//!
//! The nodes of a file go from step to step by differences, as agents follow a watch, so the way to a
//! state is judged; that it ends where a node ends that begins there is judged too.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use weft_core::policy::conformance::{self, Combined, Judge, Node, Row, Step, World};

use super::verdict::{Case, Verdict};

pub mod packets;

use packets::{Packets, Told};

/// Judges a file.
///
/// # Errors
/// When it does not read as the suite's format.
pub fn judge(file: &Value, packets: bool) -> Result<Vec<Case>> {
    let steps = conformance::steps(file)?;
    if packets {
        super::packets::check()?;
    }
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut sent = packets.then(Packets::default);
    let mut cases = Vec::new();
    for step in &steps {
        let at = || format!("step {:?}", step.name);
        let batches = go_to(&mut nodes, &step.world).with_context(at)?;
        let drifted = nodes.values().flat_map(|node| {
            let sets = node.drifted().into_iter();
            sets.map(|set| format!("{} holds other elements in {set}", node.name()))
        });
        cases.extend(drifted.map(|drift| {
            let name = format!("{}: the rules", step.name);
            Case::differs(name, "what the state says", drift)
        }));
        let rows = by_rules(&nodes, step).with_context(at)?;
        let told = match &mut sent {
            Some(sent) => {
                sent.go_to(&step.world, &nodes, batches, &steps)
                    .with_context(at)?;
                sent.tell(step).with_context(at)?
            }
            None => BTreeMap::new(),
        };
        cases.extend(rows.into_iter().enumerate().flat_map(|(at, case)| {
            let told = told.get(&at).into_iter().flatten();
            with_packets(case, &step.rows[at], told)
        }));
    }
    Ok(cases)
}

/// Nodes of the world, all of them told of it; and what each one's kernel is to be told.
fn go_to(
    nodes: &mut BTreeMap<String, Node>,
    world: &World,
) -> Result<BTreeMap<String, Vec<weft_nft::Batch>>> {
    for name in world.judging_nodes() {
        nodes.entry(name).or_insert_with_key(|name| Node::new(name));
    }
    let each = nodes.iter_mut();
    each.map(|(name, node)| Ok((name.clone(), node.go_to(world)?)))
        .collect()
}

/// A case for each row: both ways to the state must end as the file says.
fn by_rules(nodes: &BTreeMap<String, Node>, step: &Step) -> Result<Vec<Case>> {
    let anew: Vec<Node> = step
        .world
        .judging_nodes()
        .iter()
        .map(|name| Node::in_world(name, &step.world))
        .collect::<Result<_, _>>()?;
    let judges: Vec<Judge<'_>> = nodes.values().map(Node::judge).collect();
    let judges_anew: Vec<Judge<'_>> = anew.iter().map(Node::judge).collect();
    let mut cases = Vec::new();
    for row in &step.rows {
        let name = format!("{}: {row}", step.name);
        let mut case = Case::compared(name.clone(), &row.combined, &row.combined);
        for (judges, how) in [(&judges_anew, "compiled anew"), (&judges, "after changes")] {
            for family in step.world.families(row) {
                let got = Combined::of(passes(judges, &step.world, row, family)?);
                if got != row.combined {
                    let got = format!("{got} over IPv{family} ({how})");
                    case = Case::differs(name.clone(), row.combined.to_string(), got);
                }
            }
        }
        cases.push(case);
    }
    Ok(cases)
}

fn passes(judges: &[Judge<'_>], world: &World, row: &Row, family: u8) -> Result<bool> {
    let ends = [&row.from, &row.to].map(|end| world.address(end, family));
    let [Some(from), Some(to)] = ends else {
        anyhow::bail!("{row}: an end has no address of IPv{family}");
    };
    for judge in judges {
        if !judge.passes(from, to, row.protocol(), row.port)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The case that agrees by the rules must agree by packets too, as far as those can tell.
fn with_packets<'t>(
    by_rules: Case,
    row: &Row,
    told: impl Iterator<Item = &'t (u8, Told)>,
) -> Vec<Case> {
    let mut cases = vec![by_rules];
    for (family, told) in told {
        let name = cases[0].name.clone();
        match told {
            Told::Nothing(why) => cases.push(Case {
                name,
                verdict: Verdict::Inexpressible(why.clone()),
            }),
            Told::Outcome(got) if *got == row.combined.to_string() => {}
            Told::Outcome(got) => {
                let got = format!("{got} over IPv{family} (as packets)");
                cases[0] = Case::differs(name, row.combined.to_string(), got);
            }
        }
    }
    cases
}
