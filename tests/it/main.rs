//! Shoal's integration tests: the crates together, through their public doors.
//!
//! One binary, so that everything is linked once. A module is a topic: [`tidy`] holds the source tree to its rules,
//! [`golden`] compares with scikit-learn, [`behavior`] tests features of events, [`laws`] tests what Shoal promises whatever the data, [`input`] what it says to
//! bad data; [`cli`], [`shop`], [`fleet`], [`stream`], [`faults`] and [`network`] start the program itself, [`simulated`] whole fleets in
//! this process, and [`coordination`] etcd. Modules without tests of their own are helpers.

mod tidy;
mod tls;

mod behavior;
mod cli;
mod coordination;
mod faults;
mod fleet;
mod golden;
mod input;
mod laws;
mod network;
mod shop;
mod simulated;
mod stream;

// Helpers.
mod disturbed;
mod etcd;
mod fixtures;
mod many;
mod memory_rows;
mod process;
mod proxy;
mod reading;
mod rows;
