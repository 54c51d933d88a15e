//! Looks a name up as a program in a pod does: with the servers, the search list and `ndots` of its resolv.conf, each
//! name asked twice at the most. No resolver of the C library stands between.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Error;
use super::dns::{Kind, Resolved, exchange, outcome, question};

/// How often a server is asked before the name counts as not answered.
const ATTEMPTS: u32 = 2;

/// What to look up.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The name; one that ends in a dot is taken as it is.
    pub name: String,
    /// A, AAAA, PTR or SRV.
    #[arg(long = "type", value_enum, default_value_t = Kind::A)]
    pub kind: Kind,
    /// Whom to ask, and what to append.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// How long to wait for each answer.
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    pub timeout: Duration,
    /// Over TCP.
    #[arg(long)]
    pub tcp: bool,
}

/// What resolv.conf says.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResolvConf {
    /// `nameserver`, in order.
    pub servers: Vec<IpAddr>,
    /// `search`, in order.
    pub search: Vec<String>,
    /// `options ndots`; 1 where it says nothing.
    pub ndots: usize,
}

/// What came of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// The name that was answered, or the last one.
    pub name: String,
    /// Names that were asked.
    pub asked: Vec<String>,
    /// The outcome.
    #[serde(flatten)]
    pub resolved: Resolved,
    /// Whom and what the file names.
    pub resolv_conf: ResolvConf,
}

impl ResolvConf {
    /// Reads the words that matter here; others are passed over (resolv.conf(5)).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut this = Self {
            ndots: 1,
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => this
                    .servers
                    .extend(words.filter_map(|word| word.parse::<IpAddr>().ok())),
                Some("search") => this.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut ndots =
                        words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    this.ndots = ndots.next_back().unwrap_or(this.ndots);
                }
                _ => {}
            }
        }
        this
    }

    /// The names to ask, in order.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let absolute = format!("{name}.");
        let searched = self
            .search
            .iter()
            .map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        if name.matches('.').count() >= self.ndots {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            searched.chain([absolute]).collect()
        }
    }
}

/// Looks up and prints; false without a record.
///
/// # Errors
/// resolv.conf cannot be read, or the name is none.
pub fn run(args: &Args) -> Result<bool, Error> {
    let conf = read(&args.resolv_conf)?;
    let looked = look_up(args, conf)?;
    super::print(&looked);
    Ok(!looked.resolved.records.is_empty())
}

fn read(path: &Path) -> Result<ResolvConf, Error> {
    let text =
        std::fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))?;
    Ok(ResolvConf::parse(&text))
}

fn look_up(args: &Args, conf: ResolvConf) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    let start = Instant::now();
    for name in conf.candidates(&args.name) {
        let wrong = || Error::Argument(format!("{name:?} is no DNS name"));
        let resolved = ask(args, &conf, &name).ok_or_else(wrong)?;
        looked.asked.push(name.clone());
        looked.name = name;
        looked.resolved = resolved;
        // An answer without records of the type ends the search, as does no answer at all.
        if looked.resolved.rcode != "NXDOMAIN" {
            break;
        }
    }
    looked.resolved.microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    looked.resolv_conf = conf;
    Ok(looked)
}

fn ask(args: &Args, conf: &ResolvConf, name: &str) -> Option<Resolved> {
    let mut last = Resolved {
        error: Some("resolv.conf names no server".to_owned()),
        ..Resolved::default()
    };
    for _ in 0..ATTEMPTS {
        for server in &conf.servers {
            let id = u16::try_from(super::now_ns() & 0xffff).unwrap_or(0);
            let question = question(id, name, args.kind)?;
            let server = SocketAddr::new(*server, 53);
            last = outcome(
                exchange(server, args.tcp, args.timeout, &question),
                id,
                args.kind,
            );
            if last.error.is_none() {
                return Some(last);
            }
        }
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_as_resolv_conf_says() {
        let text = "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fd96::a\noptions ndots:5 edns0\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            (conf.servers.len(), conf.search.len(), conf.ndots),
            (2, 3, 5)
        );
        let names = conf.candidates("web.other");
        assert_eq!(names[0], "web.other.ns.svc.cluster.local.");
        assert_eq!(names[3], "web.other.");
        assert_eq!(conf.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f.");
        assert_eq!(conf.candidates("example.test."), ["example.test."]);
    }
}
