//! Golden files: `golden/<feature>/<case>/input.yaml` in, the feature's part of the plan as text out.
//!
//! Each file shows only what its feature makes, so that a change of one feature changes its own
//! files alone; `golden/plan/` shows everything.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use weft_core::compile::{self, Incremental};
use weft_core::plan::NodePlan;

use crate::cluster;

/// What a feature makes: beginnings of lines of the plan, of chains' names and of sets' names.
struct Feature {
    name: &'static str,
    lines: &'static [&'static str],
    chains: &'static [&'static str],
    sets: &'static [&'static str],
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "plan",
        lines: &[""],
        chains: &[""],
        sets: &[""],
    },
    Feature {
        name: "routes",
        lines: &["route "],
        chains: &[],
        sets: &[],
    },
    Feature {
        name: "overlay",
        lines: &["link weftx", "neighbour ", "fdb ", "route "],
        chains: &[],
        sets: &[],
    },
    Feature {
        name: "pods",
        lines: &["link ", "address ", "neighbour ", "route "],
        chains: &[],
        sets: &[],
    },
    Feature {
        name: "masquerade",
        lines: &[],
        chains: &["masquerade", "nat"],
        sets: &["masquerade", "pod-networks", "nodes"],
    },
    Feature {
        name: "spoof",
        lines: &[],
        chains: &["from-pod", "vxlan"],
        sets: &["pod-sources", "vxlan"],
    },
    Feature {
        name: "host_ports",
        lines: &[],
        chains: &["host-ports", "nat"],
        sets: &["host-ports", "hairpin"],
    },
    Feature {
        name: "dns",
        lines: &["route "],
        chains: &["dns"],
        sets: &["node-dns"],
    },
    Feature {
        name: "sysctls",
        lines: &["sysctl "],
        chains: &[],
        sets: &[],
    },
    Feature {
        name: "mtu",
        lines: &["link ", "route "],
        chains: &[],
        sets: &[],
    },
];

#[test]
fn compiled_plans_are_as_committed() {
    let mut seen = 0;
    for feature in FEATURES {
        for case in folders(&root().join(feature.name)) {
            seen += 1;
            let text = std::fs::read_to_string(case.join("input.yaml")).unwrap();
            let parsed = cluster::load(&text);
            let (plan, findings) = compile::all(&parsed.view);
            assert_eq!(plan.table.faults(), [], "{}", case.display());
            assert_eq!(
                Incremental::new(parsed.view.clone()).plan(),
                &plan,
                "{}",
                case.display()
            );
            let mut out = feature.part(&plan);
            for rejection in &parsed.rejections {
                writeln!(out, "rejected [{}] {rejection}", rejection.code()).unwrap();
            }
            for finding in &findings {
                writeln!(out, "found [{}] {finding}", finding.code()).unwrap();
            }
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(&case);
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!("plan", out));
        }
    }
    assert!(seen >= FEATURES.len(), "only {seen} cases were found");
}

#[test]
fn every_folder_belongs_to_a_feature() {
    // Services have files of another form: `services::golden`.
    for folder in folders(&root()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(
            name == "services" || FEATURES.iter().any(|feature| feature.name == name),
            "{name}"
        );
    }
}

impl Feature {
    fn part(&self, plan: &NodePlan) -> String {
        let begins = |text: &str, with: &[&str]| with.iter().any(|start| text.starts_with(start));
        let mut table = plan.table.clone();
        table.chains.retain(|name, _| begins(name, self.chains));
        table.sets.retain(|name, _| begins(name, self.sets));
        let rest = NodePlan {
            net: plan.net.clone(),
            sysctls: plan.sysctls.clone(),
            ..NodePlan::default()
        };
        let mut out: String = rest
            .to_string()
            .lines()
            .filter(|line| begins(line, self.lines))
            .flat_map(|line| [line, "\n"])
            .collect();
        if !table.chains.is_empty() || !table.sets.is_empty() {
            out += &table.to_string();
        }
        out
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}
