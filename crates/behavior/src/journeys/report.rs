//! What the counts say.

use super::counts::{JourneyCounts, MAX_ORDER};
use super::funnel::Funnel;
use serde::Serialize;
use shoal_stats::MarkovChain;

/// The journeys of some customers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JourneyReport {
    /// Of which segment; absent of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<i64>,
    /// Customers with at least one visit.
    pub n_customers: u64,
    /// Visits.
    pub n_visits: u64,
    /// Every step that somebody took.
    pub transitions: Vec<Transition>,
    /// By state.
    pub states: Vec<StateReport>,
    /// The Bayesian information criterion of chains of order 1, 2, ..: the lowest tells best what comes next.
    pub bic: [f64; MAX_ORDER],
    /// Steps by their place within the visit.
    pub flows: Vec<Flow>,
    /// How many visits took the steps in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub funnel: Vec<FunnelStep>,
}

/// From a state, or the beginning, to a state, or the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transition {
    /// None: visits begin.
    pub from: Option<String>,
    /// None: visits end.
    pub to: Option<String>,
    /// How often.
    pub count: u64,
    /// Of all steps from there.
    pub probability: f64,
}

/// What is known of a state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateReport {
    /// Its name.
    pub state: String,
    /// How often it was visited.
    pub count: u64,
    /// The share of visits to it that were the last: drop-off.
    pub drop_off: f64,
    /// States that are still visited on average, this one included.
    pub expected_steps: f64,
    /// The probability of coming from here to the target before the visit ends, by the chain of order 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaches_target: Option<f64>,
    /// By which share fewer visits would come to the target if nobody went on from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal_effect: Option<f64>,
}

/// Visits that went from one state to the next at one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flow {
    /// 0 for the first step of a visit.
    pub place: usize,
    /// The state.
    pub from: String,
    /// None: visits end.
    pub to: Option<String>,
    /// How many.
    pub n_visits: u64,
}

/// A step of a funnel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunnelStep {
    /// The state.
    pub state: String,
    /// Visits that came so far.
    pub n_visits: u64,
    /// Of all visits.
    pub share: f64,
}

impl JourneyReport {
    /// Of what was counted. `target` is the number of a state.
    pub fn new(
        n_customers: u64,
        counts: &JourneyCounts,
        funnel: &Funnel,
        names: &[String],
        target: Option<usize>,
    ) -> Self {
        let chain = counts.chain();
        let name = |state: usize| names[state].clone();
        let flow = |(place, from, to, n_visits): (usize, usize, Option<usize>, u64)| Flow {
            place,
            from: name(from),
            to: to.map(name),
            n_visits,
        };
        let step = |(state, n_visits): (usize, u64)| {
            let share = n_visits as f64 / counts.n_visits.max(1) as f64;
            FunnelStep { state: name(state), n_visits, share }
        };
        Self {
            segment: None,
            n_customers,
            n_visits: counts.n_visits,
            transitions: transitions(&chain, names),
            states: states(&chain, names, target),
            bic: counts.bic_by_order(),
            flows: counts.flows().map(flow).collect(),
            funnel: funnel.steps().map(step).collect(),
        }
    }

    /// The order whose chain tells best what comes next.
    pub fn best_order(&self) -> usize {
        let best = self.bic.iter().enumerate().min_by(|one, other| one.1.total_cmp(other.1));
        best.map_or(1, |(shorter, _)| shorter + 1)
    }
}

fn transitions(chain: &MarkovChain, names: &[String]) -> Vec<Transition> {
    let n = chain.n_states();
    let cells = (0..=n).flat_map(|row| (0..=n).map(move |column| (row, column)));
    let taken = cells.filter(|(row, column)| chain.count(*row, *column) > 0);
    let transition = |(row, column): (usize, usize)| Transition {
        from: row.checked_sub(1).map(|state| names[state].clone()),
        to: names.get(column).cloned(),
        count: chain.count(row, column),
        probability: chain.probability(row, column, 0.0),
    };
    taken.map(transition).collect()
}

fn states(chain: &MarkovChain, names: &[String], target: Option<usize>) -> Vec<StateReport> {
    let steps = chain.expected_steps();
    let reached = target.map(|target| chain.absorption(target, None));
    let effects = target.map(|target| chain.removal_effects(target));
    let of_state = |(state, name): (usize, &String)| {
        let row = MarkovChain::row(state);
        StateReport {
            state: name.clone(),
            count: chain.row_sum(row),
            drop_off: chain.probability(row, chain.end(), 0.0),
            expected_steps: steps[row],
            reaches_target: reached.as_ref().map(|reached| reached[row]),
            removal_effect: effects.as_ref().map(|effects| effects[state]),
        }
    };
    names.iter().enumerate().map(of_state).collect()
}
