//! Event logs as messages.

use super::WireError;
use super::job::known;
use crate::proto;
use shoal_domain::events::{AffinitySpec, Apart, EngagementSpec, EventKind, EventsSpec, IdentitySpec};
use std::collections::BTreeMap;

impl From<&EventsSpec> for proto::Events {
    fn from(events: &EventsSpec) -> Self {
        let names = |(kind, names): (&EventKind, &Vec<String>)| proto::KindNames {
            kind: proto::EventKind::from(*kind).into(),
            names: names.clone(),
        };
        let planned = |(name, columns): (&String, &Vec<String>)| proto::PlannedEvent {
            name: name.clone(),
            columns: columns.clone(),
        };
        let weight = |(kind, weight): (&EventKind, &f64)| proto::KindWeight {
            kind: proto::EventKind::from(*kind).into(),
            weight: *weight,
        };
        Self {
            customer: events.customer.clone(),
            time: events.time.clone(),
            kind: events.kind.clone(),
            every: events.every.map(|kind| proto::EventKind::from(kind).into()),
            kinds: events.kinds.iter().map(names).collect(),
            order: events.order.clone(),
            amount: events.amount.clone(),
            item: events.item.clone(),
            message: events.message.clone(),
            as_of: events.as_of.clone(),
            near_duplicate_seconds: events.near_duplicate_seconds,
            session_gap_minutes: Some(events.session_gap_minutes),
            engagement_weights: events.engagement.weights.iter().map(weight).collect(),
            engagement_half_life_days: Some(events.engagement.half_life_days),
            anonymous: events.anonymous.clone(),
            state: events.state.clone(),
            sequence: events.sequence.clone(),
            plan: events.plan.iter().map(planned).collect(),
            identity: Some((&events.identity).into()),
            leave_out: sql_columns(&events.leave_out),
            measures: sql_columns(&events.measures),
            affinity: events
                .affinity
                .as_ref()
                .map(|it| proto::Affinity { column: it.column.clone(), top: Some(it.top as u64) }),
        }
    }
}

impl TryFrom<proto::Events> for EventsSpec {
    type Error = WireError;

    fn try_from(events: proto::Events) -> Result<Self, WireError> {
        let mut kinds: BTreeMap<EventKind, Vec<String>> = BTreeMap::new();
        for names in events.kinds {
            let kind = kind_of(names.kind, "spec.source.events.kinds")?;
            kinds.entry(kind).or_default().extend(names.names);
        }
        let mut weights = BTreeMap::new();
        for weight in events.engagement_weights {
            weights.insert(kind_of(weight.kind, "spec.source.events.engagement_weights")?, weight.weight);
        }
        let default = EngagementSpec::default();
        let half_life_days = events.engagement_half_life_days.unwrap_or(default.half_life_days);
        let every = events.every.map(|kind| kind_of(kind, "spec.source.events.every")).transpose()?;
        Ok(Self {
            customer: events.customer,
            time: events.time,
            kind: events.kind,
            every,
            kinds,
            order: events.order,
            amount: events.amount,
            item: events.item,
            message: events.message,
            as_of: events.as_of,
            near_duplicate_seconds: events.near_duplicate_seconds,
            session_gap_minutes: events.session_gap_minutes.unwrap_or(EventsSpec::DEFAULT_SESSION_GAP_MINUTES),
            engagement: EngagementSpec { weights, half_life_days },
            anonymous: events.anonymous,
            state: events.state,
            sequence: events.sequence,
            plan: events.plan.into_iter().map(|planned| (planned.name, planned.columns)).collect(),
            identity: events.identity.map(IdentitySpec::from).unwrap_or_default(),
            leave_out: by_name(events.leave_out),
            measures: by_name(events.measures),
            affinity: events.affinity.map(AffinitySpec::from),
        })
    }
}

impl From<proto::Affinity> for AffinitySpec {
    fn from(affinity: proto::Affinity) -> Self {
        let top = affinity.top.map_or(Self::DEFAULT_TOP, |top| usize::try_from(top).unwrap_or(usize::MAX));
        Self { column: affinity.column, top }
    }
}

/// Names and their SQL, in the order of the names.
pub(super) fn sql_columns(columns: &BTreeMap<String, String>) -> Vec<proto::SqlColumn> {
    columns.iter().map(|(name, sql)| proto::SqlColumn { name: name.clone(), sql: sql.clone() }).collect()
}

pub(super) fn by_name(columns: Vec<proto::SqlColumn>) -> BTreeMap<String, String> {
    columns.into_iter().map(|column| (column.name, column.sql)).collect()
}

impl From<&IdentitySpec> for proto::Identity {
    fn from(identity: &IdentitySpec) -> Self {
        let apart = |it: &Apart| proto::Apart { customer: it.customer.clone(), anonymous: it.anonymous.clone() };
        let merge_customers_up_to = identity.merge_customers_up_to.map(|most| most as u64);
        Self { merge_customers_up_to, apart: identity.apart.iter().map(apart).collect() }
    }
}

impl From<proto::Identity> for IdentitySpec {
    fn from(identity: proto::Identity) -> Self {
        let apart = |it: proto::Apart| Apart { customer: it.customer, anonymous: it.anonymous };
        let merge_customers_up_to =
            identity.merge_customers_up_to.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        Self { merge_customers_up_to, apart: identity.apart.into_iter().map(apart).collect() }
    }
}

impl From<EventKind> for proto::EventKind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::PageView => Self::PageView,
            EventKind::Screen => Self::Screen,
            EventKind::Click => Self::Click,
            EventKind::Cart => Self::Cart,
            EventKind::Purchase => Self::Purchase,
            EventKind::Support => Self::Support,
            EventKind::Other => Self::Other,
        }
    }
}

fn kind_of(kind: i32, field: &'static str) -> Result<EventKind, WireError> {
    Ok(match known(kind, field)? {
        proto::EventKind::Unspecified => return Err(WireError::Missing { field }),
        proto::EventKind::PageView => EventKind::PageView,
        proto::EventKind::Screen => EventKind::Screen,
        proto::EventKind::Click => EventKind::Click,
        proto::EventKind::Cart => EventKind::Cart,
        proto::EventKind::Purchase => EventKind::Purchase,
        proto::EventKind::Support => EventKind::Support,
        proto::EventKind::Other => EventKind::Other,
    })
}
