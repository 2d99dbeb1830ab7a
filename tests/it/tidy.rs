//! The rules of the source tree, as tests: a rule that lives only in a document is broken within a month.
//!
//! A rule is a function from a file to its offences ([`rules`]); what it sees of a Rust file has comments and literals
//! blanked out ([`source`]). Each rule is tried on the tree, and on an example that breaks it.

mod rules;
mod source;

use rules::Rule;
use source::SourceFile;
use std::path::{Path, PathBuf};

/// Where text that people write lies. The folders need not exist yet.
const FOLDERS: [&str; 8] = ["benches", "crates", "deploy", "docs", "kernels", "proto", "tests/it", "xtask"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All text files below [`FOLDERS`].
fn tree() -> Vec<SourceFile> {
    let root = root();
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        FOLDERS.iter().map(|folder| root.join(folder)).filter(|path| path.is_dir()).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder was listed by its parent") {
            let path = entry.expect("an entry of a readable folder").path();
            let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if is_hidden || path.ends_with("target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                // What is not UTF-8 is an image or data, and no rule is about it.
                let relative = path.strip_prefix(&root).expect("every path begins with the root");
                files.push(SourceFile::new(&relative.to_string_lossy().replace('\\', "/"), &text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Fails with every offence in the tree, and when the rule does not see that `text` in `path` breaks it.
fn check(rule: Rule, path: &str, text: &str) {
    let found = rule(&SourceFile::new(path, text));
    assert!(!found.is_empty(), "the rule does not see what is wrong with this example:\n{text}");
    let files = tree();
    assert!(files.iter().any(|file| file.path == "crates/domain/src/lib.rs"), "the tree was not found");
    let offences: Vec<String> = files.iter().flat_map(rule).map(|offence| offence.to_string()).collect();
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

/// Fails unless the rule finds exactly these lines in an example.
fn check_lines(rule: Rule, path: &str, text: &str, expected: &[usize]) {
    let found: Vec<String> = rule(&SourceFile::new(path, text)).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{text}\n{found:?}");
    for (found, line) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("{path}:{line}: ")), "{found} should be in line {line}");
    }
}

#[test]
fn dependencies_go_one_way() {
    let rule = rules::dependencies_go_one_way;
    check(rule, "crates/stats/Cargo.toml", "[dependencies]\nshoal-clustering.workspace = true\n");
    check_lines(rule, "crates/unheard-of/Cargo.toml", "[package]\n", &[1]);
    let manifest = "[dependencies]\nlibm = \"1\"\nshoal-domain = { path = \"../domain\" }\n\n\
                    [dev-dependencies]\nshoal-cli = \"1\"\n\
                    [build-dependencies]\nshoal-wire.workspace = true\n[dependencies.shoal-behavior]\npath = \"x\"\n";
    check_lines(rule, "crates/stats/Cargo.toml", manifest, &[8, 9]);
}

#[test]
fn pure_crates_stay_pure() {
    let rule = rules::pure_crates_stay_pure;
    check(rule, "crates/clustering/Cargo.toml", "[dependencies]\nrayon = \"1\"\ntonic = { version = \"0\" }\n");
    check_lines(rule, "crates/worker/Cargo.toml", "[dependencies]\ntonic = \"0\"\n", &[]);
}

#[test]
fn files_are_short() {
    check(rules::files_are_short, "crates/domain/src/long.rs", &"//!\n".repeat(401));
    let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//!\n".repeat(400), "\n".repeat(300));
    check_lines(rules::files_are_short, "crates/domain/src/short.rs", &with_tests, &[]);
}

#[test]
fn functions_are_short() {
    let rule = rules::functions_are_short;
    let function = |n_inside: usize| {
        format!("\npub(crate) async fn f(\n    x: [u8; 3],\n) {{\n{}}}\n", "    g('}');\n".repeat(n_inside))
    };
    check(rule, "crates/domain/src/long.rs", &function(67));
    check_lines(rule, "crates/domain/src/short.rs", &function(66), &[]);
    check_lines(rule, "tests/it/long.rs", &function(67), &[2]);
    let no_body = format!("trait T {{\n    fn f(&self) -> [u8; 2];\n{}}}\n", "    // a line\n".repeat(80));
    check_lines(rule, "crates/domain/src/trait.rs", &no_body, &[]);
}

#[test]
fn files_are_documented() {
    let rule = rules::files_are_documented;
    check(rule, "crates/domain/src/silent.rs", "use x::Y;\n\npub struct Z;\n/// too late\n");
    check_lines(rule, "crates/domain/src/item.rs", "use x::Y;\n\n/// The one thing here.\npub struct Z;\n", &[]);
    check_lines(rule, "crates/wire/src/gen/x.rs", "pub struct Z;\n", &[]);
}

#[test]
fn unsafe_is_confined() {
    let rule = rules::unsafe_is_confined;
    check(rule, "crates/stats/src/quick.rs", "//! Quick.\nfn f() { unsafe { g() } }\n");
    check_lines(
        rule,
        "crates/stats/src/safe.rs",
        "#![deny(unsafe_code)] // unsafe\nconst X: &str = \"unsafe\";\n",
        &[],
    );
    check_lines(rule, "crates/clustering/src/cpu/x.rs", "unsafe fn f() {}\n", &[]);
}

#[test]
fn nothing_is_left_undone() {
    let rule = rules::nothing_is_left_undone;
    check(rule, "crates/stats/src/hasty.rs", "fn f() { g().unwrap() }\n");
    let text = "fn f() { dbg!(1) }\n// .unwrap()\n#[cfg(test)]\nmod tests { fn g() { f().unwrap() } }\n";
    check_lines(rule, "crates/stats/src/hasty.rs", text, &[1]);
    check_lines(rule, "tests/it/x.rs", text, &[]);
}

#[test]
fn nothing_is_postponed() {
    let later = concat!("# one day\n# TO", "DO: write it\n");
    check(rules::nothing_is_postponed, "docs/plan.md", later);
    check_lines(rules::nothing_is_postponed, "proto/x.proto", later, &[2]);
    check_lines(rules::nothing_is_postponed, "docs/x.md", "METODOS\n", &[]);
}

#[test]
fn surroundings_are_read_by_the_binary() {
    let rule = rules::surroundings_are_read_by_the_binary;
    check(rule, "crates/worker/src/x.rs", "fn f() { println!(\"{}\", 1) }\n");
    let text = "use std::time::{Duration, Instant};\nfn f() { Instant::now() }\nfn g() { std::env::var(\"X\") }\n";
    check_lines(rule, "crates/worker/src/x.rs", text, &[1, 2, 3]);
    check_lines(rule, "crates/cli/src/x.rs", text, &[]);
    let tokio = "use tokio::time::{Duration, Instant};\nfn f() { Instant::now() }\n";
    check_lines(rule, "crates/worker/src/x.rs", tokio, &[]);
    check_lines(rule, "crates/worker/src/x.rs", "fn f() { tokio::time::Instant::now(); SystemTime::now() }\n", &[1]);
}
