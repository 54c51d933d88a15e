//! A lab leaves the machine as it was, also when `up` was killed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weft_lab::host_state::HostState;

const LAB: &str = env!("CARGO_BIN_EXE_weft-lab");

/// A lab that is taken down whatever becomes of the test.
struct TestLab {
    name: &'static str,
}

impl TestLab {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LAB);
        command
            .args(["--name", self.name])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("weft-lab starts");
        let (out, err) = (output.stdout, output.stderr);
        let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        assert!(output.status.success(), "{arguments:?} failed: {out}{err}");
        out.into_owned()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

/// The machine's state without the network namespaces of this project's other tests, which may run at
/// the same time; labs name none.
fn state() -> HostState {
    let state = HostState::read().expect("the machine's state reads");
    state.without(|name| name.contains("/run/netns/weft"))
}

/// Others may be at work on the machine: what has nothing to do with labs and comes and goes by itself
/// is looked at again.
fn assert_unchanged(before: &HostState) {
    let mut changes = Vec::new();
    for _ in 0..20 {
        changes = before.changes_to(&state());
        if changes.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("the machine is not as it was:\n{}", changes.join("\n"));
}

fn kill(mut child: Child) {
    child.kill().expect("weft-lab can be killed");
    child.wait().expect("weft-lab ended");
}

#[test]
#[ignore = "makes a cluster; run it with `cargo test -p weft-lab -- --ignored host_is_left_as_it_was`"]
fn host_is_left_as_it_was() {
    let lab = TestLab { name: "host-test" };
    lab.run(&["down"]);
    let before = state();
    lab.run(&["up", "--nodes", "2", "--cni", "bridge"]);
    let nodes = lab.run(&["kubectl", "get", "nodes", "--no-headers"]);
    assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
    assert_eq!(lab.run(&["exec", "node-1", "hostname"]).trim(), "node-1");
    let while_up = before.changes_to(&state());
    let cgroups = while_up
        .iter()
        .filter(|change| change.starts_with("+ cgroup "));
    assert!(cgroups.count() > 0, "a running lab was not noticed");
    let only_cgroups: Vec<_> = while_up.iter().filter(|c| c.contains("weft-lab")).collect();
    assert!(
        only_cgroups.iter().all(|c| c.starts_with("+ cgroup ")),
        "{only_cgroups:?}"
    );
    lab.run(&["down"]);
    assert_unchanged(&before);
}

#[test]
#[ignore = "makes clusters; run it with `cargo test -p weft-lab -- --ignored a_killed_up`"]
fn a_killed_up_can_be_repeated_and_taken_down() {
    let lab = TestLab { name: "kill-test" };
    lab.run(&["down"]);
    let before = state();
    for milliseconds in [100, 400, 900, 1500, 2500] {
        let up = ["up", "--nodes", "2", "--cni", "bridge"];
        let mut command = lab.command(&up);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("weft-lab starts");
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill(child);
        if milliseconds == 900 {
            // Straight from the debris to a whole lab.
            lab.run(&up);
            let nodes = lab.run(&["kubectl", "get", "nodes", "--no-headers"]);
            assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
        }
        lab.run(&["down"]);
        assert_unchanged(&before);
    }
}

#[test]
fn the_comparison_notices_what_a_lab_could_leave_behind() {
    let name = format!("weft-lab-control-{}", std::process::id());
    let before = HostState::read().expect("the machine's state reads");
    let ip = |verb: &str| {
        let status = Command::new("ip").args(["netns", verb, &name]).status();
        assert!(status.expect("ip starts").success());
    };
    ip("add");
    let after = HostState::read();
    ip("delete");
    let changes = before.changes_to(&after.expect("the machine's state reads"));
    let noticed = |kind: &str| {
        changes
            .iter()
            .any(|c| c.starts_with(kind) && c.contains(&name))
    };
    assert!(noticed("+ netns"), "{changes:?}");
    assert!(noticed("+ mount"), "{changes:?}");
}

#[test]
fn a_command_on_a_lab_that_is_not_there_says_what_to_do() {
    let output = Command::new(LAB)
        .args(["status", "--name", "never-made"])
        .output()
        .expect("weft-lab starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("weft-lab up --name never-made"), "{text}");
}
