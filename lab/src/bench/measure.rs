//! A benchmark's result as JSON and as a table: ours, the peer's, the ratio with its interval, the goal.

use std::fmt::Write;

use serde::Serialize;

use super::Name;
use super::sample::{Sample, Statistic, Summary};

/// The result of a benchmark.
#[derive(Serialize, Clone, Debug)]
pub struct Report {
    /// Which benchmark.
    pub name: String,
    /// What it ran on.
    pub machine: Machine,
    /// What was measured.
    pub measures: Vec<Measure>,
}

/// What a benchmark ran on.
#[derive(Serialize, Clone, Debug)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Number of processors.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// `release` or `debug`.
    pub build: String,
    /// Load average when it ended, over one minute.
    pub load: f64,
    /// When it ended.
    pub time: String,
}

/// One measure.
#[derive(Serialize, Clone, Debug)]
pub struct Measure {
    /// What, in a few words.
    pub name: String,
    /// Of which unit.
    pub unit: String,
    /// `lower` or `higher`.
    pub better: String,
    /// The figure that is compared: `median` or `p99`.
    pub figure: String,
    /// Ours.
    pub ours: Summary,
    /// The peer's.
    pub peer: Option<Peer>,
    /// Ours to the peer's.
    pub ratio: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// The goal for the ratio, or for ours where there is none.
    pub goal: Option<f64>,
    /// Whether the goal is reached; for a ratio: by the interval's better end.
    pub met: Option<bool>,
}

/// Whom we are measured against.
#[derive(Serialize, Clone, Debug)]
pub struct Peer {
    /// The program.
    pub program: String,
    /// Its version.
    pub version: String,
    /// What was measured of it.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Measure {
    /// A figure of ours alone; lower is better.
    pub fn alone(
        name: &str,
        unit: &str,
        ours: &Sample,
        statistic: Statistic,
        goal: Option<f64>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            better: "lower".to_owned(),
            figure: word(statistic).to_owned(),
            ours: ours.summary(),
            peer: None,
            ratio: None,
            interval: None,
            goal,
            met: goal.map(|goal| ours.figure(statistic) <= goal),
        }
    }

    /// A ratio; lower is better.
    pub fn ratio(
        name: &str,
        unit: &str,
        (ours, peer): (&Sample, &Sample),
        (program, version): (&str, &str),
        statistic: Statistic,
        goal: Option<f64>,
    ) -> Self {
        let interval = ours.interval(peer, statistic);
        let ratio = ours.figure(statistic) / peer.figure(statistic).max(f64::MIN_POSITIVE);
        Self {
            peer: Some(Peer {
                program: program.to_owned(),
                version: version.to_owned(),
                summary: peer.summary(),
            }),
            ratio: Some(ratio),
            interval: Some(interval),
            met: goal.map(|goal| interval[0] <= goal),
            goal,
            ..Self::alone(name, unit, ours, statistic, None)
        }
    }
}

fn word(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Median => "median",
        Statistic::P99 => "p99",
    }
}

impl Report {
    /// With the machine as it is now.
    pub fn new(name: Name, measures: Vec<Measure>) -> Self {
        let name = match name {
            Name::Cni => "cni",
            Name::Datapath => "datapath",
            Name::Services => "services",
            Name::Policy => "policy",
            Name::Dns => "dns",
        };
        Self {
            name: name.to_owned(),
            machine: machine(),
            measures,
        }
    }
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
            .to_owned();
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kibibytes: u64 = memory
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    Machine {
        processor: field(&read("/proc/cpuinfo"), "model name"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: kibibytes / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
        .to_owned(),
        load: read("/proc/loadavg")
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0.0),
        time: jiff::Timestamp::now().to_string(),
    }
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let Report {
        name,
        machine,
        measures,
    } = report;
    let Machine {
        processor,
        processors,
        memory_mib,
        kernel,
        build,
        load,
        time: _,
    } = machine;
    let mut text = format!(
        "{name}: {processors} × {processor}, {memory_mib} MiB, Linux {kernel}, {build} build, load {load}\n\n"
    );
    let width = measures
        .iter()
        .map(|measure| measure.name.chars().count())
        .max()
        .unwrap_or(0);
    let _ = writeln!(
        text,
        "  {:<width$}  {:>10} {:>10}  {:>22}  {:>7}",
        "", "ours", "peer", "ratio (95 %)", "goal"
    );
    for measure in measures {
        let figure = |summary: &Summary| {
            if measure.figure == "p99" {
                summary.p99
            } else {
                summary.median
            }
        };
        let ours = figure(&measure.ours);
        let peer = measure
            .peer
            .as_ref()
            .map_or_else(String::new, |peer| format!("{:.2}", figure(&peer.summary)));
        let ratio = match (measure.ratio, measure.interval) {
            (Some(ratio), Some([low, high])) => format!("{ratio:.2} ({low:.2} to {high:.2})"),
            _ => String::new(),
        };
        let goal = measure
            .goal
            .map_or_else(String::new, |goal| format!("{goal}"));
        let met = match measure.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let against = measure
            .peer
            .as_ref()
            .map_or("", |peer| peer.program.as_str());
        let Measure { name, unit, .. } = measure;
        let _ = writeln!(
            text,
            "  {name:<width$}  {ours:>10.2} {peer:>10}  {ratio:>22}  {goal:>7}  {met:<7} {unit} {against}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_if_the_interval_includes_it_and_not_otherwise() {
        let base: Sample = (0..40).map(|n| 100.0 + f64::from(n % 5)).collect();
        let worse: Sample = (0..40).map(|n| 150.0 + f64::from(n % 5)).collect();
        let against = |goal| {
            Measure::ratio(
                "x",
                "us",
                (&worse, &base),
                ("veth", ""),
                Statistic::Median,
                Some(goal),
            )
        };
        assert_eq!(against(1.6).met, Some(true));
        assert_eq!(against(1.3).met, Some(false));
        let alone = Measure::alone("x", "ms", &base, Statistic::P99, Some(50.0));
        assert_eq!(alone.met, Some(false));
        let text = table(&Report::new(Name::Cni, vec![against(1.3), alone]));
        assert!(text.contains("NOT MET") && text.contains("veth"), "{text}");
    }
}
