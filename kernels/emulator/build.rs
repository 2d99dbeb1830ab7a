//! Compiles the kernels for the CPU.

fn main() {
    println!("cargo::rerun-if-changed=..");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("emulator.cpp")
        .opt_level(2)
        // Every operation is rounded by itself unless the source fuses it.
        .flag("-ffp-contract=off")
        .flag_if_supported("-mfma")
        .flag("-Wno-unknown-pragmas")
        .compile("shoal_emulator");
}
