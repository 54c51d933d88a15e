//! The plugin's whole run: environment and standard input in, one JSON document and success or
//! failure out. Nothing is changed before everything given has been checked.

use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{NoAnswer, ask};
use crate::config::{self, Config};
use crate::environment::{Environment, Sandbox, Verb};
use crate::error::{CniError, code};
use crate::result::CniResult;
use crate::version::Version;
use crate::wire::{Added, Attachment, Request, Response};
use crate::{namespace, spool, version};

/// How long ADD waits: the agent waits 10 s for a block of addresses, and then says why there is none.
pub const ADD_LIMIT: Duration = Duration::from_secs(15);
/// How long DEL, CHECK and GC wait.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long STATUS waits: runtimes ask every 5 s.
pub const STATUS_LIMIT: Duration = Duration::from_secs(2);

const ABOUT: &str = "weft-cni, the CNI plugin of Weftnet. A container runtime starts it with a request in CNI_* variables \
and a network configuration on standard input (CNI specification 1.1). It asks the node's agent, weft-agent, over a unix socket.\n";

/// What is printed, and how the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A JSON document, a text about the plugin, or nothing.
    pub stdout: String,
    /// Exit code 0, else 1.
    pub success: bool,
}

/// Answers one call.
pub fn run(variables: impl Iterator<Item = (OsString, OsString)>, input: impl Read) -> Outcome {
    let mut version = Version::V1_1_0;
    let answered = Environment::of(variables).and_then(|environment| {
        if environment.is_empty() {
            Ok(Answer::About)
        } else {
            answer(&environment, input, &mut version)
        }
    });
    match answered {
        Ok(Answer::About) => Outcome {
            stdout: ABOUT.to_owned(),
            success: true,
        },
        Ok(Answer::Nothing) => Outcome {
            stdout: String::new(),
            success: true,
        },
        Ok(Answer::Json(value)) => Outcome {
            stdout: format!("{value}\n"),
            success: true,
        },
        Err(CniError { code, msg, details }) => {
            let value = json!({"cniVersion": version.as_str(), "code": code, "msg": msg, "details": details});
            Outcome {
                stdout: format!("{value}\n"),
                success: false,
            }
        }
    }
}

enum Answer {
    About,
    Nothing,
    Json(Value),
}

fn answer(
    environment: &Environment,
    input: impl Read,
    version: &mut Version,
) -> Result<Answer, CniError> {
    let verb = environment.verb()?;
    if verb == Verb::Version {
        return Ok(Answer::Json(version::answer()));
    }
    let config = config::decode(&config::read(input)?)?;
    *version = Version::of(&config)?;
    let config = Config::of(config)?;
    match verb {
        Verb::Add => add(&config, environment.sandbox(verb)?),
        Verb::Del => del(&config, environment.sandbox(verb)?),
        Verb::Check => check(&config, environment.sandbox(verb)?),
        Verb::Gc => gc(&config),
        Verb::Status => status(&config),
        Verb::Version => Ok(Answer::Json(version::answer())),
    }
}

fn add(config: &Config, sandbox: Sandbox) -> Result<Answer, CniError> {
    if let Some(previous) = &config.previous {
        previous.leaves_room_for(&sandbox.ifname)?;
    }
    let namespace = namespace::open(&sandbox.netns)?;
    let netlink = namespace::netlink_socket(&namespace, true)?;
    let (ifname, netns) = (sandbox.ifname.clone(), sandbox.netns.clone());
    let request = Request::Add(attachment(config, sandbox));
    match ask(&config.socket, &request, Some(&netlink), ADD_LIMIT).map_err(try_again)? {
        Response::Added(added) => {
            let result = CniResult::of(&added, &ifname, &netns).after(config.previous.clone());
            Ok(Answer::Json(result.render(config.version)))
        }
        other => Err(refused(other)),
    }
}

fn del(config: &Config, sandbox: Sandbox) -> Result<Answer, CniError> {
    let attachment = attachment(config, sandbox);
    match ask(
        &config.socket,
        &Request::Del(attachment.clone()),
        None,
        REQUEST_LIMIT,
    ) {
        Ok(Response::Done) => Ok(Answer::Nothing),
        Ok(other) => Err(refused(other)),
        Err(NoAnswer::Foreign { .. } | NoAnswer::Gone { .. } | NoAnswer::Late { .. }) => {
            spool::queue(&config.spool_dir, &attachment)
                .map(|()| Answer::Nothing)
                .map_err(|error| {
                    CniError::new(
                        code::TRY_AGAIN,
                        "no agent answers and the request could not be queued",
                        chain(&error),
                    )
                })
        }
    }
}

fn check(config: &Config, sandbox: Sandbox) -> Result<Answer, CniError> {
    let previous = config.previous.as_ref().ok_or_else(|| {
        CniError::new(
            code::CONFIG,
            "prevResult is missing",
            "CHECK needs what ADD answered as prevResult",
        )
    })?;
    let namespace = namespace::open(&sandbox.netns)?;
    let netlink = namespace::netlink_socket(&namespace, false)?;
    let ifname = sandbox.ifname.clone();
    let request = Request::Check(attachment(config, sandbox));
    match ask(&config.socket, &request, Some(&netlink), REQUEST_LIMIT).map_err(try_again)? {
        Response::Done => Ok(Answer::Nothing),
        Response::Added(added) => compare(previous, &added, &ifname),
        other => Err(refused(other)),
    }
}

/// The runtime's memory of ADD against the agent's.
fn compare(previous: &CniResult, added: &Added, ifname: &str) -> Result<Answer, CniError> {
    let missing = added.addresses.iter().find(|address| {
        let is_it = |text: &str| {
            text.split('/').next().and_then(|text| text.parse().ok()) == Some(**address)
        };
        !previous.ips.iter().any(|ip| is_it(&ip.address))
    });
    match missing {
        None => Ok(Answer::Nothing),
        Some(address) => Err(CniError::new(
            code::CONFIG,
            "prevResult is not what ADD answered",
            format!("{ifname} has address {address}, which prevResult does not list"),
        )),
    }
}

fn gc(config: &Config) -> Result<Answer, CniError> {
    since_1_1(config, "GC")?;
    let request = Request::Gc {
        valid: config.valid_attachments.clone(),
    };
    match ask(&config.socket, &request, None, REQUEST_LIMIT).map_err(try_again)? {
        Response::Done => Ok(Answer::Nothing),
        other => Err(refused(other)),
    }
}

fn status(config: &Config) -> Result<Answer, CniError> {
    since_1_1(config, "STATUS")?;
    match ask(&config.socket, &Request::Status, None, STATUS_LIMIT) {
        Ok(Response::Done) => Ok(Answer::Nothing),
        Ok(other) => Err(refused(other)),
        Err(_) if config.ready_file.exists() => Ok(Answer::Nothing),
        Err(error) => Err(CniError::new(
            code::NOT_AVAILABLE,
            "the node's agent has not been ready since the node booted",
            format!("{error}; look at the weft-agent pod of this node"),
        )),
    }
}

fn since_1_1(config: &Config, verb: &str) -> Result<(), CniError> {
    if config.version >= Version::V1_1_0 {
        return Ok(());
    }
    let details = format!(
        "{verb} is part of CNI 1.1.0; cniVersion is {}",
        config.version.as_str()
    );
    Err(CniError::new(
        code::VERSION,
        format!("configuration's version does not know {verb}"),
        details,
    ))
}

fn attachment(config: &Config, sandbox: Sandbox) -> Attachment {
    let Sandbox {
        container_id,
        ifname,
        netns,
        pod_namespace,
        pod_name,
        pod_uid,
    } = sandbox;
    let port_mappings = config.port_mappings.clone();
    Attachment {
        container_id,
        ifname,
        netns,
        pod_namespace,
        pod_name,
        pod_uid,
        port_mappings,
    }
}

fn try_again(error: NoAnswer) -> CniError {
    let details = format!(
        "{error}; the runtime tries again, and the pod starts once weft-agent runs on this node"
    );
    CniError::new(code::TRY_AGAIN, "the node's agent is not there", details)
}

fn refused(response: Response) -> CniError {
    match response {
        Response::Failed { code, msg, details } => CniError { code, msg, details },
        Response::Done | Response::Added(_) => CniError::new(
            code::DECODE,
            "the agent's answer belongs to another verb",
            "update weft-cni and weft-agent together",
        ),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
