//! Servers that say who asked: HTTP, TCP lines and UDP datagrams, both families on one socket each.
//!
//! After its first line a TCP connection is an echo, so that a client can hold it open and notice
//! when it breaks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::answer::Answer;
use super::{Error, stop};

/// Where to listen.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// TCP port of HTTP; 0: none.
    #[arg(long, default_value_t = 8080)]
    pub http: u16,
    /// TCP port of the echo; 0: none.
    #[arg(long, default_value_t = 7070)]
    pub tcp: u16,
    /// UDP port of the echo; 0: none.
    #[arg(long, default_value_t = 7070)]
    pub udp: u16,
}

/// Serves until SIGTERM.
///
/// # Errors
/// When a port cannot be listened at.
pub fn run(args: &Args) -> Result<(), Error> {
    let signals = stop::block()?;
    if args.http != 0 {
        let listener = listen(args.http)?;
        std::thread::spawn(move || accept(&listener, http));
    }
    if args.tcp != 0 {
        let listener = listen(args.tcp)?;
        std::thread::spawn(move || accept(&listener, echo));
    }
    if args.udp != 0 {
        let socket = udp_socket(args.udp)?;
        std::thread::spawn(move || datagrams(&socket));
    }
    super::print(&serde_json::json!({"http": args.http, "tcp": args.tcp, "udp": args.udp}));
    signals.wait().map_err(Error::call("wait for signals"))?;
    Ok(())
}

/// Both families where the namespace has IPv6, else IPv4 alone.
pub(super) fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(("::", port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .map_err(Error::io(format!("listen at TCP port {port}")))
}

/// The same for UDP.
pub(super) fn udp_socket(port: u16) -> Result<UdpSocket, Error> {
    UdpSocket::bind(("::", port))
        .or_else(|_| UdpSocket::bind(("0.0.0.0", port)))
        .map_err(Error::io(format!("listen at UDP port {port}")))
}

fn accept(listener: &TcpListener, serve: fn(TcpStream) -> std::io::Result<()>) {
    for stream in listener.incoming() {
        match stream {
            // A client that breaks off is its own business.
            Ok(stream) => drop(std::thread::spawn(move || serve(stream))),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn http(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(64 << 10)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let answer = Answer::new(stream.peer_addr()?, stream.local_addr()?, path);
    let body = serde_json::to_string(&answer)? + "\n";
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = Answer::new(stream.peer_addr()?, stream.local_addr()?, "");
    stream.write_all((serde_json::to_string(&answer)? + "\n").as_bytes())?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    let local = socket
        .local_addr()
        .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    loop {
        let Ok((_, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Ok(text) = serde_json::to_string(&Answer::new(peer, local, "")) {
            let _ = socket.send_to(text.as_bytes(), peer);
        }
    }
}
