//! Shoal's integration tests: the crates together, through their public doors.
//!
//! One binary, so that everything is linked once. A module is a topic: [`tidy`] holds the source tree to its rules,
//! [`golden`] compares with scikit-learn, [`laws`] tests what Shoal promises whatever the data, [`input`] what it says to
//! bad data; [`cli`], [`fleet`] and [`stream`] start the program itself. Modules without tests of their own are helpers.

mod tidy;

mod cli;
mod fleet;
mod golden;
mod input;
mod laws;
mod stream;

// Helpers.
mod faults;
mod fixtures;
mod memory_rows;
mod process;
mod reading;
