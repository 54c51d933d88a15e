//! Request and response in turn, or bulk data, over TCP and UDP: latency, throughput and the CPU
//! time that they cost, on both ends and on the whole machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Error, serve, stop};

/// Which end.
#[derive(clap::Subcommand, Debug)]
pub enum Role {
    /// Answer requests and swallow bulk data until SIGTERM.
    Serve(ServeArgs),
    /// Ask, measure, print.
    Run(RunArgs),
}

/// Where to serve.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// TCP and UDP port; bulk data goes to the TCP port after it.
    #[arg(long, default_value_t = 9100)]
    pub port: u16,
    /// Run on this CPU alone, counted from 0.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// What to measure.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// Address and port of the server.
    pub to: SocketAddr,
    /// What to send.
    #[arg(long, value_enum, default_value_t = Mode::Tcp)]
    pub mode: Mode,
    /// How long.
    #[arg(long = "for", default_value = "1s", value_parser = super::duration)]
    pub for_: Duration,
    /// Bytes of a request and of its response.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1200))]
    pub size: u16,
    /// Run on this CPU alone, counted from 0.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// What to send.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests and responses over one TCP connection.
    Tcp,
    /// Requests and responses as datagrams.
    Udp,
    /// One TCP connection with as much data as goes through.
    Bulk,
}

/// What was measured.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Requests answered.
    pub requests: u64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// The latency that 99 of 100 stay below, in microseconds.
    pub p99_us: f64,
    /// Bytes that went through.
    pub bytes: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// CPU seconds of this process.
    pub cpu_seconds: f64,
    /// CPU seconds that the whole machine was busy, interrupts included.
    pub machine_cpu_seconds: f64,
}

/// Does what the command line asks.
///
/// # Errors
/// When the other end cannot be reached or breaks off.
pub fn run(role: &Role) -> Result<bool, Error> {
    let (Role::Serve(ServeArgs { cpu, .. }) | Role::Run(RunArgs { cpu, .. })) = role;
    if let Some(cpu) = cpu {
        stay_on(*cpu).map_err(Error::call("stay on one CPU (--cpu)"))?;
    }
    match role {
        Role::Serve(args) => answer(args).map(|()| true),
        Role::Run(args) => {
            let measured = measure(args).map_err(Error::io(format!("measure {}", args.to)))?;
            super::print(&measured);
            Ok(measured.requests > 0 || measured.bytes > 0)
        }
    }
}

/// Threads that are started afterwards stay there too.
fn stay_on(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn answer(args: &ServeArgs) -> Result<(), Error> {
    let signals = stop::block()?;
    let tcp = serve::listen(args.port)?;
    let bulk = serve::listen(args.port.saturating_add(1))?;
    let udp = serve::udp_socket(args.port)?;
    std::thread::spawn(move || each(&tcp, respond));
    std::thread::spawn(move || each(&bulk, swallow));
    std::thread::spawn(move || reflect(&udp));
    super::print(&serde_json::json!({"listening": args.port}));
    signals.wait().map_err(Error::call("wait for signals"))?;
    Ok(())
}

fn each(listener: &TcpListener, serve: fn(TcpStream) -> std::io::Result<()>) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}

fn respond(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}

fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while stream.read(&mut buffer)? > 0 {}
    // The sender waits for this: then everything has arrived.
    stream.write_all(b".")
}

fn reflect(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    }
}

fn measure(args: &RunArgs) -> std::io::Result<Measured> {
    let (cpu, machine, start) = (own_cpu(), machine_cpu(), Instant::now());
    let mut measured = match args.mode {
        Mode::Tcp => tcp(args)?,
        Mode::Udp => udp(args)?,
        Mode::Bulk => bulk(args)?,
    };
    measured.seconds = start.elapsed().as_secs_f64();
    measured.cpu_seconds = own_cpu() - cpu;
    measured.machine_cpu_seconds = machine_cpu() - machine;
    Ok(measured)
}

fn tcp(args: &RunArgs) -> std::io::Result<Measured> {
    let mut stream = TcpStream::connect_timeout(&args.to, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; usize::from(args.size)];
    rounds(args, || {
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)
    })
}

fn udp(args: &RunArgs) -> std::io::Result<Measured> {
    let any = if args.to.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(args.to)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; usize::from(args.size)];
    rounds(args, || {
        socket.send(&buffer)?;
        socket.recv(&mut buffer).map(drop)
    })
}

fn rounds(
    args: &RunArgs,
    mut round: impl FnMut() -> std::io::Result<()>,
) -> std::io::Result<Measured> {
    for _ in 0..100 {
        round()?;
    }
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < args.for_ {
        let before = Instant::now();
        round()?;
        latencies.push(before.elapsed().as_nanos());
    }
    latencies.sort_unstable();
    let at = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    Ok(Measured {
        requests: latencies.len() as u64,
        p50_us: at(50),
        p99_us: at(99),
        bytes: 2 * latencies.len() as u64 * u64::from(args.size),
        ..Measured::default()
    })
}

fn bulk(args: &RunArgs) -> std::io::Result<Measured> {
    let to = SocketAddr::new(args.to.ip(), args.to.port().saturating_add(1));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let block = vec![0x5a; 128 << 10];
    let mut bytes = 0;
    let start = Instant::now();
    while start.elapsed() < args.for_ {
        stream.write_all(&block)?;
        bytes += block.len() as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(Measured {
        bytes,
        ..Measured::default()
    })
}

fn own_cpu() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    })
}

/// Busy time of all processors: user, nice, system, irq, softirq (proc(5)), in hundredths of a second.
fn machine_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|index| fields.get(*index))
        .sum::<f64>()
        / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_measured_and_a_dead_server_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        std::thread::spawn(move || each(&listener, respond));
        let args = RunArgs {
            to,
            mode: Mode::Tcp,
            for_: Duration::from_millis(50),
            size: 64,
            cpu: None,
        };
        let measured = measure(&args).unwrap();
        assert!(
            measured.requests > 0 && measured.p50_us > 0.0 && measured.p99_us >= measured.p50_us
        );
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(measure(&RunArgs { to: closed, ..args }).is_err());
    }
}
