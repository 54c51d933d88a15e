//! What the agents cost while nothing happens: memory, CPU time, and lists asked of the API server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use super::inside::inside;
use super::measure::Measure;
use super::rig::Rig;
use super::sample::{Sample, Statistic};
use crate::progress::Progress;

/// How long an idle agent is watched.
const IDLE: Duration = Duration::from_secs(30);

/// What one agent has used until now.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    anonymous_mib: f64,
    total_mib: f64,
    cpu_seconds: f64,
    lists: f64,
}

/// Measures.
///
/// # Errors
/// When an agent is not there.
pub fn run(rig: &Rig, progress: &Progress) -> Result<Vec<Measure>> {
    progress.note(&format!("agents idle for {} s", IDLE.as_secs()));
    let before = all(rig)?;
    std::thread::sleep(IDLE);
    let after = all(rig)?;
    let pairs = || before.iter().zip(&after);
    let anonymous: Sample = after.iter().map(|used| used.anonymous_mib).collect();
    let total: Sample = after.iter().map(|used| used.total_mib).collect();
    let cpu: Sample = pairs()
        .map(|(b, a)| (a.cpu_seconds - b.cpu_seconds) / IDLE.as_secs_f64() * 100.0)
        .collect();
    let lists: Sample = pairs().map(|(b, a)| a.lists - b.lists).collect();
    Ok(vec![
        Measure::alone(
            "agent, anonymous memory",
            "MiB",
            &anonymous,
            Statistic::P99,
            Some(20.0),
        ),
        Measure::alone("agent, all memory", "MiB", &total, Statistic::P99, None),
        Measure::alone(
            "agent idle, CPU of a core",
            "%",
            &cpu,
            Statistic::P99,
            Some(0.5),
        ),
        Measure::alone(
            "agent idle, lists asked of the API server",
            "",
            &lists,
            Statistic::P99,
            Some(0.0),
        ),
    ])
}

fn all(rig: &Rig) -> Result<Vec<Used>> {
    (1..=rig.lab.nodes.len())
        .map(|number| one(rig, number))
        .collect()
}

/// Supervisor and worker together.
fn one(rig: &Rig, number: usize) -> Result<Used> {
    let processes = rig.lab.processes(number, "weft-agent")?;
    let mut used = Used::default();
    for process in &processes {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        used.anonymous_mib += mebibytes(&status, "RssAnon:");
        used.total_mib += mebibytes(&status, "VmRSS:");
        used.cpu_seconds += cpu_seconds(process.pid);
    }
    let text = inside(rig.node(number)?, metrics)
        .with_context(|| format!("no metrics of the agent on node {number}"))?;
    used.lists = text
        .lines()
        .filter(|line| line.starts_with("weft_agent_api_lists_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    Ok(used)
}

fn mebibytes(status: &str, field: &str) -> f64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap_or(0.0)
        / 1024.0
}

/// User and system time (proc(5), stat, fields 14 and 15), in hundredths of a second.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

fn metrics() -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 9470))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
