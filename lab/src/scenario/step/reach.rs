//! `reach`: a truth table of who reaches whom, all pairs at the same time.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};

use super::{connect, time};
use crate::probe::connect::Ending;
use crate::scenario::model::{Connect, Family, Reach};
use crate::scenario::stage::Stage;
use crate::scenario::{services, wait};

/// Questions at one time.
const AT_ONCE: usize = 64;
/// Sentences about wrong pairs.
const NAMED: usize = 6;

pub(super) async fn run(stage: &mut Stage<'_>, what: &Reach) -> Result<()> {
    let questions = questions(stage, what)?;
    let within = time(&what.within)?;
    let place: &Stage<'_> = stage;
    wait::until(within, async || {
        let wrong: Vec<Option<String>> = stream::iter(&questions)
            .map(|question| ask(place, what, question))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let wrong: BTreeSet<String> = wrong.into_iter().flatten().collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let named: Vec<&str> = wrong.iter().take(NAMED).map(String::as_str).collect();
        let (named, count) = (named.join("; "), questions.len());
        bail!("{} of {count} pairs are wrong: {named}", wrong.len())
    })
    .await?;
    stage.tally.connections += questions.len() as u64;
    Ok(())
}

struct Question {
    from: String,
    to: String,
    family: Family,
    allowed: bool,
}

fn questions(stage: &Stage<'_>, what: &Reach) -> Result<Vec<Question>> {
    let mut allowed: BTreeSet<(&str, &str)> = BTreeSet::new();
    for pair in &what.allowed {
        let (from, to) = pair
            .split_once('>')
            .with_context(|| format!("{pair:?} is no pair: write `client > server`"))?;
        let pair = (from.trim(), to.trim());
        let is_there = |list: &[String], name: &str| list.iter().any(|known| known == name);
        if !is_there(&what.from, pair.0) || !is_there(&what.to, pair.1) {
            bail!("{} > {} is not in the table", pair.0, pair.1);
        }
        allowed.insert(pair);
    }
    let mut questions = Vec::new();
    for family in stage.families(&what.families) {
        for from in &what.from {
            for to in what.to.iter().filter(|to| *to != from) {
                questions.push(Question {
                    from: from.clone(),
                    to: to.clone(),
                    family,
                    allowed: allowed.contains(&(from.as_str(), to.as_str())),
                });
            }
        }
    }
    Ok(questions)
}

/// A sentence if the answer is not as the table says.
async fn ask(stage: &Stage<'_>, what: &Reach, question: &Question) -> Result<Option<String>> {
    let Question {
        from,
        to,
        family,
        allowed,
    } = question;
    let address = services::address(stage, &stage.fill(to)?, *family).await?;
    // Who is allowed may be slow on a busy machine; the answer ends the wait.
    let timeout = if *allowed { "3s" } else { &what.timeout };
    let one: Connect = serde_json::from_value(serde_json::json!({
        "from": from, "to": to, "port": what.port, "protocol": what.protocol, "timeout": timeout,
    }))?;
    let ending = connect::ask(stage, &one, address).await?.ending;
    let right = match allowed {
        true => ending == Ending::Answered,
        false => ending == Ending::Timeout,
    };
    let wanted = if *allowed { "answered" } else { "silence" };
    Ok((!right).then(|| format!("{from} > {to} over {family} ended {ending:?}, not {wanted}")))
}
