//! Turns the command line and the environment into settings. Every flag can be given by a variable
//! too, which is how the chart gives what differs per node.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use weft_core::services::NodePortAddresses;

use crate::engine::ServiceSettings;

/// The node agent of Weftnet: addresses, links, routes and the nft table of one node.
#[derive(Parser, Debug)]
#[command(name = "weft-agent", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve this node: hold the sockets, and run the worker as a child.
    Run(Settings),
    /// The worker of `run`.
    #[command(hide = true)]
    Work(WorkArgs),
    /// Print whether the agent of this node is ready, and what it waits for.
    Show(ShowArgs),
    /// Remove everything that Weftnet has made on this node; the agent must have been stopped.
    Cleanup(Settings),
    /// Stop the agent of this node and release the nft table, so that root can change or delete it.
    Unlock(Settings),
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// Settings of the agent.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Name of this Node object.
    #[arg(long, env = "NODE_NAME", default_value = "", hide_default_value = true)]
    pub node_name: String,
    /// Sockets and what must vanish at boot.
    #[arg(long, env = "WEFT_RUN_DIR", default_value = "/run/weftnet")]
    pub run_dir: PathBuf,
    /// The record of addresses, and the spool of weft-cni.
    #[arg(long, env = "WEFT_STATE_DIR", default_value = "/var/lib/weftnet")]
    pub state_dir: PathBuf,
    /// Where the container runtime keeps network namespaces.
    #[arg(long, env = "WEFT_NETNS_DIR", default_value = "/run/netns")]
    pub netns_dir: PathBuf,
    /// The host's /proc/sys/net, writable.
    #[arg(long, env = "WEFT_SYSCTL_DIR", default_value = "/host/proc/sys/net")]
    pub sysctl_dir: PathBuf,
    /// The host's /etc/cni/net.d.
    #[arg(long, env = "WEFT_CNI_CONF_DIR", default_value = "/host/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// The host's /opt/cni/bin.
    #[arg(long, env = "WEFT_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// The weft-cni program to install on the host.
    #[arg(long, env = "WEFT_CNI_PLUGIN", default_value = "/weft-cni")]
    pub cni_plugin: PathBuf,
    /// Whether this agent enforces NetworkPolicies and ClusterNetworkPolicies.
    #[arg(long, env = "WEFT_POLICIES", default_value_t = false, action = clap::ArgAction::Set)]
    pub policies: bool,
    /// Whether this agent serves Services in place of kube-proxy.
    #[arg(long, env = "WEFT_SERVICES", default_value_t = true, action = clap::ArgAction::Set)]
    pub services: bool,
    /// Addresses of the node that serve node ports: `primary`, the first of each family, or networks,
    /// comma-separated.
    #[arg(long, env = "WEFT_NODE_PORT_ADDRESSES", default_value = "primary", value_parser = node_port_addresses)]
    pub node_port_addresses: NodePortAddresses,
    /// What counts as a source inside the cluster, comma-separated; empty: the networks of all pools.
    #[arg(long, env = "WEFT_POD_CIDRS", value_delimiter = ',')]
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of cluster IPs beside those of ServiceCIDR objects, comma-separated.
    #[arg(long, env = "WEFT_SERVICE_CIDRS", value_delimiter = ',')]
    pub service_cidrs: Vec<IpNet>,
    /// Whether everything to a cluster IP gets the node's address as its source.
    #[arg(long, env = "WEFT_MASQUERADE_ALL", default_value_t = false, action = clap::ArgAction::Set)]
    pub masquerade_all: bool,
    /// Addresses of the cluster's DNS Service that a server on this node answers at, comma-separated.
    #[arg(long, env = "WEFT_DNS_ADDRESSES", value_delimiter = ',')]
    pub dns_addresses: Vec<IpAddr>,
    /// TCP port of the service proxy's health checks, kube-proxy's; 0: none.
    #[arg(long, env = "WEFT_PROXY_HEALTH_PORT", default_value_t = 10_256)]
    pub proxy_health_port: u16,
    /// How long a sandbox must be missing before its address is taken back.
    #[arg(long, env = "WEFT_SANDBOX_GRACE", default_value = "30s", value_parser = duration)]
    pub sandbox_grace: Duration,
    /// Address of health checks and metrics; `::` is every address of both families.
    #[arg(long, env = "WEFT_HEALTH_ADDRESS", default_value = "::")]
    pub health_address: IpAddr,
    /// TCP port of health checks and metrics.
    #[arg(long, env = "WEFT_HEALTH_PORT", default_value_t = 9470)]
    pub health_port: u16,
    /// Addresses of the API server, host:port, tried in turn; empty: as pods are told.
    #[arg(long, env = "WEFT_API_SERVER", value_delimiter = ',')]
    pub api_server: Vec<String>,
    /// The name that the API server's certificate must carry, where it is not the address.
    #[arg(long, env = "WEFT_API_SERVER_NAME")]
    pub api_server_name: Option<String>,
    /// Where the service account's token and CA certificate are.
    #[arg(
        long,
        env = "WEFT_SERVICE_ACCOUNT_DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub service_account_dir: PathBuf,
    /// A kubeconfig in place of the service account, for development.
    #[arg(long, env = "WEFT_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as `weft_agent=debug`.
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// How to log.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How to log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the supervisor passes to its worker.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Number of the nf_tables socket.
    #[arg(long)]
    pub nft_descriptor: i32,
    /// Number of the listening socket of weft-cni.
    #[arg(long)]
    pub cni_descriptor: i32,
    /// The supervisor's process id.
    #[arg(long)]
    pub supervisor: i32,
    /// Settings of the agent.
    #[command(flatten)]
    pub settings: Settings,
}

/// Which agent to ask.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// TCP port of the agent's health checks, on this node.
    #[arg(long, env = "WEFT_HEALTH_PORT", default_value_t = 9470)]
    pub health_port: u16,
}

impl Settings {
    /// Where the next supervisor asks this one.
    pub fn handover_socket(&self) -> PathBuf {
        self.run_dir.join("handover.sock")
    }

    /// Where `weft-cni` connects.
    pub fn cni_socket(&self) -> PathBuf {
        self.run_dir.join("cni.sock")
    }

    /// Where the DNS server of this node says that it answers. In a folder of its own: it sees nothing else.
    pub fn dns_socket(&self) -> PathBuf {
        self.run_dir.join("dns/agent.sock")
    }

    /// Who has its lock is in charge of the node.
    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("supervisor.lock")
    }

    /// Says that the agent has been ready since the node booted.
    pub fn ready_file(&self) -> PathBuf {
        self.run_dir.join("ready")
    }

    /// Where DEL requests wait that came while no agent answered.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// How Services are served; none: somebody else does.
    pub fn service_settings(&self) -> Option<ServiceSettings> {
        self.services.then(|| ServiceSettings {
            node_port_addresses: self.node_port_addresses.clone(),
            pod_networks: self.pod_cidrs.clone(),
            service_networks: self.service_cidrs.clone(),
            masquerade_all: self.masquerade_all,
        })
    }

    /// Addresses of the API server, without blanks.
    pub fn api_servers(&self) -> Vec<String> {
        let given = self.api_server.iter().map(|address| address.trim());
        given
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Prints the completion script of a shell.
pub fn completion(shell: clap_complete::Shell) {
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        "weft-agent",
        &mut std::io::stdout(),
    );
}

/// Reads `primary` or networks.
fn node_port_addresses(text: &str) -> Result<NodePortAddresses, String> {
    if text == "primary" {
        return Ok(NodePortAddresses::Primary);
    }
    let networks = text.split(',').map(|part| {
        part.trim().parse().map_err(|_| {
            format!("{part:?} is not a network: write primary, or networks such as 192.0.2.0/24,2001:db8::/64")
        })
    });
    Ok(NodePortAddresses::Within(
        networks.collect::<Result<_, _>>()?,
    ))
}

/// Reads `30s`, `5m`, `1h`, `500ms`, or several of them in a row.
fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration: write for example 30s, 5m or 1h");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(malformed)?;
        let (number, unit_on) = rest.split_at(digits);
        let number: u32 = number.parse().map_err(|_| malformed())?;
        let letters = unit_on
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit_on.len());
        let (unit, after) = unit_on.split_at(letters);
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(malformed()),
        };
        total = total.saturating_add(unit.saturating_mul(number));
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "30", "s", "1d", "-1s", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn node_port_addresses_are_a_word_or_networks() {
        assert_eq!(
            node_port_addresses("primary"),
            Ok(NodePortAddresses::Primary)
        );
        let networks = ["192.0.2.0/24", "2001:db8::/64"].map(|net| net.parse().unwrap());
        assert_eq!(
            node_port_addresses("192.0.2.0/24, 2001:db8::/64"),
            Ok(NodePortAddresses::Within(networks.to_vec()))
        );
        assert!(
            node_port_addresses("all")
                .unwrap_err()
                .contains("write primary")
        );
    }

    #[test]
    fn blank_addresses_are_no_addresses() {
        let cli = Cli::parse_from(["weft-agent", "run", "--api-server", ", 192.0.2.1:6443 ,"]);
        let Command::Run(settings) = cli.command else {
            panic!("not run")
        };
        assert_eq!(settings.api_servers(), ["192.0.2.1:6443"]);
    }

    #[test]
    fn a_worker_takes_the_settings_of_its_supervisor() {
        let line =
            "weft-agent work --nft-descriptor 3 --cni-descriptor 4 --supervisor 1 --node-name a";
        let cli = Cli::parse_from(line.split(' '));
        let Command::Work(args) = cli.command else {
            panic!("not work")
        };
        assert_eq!(
            (args.nft_descriptor, args.settings.node_name.as_str()),
            (3, "a")
        );
    }
}
