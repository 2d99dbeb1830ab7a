//! A customer's history: events in order, what was told twice, sessions and orders. Pure functions; plans are elsewhere.

mod duplicates;
mod event;
mod orders;
mod sessions;

pub use duplicates::{Duplicates, Removed};
pub use event::{Event, Flawed, History};
pub use orders::{Order, orders_of};
pub use sessions::{Session, sessions_of};
