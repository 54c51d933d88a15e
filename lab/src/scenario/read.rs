//! Scenario files into scenarios: a mistake is named with file, line and remedy before any cluster
//! is touched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::model::{Dial, Scenario, Step};
use super::number::{Pause, duration};

/// A scenario and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file.
    pub file: PathBuf,
    /// What it says.
    pub scenario: Scenario,
}

impl Loaded {
    /// The file's name without its ending.
    pub fn stem(&self) -> String {
        self.file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// Reads files and folders (whole trees), in the order of their names.
///
/// # Errors
/// Every mistake in every file, or when there is no file at all.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Loaded>> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        bail!("there is no scenario file (*.yaml) in {paths:?}");
    }
    let (mut loaded, mut mistakes) = (Vec::new(), Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        match parse(&text) {
            Ok(scenario) => loaded.push(Loaded { file, scenario }),
            Err(error) => mistakes.push(format!("{}: {error:#}", file.display())),
        }
    }
    if mistakes.is_empty() {
        Ok(loaded)
    } else {
        Err(anyhow!(mistakes.join("\n")))
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if entry
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(entry);
        }
    }
    Ok(())
}

/// Reads one scenario and checks what its types cannot say.
///
/// # Errors
/// The line and what is wrong with it, or a sentence about a name or duration.
pub fn parse(text: &str) -> Result<Scenario> {
    let scenario: Scenario = serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let mut mistakes = Vec::new();
    for flow in &scenario.always.flows {
        place(&scenario, &flow.from, &mut mistakes);
        place(&scenario, &flow.to, &mut mistakes);
    }
    for dial in &scenario.always.dials {
        dialled(&scenario, dial, &mut mistakes);
    }
    let controls = scenario
        .controls
        .iter()
        .flat_map(|control| [&control.inject, &control.detect, &control.heal]);
    for steps in [&scenario.steps, &scenario.finally]
        .into_iter()
        .chain(controls)
    {
        check(&scenario, steps, &mut mistakes);
    }
    if mistakes.is_empty() {
        Ok(scenario)
    } else {
        Err(anyhow!(mistakes.join("; ")))
    }
}

fn check(scenario: &Scenario, steps: &[Step], mistakes: &mut Vec<String>) {
    let mut time = |text: &str| mistakes.extend(duration(text).err());
    for step in steps {
        match step {
            Step::Connect(what) => {
                time(&what.within);
                time(&what.timeout);
            }
            Step::Expect(what) => {
                time(&what.within);
                what.steadily.iter().for_each(|text| time(text));
            }
            Step::Event(what) => time(&what.within),
            Step::Exec(what) => what.within.iter().for_each(|text| time(text)),
            Step::Wait(Pause::Fixed(text)) => time(text),
            Step::Wait(
                Pause::Sets { short: a, full: b } | Pause::Between { least: a, most: b },
            ) => {
                time(a);
                time(b);
            }
            _ => {}
        }
    }
    for step in steps {
        match step {
            Step::Connect(what) => {
                place(scenario, &what.from, mistakes);
                if what.to != "localhost" {
                    target(scenario, &what.to, mistakes);
                }
            }
            Step::Dial(what) => dialled(scenario, what, mistakes),
            Step::Exec(what) => place(scenario, &what.place, mistakes),
            Step::Probe(what) => {
                place(scenario, &what.from, mistakes);
                place(scenario, &what.to, mistakes);
            }
            Step::Spoof(what) => {
                place(scenario, &what.from, mistakes);
                what.watch
                    .iter()
                    .for_each(|name| place(scenario, name, mistakes));
            }
            Step::Create(what) => place(scenario, &what.pod, mistakes),
            Step::Repeat(what) => check(scenario, &what.steps, mistakes),
            _ => {}
        }
    }
}

fn dialled(scenario: &Scenario, what: &Dial, mistakes: &mut Vec<String>) {
    mistakes.extend(duration(&what.timeout).err());
    mistakes.extend(duration(&what.within).err());
    place(scenario, &what.from, mistakes);
    target(scenario, &what.to, mistakes);
}

/// Is it a place, an address or a Service?
fn target(scenario: &Scenario, text: &str, mistakes: &mut Vec<String>) {
    let is_service = text.starts_with("service/") || text.starts_with("balancer/");
    if !is_service && text.parse::<std::net::IpAddr>().is_err() {
        place(scenario, text, mistakes);
    }
}

/// Is it a pod, one of a group of pods, a node or a place?
fn place(scenario: &Scenario, text: &str, mistakes: &mut Vec<String>) {
    let known = |name: &str| {
        let group = name
            .rsplit_once('-')
            .filter(|(_, number)| number.parse::<u32>().is_ok());
        scenario.pods.contains_key(name)
            || group.is_some_and(|(name, _)| scenario.pods.contains_key(name))
    };
    let pod = text.split('/').next().unwrap_or_default();
    let is_node = text
        .strip_prefix("node/")
        .is_some_and(|number| number.parse::<u32>().is_ok_and(|n| n > 0));
    if !(is_node
        || text.contains("${")
        || matches!(text, "outside" | "machine" | "switch")
        || known(pod))
    {
        let pods: Vec<&str> = scenario.pods.keys().map(String::as_str).collect();
        mistakes.push(format!(
            "{text:?} is nowhere: write a pod of this file ({}), POD/CONTAINER, node/1 or outside",
            pods.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = parse("name: a\nsteps:\n- connect: {from: a, to: b, prot: 1}\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("prot") && error.contains('3'), "{error}");
    }

    #[test]
    fn an_unknown_pod_is_named_with_those_that_there_are() {
        let text = "name: a\npods: {client: {}}\nsteps:\n- connect: {from: client, to: sever}\n";
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains("sever") && error.contains("client"),
            "{error}"
        );
        assert!(parse(&text.replace("sever", "node/2")).is_ok());
        assert!(parse(&text.replace("sever", "node/0")).is_err());
    }

    #[test]
    fn a_duration_that_is_none_is_refused() {
        let error = parse("name: a\nsteps:\n- wait: soon\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("soon"), "{error}");
    }

    #[test]
    fn every_scenario_of_this_project_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let loaded = load(&[folder]).unwrap();
        assert!(
            loaded.len() > 10,
            "only {} scenarios: the list is broken",
            loaded.len()
        );
        for one in &loaded {
            assert!(
                one.scenario.name.ends_with(|c: char| c.is_alphanumeric()),
                "{}",
                one.scenario.name
            );
        }
    }
}
