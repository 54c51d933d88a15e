//! Puts the plugin where the container runtime looks: the program at start, and the configuration
//! last of all, once the agent can serve. From then on the node is Ready for pods.
//!
//! Both files appear whole or not at all, and stay when the agent stops or is upgraded.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use weft_cni::wire::{DEFAULT_READY_FILE, DEFAULT_SOCKET, DEFAULT_SPOOL};

use crate::cli::Settings;
use crate::errors;
use crate::health::Health;

/// Name of the configuration. Runtimes take the first of the folder by name.
pub const CONF_FILE: &str = "05-weftnet.conflist";
/// Name of the program.
pub const PLUGIN_FILE: &str = "weft-cni";
/// Between attempts, where a folder is not writable.
const PAUSE: Duration = Duration::from_secs(5);

/// A file that could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image lacks the plugin, or it cannot be read.
    #[error("failed to read the plugin {0}; it is part of the agent's image (--cni-plugin)")]
    Plugin(PathBuf, #[source] io::Error),
    /// A folder of the host.
    #[error("failed to write {0}; the host's folder must be mounted writable")]
    Write(PathBuf, #[source] io::Error),
}

/// Installs the plugin, waits for the engine, then writes the configuration and the ready file.
/// Tries again for ever, and says in `health` what is missing.
pub async fn run(settings: Settings, mut engine_ready: watch::Receiver<bool>, health: Arc<Health>) {
    until_done(&health, || {
        install_plugin(&settings.cni_plugin, &settings.cni_bin_dir)
    })
    .await;
    if engine_ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    until_done(&health, || {
        write_whole(&settings.ready_file(), b"", 0o600)?;
        write_whole(
            &settings.cni_conf_dir.join(CONF_FILE),
            &conf(&settings),
            0o644,
        )
    })
    .await;
    tracing::info!("ready: the first plan is in the kernel and the CNI configuration is in place");
    health.set_ready();
}

async fn until_done(health: &Health, mut work: impl FnMut() -> Result<bool, Error>) {
    let mut told = String::new();
    while let Err(error) = work() {
        let text = errors::chain(&error);
        if text != told {
            tracing::error!(error = text, "CNI files not in place; trying again");
            health.set_obstacle(Some(text.clone()));
            told = text;
        }
        tokio::time::sleep(PAUSE).await;
    }
    health.set_obstacle(None);
}

/// Copies the plugin, unless the very same file is there. True where it was copied.
///
/// # Errors
/// Where it cannot be read, or the folder cannot be written.
pub fn install_plugin(source: &Path, folder: &Path) -> Result<bool, Error> {
    let target = folder.join(PLUGIN_FILE);
    let unreadable = |error| Error::Plugin(source.to_owned(), error);
    if same_content(source, &target).map_err(unreadable)? {
        return Ok(false);
    }
    let mut from = File::open(source).map_err(unreadable)?;
    replace(&target, 0o755, |file| io::copy(&mut from, file).map(drop))?;
    Ok(true)
}

/// The configuration, with the paths that differ from the plugin's own defaults.
pub fn conf(settings: &Settings) -> Vec<u8> {
    let mut plugin = Map::new();
    plugin.insert("type".to_owned(), json!(PLUGIN_FILE));
    plugin.insert("capabilities".to_owned(), json!({"portMappings": true}));
    let paths = [
        ("socket", settings.cni_socket(), DEFAULT_SOCKET),
        ("spoolDir", settings.spool_dir(), DEFAULT_SPOOL),
        ("readyFile", settings.ready_file(), DEFAULT_READY_FILE),
    ];
    for (key, path, default) in paths {
        if path != Path::new(default) {
            plugin.insert(key.to_owned(), json!(path));
        }
    }
    let list =
        json!({"cniVersion": "1.1.0", "name": "weftnet", "plugins": [Value::Object(plugin)]});
    format!("{list:#}\n").into_bytes()
}

/// Removes both files.
///
/// # Errors
/// Where one is there and cannot be removed.
pub fn remove(settings: &Settings) -> Result<(), Error> {
    let files = [
        settings.cni_conf_dir.join(CONF_FILE),
        settings.cni_bin_dir.join(PLUGIN_FILE),
        settings.ready_file(),
    ];
    for file in files {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Write(file, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a file whole, unless it has this content. True where it was written.
fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<bool, Error> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    replace(path, mode, |file| file.write_all(content))?;
    Ok(true)
}

/// Writes beside the file under a name that no runtime reads, then renames: readers see the old or
/// the new file, also after a crash.
fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .open(&beside)?;
        fill(&mut file)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| Error::Write(path.to_owned(), error))
}

/// Whether the target is there with the same bytes. Reads in pieces: a plugin is megabytes long.
fn same_content(source: &Path, target: &Path) -> io::Result<bool> {
    let mut source = File::open(source)?;
    let Ok(mut target) = File::open(target) else {
        return Ok(false);
    };
    if target.metadata()?.permissions().mode() & 0o111 == 0 {
        return Ok(false);
    }
    let (mut ours, mut theirs) = ([0; 8192], [0; 8192]);
    loop {
        let count = source.read(&mut ours)?;
        if count == 0 {
            return Ok(target.read(&mut theirs)? == 0);
        }
        if target.read_exact(&mut theirs[..count]).is_err() || ours[..count] != theirs[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settings(flags: &[&str]) -> Settings {
        let Command::Run(settings) =
            Cli::parse_from([&["weft-agent", "run"], flags].concat()).command
        else {
            panic!("not run")
        };
        settings
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_plugin_is_installed_once_and_replaced_when_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let target = folder.path().join("bin");
        fs::create_dir(&target).unwrap();
        fs::write(&source, vec![1; 20_000]).unwrap();
        assert!(install_plugin(&source, &target).unwrap());
        assert!(!install_plugin(&source, &target).unwrap());
        let installed = target.join(PLUGIN_FILE);
        assert_eq!(
            fs::metadata(&installed).unwrap().permissions().mode() & 0o777,
            0o755
        );
        for other in [
            vec![2; 20_000],
            vec![1; 20_001],
            vec![1; 19_999],
            Vec::new(),
        ] {
            fs::write(&source, &other).unwrap();
            assert!(install_plugin(&source, &target).unwrap());
            assert_eq!(fs::read(&installed).unwrap(), other);
        }
        assert_eq!(names(&target), [PLUGIN_FILE]);
    }

    #[test]
    fn a_file_appears_whole_also_over_what_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONF_FILE);
        fs::write(folder.path().join(format!(".{CONF_FILE}.new")), "half").unwrap();
        assert!(write_whole(&path, b"whole", 0o644).unwrap());
        assert!(!write_whole(&path, b"whole", 0o644).unwrap());
        assert!(write_whole(&path, b"other", 0o644).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(names(folder.path()), [CONF_FILE]);
    }

    #[test]
    fn the_configuration_names_paths_only_where_they_differ() {
        let list: Value = serde_json::from_slice(&conf(&settings(&[]))).unwrap();
        assert_eq!(
            list["plugins"],
            json!([{"type": "weft-cni", "capabilities": {"portMappings": true}}])
        );
        assert_eq!(
            (&list["cniVersion"], &list["name"]),
            (&json!("1.1.0"), &json!("weftnet"))
        );
        let list: Value =
            serde_json::from_slice(&conf(&settings(&["--run-dir=/r", "--state-dir=/s"]))).unwrap();
        let plugin = &list["plugins"][0];
        assert_eq!(
            (&plugin["socket"], &plugin["spoolDir"]),
            (&json!("/r/cni.sock"), &json!("/s/spool"))
        );
    }

    #[test]
    fn a_missing_folder_and_a_missing_plugin_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = errors::chain(&install_plugin(&missing, folder.path()).unwrap_err());
        assert!(
            error.contains("missing") && error.contains("--cni-plugin"),
            "{error}"
        );
        let error = errors::chain(&write_whole(&missing.join("x"), b"", 0o644).unwrap_err());
        assert!(error.contains("missing/x"), "{error}");
    }

    #[tokio::test]
    async fn the_configuration_waits_for_the_engine() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("--{name}={}", folder.path().display());
        fs::write(folder.path().join("plugin"), "p").unwrap();
        let plugin = format!("--cni-plugin={}", folder.path().join("plugin").display());
        let settings = settings(&[
            &path("run-dir"),
            &path("cni-conf-dir"),
            &path("cni-bin-dir"),
            &plugin,
        ]);
        let (ready, waiting) = watch::channel(false);
        let health = Arc::new(Health::default());
        let running = tokio::spawn(run(settings, waiting, health.clone()));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(names(folder.path()), ["plugin", PLUGIN_FILE]);
        assert!(!health.is_ready());
        ready.send(true).unwrap();
        running.await.unwrap();
        assert_eq!(
            names(folder.path()),
            [CONF_FILE, "plugin", "ready", PLUGIN_FILE]
        );
        assert!(health.is_ready());
    }
}
