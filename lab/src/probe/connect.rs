//! One question to one server, and its outcome in words that a scenario can compare.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};

use super::Error;
use super::answer::{Answer, canonical};

/// Whom to ask, and how.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address and port, such as 10.64.0.5:8080 or [fd00:64::5]:8080.
    pub to: SocketAddr,
    /// How to ask.
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    pub protocol: Protocol,
    /// How long to wait for the connection, and again for the answer.
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    pub timeout: Duration,
    /// Send from this address of the namespace. Default: what the kernel chooses.
    #[arg(long)]
    pub source: Option<IpAddr>,
    /// What to ask for over HTTP.
    #[arg(long, default_value = "/")]
    pub path: String,
}

/// How to ask.
#[derive(
    clap::ValueEnum,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// GET over HTTP/1.1.
    #[default]
    Http,
    /// The line that the TCP echo opens with, and an echo.
    Tcp,
    /// One datagram and its answer.
    Udp,
}

/// How it ended.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The server answered.
    Answered,
    /// A RST, or for UDP an ICMP port unreachable.
    Refused,
    /// Nothing came in time.
    Timeout,
    /// An ICMP unreachable, or no route.
    Unreachable,
    /// The connection broke off.
    Reset,
    /// Anything else.
    Failed,
}

/// The outcome of one question.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Whom was asked.
    pub to: SocketAddr,
    /// The address that this side believes to have sent from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// What the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Microseconds from the first packet to the answer or the failure.
    pub microseconds: u64,
    /// What the kernel said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Asks once and prints the outcome; false unless it was answered.
///
/// # Errors
/// None at present: whatever happens is an outcome.
pub fn run(args: &Args) -> Result<bool, Error> {
    let outcome = ask(args);
    super::print(&outcome);
    Ok(outcome.ending == Ending::Answered)
}

/// Asks once.
pub fn ask(args: &Args) -> Outcome {
    let start = Instant::now();
    let mut local = None;
    let result = match args.protocol {
        Protocol::Http => http(args, &mut local),
        Protocol::Tcp => tcp(args, &mut local),
        Protocol::Udp => udp(args, &mut local),
    };
    let microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (ending, answer, error) = match result {
        Ok(answer) => (Ending::Answered, Some(answer), None),
        Err(error) => (ending(&error), None, Some(error.to_string())),
    };
    Outcome {
        ending,
        to: args.to,
        local: local.map(canonical),
        answer,
        microseconds,
        error,
    }
}

fn ending(error: &std::io::Error) -> Ending {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Ending::Refused,
        Kind::TimedOut | Kind::WouldBlock => Ending::Timeout,
        Kind::HostUnreachable | Kind::NetworkUnreachable => Ending::Unreachable,
        Kind::ConnectionReset | Kind::UnexpectedEof | Kind::BrokenPipe => Ending::Reset,
        _ if error.raw_os_error() == Some(libc::EINPROGRESS) => Ending::Timeout,
        _ => Ending::Failed,
    }
}

fn http(args: &Args, local: &mut Option<SocketAddr>) -> std::io::Result<Answer> {
    let mut stream = open(args, local)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        args.path, args.to
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    parse(body)
}

fn tcp(args: &Args, local: &mut Option<SocketAddr>) -> std::io::Result<Answer> {
    let mut stream = open(args, local)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    stream.write_all(b"echo\n")?;
    let mut echoed = [0; 5];
    reader.read_exact(&mut echoed)?;
    parse(&line)
}

fn udp(args: &Args, local: &mut Option<SocketAddr>) -> std::io::Result<Answer> {
    let socket = UdpSocket::from(connected(args, SockType::Datagram)?);
    *local = socket.local_addr().ok();
    socket.set_read_timeout(Some(args.timeout))?;
    socket.send(b"who am I")?;
    let mut buffer = [0; 4096];
    let read = socket.recv(&mut buffer)?;
    parse(&String::from_utf8_lossy(&buffer[..read]))
}

fn parse(text: &str) -> std::io::Result<Answer> {
    let eof = text.trim().is_empty();
    serde_json::from_str(text).map_err(|error| {
        let kind = if eof {
            std::io::ErrorKind::UnexpectedEof
        } else {
            std::io::ErrorKind::InvalidData
        };
        std::io::Error::new(kind, format!("not an answer of weft-probe: {error}"))
    })
}

fn open(args: &Args, local: &mut Option<SocketAddr>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::from(connected(args, SockType::Stream)?);
    *local = stream.local_addr().ok();
    stream.set_read_timeout(Some(args.timeout))?;
    stream.set_write_timeout(Some(args.timeout))?;
    Ok(stream)
}

/// A connected socket. The send timeout bounds `connect` too (socket(7)).
fn connected(args: &Args, kind: SockType) -> std::io::Result<OwnedFd> {
    let family = if args.to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let timeout = i64::try_from(args.timeout.as_micros()).unwrap_or(i64::MAX);
    setsockopt(
        &socket,
        sockopt::SendTimeout,
        &TimeVal::microseconds(timeout),
    )?;
    if let Some(source) = args.source {
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(source, 0)),
        )?;
    }
    connect(socket.as_raw_fd(), &SockaddrStorage::from(args.to))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(to: SocketAddr, protocol: Protocol) -> Args {
        Args {
            to,
            protocol,
            timeout: Duration::from_millis(300),
            source: None,
            path: "/".to_owned(),
        }
    }

    #[test]
    fn a_closed_port_refuses_and_a_silent_one_times_out() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        let silent = ask(&args(address, Protocol::Tcp));
        assert_eq!(silent.ending, Ending::Timeout);
        drop(closed);
        assert_eq!(ask(&args(address, Protocol::Tcp)).ending, Ending::Refused);
        assert_eq!(ask(&args(address, Protocol::Udp)).ending, Ending::Refused);
    }

    #[test]
    fn the_source_that_was_asked_for_is_used() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut wanted = args(server.local_addr().unwrap(), Protocol::Udp);
        wanted.source = Some("127.0.0.9".parse().unwrap());
        let outcome = ask(&wanted);
        assert_eq!(outcome.ending, Ending::Timeout);
        assert_eq!(outcome.local.unwrap().ip().to_string(), "127.0.0.9");
    }
}
