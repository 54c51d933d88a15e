//! Calls a node's own CNI plugin as its container runtime does, for sandboxes that no runtime knows.

use std::io::Write;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::ledger::Refused;
use crate::node::in_place;
use crate::place::Place;

/// The plugin of a node, with its configuration.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    place: Place,
    program: String,
    config: String,
}

impl Plugin {
    /// The first plugin of the node's first list, as the runtime finds it.
    pub(super) fn of(place: &Place) -> Result<Self> {
        let folder = in_place(place, "/etc/cni/net.d");
        let entries =
            std::fs::read_dir(&folder).context("failed to read /etc/cni/net.d of the node")?;
        let mut files: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "conflist"));
        let file = files
            .into_iter()
            .min()
            .context("the node has no CNI configuration")?;
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)
            .context("the CNI configuration is no JSON")?;
        let mut config = list["plugins"][0].clone();
        for key in ["cniVersion", "name"] {
            config[key] = list[key].clone();
        }
        let kind = config["type"]
            .as_str()
            .context("the CNI configuration names no plugin")?;
        Ok(Self {
            place: place.clone(),
            program: format!("/opt/cni/bin/{kind}"),
            config: config.to_string(),
        })
    }

    /// Makes a sandbox's network namespace.
    pub(super) fn make(&self, sandbox: &str) -> Result<()> {
        self.place.text(&["ip", "netns", "add", sandbox]).map(drop)
    }

    /// Deletes it.
    pub(super) fn delete(&self, sandbox: &str) -> Result<()> {
        self.place.text(&["ip", "netns", "del", sandbox]).map(drop)
    }

    /// ADD: addresses, or the plugin's refusal.
    pub(super) fn add(&self, sandbox: &str) -> Result<Result<Vec<IpAddr>, Refused>> {
        let answer = match self.call("ADD", sandbox)? {
            Ok(answer) => answer,
            Err(refused) => return Ok(Err(refused)),
        };
        let ips = answer["ips"]
            .as_array()
            .context("ADD answered without ips")?;
        let mut addresses = Vec::new();
        for ip in ips {
            let text = ip["address"].as_str().unwrap_or_default();
            let address = text.split('/').next().unwrap_or_default();
            addresses.push(
                address
                    .parse()
                    .with_context(|| format!("ADD answered with address {text:?}"))?,
            );
        }
        if addresses.is_empty() {
            bail!("ADD answered without an address");
        }
        Ok(Ok(addresses))
    }

    /// DEL.
    pub(super) fn del(&self, sandbox: &str) -> Result<()> {
        match self.call("DEL", sandbox)? {
            Ok(_) => Ok(()),
            Err(Refused { code, msg, details }) => {
                bail!("DEL of {sandbox} failed with code {code}: {msg}: {details}")
            }
        }
    }

    fn call(&self, verb: &str, sandbox: &str) -> Result<Result<Value, Refused>> {
        let mut command = self.place.command(&[&self.program])?;
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={sandbox};K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={sandbox}"
        );
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", sandbox)
            .env("CNI_NETNS", format!("/var/run/netns/{sandbox}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.place.spawn(command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(self.config.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && text.trim().is_empty() {
            return Ok(Ok(Value::Null));
        }
        let answer: Value = serde_json::from_str(&text).with_context(|| {
            format!(
                "{verb} of {sandbox} ({}) answered no JSON but {text:?}, {:?}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        if output.status.success() {
            return Ok(Ok(answer));
        }
        let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refused {
            code: answer["code"].as_u64().unwrap_or_default(),
            msg: word("msg"),
            details: word("details"),
        }))
    }
}
