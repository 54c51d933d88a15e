//! Writes an image as an OCI archive (OCI image layout 1.0 in a tar file), always the same bytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::hex;
use crate::asset::versions::architecture;

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path in the image, without a leading slash.
    pub path: String,
    /// Where its content is.
    pub source: PathBuf,
}

/// What an image is made of: programs, in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// Its name and tag.
    pub name: String,
    /// Its files.
    pub files: Vec<ImageFile>,
    /// What runs.
    pub entrypoint: Vec<String>,
    /// Its arguments where a container gives none.
    pub command: Vec<String>,
}

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Empty folders that programs and container runtimes expect.
const FOLDERS: [&str; 6] = ["dev", "etc", "proc", "run", "sys", "tmp"];

/// Writes the archive of an image under the reference that it is to be found by. Returns the digest
/// of its manifest.
pub fn write(spec: &ImageSpec, reference: &str, file: &Path) -> Result<String> {
    let layer = layer(spec)?;
    let layer_digest = digest(&layer);
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": spec.entrypoint,
            "Cmd": spec.command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let config_digest = digest(&config);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &config_digest, config.len()),
        "layers": [descriptor(LAYER_TYPE, &layer_digest, layer.len())],
    }))?;
    let manifest_digest = digest(&manifest);
    let mut entry = descriptor(MANIFEST_TYPE, &manifest_digest, manifest.len());
    entry["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [entry],
    }))?;

    let new = file.with_extension("new");
    let output =
        File::create(&new).with_context(|| format!("failed to write {}", new.display()))?;
    let mut tar = tar::Builder::new(output);
    let blob = |digest: &str| format!("blobs/sha256/{digest}");
    append(
        &mut tar,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    append(&mut tar, "index.json", &index, 0o644)?;
    append(&mut tar, &blob(&manifest_digest), &manifest, 0o644)?;
    append(&mut tar, &blob(&config_digest), &config, 0o644)?;
    append(&mut tar, &blob(&layer_digest), &layer, 0o644)?;
    tar.into_inner()?.flush()?;
    fs::rename(&new, file).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(manifest_digest)
}

fn layer(spec: &ImageSpec) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in FOLDERS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        set_owner_and_time(&mut header);
        tar.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
    }
    let mut files: Vec<_> = spec.files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        let content = fs::read(&file.source)
            .with_context(|| format!("failed to read {}", file.source.display()))?;
        append(&mut tar, &file.path, &content, 0o755)?;
    }
    Ok(tar.into_inner()?)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    set_owner_and_time(&mut header);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn set_owner_and_time(header: &mut tar::Header) {
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
}

fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content), 32)
}

fn descriptor(kind: &str, digest: &str, size: usize) -> serde_json::Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(source: &Path) -> ImageSpec {
        ImageSpec {
            name: "weftnet/test:dev".to_owned(),
            files: vec![ImageFile {
                path: "program".to_owned(),
                source: source.to_owned(),
            }],
            entrypoint: vec!["/program".to_owned()],
            command: Vec::new(),
        }
    }

    #[test]
    fn the_same_content_gives_the_same_archive() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("program");
        fs::write(&source, "one").unwrap();
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        let first = write(&spec(&source), "host.test/weftnet/test:dev", &a).unwrap();
        // A new file with another time and inode, but the same content.
        fs::remove_file(&source).unwrap();
        fs::write(&source, "one").unwrap();
        let second = write(&spec(&source), "host.test/weftnet/test:dev", &b).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        fs::write(&source, "two").unwrap();
        assert_ne!(
            first,
            write(&spec(&source), "host.test/weftnet/test:dev", &b).unwrap()
        );
    }

    #[test]
    fn every_blob_bears_the_digest_of_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let (source, archive) = (dir.path().join("program"), dir.path().join("a.tar"));
        fs::write(&source, "content").unwrap();
        let manifest = write(&spec(&source), "host.test/a:1", &archive).unwrap();
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(File::open(&archive).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            if let Some(expected) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), expected);
            }
            names.push(name);
        }
        assert!(names.contains(&format!("blobs/sha256/{manifest}")));
        assert_eq!(names.len(), 5, "{names:?}");
    }
}
