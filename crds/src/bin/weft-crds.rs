//! Prints the CustomResourceDefinitions as YAML, all of them or one file each into a folder.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let outcome = match (arguments.next(), arguments.next()) {
        (None, _) => weft_crds::definitions().map(|all| {
            for (_, yaml) in all {
                print!("---\n{yaml}");
            }
        }),
        (Some(flag), None) if flag == "--help" || flag == "-h" => {
            println!(
                "weft-crds [FOLDER]: print the CustomResourceDefinitions, or write one file each into FOLDER"
            );
            Ok(())
        }
        (Some(folder), None) => write_all(&PathBuf::from(folder)),
        (Some(_), Some(_)) => {
            Err("too many arguments: weft-crds takes at most one folder".to_owned())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("weft-crds: {message}");
            ExitCode::from(2)
        }
    }
}

fn write_all(folder: &std::path::Path) -> Result<(), String> {
    for (name, yaml) in weft_crds::definitions()? {
        let path = folder.join(format!("{name}.yaml"));
        std::fs::write(&path, yaml)
            .map_err(|error| format!("failed to write {}: {error}", path.display()))?;
    }
    Ok(())
}
