//! The program itself, started as a runtime starts it, beside a stand-in for the agent's socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod namespaces;
mod verbs;
mod wrong_input;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// One call of the program.
pub(crate) struct Call<'a> {
    pub(crate) verb: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) config: Value,
    pub(crate) variables: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(verb: &'a str, folder: &Path) -> Self {
        Self {
            verb,
            netns: "",
            config: config(folder),
            variables: Vec::new(),
        }
    }

    pub(crate) fn run(&self) -> Output {
        self.run_with(self.config.to_string().as_bytes())
    }

    pub(crate) fn run_with(&self, stdin: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-cni"));
        command
            .env_clear()
            .env("CNI_COMMAND", self.verb)
            .env("CNI_CONTAINERID", "c0ffee")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", self.netns)
            .env(
                "CNI_ARGS",
                "K8S_POD_NAME=web-0;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_UID=u-1",
            )
            .env("CNI_PATH", "/opt/cni/bin")
            .envs(self.variables.iter().copied());
        start(&mut command, stdin)
    }
}

pub(crate) fn start(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

pub(crate) fn config(folder: &Path) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "weftnet",
        "type": "weft-cni",
        "socket": folder.join("cni.sock"),
        "spoolDir": folder.join("spool"),
        "readyFile": folder.join("ready"),
        "capabilities": {"portMappings": true},
    })
}

/// The document printed, and whether the exit code was 0.
pub(crate) fn read(output: &Output) -> (Value, bool) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let value = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    };
    assert!(output.stderr.is_empty(), "{output:?}");
    (value, output.status.success())
}
