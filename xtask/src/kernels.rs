//! The CUDA kernels: compiled without a GPU, for every generation that they run on, into the image that the engine embeds.
//!
//! The image is checked in, so a build needs no CUDA compiler. Beside it lies a digest of what it was made from; a test
//! fails when the sources have moved on.

use crate::python::{done, environment};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ampere, Hopper, Blackwell; for what comes later the driver compiles the first one's intermediate code.
const ARCHITECTURES: [&str; 3] = ["80", "90", "100"];
/// Bytes that a thread may spill: none where the kernels were measured.
const SPILLED_MAX: [u32; 3] = [16, 0, 32];
/// A block has 256 threads, so more registers than this would leave no room for it.
const REGISTERS_MAX: u32 = 255;
const IMAGE: &str = "kernels/images/shoal.fatbin";
const DIGEST: &str = "kernels/images/sources.blake3";

/// Compiles all kernels, says what each takes, and writes the image, or with `--check` only compiles.
pub(crate) fn run(repository: &Path, mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let is_check = match arguments.next().as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("{other}: cargo xtask kernels [--check]"),
    };
    let nvcc = compiler(repository)?;
    let work = repository.join("target/kernels");
    std::fs::create_dir_all(&work)?;
    for (architecture, spilled_max) in ARCHITECTURES.iter().zip(SPILLED_MAX) {
        let output = Command::new(&nvcc)
            .args(["-std=c++17", "-cubin", "-Xptxas", "-v", &format!("-arch=sm_{architecture}"), "-o"])
            .args([work.join(format!("sm_{architecture}.cubin")), repository.join("kernels/shoal.cu")])
            .output()?;
        let report = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sm_{architecture}:\n{report}");
        let kernels = resources(&report);
        ensure!(!kernels.is_empty(), "sm_{architecture}: the compiler reports no kernel:\n{report}");
        for kernel in kernels {
            println!("sm_{architecture} {kernel:?}");
            ensure!(
                kernel.spilled <= spilled_max,
                "{} spills {} bytes on sm_{architecture}",
                kernel.name,
                kernel.spilled
            );
            ensure!(kernel.registers <= REGISTERS_MAX, "{} takes too many registers on sm_{architecture}", kernel.name);
        }
    }
    if !is_check {
        write_image(repository, &nvcc)?;
    }
    ensure!(is_current(repository)?, "{IMAGE} is not of these sources: run `cargo xtask kernels`");
    Ok(())
}

fn compiler(repository: &Path) -> Result<PathBuf> {
    let folder = environment(repository.join("target/cuda"), &repository.join("kernels/requirements.txt"))?;
    for python in std::fs::read_dir(folder.join("lib"))? {
        let nvcc = python?.path().join("site-packages/nvidia/cu13/bin/nvcc");
        if nvcc.is_file() {
            return Ok(nvcc);
        }
    }
    bail!("the compiler's packages hold no nvcc")
}

fn write_image(repository: &Path, nvcc: &Path) -> Result<()> {
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-fatbin", "-Xfatbin=-compress-all", "-Xfatbin=-compress-level=9", "--threads=2"]);
    for architecture in ARCHITECTURES {
        command.arg(format!("-gencode=arch=compute_{architecture},code=sm_{architecture}"));
    }
    let [oldest, ..] = ARCHITECTURES;
    command.arg(format!("-gencode=arch=compute_{oldest},code=compute_{oldest}"));
    done(command.arg("-o").arg(repository.join(IMAGE)).arg(repository.join("kernels/shoal.cu")))?;
    std::fs::write(repository.join(DIGEST), digest(repository)? + "\n").context(DIGEST)
}

/// What a kernel takes of a multiprocessor.
#[derive(Debug, PartialEq)]
struct Resources {
    name: String,
    registers: u32,
    /// Bytes that a thread stores because it has too few registers.
    spilled: u32,
}

/// Reads the compiler's report.
fn resources(report: &str) -> Vec<Resources> {
    let mut found: Vec<Resources> = Vec::new();
    let number_before = |line: &str, what: &str| -> Option<u32> {
        line[..line.find(what)?].rsplit([' ', ',']).find_map(|word| word.parse().ok())
    };
    for line in report.lines() {
        if let Some((_, name)) = line.split_once("Function properties for ") {
            found.push(Resources { name: name.trim().to_owned(), registers: 0, spilled: 0 });
        } else if let Some(kernel) = found.last_mut() {
            kernel.spilled = number_before(line, " bytes spill stores").unwrap_or(kernel.spilled);
            kernel.registers = number_before(line, " registers").unwrap_or(kernel.registers);
        }
    }
    found
}

/// A digest of all that the image is made from.
fn digest(repository: &Path) -> Result<String> {
    let folder = repository.join("kernels");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh"))
        .collect();
    sources.push(folder.join("requirements.txt"));
    sources.sort();
    let mut hasher = blake3::Hasher::new();
    for source in sources {
        let text = std::fs::read(&source).with_context(|| source.display().to_string())?;
        hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
    }
    hasher.update(&std::fs::read(repository.join(IMAGE)).context(IMAGE)?);
    Ok(hasher.finalize().to_hex().to_string())
}

/// Whether the image was made from the sources as they are.
pub(crate) fn is_current(repository: &Path) -> Result<bool> {
    Ok(std::fs::read_to_string(repository.join(DIGEST)).context(DIGEST)?.trim() == digest(repository)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_belongs_to_the_sources() -> Result<()> {
        assert!(is_current(&crate::repository())?, "{IMAGE} is stale: run `cargo xtask kernels`");
        Ok(())
    }

    #[test]
    fn the_compilers_report_is_read() {
        let report = "ptxas info    : Compiling entry function 'add' for 'sm_90'\n\
                      ptxas info    : Function properties for add\n\
                      \x20   8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads\n\
                      ptxas info    : Used 128 registers, used 1 barriers, 8 bytes cumulative stack size\n";
        assert_eq!(resources(report), [Resources { name: "add".to_owned(), registers: 128, spilled: 12 }]);
    }
}
