//! Customers' behaviour that never happened, with the truth about it: for tests of what is found in data, for measurements at any size, and
//! for a first try.
//!
//! People of six kinds visit a shop on the web, look, buy, come back or leave; they have devices, delete cookies, share tablets, and are
//! logged in or not. What a collector makes of that is the log, with all that usually goes wrong. What is true of each row and of
//! each person is kept apart from it. A person is a function of seed and number, so the log is made in pieces on any number of threads,
//! and is the same every time.
//!
//! Where figures come from: weekdays from a year of groceries (Complete Journey), the rate at which people leave from CDNOW's customers; the
//! rest is made up.

mod batch;
mod clock;
mod dirt;
mod event;
mod people;
mod person;
mod persona;
mod random;
mod spec;
mod visit;

pub use batch::{customer_schema, event_schema, truth_schema};
pub use event::{Event, Flaws, Kind, Origin};
pub use people::{Customer, FIRST_BOT, Log, PIECE_PEOPLE, Piece};
pub use persona::{PERSONAS, Persona};
pub use spec::{DirtSpec, GeneratorError, GeneratorSpec};
