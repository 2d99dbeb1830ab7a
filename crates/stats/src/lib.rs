//! Numbers to decisions, as pure mathematics: exact sums, moments, quantiles, counter-based random numbers.
//!
//! Everything here answers the same on every machine: logarithms come from `libm` instead of the system's library,
//! sums are exact or in block order, and random numbers are a function of what they are for. The price is a few
//! nanoseconds a call where the hardware's own way would do; the gain is Shoal's first law, same bits.

mod exact;
mod markov;
mod moments;
mod philox;
mod quantile;
mod terms;

pub use exact::ExactSum;
pub use markov::{MarkovChain, order_bic};
pub use moments::ColumnMoments;
pub use philox::{RandomStream, philox4x32_10};
pub use quantile::{DIGIT_BUCKETS, DigitCounts, DigitQuery, QuantileSearch};
pub use terms::ExactTerms;
