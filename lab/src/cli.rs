//! The command line: names, help, and which module does what.

mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::address::{Families, MAX_NODES, MAX_SEGMENTS};
use crate::asset::{Source, versions};
use crate::bench::BenchArgs;
use crate::cluster::Cluster;
use crate::conformance::ConformanceArgs;
use crate::name::LabName;
use crate::place::init;
use crate::progress::Progress;
use crate::scenario::RunArgs;
use crate::state::{Cni, Options, ProxyMode};
use crate::up::{self, Environment};
use crate::upstream_e2e::UpstreamE2eArgs;
use crate::{doctor, down, forward, image, paths};

const AFTER_HELP: &str = "\
Exit codes: 0 it worked; 1 it failed, and standard error says why; 2 the arguments were wrong;
3 scenarios ran and some failed; `conformance` ends with 1 if cases disagree and 2 if a file could not be read; `exec` and `kubectl` end with the code of what they ran.

Environment: WEFT_LAB (--name), WEFT_STATE, WEFT_CACHE, WEFT_ASSETS, WEFT_PROGRAMS, WEFT_SOURCE.";

/// Real Kubernetes clusters on one Linux machine, scenarios and benchmarks.
#[derive(Parser, Debug)]
#[command(name = "weft-lab", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Subject,
}

#[derive(Args, Debug)]
struct Places {
    /// Which lab; several can run at once.
    #[arg(long, global = true, env = "WEFT_LAB", default_value = "default")]
    name: LabName,
    /// Where labs keep their files.
    #[arg(long, global = true, env = "WEFT_STATE", default_value = paths::STATE_DIR, hide_env_values = true)]
    state_dir: PathBuf,
    /// Where programs and images are kept for the next lab.
    #[arg(long, global = true, env = "WEFT_CACHE", default_value = paths::CACHE_DIR, hide_env_values = true)]
    cache: PathBuf,
    /// A folder with ready programs (kubelet, etcd, containerd, …), tried first.
    #[arg(long, global = true, env = "WEFT_ASSETS", hide_env_values = true)]
    assets: Option<PathBuf>,
    /// A folder with weft-agent, weft-operator, weft-cni and weft-probe; default: where weft-lab lies.
    #[arg(long, global = true, env = "WEFT_PROGRAMS", hide_env_values = true)]
    programs: Option<PathBuf>,
    /// The checkout, for charts, resources and go.mod files.
    #[arg(long, global = true, env = "WEFT_SOURCE", hide_env_values = true)]
    source: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Subject {
    /// Make a lab and wait until its nodes are Ready.
    Up(UpArgs),
    /// Take a lab down, also one that is half made; nothing of it stays.
    Down {
        /// All labs on this machine.
        #[arg(long)]
        all: bool,
    },
    /// Show a lab's nodes, places and how to use it.
    Status,
    /// Print the path of a kubeconfig that works on this machine.
    Kubeconfig {
        /// Print the file instead of its path.
        #[arg(long)]
        print: bool,
    },
    /// Run kubectl on the lab.
    Kubectl {
        /// What kubectl is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command inside a node, `control-plane`, `switch` or `outside`.
    Exec {
        /// The place.
        place: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// List log files, or print the log of PLACE/COMPONENT.
    Logs {
        /// Such as `node-1/kubelet` or `control-plane`.
        which: Option<String>,
        /// How many lines from the end.
        #[arg(long, default_value_t = 100)]
        tail: usize,
    },
    /// Find or build the programs that labs run.
    Assets {
        /// Only say where each is kept or would be kept.
        #[arg(long)]
        list: bool,
        /// The Kubernetes version.
        #[arg(long)]
        kubernetes: Option<String>,
        /// Only these, such as `etcd`; default: all.
        names: Vec<String>,
    },
    /// Make the images as OCI archives.
    Images {
        /// Copy the archives into this folder.
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Run scenario files.
    Run(RunArgs),
    /// Print the JSON schema of scenario files.
    Schema,
    /// Run a benchmark against its peers.
    Bench(BenchArgs),
    /// Judge conformance suites.
    Conformance(ConformanceArgs),
    /// Run Kubernetes' own end-to-end tests on a lab.
    UpstreamE2e(UpstreamE2eArgs),
    /// Say what this machine lacks, and the line that installs it.
    Doctor,
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Args, Debug)]
struct UpArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_NODES)))]
    nodes: u8,
    /// How many L2 segments, with a router between them; nodes are dealt to them in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_SEGMENTS)))]
    segments: u8,
    /// Address families of nodes, pods and Services.
    #[arg(long, value_enum, default_value_t)]
    ip_family: Families,
    /// What makes the nodes.
    #[arg(long, value_enum, default_value_t)]
    provider: Provider,
    /// The Kubernetes version, if not the pinned one.
    #[arg(long)]
    kubernetes: Option<String>,
    /// What Weftnet leaves to others: kube-proxy does services, CoreDNS does dns. Weftnet has neither
    /// dns nor policy by default yet.
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Part>,
    /// What connects pods.
    #[arg(long, value_enum, default_value_t)]
    cni: Cni,
    /// A bare cluster, for other plugins: the same as --cni none.
    #[arg(long, conflicts_with = "cni")]
    without_weftnet: bool,
    /// How kube-proxy works where services are left to it.
    #[arg(long, value_enum, default_value_t = ProxyMode::Nftables)]
    kube_proxy_mode: ProxyMode,
    /// No kube-proxy, also where nothing of Weftnet serves Services.
    #[arg(long)]
    no_kube_proxy: bool,
    /// No CoreDNS.
    #[arg(long)]
    no_coredns: bool,
    /// Weftnet's own DNS server in the place of CoreDNS.
    #[arg(long, conflicts_with_all = ["no_coredns", "without_weftnet", "cni"])]
    weft_dns: bool,
    /// MTU of the nodes' links, in bytes.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65535))]
    mtu: u32,
    /// A folder with the charts weftnet-crds and weftnet.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// A folder of resources that is applied when Weftnet is installed.
    #[arg(long)]
    resources: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Nodes are namespaces of this machine.
    #[default]
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Services,
    Dns,
    Policy,
}

/// Runs one of the program's roles inside a lab, if it was started as one.
pub fn hidden_role() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [init::COMMAND, file] => init::make_namespaces(Path::new(file)),
        [init::INIT_COMMAND, file] => init::run(Path::new(file)),
        [forward::COMMAND, pid, target, port] => forwarder(pid, target, port),
        _ => return None,
    };
    Some(exit_code(result.map(|()| ExitCode::SUCCESS)))
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    exit_code(dispatch(&cli))
}

fn exit_code(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn forwarder(pid: &str, target: &str, port: &str) -> Result<()> {
    let target: SocketAddr = target.parse()?;
    forward::run(pid.parse()?, target, port.parse()?)
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    let places = &cli.places;
    let env = environment(places)?;
    match &cli.command {
        Subject::Up(args) => up(env, places, args)?,
        Subject::Down { all } => take_down(places, *all)?,
        Subject::Status => show::status(&open(places)?)?,
        Subject::Kubeconfig { print } => show::kubeconfig(&open(places)?, *print)?,
        Subject::Kubectl { arguments } => return kubectl(&open(places)?, arguments),
        Subject::Exec { place, command } => {
            let status = open(places)?.place(place)?.run_attached(command)?;
            return Ok(code_of(status));
        }
        Subject::Logs { which, tail } => {
            show::logs(&open(places)?.paths().logs(), which.as_deref(), *tail)?;
        }
        Subject::Assets {
            list,
            kubernetes,
            names,
        } => assets(&env, *list, kubernetes.as_deref(), names)?,
        Subject::Images { output } => images(&env, output.as_deref())?,
        Subject::Run(args) => {
            return Ok(ExitCode::from(crate::scenario::run(
                &env,
                &places.name,
                args,
            )?));
        }
        Subject::Schema => println!("{:#}", crate::scenario::schema()),
        Subject::Bench(args) => return crate::bench::run(args, &env, &places.name),
        Subject::Conformance(args) => return crate::conformance::run(args),
        Subject::UpstreamE2e(args) => {
            return crate::upstream_e2e::run(&env, &open(places)?, args);
        }
        Subject::Doctor => return doctor::print(&env),
        Subject::Completion { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "weft-lab",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn environment(places: &Places) -> Result<Environment> {
    let source = places.source.clone().unwrap_or_else(up::default_source);
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
    };
    Ok(Environment {
        state_dir: absolute(&places.state_dir)?,
        source: Source {
            given: places.assets.as_deref().map(absolute).transpose()?,
            cache: absolute(&places.cache)?,
            modules: source.join("lab/assets"),
        },
        programs: places.programs.as_deref().map(absolute).transpose()?,
        charts: source.join("helm"),
        resources: None,
        cluster_folder: source.join("lab/cluster"),
    })
}

fn open(places: &Places) -> Result<Cluster> {
    Cluster::open(&std::path::absolute(&places.state_dir)?, &places.name)
}

fn up(mut env: Environment, places: &Places, args: &UpArgs) -> Result<()> {
    let Provider::Local = args.provider;
    if let Some(folder) = &args.chart {
        env.charts = std::path::absolute(folder)?;
    }
    if let Some(folder) = &args.resources {
        env.resources = Some(std::path::absolute(folder)?);
    }
    let progress = Progress::new();
    let cluster = up::up(&env, &places.name, &options(args)?, &progress)?;
    let seconds = progress.elapsed().as_secs_f64();
    eprintln!("{seconds:6.1} s  lab {} is up\n", places.name);
    show::how_to_use(&cluster);
    Ok(())
}

fn options(args: &UpArgs) -> Result<Options> {
    let kubernetes = match &args.kubernetes {
        Some(version) => version.trim_start_matches('v').to_owned(),
        None => versions::version_of("kubernetes")?,
    };
    // Bare clusters and reference plugins have no services of Weftnet.
    let is_weftnet = args.cni == Cni::Weftnet && !args.without_weftnet;
    let others = !is_weftnet || args.without.contains(&Part::Services);
    Ok(Options {
        families: args.ip_family,
        placement: (0..args.nodes).map(|node| node % args.segments).collect(),
        segments: args.segments,
        cni: if args.without_weftnet {
            Cni::None
        } else {
            args.cni
        },
        kube_proxy: (others && !args.no_kube_proxy).then_some(args.kube_proxy_mode),
        coredns: !args.no_coredns && !args.weft_dns,
        weft_dns: args.weft_dns,
        kubernetes,
        mtu: args.mtu,
    })
}

fn take_down(places: &Places, all: bool) -> Result<()> {
    let state_dir = std::path::absolute(&places.state_dir)?;
    let names = if all {
        down::labs(&state_dir)?.into_iter().collect()
    } else {
        vec![places.name.clone()]
    };
    for name in names {
        let ended = down::down(&state_dir, &name)?;
        println!("lab {name} is gone ({ended} processes ended)");
    }
    Ok(())
}

fn kubectl(cluster: &Cluster, arguments: &[String]) -> Result<ExitCode> {
    let program = cluster.state().programs.path("kubectl");
    let status = Command::new(&program)
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .status()
        .with_context(|| format!("failed to start {}", program.display()))?;
    Ok(code_of(status))
}

fn code_of(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    // As a shell has it: 128 and the signal for what a signal ended.
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn assets(env: &Environment, list: bool, kubernetes: Option<&str>, names: &[String]) -> Result<()> {
    let pinned = versions::version_of("kubernetes")?;
    let kubernetes = kubernetes.unwrap_or(&pinned);
    if list {
        let assets = versions::pinned()?.into_iter();
        for asset in assets.filter(|asset| !asset.on_demand) {
            let (asset, modules) = env.source.module_of(asset, kubernetes)?;
            println!("{}", env.source.cache_dir(&asset, &modules)?.display());
        }
        return Ok(());
    }
    let progress = Progress::new();
    let programs = env.source.programs(kubernetes, names, &progress)?;
    for (name, path) in programs.iter() {
        println!("{name:24} {}", path.display());
    }
    Ok(())
}

fn images(env: &Environment, output: Option<&Path>) -> Result<()> {
    let progress = Progress::new();
    let kubernetes = versions::version_of("kubernetes")?;
    let programs = env
        .source
        .programs(&kubernetes, &["coredns".to_owned()], &progress)?;
    let dir = image::programs_dir(env.programs.as_deref())?;
    let archives = image::make(&image::specs(&programs, &dir), &env.source.cache, &progress)?;
    for archive in archives {
        let mut file = archive.file;
        if let Some(folder) = output {
            std::fs::create_dir_all(folder)?;
            let target = folder.join(format!("{}.tar", image::file_name(&archive.name)));
            if std::fs::copy(&file, &target).is_err() {
                bail!("failed to copy {} to {}", file.display(), target.display());
            }
            file = target;
        }
        println!("{:24} {}", archive.name, file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nodes_are_dealt_to_segments_in_turn() {
        let cli = Cli::parse_from(["weft-lab", "up", "--nodes", "3", "--segments", "2"]);
        let Subject::Up(args) = cli.command else {
            panic!("not up");
        };
        assert_eq!(options(&args).unwrap().placement, [0, 1, 0]);
    }

    #[test]
    fn a_bare_cluster_and_a_plugin_exclude_each_other() {
        let both = ["weft-lab", "up", "--without-weftnet", "--cni", "ptp"];
        assert!(Cli::try_parse_from(both).is_err());
        let cli = Cli::parse_from([
            "weft-lab",
            "up",
            "--without-weftnet",
            "--without",
            "services,dns",
        ]);
        let Subject::Up(args) = cli.command else {
            panic!("not up");
        };
        assert_eq!(options(&args).unwrap().cni, Cni::None);
    }
}
