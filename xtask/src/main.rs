//! Chores of the repository.
//!
//! `cargo xtask proto` writes the wire types and the stubs for etcd from `proto/`. The generated code is checked in, so a normal build needs
//! neither `protoc` nor this program; a test here fails when it no longer belongs to the protocol files.
//!
//! `cargo xtask kernels` compiles the CUDA kernels, without a GPU, into the image that the engine embeds; the image is checked
//! in too, and a test fails when it no longer belongs to the sources. With `--check` it only compiles them.
//!
//! `cargo xtask bench` measures the engine beside its peers. It sets up their pinned Python environment by itself, in
//! `target/peers`; Spark also needs Java.

mod bench;
mod kernels;
mod python;

use anyhow::{Context, Result, bail};
use prost::Message;
use std::path::{Path, PathBuf};

const PROTOCOL_FILES: [&str; 3] = ["shoal/v1/jobs.proto", "shoal/v1/fleet.proto", "shoal/v1/flight.proto"];
const DESCRIPTOR: &str = "descriptor.bin";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("proto") => {
            generate(&repository().join("crates/wire/src/gen"))?;
            generate_etcd(&repository().join("crates/coordination/src/gen"))
        }
        Some("kernels") => kernels::run(&repository(), arguments),
        Some("bench") => bench::run(&repository(), arguments),
        _ => bail!(
            "usage: cargo xtask proto | cargo xtask kernels [--check] | cargo xtask bench [--shapes A,B] [--result FOLDER] ..."
        ),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Writes the Rust types and the descriptor set, which gRPC reflection serves, into a folder.
fn generate(folder: &Path) -> Result<()> {
    let descriptors = protox::compile(PROTOCOL_FILES, [repository().join("proto")])?;
    std::fs::write(folder.join(DESCRIPTOR), descriptors.encode_to_vec()).context("descriptor")?;
    tonic_prost_build::configure().out_dir(folder).compile_fds(descriptors)?;
    Ok(())
}

/// Writes a client of the part of etcd's API that is used.
fn generate_etcd(folder: &Path) -> Result<()> {
    let descriptors = protox::compile(["etcd/rpc.proto"], [repository().join("proto")])?;
    tonic_prost_build::configure().build_server(false).out_dir(folder).compile_fds(descriptors)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_code_belongs_to_the_protocol_files() -> Result<()> {
        let fresh = std::env::temp_dir().join(format!("shoal-proto-{}", std::process::id()));
        std::fs::create_dir_all(&fresh)?;
        generate(&fresh)?;
        generate_etcd(&fresh)?;
        let files = [("wire", "shoal.v1.rs"), ("wire", DESCRIPTOR), ("coordination", "etcdserverpb.rs")];
        for (of, name) in files {
            let checked_in = std::fs::read(repository().join("crates").join(of).join("src/gen").join(name))?;
            assert!(checked_in == std::fs::read(fresh.join(name))?, "{name} is stale: run `cargo xtask proto`");
        }
        std::fs::remove_dir_all(&fresh)?;
        Ok(())
    }
}
