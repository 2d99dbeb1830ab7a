//! Who is who: cookies and customers to people.
//!
//! A log knows customers while they are logged in and cookies all the time. A cookie that one customer was logged in with is that
//! customer's, before the login too. One that several customers were logged in with is shared, a tablet of a household perhaps: an event on it
//! belongs to whoever logged in within the same visit, and to nobody if nobody or several did. Customers are one person only where a job
//! says that cookies make them one. Everything follows from who was seen with which cookie before `as_of`, in no order, so leaving one
//! observation out undoes what it had joined.

mod evidence;
mod links;
mod plan;
mod union_find;

pub use evidence::{Evidence, IdKind, evidence};
pub use links::{Cookie, IdentityCounts, Links, Rules, Seen, Span};
pub(crate) use plan::{evidence_in, links, person};
