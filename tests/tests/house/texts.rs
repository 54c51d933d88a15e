//! Rules for texts: YAML in documents parses, links lead somewhere, codes have their page.

use std::path::{Path, PathBuf};

#[test]
fn yaml_in_documents_parses() {
    let mut blocks = 0;
    for path in documents() {
        let text = super::read(&path).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let yaml = block.split("```").next().unwrap();
            blocks += 1;
            for document in yaml.split("\n---\n") {
                let parsed: Result<serde_json::Value, _> = serde_saphyr::from_str(document);
                assert!(
                    parsed.is_ok(),
                    "{}: {}\n{document}",
                    path.display(),
                    parsed.unwrap_err()
                );
            }
        }
    }
    assert!(blocks > 0, "no YAML was found in any document");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in documents() {
        let text = super::read(&path).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let file = path.parent().unwrap_or(Path::new("")).join(target);
            assert!(
                super::root().join(&file).exists(),
                "{}: no such file: {target}",
                path.display()
            );
        }
    }
}

#[test]
fn every_code_in_the_program_has_its_page() {
    let mut found = 0;
    for path in super::files() {
        let rust = path.extension().is_some_and(|extension| extension == "rs");
        if !rust || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = super::read(&path).unwrap();
        for rest in text.split("WEFT-").skip(1) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if digits.len() == 4 {
                found += 1;
                let page = format!("docs/codes/WEFT-{digits}.md");
                assert!(
                    super::root().join(&page).exists(),
                    "{}: {page} is missing",
                    path.display()
                );
            }
        }
    }
    assert!(found > 0, "no code was found in the program");
}

fn documents() -> Vec<PathBuf> {
    super::files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .filter(|path| !path.starts_with("tests/conformance"))
        .collect()
}
