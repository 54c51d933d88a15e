//! The form of a Corefile: server blocks, plugins in them, properties in these.

use super::ImportError;

/// Zones that are served alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerBlock {
    /// Their names as written, such as `.:53`.
    pub zones: Vec<String>,
    /// What answers.
    pub plugins: Vec<Plugin>,
}

/// A plugin of a server block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// What follows the name.
    pub arguments: Vec<String>,
    /// The lines of its block.
    pub properties: Vec<Vec<String>>,
}

impl Plugin {
    /// The values of a property's first line; none: it is not there.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&[String]> {
        let line = self.properties.iter().find(|line| line[0] == name)?;
        Some(&line[1..])
    }
}

/// Reads a Corefile.
///
/// # Errors
/// A brace without its other half.
pub fn parse(text: &str) -> Result<Vec<ServerBlock>, ImportError> {
    let lines: Vec<Vec<String>> = text.lines().map(words).collect();
    let mut lines = lines.into_iter().filter(|line| !line.is_empty());
    let mut blocks = Vec::new();
    while let Some(mut head) = lines.next() {
        while head.last().is_some_and(|word| word != "{") {
            // Names of zones may stand on several lines.
            match lines.next() {
                Some(more) => head.extend(more),
                None => {
                    return Err(form(format!(
                        "a server block has no brace: {}",
                        head.join(" ")
                    )));
                }
            }
        }
        head.pop();
        let zones = head.iter().map(|zone| zone.trim_end_matches(','));
        let mut block = ServerBlock {
            zones: zones
                .filter(|zone| !zone.is_empty())
                .map(str::to_owned)
                .collect(),
            plugins: Vec::new(),
        };
        loop {
            let Some(mut line) = lines.next() else {
                let zones = block.zones.join(" ");
                return Err(form(format!("the server block {zones} is not closed")));
            };
            if line[0] == "}" {
                break;
            }
            let opens = line.last().is_some_and(|word| word == "{");
            if opens {
                line.pop();
            }
            let mut plugin = Plugin {
                name: line.remove(0),
                arguments: line,
                properties: Vec::new(),
            };
            if opens {
                properties(&mut lines, &mut plugin)?;
            }
            block.plugins.push(plugin);
        }
        blocks.push(block);
    }
    Ok(blocks)
}

/// The lines until the block of a plugin is closed; blocks within it are lines of it.
fn properties(
    lines: &mut impl Iterator<Item = Vec<String>>,
    plugin: &mut Plugin,
) -> Result<(), ImportError> {
    let mut depth = 0;
    for line in lines {
        match (line[0].as_str(), line.last().map(String::as_str)) {
            ("}", _) if depth == 0 => return Ok(()),
            ("}", _) => depth -= 1,
            (_, Some("{")) => {
                depth += 1;
                plugin.properties.push(line[..line.len() - 1].to_vec());
            }
            _ => plugin.properties.push(line),
        }
    }
    let name = &plugin.name;
    Err(form(format!("the block of plugin {name} is not closed")))
}

fn form(fault: String) -> ImportError {
    ImportError::Form(fault)
}

/// The words of a line, without its comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                begun = true;
            }
            '\\' if quoted && letters.peek() == Some(&'"') => word.extend(letters.next()),
            '#' if !quoted && !begun => break,
            letter if letter.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            letter => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_plugins_and_properties_are_told_apart() {
        let text = "# head\n.:53, corp.example {\n  errors # why\n  cache 30 {\n    denial 100 5\n  }\n  template IN A {\n    answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n  }\n}\n";
        let blocks = parse(text).expect("a Corefile");
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].zones, [".:53", "corp.example"]);
        let names: Vec<_> = blocks[0]
            .plugins
            .iter()
            .map(|plugin| &plugin.name)
            .collect();
        assert_eq!(names, ["errors", "cache", "template"]);
        let values = ["100".to_owned(), "5".to_owned()];
        assert_eq!(blocks[0].plugins[1].property("denial"), Some(&values[..]));
        let answer = blocks[0].plugins[2].property("answer").expect("an answer");
        assert_eq!(answer, ["{{ .Name }} 60 IN A 192.0.2.1"]);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        assert!(parse(". {\n errors\n").is_err());
        assert!(parse(". {\n cache {\n}\n").is_err());
        assert!(parse("corp.example\n").is_err());
    }
}
