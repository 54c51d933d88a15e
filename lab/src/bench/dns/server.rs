//! The servers that are measured: how they are started, and what they have cost.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::NODE;
use super::load::{self, Question};
use crate::cluster::Cluster;
use crate::image;
use crate::place::Daemon;
use crate::up::Environment;

const OURS: u16 = 5301;
const CORE_DNS: u16 = 5302;
const ECHO: u16 = 5303;
/// For a server to start and list the cluster.
const START: Duration = Duration::from_secs(60);

/// A server on the node's loopback interface.
pub(super) struct Server {
    name: &'static str,
    pid: i32,
    at: SocketAddr,
}

/// Ours.
pub(super) fn ours(env: &Environment, cluster: &Cluster, kubeconfig: &Path) -> Result<Server> {
    let program = image::programs_dir(env.programs.as_deref())?.join("weft-dns");
    let argv = vec![
        program.display().to_string(),
        "run".to_owned(),
        format!("--listen=127.0.0.1:{OURS}"),
        "--health-port=0".to_owned(),
        "--resolv-conf=".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
    ];
    start(cluster, "weft-dns", OURS, argv)
}

/// CoreDNS with the chain of a standard cluster.
pub(super) fn core_dns(cluster: &Cluster, kubeconfig: &Path) -> Result<Server> {
    let file = cluster.paths().place(NODE).join("bench.Corefile");
    let text = format!(
        ".:{CORE_DNS} {{\n errors\n health 127.0.0.1:5380 {{\n lameduck 5s\n }}\n ready 127.0.0.1:5381\n \
         kubernetes cluster.local in-addr.arpa ip6.arpa {{\n kubeconfig {}\n pods insecure\n fallthrough in-addr.arpa ip6.arpa\n ttl 30\n }}\n \
         prometheus 127.0.0.1:5382\n forward . 203.0.113.10 {{\n max_concurrent 1000\n }}\n cache 30\n loop\n reload\n loadbalance\n}}\n",
        kubeconfig.display()
    );
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    let program = cluster.state().programs.path("coredns");
    let argv = vec![
        program.display().to_string(),
        "-conf".to_owned(),
        file.display().to_string(),
    ];
    start(cluster, "coredns", CORE_DNS, argv)
}

/// What sends datagrams back as they come.
pub(super) fn echo(cluster: &Cluster) -> Result<Server> {
    let program = crate::scenario::lab::probe_program()?;
    let argv = vec![
        program.display().to_string(),
        "echo".to_owned(),
        format!("127.0.0.1:{ECHO}"),
    ];
    start(cluster, "echo", ECHO, argv)
}

fn start(cluster: &Cluster, name: &'static str, port: u16, argv: Vec<String>) -> Result<Server> {
    let daemon = Daemon {
        name: format!("bench-{name}"),
        place: NODE.to_owned(),
        argv,
        env: Default::default(),
    };
    Ok(Server {
        name,
        pid: cluster.add_daemon(&daemon)?,
        at: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    })
}

impl Server {
    /// Waits until it answers each kind of question as it should: an address, nothing, no such name.
    pub(super) fn answers_rightly(&self) -> Result<()> {
        let until = Instant::now() + START;
        loop {
            let wrong = [Question::Hit, Question::NoData, Question::NoName]
                .into_iter()
                .find_map(|question| load::check(self.at, question).err());
            match wrong {
                None => return Ok(()),
                Some(error) if Instant::now() > until => {
                    return Err(
                        error.context(format!("{} does not answer as it should", self.name))
                    );
                }
                Some(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Microseconds of CPU for each question that was answered.
    pub(super) fn cost(
        &self,
        question: Question,
        rate: Option<u32>,
        time: Duration,
    ) -> Result<f64> {
        let before = cpu(self.pid)?;
        let answered = match rate {
            None => load::flat_out(self.at, question, time)?,
            Some(rate) => load::steady(self.at, question, rate, time)?,
        };
        let spent = cpu(self.pid)?.saturating_sub(before);
        if answered == 0 {
            bail!("{} answered nothing", self.name);
        }
        Ok(spent.as_secs_f64() * 1e6 / answered as f64)
    }

    /// 99 of 100 answers came within so many microseconds.
    pub(super) fn waits(&self, rate: u32, time: Duration) -> Result<f64> {
        load::waits(self.at, rate, time)
    }
}

/// CPU time of all threads of a process, by the scheduler (`/proc/PID/task/TID/schedstat`).
fn cpu(pid: i32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&folder).with_context(|| format!("failed to read {folder}"))? {
        let path = task?.path().join("schedstat");
        // A thread may end in between.
        let text = fs::read_to_string(path).unwrap_or_default();
        let spent = text
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok());
        nanoseconds += spent.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
