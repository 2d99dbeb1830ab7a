//! Rust source as the rules see it: line by line, with comments and literals blanked out.

/// A file of the repository.
pub(super) struct SourceFile {
    /// Its path from the repository's root, with forward slashes.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
    /// The text with comments, strings and characters replaced by spaces, so that a brace is a brace and a word a word.
    pub(super) code: String,
    /// Lines before the unit tests at the end of the file.
    pub(super) n_lines: usize,
}

impl SourceFile {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let n_lines = n_lines_before_tests(path, &code);
        Self { path: path.to_owned(), text: text.to_owned(), code, n_lines }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Written by a tool and not meant to be read.
    pub(super) fn is_generated(&self) -> bool {
        self.path.contains("/gen/") || self.path.contains("/generated/")
    }

    /// Part of a crate, as opposed to tests, benches and build scripts.
    pub(super) fn is_crate_source(&self) -> bool {
        self.is_rust() && self.path.starts_with("crates/") && self.path.contains("/src/")
    }

    /// Lines of code with their numbers, unit tests left out.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().take(self.n_lines).enumerate().map(|(idx, line)| (idx + 1, line))
    }
}

/// Whether `word` stands in `line` with nothing that belongs to a name on either side.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

fn n_lines_before_tests(path: &str, code: &str) -> usize {
    if path.ends_with("/tests.rs") {
        return 0;
    }
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let begins_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests");
    lines.windows(2).position(begins_tests).unwrap_or(lines.len())
}

/// Replaces comments and literals by spaces, line ends aside. Not a lexer: it knows just enough of one.
fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    // Whether the last character was part of a name: only then is an `r` not the beginning of a raw string.
    let mut in_name = false;
    while let Some(first) = rest.chars().next() {
        let length = if in_name { 0 } else { raw_string_length(rest) };
        let length = length.max(comment_length(rest)).max(quoted_length(rest));
        let (skipped, next) = rest.split_at(if length > 0 { length } else { first.len_utf8() });
        match length {
            0 => blanked.push(first),
            _ => blanked.extend(skipped.chars().map(|character| if character == '\n' { '\n' } else { ' ' })),
        }
        in_name = length == 0 && (first.is_alphanumeric() || first == '_');
        rest = next;
    }
    blanked
}

/// Length of the comment that `text` begins with, or 0.
fn comment_length(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let mut depth = 0;
    let mut position = 0;
    while position < text.len() {
        if text.as_bytes()[position..].starts_with(b"/*") {
            depth += 1;
            position += 2;
        } else if text.as_bytes()[position..].starts_with(b"*/") {
            depth -= 1;
            position += 2;
        } else {
            position += 1;
        }
        if depth == 0 {
            return position;
        }
    }
    text.len()
}

/// Length of the raw string (`r"`, `r#"`, `br"` ..) that `text` begins with, or 0.
fn raw_string_length(text: &str) -> usize {
    let after_prefix = text.strip_prefix("br").or_else(|| text.strip_prefix('r')).unwrap_or("");
    let n_hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    let Some(body) = after_prefix[n_hashes..].strip_prefix('"') else {
        return 0;
    };
    let end = format!("\"{}", "#".repeat(n_hashes));
    body.find(&end).map_or(text.len(), |position| text.len() - body.len() + position + end.len())
}

/// Length of the string or character literal that `text` begins with, or 0. A lifetime is no literal.
fn quoted_length(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|first| ['"', '\''].contains(first)) else {
        return 0;
    };
    let mut characters = text[1..].char_indices();
    let mut n_before = 0;
    while let Some((position, character)) = characters.next() {
        let is_lifetime = quote == '\'' && (n_before > 1 || (character == quote && n_before == 0));
        if is_lifetime || (quote == '\'' && character == '\n') {
            return 0;
        }
        if character == quote {
            return position + 2;
        }
        if character == '\\' {
            let escaped = characters.next();
            // `'\u{1F600}'` is the one escape that is longer than a character.
            if quote == '\'' && escaped.is_some_and(|(_, kind)| kind == 'u' || kind == 'x') {
                return text[1..].find('\'').map_or(text.len(), |end| end + 2);
            }
        }
        n_before += 1;
    }
    0
}

#[test]
fn comments_and_literals_are_no_code() {
    let check = |text: &str, expected: &str| assert_eq!(blank(text), expected, "{text}");
    check("a // {\nb", "a     \nb");
    check("a /* { /* } */ */ b", "a                 b");
    check(r#"f("{", 'x', b'{', '\'', "\"}")"#, r#"f(   ,    , b   ,     ,      )"#);
    check("r#\"{\"}\"# bar\"}\"", "         bar   ");
    check("fn f<'a>(x: &'a str) -> '{'", "fn f<'a>(x: &'a str) ->    ");
    check(r"'\u{7b}' '\\' {", r"              {");
    check("let s = \"two\nlines {\";", "let s =     \n        ;");
}
