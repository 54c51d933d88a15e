//! The command line: what an administrator may set, with the defaults and the environment
//! variables that the chart uses.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weft_daemon::client::ApiSettings;
use weft_daemon::telemetry::LogFormat;

/// Cluster-wide controllers of Weftnet: pools, overlays, blocks, nodes, zones.
#[derive(Debug, Parser)]
#[command(name = "weft-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers. Several may run; the one that holds the Lease writes.
    Run(Box<RunSettings>),
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// The API server.
    #[command(flatten)]
    pub api: ApiSettings,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,
    /// Name of the Lease.
    #[arg(long, env = "WEFT_LEASE_NAME", default_value = "weft-operator")]
    pub lease_name: String,
    /// This process's name in the Lease and in Events. Without it: the host name and a process id.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Port of /healthz, /readyz and /metrics; 0 for any free one.
    #[arg(long, env = "WEFT_HEALTH_PORT", default_value_t = 9471)]
    pub health_port: u16,
    /// How long a Node must be gone before its blocks are released, such as 5m.
    #[arg(long, env = "WEFT_NODE_GRACE", default_value = "5m", value_parser = duration)]
    pub node_grace: Duration,
    /// How long an agent may be silent before its node is marked NetworkUnavailable, such as 5m.
    #[arg(long, env = "WEFT_AGENT_GRACE", default_value = "5m", value_parser = duration)]
    pub agent_grace: Duration,
    /// Whether Services of type LoadBalancer without a class get addresses too; those of class
    /// weftnet.dev/load-balancer always do.
    #[arg(long, env = "WEFT_DEFAULT_LOAD_BALANCER", default_value_t = true, action = clap::ArgAction::Set)]
    pub default_load_balancer: bool,
    /// The cluster's domain, for which a DnsZone answers only where it says so.
    #[arg(long, env = "WEFT_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `weft_operator=debug`.
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// Form of the log.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// A duration as Kubernetes writes it: `5m`, `1h30m`, `90s`, `500ms`.
///
/// # Errors
/// A sentence that says what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration: write a number and a unit, such as 5m or 90s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let millis: u64 = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_read_as_kubernetes_writes_them() {
        for (text, seconds) in [
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("90s", 90.0),
            ("500ms", 0.5),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5m", "5d", "99999999999999999999s"] {
            assert!(duration(text).unwrap_err().contains("such as 5m"), "{text}");
        }
    }
}
