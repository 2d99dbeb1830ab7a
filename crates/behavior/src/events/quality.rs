//! What was wrong with a log, by count.

use crate::identity::IdentityCounts;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many events were read, and what became of those that are in no feature: each row is counted in one place. Events at and after `as_of` are in none of the counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Quality {
    /// Customers with at least one event that counts.
    pub n_customers: u64,
    /// Rows of the log.
    pub n_rows: u64,
    /// Events that features were made of.
    pub n_events: u64,
    /// Events removed because they were told twice.
    pub duplicates: DuplicateCounts,
    /// Rows that say too little, and were put in quarantine.
    pub quarantined: QuarantineCounts,
    /// Rows that the job's rules left out, by the rule; they are in quarantine too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Events that count whose kind is none that the job lists or that is known; they are of the kind `other`.
    pub n_unknown_kinds: u64,
    /// What the log calls them: the most frequent names among all its rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_kinds: Vec<UnknownKind>,
    /// What became of cookies, where the log has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityCounts>,
}

impl Quality {
    /// Rows in quarantine, whatever put them there.
    pub fn n_in_quarantine(&self) -> u64 {
        self.quarantined.sum() + self.left_out.values().sum::<u64>()
    }
}

/// A kind that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownKind {
    /// As it is written; empty for none.
    pub name: String,
    /// Rows that have it.
    pub n_rows: u64,
}

/// Events removed, by the rule that removed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DuplicateCounts {
    /// Told by a message that was there before.
    pub message: u64,
    /// Equal to one shortly before.
    pub near: u64,
}

/// Rows put in quarantine, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct QuarantineCounts {
    /// Whose they are is not said.
    pub no_customer: u64,
    /// When it was is not said, or is no time.
    pub no_time: u64,
    /// Purchases whose amount is not said, or is no number.
    pub no_amount: u64,
    /// Events that are not in the tracking plan, or lack a column that it wants.
    pub against_plan: u64,
}

impl QuarantineCounts {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.no_customer + self.no_time + self.no_amount + self.against_plan
    }
}
