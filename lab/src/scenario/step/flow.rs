//! Numbered packets between two places: as a step (`probe`) and for the whole run (`always.flows`).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::probe::flow::{Received, Sent};
use crate::scenario::lab::probe_program;
use crate::scenario::model::{Family, Flow};
use crate::scenario::process::Process;
use crate::scenario::stage::{Stage, Tally};
use crate::scenario::{services, spot};

/// The first UDP port of receivers; each takes the next.
const PORT: u16 = 9000;

/// A flow under way, in one family.
#[derive(Debug)]
pub struct Running {
    what: Flow,
    family: Family,
    sender: Process,
    receiver: Process,
    own: Vec<std::net::IpAddr>,
}

/// What both ends counted.
#[derive(serde::Serialize, Clone, Debug)]
pub struct Counts {
    /// From, to and family.
    pub name: String,
    /// What the sender says.
    pub sent: Sent,
    /// What the receiver says.
    pub received: Received,
}

impl Counts {
    /// Numbers that were sent and never came.
    pub fn lost(&self) -> u64 {
        (self.sent.numbers - self.sent.skipped.min(self.sent.numbers))
            .saturating_sub(self.received.received)
    }

    /// Numbers that never came, those left out on purpose included: what a control must see.
    pub fn missing(&self) -> u64 {
        self.sent.numbers.saturating_sub(self.received.received)
    }
}

/// A fixed number of packets.
pub(super) async fn step(stage: &mut Stage<'_>, what: &Flow) -> Result<()> {
    let packets = what.packets.get(stage.is_full);
    let mut running = start(stage, std::slice::from_ref(what), Some(packets), 500).await?;
    let limit = Duration::from_secs(packets / u64::from(what.rate.max(1)) + 20);
    let mut all = Vec::new();
    for flow in &mut running {
        all.push(flow.sender.lines(limit).await?);
    }
    for (flow, lines) in running.into_iter().zip(all) {
        let counts = flow.finish(Some(lines)).await?;
        stage.tally = stage.tally.with(&counts.0, &counts.1);
        judge(&counts.0, &counts.1, &counts.2)?;
    }
    Ok(())
}

/// Starts flows in all their families, receivers first. `first` keeps ports of several calls apart.
pub async fn start(
    stage: &Stage<'_>,
    flows: &[Flow],
    count: Option<u64>,
    first: u16,
) -> Result<Vec<Running>> {
    let program = probe_program()?.display().to_string();
    let mut running = Vec::new();
    let mut port = PORT + first;
    for what in flows {
        for family in stage.families(&what.families) {
            port += 1;
            let to = spot::network(stage.lab, &stage.pods, &what.to)?;
            let argv = [&program, "probe", "receive", &format!("--port={port}")].map(str::to_owned);
            let receiver = Process::start(&to, &argv)?
                .ready(Duration::from_secs(10))
                .await?;
            let target = what.via.as_deref().unwrap_or(&what.to);
            let address = services::address(stage, target, family).await?;
            let mut argv = vec![program.clone(), "probe".to_owned(), "send".to_owned()];
            argv.push(SocketAddr::new(address, port).to_string());
            argv.push(format!("--rate={}", what.rate));
            argv.push(format!("--control={}", what.skip));
            // What must not arrive has no answer to a greeting either.
            let greet = if what.denied { "0s" } else { "10s" };
            argv.push(format!("--greet={greet}"));
            argv.extend(count.map(|count| format!("--count={count}")));
            let from = spot::network(stage.lab, &stage.pods, &what.from)?;
            let sender = Process::start(&from, &argv)?;
            let own = spot::addresses(stage.lab, &stage.pods, &what.from)?;
            running.push(Running {
                what: what.clone(),
                family,
                sender,
                receiver,
                own,
            });
        }
    }
    Ok(running)
}

impl Running {
    /// Stops both ends and returns what they counted. `sent`: the sender's lines, if it has ended.
    ///
    /// # Errors
    /// When an end does not say what it counted.
    pub async fn finish(
        self,
        sent: Option<Vec<String>>,
    ) -> Result<(Flow, Counts, Vec<std::net::IpAddr>)> {
        let limit = Duration::from_secs(10);
        let sent = match sent {
            Some(lines) => lines,
            None => self.sender.stop(limit).await?,
        };
        let sent: Sent = serde_json::from_str(sent.last().context("the sender printed nothing")?)?;
        let lines = self.receiver.stop(limit).await?;
        let received = lines
            .iter()
            .rev()
            .find_map(|line| serde_json::from_str::<Received>(line).ok());
        let name = format!(
            "{} to {} over {}",
            self.what.from, self.what.to, self.family
        );
        let counts = Counts {
            name,
            sent,
            received: received.unwrap_or_default(),
        };
        Ok((self.what, counts, self.own))
    }
}

/// Was more lost than allowed, or did packets come from an address that is not the sender's?
///
/// # Errors
/// A sentence with numbers and times.
pub fn judge(what: &Flow, counts: &Counts, own: &[std::net::IpAddr]) -> Result<()> {
    let Counts {
        name,
        sent,
        received,
    } = counts;
    if sent.numbers == 0 {
        bail!("{name}: nothing was sent");
    }
    if what.denied {
        return match received.received {
            0 => Ok(()),
            arrived => bail!(
                "{name}: {arrived} of {} packets arrived, and none may",
                sent.numbers
            ),
        };
    }
    // What was left out on purpose counts too: a control must see exactly what a real loss would look like.
    let missing = counts.missing();
    if missing > what.allowed_loss {
        let gaps: Vec<String> = received
            .gaps
            .iter()
            .take(5)
            .map(|gap| format!("{}-{}", gap.from, gap.to))
            .collect();
        let tail = sent.numbers.saturating_sub(received.upto);
        let overrun = match received.overrun {
            0 => String::new(),
            overrun => format!(
                "; the receiver itself was too slow for {overrun}, so the machine may be to blame"
            ),
        };
        let refused = sent
            .error
            .as_ref()
            .map(|error| format!("; {} were refused: {error}", sent.refused));
        bail!(
            "{name}: lost {missing} of {} packets, numbers {}, the last {tail}{}{overrun}",
            sent.numbers,
            gaps.join(", "),
            refused.unwrap_or_default()
        );
    }
    if received.duplicates > 0 {
        bail!("{name}: {} packets came twice", received.duplicates);
    }
    match received
        .sources
        .iter()
        .find(|source| !own.contains(&source.ip()))
    {
        Some(source) => {
            bail!("{name}: packets came from {source}, which is not the sender's {own:?}")
        }
        None => Ok(()),
    }
}

impl Tally {
    /// With the counts of a flow.
    pub fn with(self, what: &Flow, counts: &Counts) -> Self {
        // What must not arrive is not lost.
        let lost = if what.denied { 0 } else { counts.lost() };
        Self {
            packets: self.packets + counts.sent.numbers,
            lost: self.lost + lost,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sent: u64, skipped: u64, received: u64) -> Counts {
        Counts {
            name: "a to b".to_owned(),
            sent: Sent {
                numbers: sent,
                skipped,
                ..Sent::default()
            },
            received: Received {
                received,
                upto: received,
                sources: vec!["10.0.0.1:5".parse().unwrap()],
                ..Received::default()
            },
        }
    }

    fn flow() -> Flow {
        serde_json::from_value(serde_json::json!({"from": "a", "to": "b"})).unwrap()
    }

    #[test]
    fn a_lost_tail_is_noticed_although_the_receiver_cannot_know_it() {
        let own = ["10.0.0.1".parse().unwrap()];
        assert!(judge(&flow(), &counts(100, 0, 100), &own).is_ok());
        let error = judge(&flow(), &counts(100, 0, 99), &own)
            .unwrap_err()
            .to_string();
        assert!(error.contains("lost 1 of 100"), "{error}");
    }

    #[test]
    fn numbers_left_out_on_purpose_fail_the_flow_but_are_not_counted_as_the_networks() {
        let own = ["10.0.0.1".parse().unwrap()];
        assert!(judge(&flow(), &counts(100, 5, 95), &own).is_err());
        assert_eq!(counts(100, 5, 95).lost(), 0);
    }

    #[test]
    fn a_foreign_source_and_silence_are_failures() {
        let other = ["10.0.0.9".parse().unwrap()];
        assert!(judge(&flow(), &counts(100, 0, 100), &other).is_err());
        assert!(judge(&flow(), &counts(0, 0, 0), &other).is_err());
    }
}
