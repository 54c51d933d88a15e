//! The images that the tests' pods ask for, made here under upstream's names: agnhost with the
//! programs that specs start in it, taken from this machine with their libraries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::asset::{build, find, versions};
use crate::cluster::Cluster;
use crate::image::archive::{ImageFile, ImageSpec};
use crate::image::{self, Archive};
use crate::place::succeeded;
use crate::progress::Progress;
use crate::up::Environment;

/// Names that the tests of this release ask for; all are the same image here. The second is the one
/// of DNS specs, which start `dig` and `getent`.
const NAMES: [&str; 2] = [
    "registry.k8s.io/e2e-test-images/agnhost:2.56",
    "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7",
];
/// The pause image that some specs name.
const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// Programs that specs start, by name.
const PROGRAMS: [&str; 25] = [
    "sh", "cat", "curl", "cut", "date", "dig", "env", "false", "getent", "grep", "head",
    "hostname", "id", "ls", "mkdir", "nc", "rm", "seq", "sleep", "sort", "tail", "timeout",
    "touch", "true", "wc",
];

/// Makes the images and gives them to every node's container runtime.
///
/// # Errors
/// When a program is missing or a runtime refuses.
pub fn import(
    env: &Environment,
    cluster: &Cluster,
    agnhost: &Path,
    progress: &Progress,
) -> Result<()> {
    let assets = versions::pinned()?;
    let asset = assets
        .iter()
        .find(|asset| asset.name == "e2e")
        .context("lab/assets/versions.yaml does not name e2e")?;
    build::install_packages(asset, progress)?;
    let files = files(agnhost)?;
    let mut specs: Vec<ImageSpec> = NAMES
        .iter()
        .map(|name| ImageSpec {
            name: (*name).to_owned(),
            files: files.clone(),
            entrypoint: vec!["/agnhost".to_owned()],
            command: vec!["pause".to_owned()],
        })
        .collect();
    let probe = image::programs_dir(env.programs.as_deref())?.join("weft-probe");
    specs.push(ImageSpec {
        name: PAUSE.to_owned(),
        files: vec![ImageFile {
            path: "weft-probe".to_owned(),
            source: probe,
        }],
        entrypoint: vec!["/weft-probe".to_owned(), "pause".to_owned()],
        command: Vec::new(),
    });
    let archives = image::make(&specs, &env.source.cache, progress)?;
    let step = progress.step("importing the tests' images");
    for node in cluster.nodes() {
        let place = cluster.place(&node.name)?;
        for Archive { name: _, file } in &archives {
            let file = file.display().to_string();
            place.text(&["ctr", "-n", "k8s.io", "images", "import", "--local", &file])?;
        }
    }
    step.done();
    Ok(())
}

/// agnhost, the programs, and every library that they load, by their paths in the image.
fn files(agnhost: &Path) -> Result<Vec<ImageFile>> {
    let mut files = BTreeMap::from([("agnhost".to_owned(), agnhost.to_owned())]);
    for program in PROGRAMS {
        let source = find::search(program)
            .with_context(|| format!("{program} is not on this machine, and the tests need it"))?;
        for library in libraries(&source)? {
            let path = library.display().to_string();
            files.insert(path.trim_start_matches('/').to_owned(), library);
        }
        files.insert(format!("bin/{program}"), source);
    }
    let files = files
        .into_iter()
        .map(|(path, source)| ImageFile { path, source });
    Ok(files.collect())
}

/// The libraries of a program, its loader included (ldd(1)).
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("failed to start ldd")?;
    succeeded(&output, &format!("ldd {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    Ok(paths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_comes_with_its_loader_and_its_c_library() {
        let libraries = libraries(&find::search("sh").unwrap()).unwrap();
        let names: Vec<String> = libraries
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert!(
            names.iter().any(|name| name.contains("libc.so")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.contains("ld-linux")),
            "{names:?}"
        );
    }
}
