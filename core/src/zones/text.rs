//! The lexical form of zone files (RFC 1035, 5.1): a line in, words out.
//!
//! Parentheses join lines, a semicolon begins a comment, quotes keep blanks, a backslash keeps any byte.

use thiserror::Error;

use super::name::unescape;

/// One word: its bytes with escapes resolved, and as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    raw: String,
    bytes: Vec<u8>,
}

impl Token {
    /// A word that needs no escapes resolved.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self {
            raw: text.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    /// The bytes that it stands for.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text as written, for names, which resolve escapes themselves.
    #[must_use]
    pub fn name_text(&self) -> String {
        self.raw.clone()
    }

    /// The bytes as text, for messages and numbers.
    #[must_use]
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether it was written exactly so.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.raw == text
    }
}

/// Why text cannot be cut into words.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TextError {
    /// A quote that nothing closes.
    #[error("a quote is not closed")]
    Quote,
    /// A parenthesis without its other half.
    #[error("a parenthesis has no other half")]
    Parenthesis,
    /// A backslash without a character or three digits.
    #[error("a backslash stands before a character or before three digits up to 255")]
    Escape,
}

/// One record's worth of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line where it begins, from 1.
    pub line: usize,
    /// Whether it begins with a blank: the owner is that of the record before.
    pub indented: bool,
    /// The words.
    pub tokens: Vec<Token>,
}

/// Cuts one record's data into words.
///
/// # Errors
/// Text that does not end where a line does.
pub fn tokens(text: &str) -> Result<Vec<Token>, TextError> {
    let entries = entries(text).map_err(|(_, error)| error)?;
    Ok(entries.into_iter().flat_map(|entry| entry.tokens).collect())
}

/// Cuts a zone file into entries, those without words left out.
///
/// # Errors
/// Text that ends within quotes or parentheses, with its line.
pub fn entries(text: &str) -> Result<Vec<Entry>, (usize, TextError)> {
    let mut lexer = Lexer {
        bytes: text.bytes().peekable(),
        line: 1,
        depth: 0,
        entry: Entry::at(1),
        entries: Vec::new(),
        fresh: true,
    };
    lexer.run().map_err(|error| (lexer.line, error))?;
    Ok(lexer.entries)
}

impl Entry {
    fn at(line: usize) -> Self {
        Self {
            line,
            indented: false,
            tokens: Vec::new(),
        }
    }
}

struct Lexer<'a> {
    bytes: std::iter::Peekable<std::str::Bytes<'a>>,
    line: usize,
    depth: usize,
    entry: Entry,
    entries: Vec<Entry>,
    fresh: bool,
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), TextError> {
        while let Some(&byte) = self.bytes.peek() {
            let fresh = std::mem::take(&mut self.fresh);
            match byte {
                b'\n' => {
                    self.bytes.next();
                    self.line += 1;
                    self.end_of_line();
                }
                b' ' | b'\t' | b'\r' => {
                    self.bytes.next();
                    self.entry.indented |= fresh;
                }
                b';' => while self.bytes.next_if(|&byte| byte != b'\n').is_some() {},
                b'(' => {
                    self.bytes.next();
                    self.depth += 1;
                }
                b')' => {
                    self.bytes.next();
                    self.depth = self.depth.checked_sub(1).ok_or(TextError::Parenthesis)?;
                }
                _ => {
                    let token = self.word()?;
                    self.entry.tokens.push(token);
                }
            }
        }
        if self.depth > 0 {
            return Err(TextError::Parenthesis);
        }
        self.end_of_line();
        Ok(())
    }

    fn end_of_line(&mut self) {
        if self.depth > 0 {
            return;
        }
        let entry = std::mem::replace(&mut self.entry, Entry::at(self.line));
        if !entry.tokens.is_empty() {
            self.entries.push(entry);
        }
        self.fresh = true;
    }

    /// A word; quotes may begin within it, as in `key="a value"`.
    fn word(&mut self) -> Result<Token, TextError> {
        let (mut raw, mut bytes) = (Vec::new(), Vec::new());
        let mut quoted = false;
        while let Some(&byte) = self.bytes.peek() {
            match byte {
                b'"' => {
                    self.bytes.next();
                    quoted = !quoted;
                }
                b'\\' => {
                    self.bytes.next();
                    let number = self.bytes.peek().is_some_and(u8::is_ascii_digit);
                    let byte = unescape(&mut self.bytes).map_err(|_| TextError::Escape)?;
                    bytes.push(byte);
                    raw.push(b'\\');
                    match number {
                        true => raw.extend_from_slice(format!("{byte:03}").as_bytes()),
                        false => raw.push(byte),
                    }
                }
                b'\n' | b' ' | b'\t' | b'\r' | b';' | b'(' | b')' if !quoted => break,
                _ => {
                    self.bytes.next();
                    self.line += usize::from(byte == b'\n');
                    raw.push(byte);
                    bytes.push(byte);
                }
            }
        }
        if quoted {
            return Err(TextError::Quote);
        }
        let raw = String::from_utf8_lossy(&raw).into_owned();
        Ok(Token { raw, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let tokens = tokens(text).expect("words");
        tokens.iter().map(Token::lossy).collect()
    }

    #[test]
    fn blanks_part_words_and_quotes_keep_them() {
        assert_eq!(words("a \"b c\" k=\"d e\""), ["a", "b c", "k=d e"]);
        assert_eq!(words("\"\" x"), ["", "x"]);
    }

    #[test]
    fn comments_end_with_the_line_and_parentheses_join_lines() {
        let entries = entries("a ( b ; c )\n d )\n  e\n; f\n").expect("entries");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].tokens.len(), 3);
        assert_eq!((entries[1].line, entries[1].indented), (3, true));
    }

    #[test]
    fn escapes_are_resolved_for_data_and_kept_for_names() {
        let tokens = tokens(r"a\046b\.c\;d").expect("words");
        assert_eq!(tokens[0].lossy(), "a.b.c;d");
        assert_eq!(tokens[0].name_text(), r"a\046b\.c\;d");
    }

    #[test]
    fn text_that_ends_early_is_refused_with_its_line() {
        assert_eq!(entries("a\n\"b"), Err((2, TextError::Quote)));
        assert_eq!(entries("a ("), Err((1, TextError::Parenthesis)));
        assert_eq!(entries("a )"), Err((1, TextError::Parenthesis)));
        assert_eq!(entries(r"a\99"), Err((1, TextError::Escape)));
    }
}
