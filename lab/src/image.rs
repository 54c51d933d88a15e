//! The images of a lab: Weftnet's own, the helper program, pause and CoreDNS, made without a registry.
//!
//! Each holds one or two static programs. Archives are named by what they are made of, so nothing is
//! made twice, and the same input gives the same bytes.

pub mod archive;
pub mod template;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::asset::Programs;
use crate::progress::Progress;
use archive::{ImageFile, ImageSpec};

/// The container runtime completes names without a host with this one before it looks them up, so an
/// imported image must bear the completed name. Nothing is ever fetched from there.
const RUNTIME_DEFAULT_HOST: &str = "docker.io";

/// The tag of all images made here.
pub const TAG: &str = "dev";
/// The agent with the CNI plugin.
pub const AGENT: &str = "weftnet/agent:dev";
/// The operator.
pub const OPERATOR: &str = "weftnet/operator:dev";
/// The helper program of test pods.
pub const PROBE: &str = "weftnet/lab-probe:dev";
/// Weftnet's DNS server.
pub const DNS: &str = "weftnet/dns:dev";
/// What holds a pod's namespaces.
pub const PAUSE: &str = "weftnet/lab-pause:dev";
/// CoreDNS.
pub const COREDNS: &str = "weftnet/lab-coredns:dev";

/// A reference as the container runtime knows it: with a host.
pub fn runtime_reference(name: &str) -> String {
    match name.split_once('/') {
        None => format!("{RUNTIME_DEFAULT_HOST}/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("{RUNTIME_DEFAULT_HOST}/{name}"),
    }
}

/// One archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The image's name.
    pub name: String,
    /// The file.
    pub file: PathBuf,
}

/// All images of a lab. `programs_dir` holds Weftnet's own programs.
pub fn specs(programs: &Programs, programs_dir: &Path) -> Vec<ImageSpec> {
    let own = |name: &str| programs_dir.join(name);
    let image = |name: &str, files: Vec<(&str, PathBuf)>, entrypoint: &[&str]| ImageSpec {
        name: name.to_owned(),
        files: files
            .into_iter()
            .map(|(path, source)| ImageFile {
                path: path.to_owned(),
                source,
            })
            .collect(),
        entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
        command: Vec::new(),
    };
    let agent = vec![
        ("weft-agent", own("weft-agent")),
        ("weft-cni", own("weft-cni")),
    ];
    let probe = || vec![("weft-probe", own("weft-probe"))];
    let mut images = vec![
        image(AGENT, agent, &["/weft-agent"]),
        image(
            OPERATOR,
            vec![("weft-operator", own("weft-operator"))],
            &["/weft-operator"],
        ),
        image(PROBE, probe(), &["/weft-probe"]),
        image(PAUSE, probe(), &["/weft-probe", "pause"]),
        image(
            COREDNS,
            vec![("coredns", programs.path("coredns"))],
            &["/coredns"],
        ),
    ];
    // A lab that leaves DNS to CoreDNS needs none.
    let dns = own("weft-dns");
    if dns.is_file() {
        images.push(image(DNS, vec![("weft-dns", dns)], &["/weft-dns"]));
    }
    images
}

/// The folder of Weftnet's own programs: the one that was named, else where this program lies.
pub fn programs_dir(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    let own = crate::place::own_program()?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Makes the archives that are not in the cache yet.
pub fn make(specs: &[ImageSpec], cache: &Path, progress: &Progress) -> Result<Vec<Archive>> {
    let dir = cache.join("images");
    fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let mut archives = Vec::new();
    for spec in specs {
        let file = dir.join(format!("{}-{}.tar", file_name(&spec.name), stamp(spec)?));
        if !file.exists() {
            let step = progress.step(&format!("making image {}", spec.name));
            archive::write(spec, &runtime_reference(&spec.name), &file)?;
            remove_older(&dir, &spec.name, 3);
            step.done();
        }
        archives.push(Archive {
            name: spec.name.clone(),
            file,
        });
    }
    Ok(archives)
}

/// A text that changes with an image's content, without reading all of it: names, sizes and times.
pub fn stamp(spec: &ImageSpec) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(&spec.name);
    for word in spec.entrypoint.iter().chain(&spec.command) {
        hash.update([0]);
        hash.update(word);
    }
    for file in &spec.files {
        let Ok(found) = fs::metadata(&file.source) else {
            bail!(
                "{} is missing for the image {}: build all programs with `make build`, or name their folder with --programs",
                file.source.display(),
                spec.name
            );
        };
        hash.update([0]);
        hash.update(&file.path);
        for number in [found.len(), found.ino(), found.mtime_nsec().unsigned_abs()] {
            hash.update(number.to_le_bytes());
        }
        hash.update(found.mtime().to_le_bytes());
    }
    Ok(hex(&hash.finalize(), 6))
}

/// The first bytes of a digest as text.
pub fn hex(digest: &[u8], bytes: usize) -> String {
    digest
        .iter()
        .take(bytes)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A name usable for a file.
pub fn file_name(image: &str) -> String {
    image.replace(['/', ':'], "-")
}

/// Keeps the newest archives of an image: each build of a program makes another.
fn remove_older(dir: &Path, image: &str, keep: usize) {
    let prefix = format!("{}-", file_name(image));
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    for (_, path) in found.iter().rev().skip(keep) {
        // In use by another lab at this moment, or gone already: both are harmless.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_the_runtime_completes_them() {
        let host = RUNTIME_DEFAULT_HOST;
        assert_eq!(
            runtime_reference("weftnet/agent:dev"),
            format!("{host}/weftnet/agent:dev")
        );
        assert_eq!(
            runtime_reference("pause:1"),
            format!("{host}/library/pause:1")
        );
        assert_eq!(runtime_reference("example.test/a:1"), "example.test/a:1");
        assert_eq!(
            runtime_reference("localhost:5000/a:1"),
            "localhost:5000/a:1"
        );
    }

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let spec = ImageSpec {
            name: "weftnet/agent:dev".to_owned(),
            files: vec![ImageFile {
                path: "weft-agent".to_owned(),
                source: PathBuf::from("/nowhere/weft-agent"),
            }],
            entrypoint: Vec::new(),
            command: Vec::new(),
        };
        let error = stamp(&spec).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/weft-agent") && error.contains("make build"),
            "{error}"
        );
    }
}
