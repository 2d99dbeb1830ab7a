//! The rules, each a function from a file to what offends against it.

use super::source::{SourceFile, has_word};

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offence {
    path: String,
    line: usize,
    reason: String,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.reason)
    }
}

/// A rule about one file.
pub(super) type Rule = fn(&SourceFile) -> Vec<Offence>;

/// The most lines of a file, unit tests aside: a page or two.
const MAX_FILE_LINES: usize = 400;
/// The most lines of a function, its signature included: what fits on a screen.
const MAX_FUNCTION_LINES: usize = 70;

/// Which of our crates each may use. A crate is added here when it is born; an edge only when the reason for the crate
/// asks for it (docs/ARCHITECTURE.md).
const MAY_USE: [(&str, &[&str]); 12] = [
    ("domain", &[]),
    ("stats", &["domain"]),
    ("clustering", &["domain", "stats"]),
    ("cuda", &["domain", "stats", "clustering"]),
    ("behavior", &["domain", "stats"]),
    ("generator", &["domain", "stats"]),
    ("wire", &["domain", "stats", "clustering"]),
    ("storage", &["domain", "wire"]),
    ("coordination", &[]),
    ("worker", &["domain", "stats", "clustering", "behavior", "wire"]),
    ("coordinator", &["domain", "stats", "clustering", "behavior", "wire", "storage", "coordination"]),
    (
        "cli",
        &[
            "domain",
            "stats",
            "clustering",
            "cuda",
            "behavior",
            "generator",
            "wire",
            "storage",
            "coordination",
            "worker",
            "coordinator",
        ],
    ),
];

/// Crates of pure computation, and what would tie them to a network, a store or a query engine.
const PURE: [&str; 3] = ["domain", "stats", "clustering"];
const IMPURE: [&str; 10] = [
    "tokio",
    "tokio-stream",
    "tonic",
    "tonic-prost",
    "prost",
    "arrow-flight",
    "etcd-client",
    "datafusion",
    "object_store",
    "hyper",
];

fn offence(file: &SourceFile, line: usize, reason: impl Into<String>) -> Offence {
    Offence { path: file.path.clone(), line, reason: reason.into() }
}

/// The dependencies that a manifest names, with their lines; what only tests use does not count.
fn dependencies(manifest: &SourceFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut counts = false;
    for (idx, line) in manifest.text.lines().map(str::trim).enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            counts = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
            // `[dependencies.name]` is a dependency written as a section.
            let name = section.split_once("dependencies.").filter(|(kind, _)| !kind.ends_with("dev-"));
            found.extend(name.map(|(_, name)| (idx + 1, name.to_owned())));
        } else if counts && !line.is_empty() && !line.starts_with('#') {
            let is_name = |character: char| character.is_alphanumeric() || "-_".contains(character);
            found.push((idx + 1, line.chars().take_while(|character| is_name(*character)).collect()));
        }
    }
    found
}

/// Our crates use each other in one direction only.
pub(super) fn dependencies_go_one_way(manifest: &SourceFile) -> Vec<Offence> {
    let Some(name) = crate_of(manifest) else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        let reason = format!("crate `{name}` is not in MAY_USE of tests/it/tidy/rules.rs; add it with what it may use");
        return vec![offence(manifest, 1, reason)];
    };
    let ours = dependencies(manifest)
        .into_iter()
        .filter_map(|(line, dependency)| dependency.strip_prefix("shoal-").map(|used| (line, used.to_owned())));
    let forbidden = ours.filter(|(_, used)| !allowed.contains(&used.as_str()));
    forbidden.map(|(line, used)| offence(manifest, line, format!("`{name}` may not depend on `{used}`"))).collect()
}

/// The pure crates know no network, store or query engine.
pub(super) fn pure_crates_stay_pure(manifest: &SourceFile) -> Vec<Offence> {
    let Some(name) = crate_of(manifest).filter(|name| PURE.contains(name)) else {
        return Vec::new();
    };
    let impure = dependencies(manifest).into_iter().filter(|(_, used)| IMPURE.contains(&used.as_str()));
    impure.map(|(line, used)| offence(manifest, line, format!("`{name}` is pure and may not use `{used}`"))).collect()
}

/// The crate that a manifest belongs to.
fn crate_of(manifest: &SourceFile) -> Option<&str> {
    manifest.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

/// A file is a page or two.
pub(super) fn files_are_short(file: &SourceFile) -> Vec<Offence> {
    if !file.is_rust() || file.is_generated() || file.n_lines <= MAX_FILE_LINES {
        return Vec::new();
    }
    vec![offence(file, MAX_FILE_LINES + 1, format!("{} lines, where {MAX_FILE_LINES} are the most", file.n_lines))]
}

/// A function fits on a screen.
pub(super) fn functions_are_short(file: &SourceFile) -> Vec<Offence> {
    if !file.is_rust() || file.is_generated() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.code.lines().collect();
    let is_long =
        |first: &usize| begins_function(lines[*first]) && n_function_lines(&lines[*first..]) > MAX_FUNCTION_LINES;
    let reason = |first: usize| {
        let n_lines = n_function_lines(&lines[first..]);
        offence(file, first + 1, format!("a function of {n_lines} lines, where {MAX_FUNCTION_LINES} are the most"))
    };
    (0..lines.len()).filter(is_long).map(reason).collect()
}

fn begins_function(line: &str) -> bool {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub(") {
        rest = after.split_once(')').map_or("", |(_, after)| after).trim_start();
    }
    while let Some((word, after)) = rest.split_once(' ') {
        match word {
            "fn" => return true,
            "pub" | "async" | "unsafe" | "const" | "extern" => rest = after.trim_start(),
            _ => return false,
        }
    }
    false
}

/// Lines from the one that begins a function to its closing brace, or to the semicolon of a method without a body.
fn n_function_lines(lines: &[&str]) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (idx, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => braces += 1,
                '}' => braces -= 1,
                // The semicolon of `[u8; 32]` stands inside brackets.
                ';' if braces == 0 && brackets == 0 => return idx + 1,
                _ => continue,
            }
            if character == '}' && braces == 0 && brackets == 0 {
                return idx + 1;
            }
        }
    }
    lines.len()
}

/// A file says what it is for: by a module doc, or, where it holds little more than one item, by the item's doc.
pub(super) fn files_are_documented(file: &SourceFile) -> Vec<Offence> {
    if !file.is_rust() || file.is_generated() || file.text.trim_start().starts_with("//!") {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().map(str::trim_start).collect();
    let first_public = lines.iter().position(|line| line.starts_with("pub ") || line.starts_with("pub("));
    let before = &lines[..first_public.unwrap_or(0)];
    if before.iter().any(|line| line.starts_with("///")) {
        return Vec::new();
    }
    vec![offence(file, 1, "begins without a module doc (`//!`), and its first public item has no doc either")]
}

/// Unsafe code is the business of kernels.
pub(super) fn unsafe_is_confined(file: &SourceFile) -> Vec<Offence> {
    let kernels = ["crates/cuda/", "crates/clustering/src/cpu/", "kernels/emulator/"];
    let is_kernel = kernels.iter().any(|folder| file.path.starts_with(folder));
    if !file.is_rust() || is_kernel {
        return Vec::new();
    }
    let all_lines = file.code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe"));
    let reason = "`unsafe` belongs in crates/cuda, crates/clustering/src/cpu and kernels/emulator";
    all_lines.map(|(idx, _)| offence(file, idx + 1, reason)).collect()
}

/// Nothing in a crate panics because its author was in a hurry.
pub(super) fn nothing_is_left_undone(file: &SourceFile) -> Vec<Offence> {
    let banned = [".unwrap()", "todo!(", "unimplemented!(", "dbg!("];
    let find = |(line, code): (usize, &str)| {
        let found = banned.iter().filter(|banned| code.contains(**banned));
        found
            .map(|banned| offence(file, line, format!("`{banned}`: say by `expect` why it cannot fail")))
            .collect::<Vec<_>>()
    };
    if file.is_crate_source() && !file.is_generated() { file.code_lines().flat_map(find).collect() } else { Vec::new() }
}

/// A thing to be done later is written where work is planned, not in the tree. Whatever the kind of file.
pub(super) fn nothing_is_postponed(file: &SourceFile) -> Vec<Offence> {
    // In pieces, so that the rule does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let find = |(idx, line): (usize, &str)| {
        let found = words.into_iter().find(|word| has_word(line, word))?;
        Some(offence(file, idx + 1, format!("`{found}`: do it, or plan it elsewhere")))
    };
    file.text.lines().enumerate().filter_map(find).collect()
}

/// The terminal, the environment and the clock are the business of the binary: everything else gets values.
pub(super) fn surroundings_are_read_by_the_binary(file: &SourceFile) -> Vec<Offence> {
    if !file.is_crate_source() || file.path.starts_with("crates/cli/") {
        return Vec::new();
    }
    let banned = ["println!", "print!", "eprintln!", "eprint!", "std::env", "env::var", "env::args", "SystemTime::now"];
    // tokio's clock stands still in tests when told to, so waiting code may read it; the system's may not.
    let uses_tokio_clock = |line: &str| line.contains("use tokio::time::") && has_word(line, "Instant");
    let has_tokio_clock = file.code.lines().any(uses_tokio_clock);
    let find = |(line, code): (usize, &str)| {
        let reads_clock =
            code.contains("Instant::now") && !has_tokio_clock && !code.contains("tokio::time::Instant::now");
        let names_clock = code.contains("std::time") && has_word(code, "Instant");
        let found = banned.iter().copied().find(|banned| has_word(code, banned));
        let found = found.or((reads_clock || names_clock).then_some("std::time::Instant"))?;
        Some(offence(file, line, format!("`{found}`: only crates/cli reads its surroundings")))
    };
    file.code_lines().filter_map(find).collect()
}
