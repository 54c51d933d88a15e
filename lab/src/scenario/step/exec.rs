//! `exec`: runs a program in a pod's network, in a node, outside or on the machine, and compares its
//! exit code and output.

use std::time::Duration;

use anyhow::{Result, bail};

use super::time;
use crate::scenario::lab;
use crate::scenario::model::Exec;
use crate::scenario::stage::Stage;
use crate::scenario::{spot, wait};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(stage: &mut Stage<'_>, what: &Exec) -> Result<()> {
    if what.family.is_some_and(|family| !stage.has(family)) {
        return Ok(());
    }
    let text = match &what.within {
        None => once(stage, what).await?,
        Some(within) => wait::until(time(within)?, async || once(stage, what).await).await?,
    };
    if let Some(name) = &what.keep {
        stage
            .kept
            .insert(format!("kept.{name}"), text.trim().to_owned());
    }
    Ok(())
}

async fn once(stage: &Stage<'_>, what: &Exec) -> Result<String> {
    let filled: Result<Vec<String>> = what.command.iter().map(|word| stage.fill(word)).collect();
    let spot = spot::spot(stage.lab, &stage.pods, &stage.fill(&what.place)?)?;
    let output = lab::output(&spot, &filled?, LIMIT).await?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    let shown: String = all.trim().chars().take(800).collect();
    if what.exit.is_some() && output.status.code() != what.exit {
        bail!("it ended with {} and said: {shown}", output.status);
    }
    for wanted in &what.contains {
        let wanted = stage.fill(wanted)?;
        if !all.contains(&wanted) {
            bail!("{wanted:?} is not in its output: {shown}");
        }
    }
    for unwanted in &what.lacks {
        let unwanted = stage.fill(unwanted)?;
        if all.contains(&unwanted) {
            bail!("{unwanted:?} is in its output: {shown}");
        }
    }
    Ok(out)
}
