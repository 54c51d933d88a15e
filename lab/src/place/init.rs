//! The first process of a place: makes its namespaces, mounts what belongs to it, then waits.
//!
//! Two stages of this same program. The first leaves the machine's namespaces and starts the second,
//! which is process 1 of the new PID namespace. Nothing that is mounted or written here reaches the
//! machine: mounts are private, and every folder that a node writes to is a file system of its own.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchy;

/// The hidden subcommand of the first stage.
pub const COMMAND: &str = "_place";
/// The hidden subcommand of the second stage.
pub const INIT_COMMAND: &str = "_init";

/// kubelet sets these for the whole machine unless they already have the value it wants; it is
/// shown small files that have it, so it writes nothing.
const SYSCTLS_KUBELET_WANTS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What a place is to look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitConfig {
    /// The place's name, which is also its host name.
    pub name: String,
    /// A node's files on a real disk; `None` for places that run no container.
    pub node_dir: Option<PathBuf>,
    /// Folders that must stay visible where they are: state, cache, programs.
    pub keep: Vec<PathBuf>,
    /// What `/etc/resolv.conf` names as servers.
    pub resolvers: Vec<String>,
    /// The machine's cgroup hierarchies.
    pub hierarchies: Vec<Hierarchy>,
    /// Whether packets are forwarded between its interfaces.
    pub forwards: bool,
}

/// First stage: leaves the machine's namespaces, starts the second stage and prints its number.
pub fn make_namespaces(config_file: &Path) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).context("failed to make namespaces (is this root?)")?;
    let mut command = Command::new(super::own_program()?);
    command
        .arg(INIT_COMMAND)
        .arg(config_file)
        .stdin(Stdio::null());
    // The pipe is shared with the child, which says `ready` there; the number must come first.
    let (gate, opener) = std::io::pipe()?;
    command.stdin(gate);
    let child = command.spawn().context("failed to start process 1")?;
    println!("{}", child.id());
    drop(opener);
    Ok(())
}

/// Second stage: mounts, says `ready`, then collects ended processes for ever.
pub fn run(config_file: &Path) -> Result<()> {
    // Returns at the end of the file: the first stage has printed our number then.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    let text = fs::read(config_file)
        .with_context(|| format!("failed to read {}", config_file.display()))?;
    let config: InitConfig = serde_json::from_slice(&text)?;
    nix::unistd::sethostname(&config.name).context("failed to set the host name")?;
    mount_everything(&config)?;
    set_forwarding(&config)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    println!("ready");
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    collect_ended_processes(&signals)
}

fn collect_ended_processes(signals: &SigSet) -> Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                signals.wait()?;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("failed to wait for processes: {error}"),
        }
    }
}

fn mount_everything(config: &InitConfig) -> Result<()> {
    let root = Path::new("/");
    mount_flags(root, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    // Handles of folders that the mounts below would cover.
    let mut kept = Vec::new();
    for dir in &config.keep {
        let handle = open(dir, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| format!("failed to open {}", dir.display()))?;
        kept.push((dir.clone(), handle));
    }
    let node = match &config.node_dir {
        Some(dir) => Some(NodeFolders::prepare(dir)?),
        None => None,
    };
    mount_fs("proc", "/proc", "proc", "")?;
    mount_fs("sysfs", "/sys", "sysfs", "")?;
    mount_cgroups(&config.hierarchies)?;
    mount_fs("tmpfs", "/run", "tmpfs", "mode=755")?;
    for dir in ["/run/netns", "/run/lock", "/run/shm"] {
        fs::create_dir_all(dir)?;
    }
    if let Some(node) = &node {
        node.mount()?;
    }
    for (dir, handle) in &kept {
        show_again(dir, handle)?;
    }
    write_etc(config, node.is_some())?;
    if node.is_some() {
        // kubelet and containers with Bidirectional volumes need shared propagation.
        mount_flags(root, MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    }
    Ok(())
}

/// The folders of a node that need a real file system, opened before anything covers them.
struct NodeFolders {
    binds: Vec<(&'static str, OwnedFd)>,
    sysctls: Vec<(&'static str, OwnedFd)>,
}

impl NodeFolders {
    fn prepare(dir: &Path) -> Result<Self> {
        let binds = [
            ("/var/lib/containerd", "containerd"),
            ("/var/lib/kubelet", "kubelet"),
            ("/var/lib/cni", "cni"),
            ("/var/lib/weftnet", "weftnet"),
            ("/var/log/pods", "pods"),
            ("/tmp", "tmp"),
        ];
        let open_path = |path: &Path| {
            open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                .with_context(|| format!("failed to open {}", path.display()))
        };
        let mut folders = Self {
            binds: Vec::new(),
            sysctls: Vec::new(),
        };
        for (target, name) in binds {
            let source = dir.join(name);
            fs::create_dir_all(&source)
                .with_context(|| format!("failed to make {}", source.display()))?;
            folders.binds.push((target, open_path(&source)?));
        }
        let files = dir.join("sysctl");
        fs::create_dir_all(&files)?;
        for (name, value) in SYSCTLS_KUBELET_WANTS {
            let file = files.join(name.replace('/', "."));
            fs::write(&file, format!("{value}\n"))?;
            folders.sysctls.push((name, open_path(&file)?));
        }
        Ok(folders)
    }

    fn mount(&self) -> Result<()> {
        mount_fs("tmpfs", "/mnt", "tmpfs", "mode=755")?;
        fs::create_dir("/mnt/upper")?;
        fs::create_dir("/mnt/work")?;
        let layers = "lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work";
        mount_fs("overlay", "/etc", "overlay", layers)?;
        for target in ["/opt", "/var/lib", "/var/log"] {
            mount_fs("tmpfs", target, "tmpfs", "mode=755")?;
        }
        for dir in [
            "/opt/cni/bin",
            "/var/lib/kube-proxy",
            "/var/log/containers",
            "/etc/cni/net.d",
        ] {
            fs::create_dir_all(dir)?;
        }
        for (target, source) in &self.binds {
            fs::create_dir_all(target)?;
            bind(source, Path::new(target))?;
        }
        // Not every kernel has it; programs that need it say so themselves.
        let _ = mount_fs("bpf", "/sys/fs/bpf", "bpf", "");
        for (name, source) in &self.sysctls {
            let target = Path::new("/proc/sys").join(name);
            if target.exists() {
                bind(source, &target)?;
            }
        }
        Ok(())
    }
}

fn mount_cgroups(hierarchies: &[Hierarchy]) -> Result<()> {
    let base = Path::new("/sys/fs/cgroup");
    if let [Hierarchy { mount, v1: None }] = hierarchies
        && mount == base
    {
        mount_fs("cgroup2", "/sys/fs/cgroup", "cgroup2", "")?;
        // The place's own cgroup is the root that is seen here; it must be free of processes before
        // kubelet hands controllers on from it.
        fs::create_dir_all("/sys/fs/cgroup/init")?;
        return fs::write("/sys/fs/cgroup/init/cgroup.procs", "0")
            .context("failed to move process 1 to the cgroup init");
    }
    mount_fs("tmpfs", "/sys/fs/cgroup", "tmpfs", "mode=755")?;
    for hierarchy in hierarchies {
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let target = base.join(name);
        fs::create_dir_all(&target)?;
        let target_text = target.to_string_lossy();
        match &hierarchy.v1 {
            None => mount_fs("cgroup2", &target_text, "cgroup2", "")?,
            Some(options) if options.starts_with("name=") => {
                mount_fs("cgroup", &target_text, "cgroup", &format!("none,{options}"))?;
            }
            Some(options) => mount_fs("cgroup", &target_text, "cgroup", options)?,
        }
        let name = name.to_string_lossy();
        for part in name.split(',').filter(|part| *part != name) {
            // `cpu` and `cpuacct` are where programs look when both are mounted as one.
            symlink(name.as_ref(), base.join(part))?;
        }
    }
    Ok(())
}

fn write_etc(config: &InitConfig, is_node: bool) -> Result<()> {
    if !is_node {
        return Ok(());
    }
    let resolvers: String = config
        .resolvers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    let files = [
        ("/etc/hostname", format!("{}\n", config.name)),
        (
            "/etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
        ),
        ("/etc/resolv.conf", resolvers),
    ];
    for (path, text) in files {
        // May be a link into a folder that is covered here.
        let _ = fs::remove_file(path);
        fs::write(path, text).with_context(|| format!("failed to write {path}"))?;
    }
    Ok(())
}

fn set_forwarding(config: &InitConfig) -> Result<()> {
    if !config.forwards {
        return Ok(());
    }
    // Of this network namespace alone. What a bridge carries is no business of packet filters: a
    // new namespace passes it through them, which costs every packet and no switch does.
    let files = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ("net/bridge/bridge-nf-call-arptables", "0"),
    ];
    for (file, value) in files {
        let path = Path::new("/proc/sys").join(file);
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("failed to set {}", path.display()))?;
        }
    }
    Ok(())
}

fn show_again(dir: &Path, handle: &OwnedFd) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    bind(handle, dir)
}

fn bind(source: &OwnedFd, target: &Path) -> Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("failed to bind {}", target.display()))
}

fn mount_fs(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    let data = CString::new(options)?;
    let data = (!options.is_empty()).then_some(data.as_c_str());
    mount(Some(source), target, Some(kind), MsFlags::empty(), data)
        .with_context(|| format!("failed to mount {kind} on {target} ({options})"))
}

fn mount_flags(target: &Path, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("failed to change the propagation of {}", target.display()))
}
