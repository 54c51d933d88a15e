//! The supervisor's child: started with the descriptors it needs, started again when it dies.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_core::services::NodePortAddresses;

use crate::backoff::Backoff;
use crate::cli::Settings;
use crate::descriptors;
use crate::handover::Sockets;

/// A worker that lived this long has started well; the next one starts without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(3);

/// The one worker, running or due to start.
pub struct Worker {
    settings: Vec<OsString>,
    running: Option<(Pid, Instant)>,
    start: Option<Instant>,
    backoff: Backoff,
}

impl Worker {
    /// A worker that is due to start at once.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: arguments(settings),
            running: None,
            start: Some(Instant::now()),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
        }
    }

    /// Starts it if it is due.
    pub fn start_if_due(&mut self, sockets: &Sockets) {
        if self.running.is_some() {
            return;
        }
        let now = Instant::now();
        if *self.start.get_or_insert(now) > now {
            return;
        }
        match self.spawn(sockets) {
            Ok(pid) => {
                tracing::info!(pid = pid.as_raw(), "worker started");
                self.running = Some((pid, now));
                self.start = None;
            }
            Err(error) => {
                let pause = self.backoff.pause();
                tracing::error!(%error, ?pause, "failed to start the worker; trying again");
                self.start = Some(now + pause);
            }
        }
    }

    /// How long until it is due; `None` while it runs.
    pub fn until_start(&self) -> Option<Duration> {
        self.start
            .map(|start| start.saturating_duration_since(Instant::now()))
    }

    /// A child has ended. Others than the worker were left to process 1 and are no concern.
    pub fn ended(&mut self, pid: Pid, how: &str) {
        let Some((_, since)) = self.running.take_if(|(running, _)| *running == pid) else {
            return;
        };
        let lived = since.elapsed();
        let pause = restart_pause(&mut self.backoff, lived);
        tracing::info!(pid = pid.as_raw(), how, ?lived, ?pause, "worker ended");
        self.start = Some(Instant::now() + pause);
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some((pid, _)) = self.running {
            let _ = kill(pid, signal);
        }
    }

    /// It was stopped on purpose: that is no reason to wait before the next start.
    pub fn forget_start(&mut self) {
        self.start = None;
        self.backoff.reset();
    }

    fn spawn(&self, sockets: &Sockets) -> io::Result<Pid> {
        let Sockets {
            lock: _,
            handover: _,
            cni,
            nft,
        } = sockets;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("work")
            .args(["--nft-descriptor", &nft.as_raw_fd().to_string()])
            .args(["--cni-descriptor", &cni.as_raw_fd().to_string()])
            .args(["--supervisor", &std::process::id().to_string()])
            .args(&self.settings);
        for socket in [nft, cni] {
            descriptors::keep_at_exec(socket.as_fd(), true)?;
        }
        let child = command.spawn();
        for socket in [nft, cni] {
            descriptors::keep_at_exec(socket.as_fd(), false)?;
        }
        let pid = i32::try_from(child?.id()).map_err(io::Error::other)?;
        Ok(Pid::from_raw(pid))
    }
}

/// The first death is followed by a start at once, also after a long life; deaths in quick
/// succession by pauses that double.
fn restart_pause(backoff: &mut Backoff, lived: Duration) -> Duration {
    if lived >= GOOD_LIFE {
        backoff.reset();
        return Duration::ZERO;
    }
    let pause = backoff.pause();
    if backoff.failures() <= 1 {
        Duration::ZERO
    } else {
        pause
    }
}

/// The settings as arguments, so that nothing depends on how they were given to this process.
fn arguments(settings: &Settings) -> Vec<OsString> {
    let Settings {
        node_name,
        run_dir,
        state_dir,
        netns_dir,
        sysctl_dir,
        cni_conf_dir,
        cni_bin_dir,
        cni_plugin,
        policies,
        services,
        node_port_addresses,
        pod_cidrs,
        service_cidrs,
        masquerade_all,
        dns_addresses,
        proxy_health_port,
        sandbox_grace,
        health_address,
        health_port,
        api_server: _,
        api_server_name,
        service_account_dir,
        kubeconfig,
        log,
        log_format,
    } = settings;
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: &std::ffi::OsStr| {
        let mut argument = OsString::from(flag);
        argument.push("=");
        argument.push(value);
        all.push(argument);
    };
    add("--node-name", node_name.as_ref());
    add("--run-dir", run_dir.as_ref());
    add("--state-dir", state_dir.as_ref());
    add("--netns-dir", netns_dir.as_ref());
    add("--sysctl-dir", sysctl_dir.as_ref());
    add("--cni-conf-dir", cni_conf_dir.as_ref());
    add("--cni-bin-dir", cni_bin_dir.as_ref());
    add("--cni-plugin", cni_plugin.as_ref());
    add("--policies", policies.to_string().as_ref());
    add("--services", services.to_string().as_ref());
    let addresses = match node_port_addresses {
        NodePortAddresses::Primary => "primary".to_owned(),
        NodePortAddresses::Within(networks) => list(networks),
    };
    add("--node-port-addresses", addresses.as_ref());
    for (flag, networks) in [
        ("--pod-cidrs", pod_cidrs),
        ("--service-cidrs", service_cidrs),
    ] {
        if !networks.is_empty() {
            add(flag, list(networks).as_ref());
        }
    }
    add("--masquerade-all", masquerade_all.to_string().as_ref());
    if !dns_addresses.is_empty() {
        add("--dns-addresses", list(dns_addresses).as_ref());
    }
    add(
        "--proxy-health-port",
        proxy_health_port.to_string().as_ref(),
    );
    add(
        "--sandbox-grace",
        format!("{}ms", sandbox_grace.as_millis()).as_ref(),
    );
    add("--health-address", health_address.to_string().as_ref());
    add("--health-port", health_port.to_string().as_ref());
    add("--api-server", settings.api_servers().join(",").as_ref());
    if let Some(name) = api_server_name {
        add("--api-server-name", name.as_ref());
    }
    add("--service-account-dir", service_account_dir.as_ref());
    if let Some(kubeconfig) = kubeconfig {
        add("--kubeconfig", kubeconfig.as_ref());
    }
    add("--log", log.as_ref());
    let format = match log_format {
        crate::cli::LogFormat::Text => "text",
        crate::cli::LogFormat::Json => "json",
    };
    add("--log-format", format.as_ref());
    all
}

fn list(networks: &[impl ToString]) -> String {
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    networks.join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Verb};

    #[test]
    fn settings_survive_the_way_to_the_worker() {
        let line = "weft-agent run --node-name=a --sandbox-grace=90s --api-server=192.0.2.1:6443,[2001:db8::1]:6443 \
                    --kubeconfig=/k --log-format=json --health-address=127.0.0.1 --api-server-name=kubernetes \
                    --policies=true --services=false --proxy-health-port=10257 --node-port-addresses=192.0.2.0/24,2001:db8::/64 --masquerade-all=true --dns-addresses=10.96.0.10,fd96::a \
                    --pod-cidrs=10.64.0.0/16 --service-cidrs=10.96.0.0/16,fd96::/112";
        let Verb::Run(given) = Cli::parse_from(line.split_whitespace()).command else {
            panic!("not run")
        };
        let head = [
            "weft-agent",
            "work",
            "--nft-descriptor=3",
            "--cni-descriptor=4",
            "--supervisor=1",
        ];
        let arguments = head.iter().map(OsString::from).chain(arguments(&given));
        let Verb::Work(work) = Cli::parse_from(arguments).command else {
            panic!("not work")
        };
        assert_eq!(format!("{:?}", work.settings), format!("{given:?}"));
    }

    #[test]
    fn a_first_or_late_death_is_followed_by_a_start_at_once_and_a_series_is_slowed() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let short = Duration::from_millis(10);
        assert_eq!(restart_pause(&mut backoff, short), Duration::ZERO);
        let pauses: Vec<_> = (0..10)
            .map(|_| restart_pause(&mut backoff, short))
            .collect();
        assert!(
            pauses
                .iter()
                .all(|pause| !pause.is_zero() && *pause <= Duration::from_secs(5))
        );
        assert!(pauses[9] > pauses[0]);
        assert_eq!(restart_pause(&mut backoff, GOOD_LIFE), Duration::ZERO);
    }
}
