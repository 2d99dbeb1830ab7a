//! What the rows of an event log mean, and how they become features.

use crate::DomainError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The columns of an event log, one row for each thing that a customer did, and how to read them. Times without a zone are taken as
/// UTC. Events at and after `as_of` are left out, so that the features of a day stay what they were when later events come in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsSpec {
    /// Who did it, as far as the log knows.
    pub customer: String,
    /// The cookie or installation that it was done with. Events without a customer then belong to the customer who was logged in
    /// with it; see `identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<String>,
    /// How customers and cookies become people.
    #[serde(default, skip_serializing_if = "IdentitySpec::is_default")]
    pub identity: IdentitySpec,
    /// When: a timestamp or date column.
    pub time: String,
    /// A column of whole numbers by which events of the same time are in order. Without it they are in that of their kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What kind of thing it was: a text column. Give this or `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// All events are of this kind; instead of `kind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<EventKind>,
    /// Which values of `kind` are of which kind. Values that no list has are understood where they are one of our kinds, of
    /// Segment's e-commerce events or of Google Analytics' recommended events, and `other` if not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<EventKind, Vec<String>>,
    /// The tracking plan: which events there are, by their names in the column `kind`, and which columns each must have. Events that it does
    /// not list, and those that lack a column, are put in quarantine. Without one every event is taken.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plan: BTreeMap<String, Vec<String>>,
    /// Which order (basket, receipt) a purchase belongs to. Without it every purchase is an order of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// What was paid for a purchase, rounded to six decimals; refunds are negative. Purchases without an amount are put in
    /// quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// What the event was about: the page, product or feature that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// What journeys go through: a text column with few values. `kind` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The column by which a message that was sent twice is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The day from which features look back, `YYYY-MM-DD`.
    pub as_of: String,
    /// Removes an event when the same customer has had one of the same kind, order, amount and item, which was not removed, at most so many
    /// seconds before: at the same time for 0. Not done when absent: two equal purchases on one day are nothing wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub near_duplicate_seconds: Option<f64>,
    /// Minutes without an event after which the next one begins another session.
    #[serde(default = "EventsSpec::default_session_gap_minutes")]
    #[schemars(range(min = 0.0))]
    pub session_gap_minutes: f64,
    /// How much each event counts for the feature `engagement`.
    #[serde(default)]
    pub engagement: EngagementSpec,
    /// Rules for rows that are no customer's doing, such as those of bots, tests and staff: a name, and a condition in SQL of the columns of
    /// a row. Rows of which one is true are put in quarantine under its name, the first in order of names, and counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leave_out: BTreeMap<String, String>,
    /// Features of the job's own: a name, and an SQL aggregate of the events of a customer that count, such as
    /// `avg(case when device = 'mobile' then 1 else 0 end)`. Sums and means of fractions are of millionths, so that their order leaves
    /// no trace. A message that was sent twice is there once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, String>,
    /// Affinities: for each of the categories that a column has, the share of a customer's events with a category that have this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<AffinitySpec>,
}

/// What customers are drawn to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffinitySpec {
    /// A column with few values, such as the category of a product.
    pub column: String,
    /// So many categories, those with the most events, become features `affinity_<category>`. Those that `source.features` lists do
    /// whatever their number.
    #[serde(default = "AffinitySpec::default_top")]
    #[schemars(range(min = 1))]
    pub top: usize,
}

impl AffinitySpec {
    /// Categories that become features when the job does not say.
    pub const DEFAULT_TOP: usize = 8;

    fn default_top() -> usize {
        Self::DEFAULT_TOP
    }
}

impl EventsSpec {
    /// As Google Analytics has it.
    pub const DEFAULT_SESSION_GAP_MINUTES: f64 = 30.0;

    fn default_session_gap_minutes() -> f64 {
        Self::DEFAULT_SESSION_GAP_MINUTES
    }

    /// Checks what the types alone cannot.
    pub(crate) fn check(&self) -> Result<(), DomainError> {
        let wrong = |field, reason| Err(DomainError::Job { field, reason });
        let is_duration = |value: f64| value.is_finite() && value >= 0.0;
        match (&self.kind, &self.every) {
            (Some(_), Some(_)) => return wrong("source.events", "give `kind` or `every`, not both"),
            (None, None) => return wrong("source.events", "give `kind` (a column) or `every` (one kind for all rows)"),
            (None, Some(_)) if !self.plan.is_empty() => {
                return wrong("source.events.plan", "is about the names in the column `kind`; there is none");
            }
            (None, Some(_)) if !self.kinds.is_empty() => {
                return wrong("source.events.kinds", "says which values of the column `kind` are what; there is none");
            }
            _ => {}
        }
        if self.anonymous.is_none() && self.identity != IdentitySpec::default() {
            return wrong("source.events.identity", "is about the column `anonymous`; there is none");
        }
        if self.identity.merge_customers_up_to.is_some_and(|most| most < 2) {
            return wrong("source.events.identity.merge_customers_up_to", "must be at least 2");
        }
        if !is_duration(self.session_gap_minutes) {
            return wrong("source.events.session_gap_minutes", "must be a finite number, 0 or more");
        }
        if !self.near_duplicate_seconds.is_none_or(is_duration) {
            return wrong("source.events.near_duplicate_seconds", "must be a finite number, 0 or more");
        }
        if !(self.measures.is_empty() && self.affinity.is_none()) && self.near_duplicate_seconds.is_some() {
            return wrong(
                "source.events.near_duplicate_seconds",
                "cannot be given with `measures` or `affinity`, which would see what it removes",
            );
        }
        if self.affinity.as_ref().is_some_and(|affinity| affinity.top == 0) {
            return wrong("source.events.affinity.top", "must be at least 1");
        }
        let mut values: Vec<&String> = self.kinds.values().flatten().collect();
        values.sort();
        if values.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("source.events.kinds", "lists one value twice");
        }
        self.engagement.check()
    }

    /// The columns that the job names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let optional = [
            &self.anonymous,
            &self.sequence,
            &self.kind,
            &self.order,
            &self.amount,
            &self.item,
            &self.state,
            &self.message,
        ];
        let named = [&self.customer, &self.time].into_iter().chain(optional.into_iter().flatten());
        let affinity = self.affinity.iter().map(|affinity| &affinity.column);
        named.chain(affinity).chain(self.plan.values().flatten()).map(String::as_str)
    }
}

/// How customers and cookies become people. A cookie that one customer was logged in with before `as_of` is that customer's from its
/// first event on. One that several were logged in with is shared: an event on it is of the one who was logged in during the same
/// visit. What is nobody's then is left out, and counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySpec {
    /// Customers who were logged in with one cookie are one person, by the name that comes first, unless more than this many would be
    /// one: they stay apart then. When absent they are different people who share a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub merge_customers_up_to: Option<usize>,
    /// Observations to leave out: undoes what they have joined, and nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<Apart>,
}

/// A customer and a cookie that are to be taken as never seen together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apart {
    /// The customer.
    pub customer: String,
    /// The cookie.
    pub anonymous: String,
}

impl IdentitySpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What customers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A page of a website was shown.
    PageView,
    /// A screen of an app was shown.
    Screen,
    /// Something was clicked, searched or played.
    Click,
    /// Something was put into the cart.
    Cart,
    /// Something was bought.
    Purchase,
    /// A ticket, chat or call.
    Support,
    /// Anything else.
    Other,
}

impl EventKind {
    /// All kinds, by their number.
    pub const ALL: [Self; 7] =
        [Self::PageView, Self::Screen, Self::Click, Self::Cart, Self::Purchase, Self::Support, Self::Other];
}

/// The engagement score: each event counts its kind's weight, halved for every `half_life_days` that have passed since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngagementSpec {
    /// What an event of a kind weighs; 1 for kinds that are not listed.
    pub weights: BTreeMap<EventKind, f64>,
    /// Days after which an event counts half.
    pub half_life_days: f64,
}

impl Default for EngagementSpec {
    fn default() -> Self {
        Self { weights: BTreeMap::new(), half_life_days: 30.0 }
    }
}

impl EngagementSpec {
    fn check(&self) -> Result<(), DomainError> {
        let wrong = |field, reason| Err(DomainError::Job { field, reason });
        if !(self.half_life_days.is_finite() && self.half_life_days > 0.0) {
            return wrong("source.events.engagement.half_life_days", "must be a finite number above 0");
        }
        match self.weights.values().all(|weight| weight.is_finite()) {
            true => Ok(()),
            false => wrong("source.events.engagement.weights", "must be finite numbers"),
        }
    }
}
