//! The command line: what an administrator may set, with the defaults and the environment variables that
//! the chart uses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weft_daemon::client::ApiSettings;
use weft_daemon::telemetry::LogFormat;

/// The DNS server of Weftnet.
#[derive(Debug, Parser)]
#[command(name = "weft-dns", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve.
    Run(Box<RunSettings>),
    /// Ask a server, and print what it says.
    Query(QuerySettings),
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// How to ask.
#[derive(Clone, Debug, Args)]
pub struct QuerySettings {
    /// The name, absolute or not: it is asked as it stands.
    pub name: String,
    /// The type, such as AAAA or TYPE65.
    #[arg(default_value = "A")]
    pub kind: String,
    /// The server.
    #[arg(long, default_value = "127.0.0.1:53", value_parser = address)]
    pub server: SocketAddr,
    /// Ask over TCP.
    #[arg(long)]
    pub tcp: bool,
    /// Seconds to wait.
    #[arg(long, default_value_t = 3)]
    pub timeout: u64,
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// The API server.
    #[command(flatten)]
    pub api: ApiSettings,
    /// Addresses to serve at, IP or IP:port, comma-separated. They need not be there yet.
    #[arg(long, env = "WEFT_DNS_LISTEN", value_delimiter = ',', default_value = "0.0.0.0,::", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Addresses to serve DNS over TLS at, IP (port 853) or IP:port, comma-separated.
    #[arg(long, env = "WEFT_DNS_LISTEN_TLS", value_delimiter = ',', value_parser = tls_address, requires = "tls_cert")]
    pub listen_tls: Vec<SocketAddr>,
    /// Addresses to serve DNS over HTTPS at, IP (port 443) or IP:port, comma-separated.
    #[arg(long, env = "WEFT_DNS_LISTEN_HTTPS", value_delimiter = ',', value_parser = https_address, requires = "tls_cert")]
    pub listen_https: Vec<SocketAddr>,
    /// The certificate of both, in PEM form, with those that lead to an authority. It is read anew when it changes.
    #[arg(
        long,
        env = "WEFT_DNS_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key, in PEM form.
    #[arg(long, env = "WEFT_DNS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A JSON file with the chart's values `dns.cluster`.
    #[arg(long, env = "WEFT_DNS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Who is asked for what is not ours: a resolv.conf. An empty value: nobody.
    #[arg(
        long,
        env = "WEFT_DNS_RESOLV_CONF",
        default_value = "/etc/resolv.conf",
        value_name = "FILE"
    )]
    pub resolv_conf: String,
    /// Where the last full snapshot is kept. Without it: nowhere.
    #[arg(long, env = "WEFT_DNS_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the agent of this node is told whether this server answers: its questions come here only then. Without
    /// it: nowhere.
    #[arg(long, env = "WEFT_DNS_AGENT_SOCKET", value_name = "FILE")]
    pub agent_socket: Option<PathBuf>,
    /// Port of /healthz, /readyz and /metrics; 0 for any free one.
    #[arg(long, env = "WEFT_HEALTH_PORT", default_value_t = 9472)]
    pub health_port: u16,
    /// How long to go on serving after SIGTERM, in seconds: until nobody sends anything here any more.
    #[arg(long, env = "WEFT_DNS_LAME_DUCK", default_value_t = 5)]
    pub lame_duck: u64,
    /// Serving threads; 0 for as many as there are cores to run on.
    #[arg(long, env = "WEFT_DNS_THREADS", default_value_t = 0)]
    pub threads: usize,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `weft_dns=debug`.
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// Form of the log.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl RunSettings {
    /// The time that a stopping server goes on.
    #[must_use]
    pub fn lame_duck(&self) -> Duration {
        Duration::from_secs(self.lame_duck)
    }
}

/// An address with a port, or one whose port is 53.
///
/// # Errors
/// A sentence that says what to write.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    with_port(text, 53)
}

fn tls_address(text: &str) -> Result<SocketAddr, String> {
    with_port(text, 853)
}

fn https_address(text: &str) -> Result<SocketAddr, String> {
    with_port(text, 443)
}

fn with_port(text: &str, port: u16) -> Result<SocketAddr, String> {
    let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    plain
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is not an address: write 10.96.0.10 or [fd00::a]:5353"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_address_without_a_port_has_the_port_of_dns() {
        assert_eq!(
            address("10.96.0.10"),
            Ok(SocketAddr::from(([10, 96, 0, 10], 53)))
        );
        assert_eq!(address("::").map(|address| address.port()), Ok(53));
        assert_eq!(
            address("[fd00::a]:5353").map(|address| address.port()),
            Ok(5353)
        );
        assert!(address("dns").is_err());
    }
}
