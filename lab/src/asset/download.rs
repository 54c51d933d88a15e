//! Fetches an asset from its project's official downloads and checks its SHA-256 sum.
//!
//! Where downloads are closed this fails within seconds, and the asset is built instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::find::search;
use super::versions::Asset;
use crate::progress::Progress;

/// Fetches all programs of an asset into `into`.
pub fn fetch(asset: &Asset, into: &Path, progress: &Progress) -> Result<()> {
    if asset.download.url.is_empty() {
        bail!("it is not published as programs");
    }
    if search("curl").is_none() {
        bail!("cannot be downloaded without curl");
    }
    if asset.download.members.is_empty() {
        for program in asset.programs.keys() {
            let fill = |text: &str| asset.fill(text).replace("{program}", program);
            let (url, checksum) = (fill(&asset.download.url), fill(&asset.download.checksum));
            let file = into.join(program);
            fetch_checked(&url, &checksum, &file, progress)?;
            make_executable(&file)?;
        }
        return Ok(());
    }
    let url = asset.fill(&asset.download.url);
    let archive = into.join("archive");
    fetch_checked(
        &url,
        &asset.fill(&asset.download.checksum),
        &archive,
        progress,
    )?;
    for (program, member) in &asset.download.members {
        let file = fs::File::create(into.join(program))?;
        let output = Command::new("tar")
            .args(["-xzOf"])
            .arg(&archive)
            .arg(asset.fill(member))
            .stdout(file)
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start tar")?
            .wait_with_output()?;
        crate::place::succeeded(&output, &format!("unpacking {program}"))?;
        make_executable(&into.join(program))?;
    }
    Ok(fs::remove_file(&archive)?)
}

fn fetch_checked(url: &str, checksum: &str, file: &Path, progress: &Progress) -> Result<()> {
    let name = url.rsplit('/').next().unwrap_or(url);
    // The small file first: where downloads are closed nothing is announced.
    let sums = file.with_extension("sum");
    curl(checksum, &sums)?;
    let text = fs::read_to_string(&sums)?;
    fs::remove_file(&sums)?;
    let wanted = sum_for(&text, name)
        .with_context(|| format!("{checksum} holds no SHA-256 sum for {name}"))?;
    let step = progress.step(&format!("downloading {name}"));
    curl(url, file)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(file)?, &mut hash)?;
    let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    ensure!(
        found == wanted,
        "{url} has the SHA-256 sum {found}, not {wanted}"
    );
    step.done();
    Ok(())
}

fn curl(url: &str, file: &Path) -> Result<()> {
    let output = Command::new("curl")
        .args([
            "-fsSL",
            "--connect-timeout",
            "3",
            "--speed-limit",
            "1000",
            "--speed-time",
            "15",
            "-o",
        ])
        .arg(file)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .context("failed to start curl")?;
    crate::place::succeeded(&output, "downloading")
}

/// The sum in a file that holds it alone, or a list of sums and names.
fn sum_for(text: &str, name: &str) -> Option<String> {
    let is_sum = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    let mut alone = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(sum) = words.next().filter(|word| is_sum(word)) else {
            continue;
        };
        match words.next() {
            None => alone = Some(sum.to_owned()),
            Some(file) if file.trim_start_matches('*').rsplit('/').next() == Some(name) => {
                return Some(sum.to_owned());
            }
            Some(_) => {}
        }
    }
    alone
}

fn make_executable(file: &Path) -> Result<()> {
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(file, permissions)
        .with_context(|| format!("failed to make {} executable", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_found_alone_and_in_lists() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(sum_for(&a, "kubelet"), Some(a.clone()));
        let list = format!("{a}  x.tar.gz\n{b} *y.tar.gz\n");
        assert_eq!(sum_for(&list, "y.tar.gz"), Some(b));
        assert_eq!(sum_for(&list, "z.tar.gz"), None);
        assert_eq!(sum_for("Not Found", "kubelet"), None);
    }
}
