//! Which features a job wants, and what they need.

use super::{measures, rfm_cells};
use crate::error::BehaviorError;
use crate::measures::{FAMILIES, Family, Need};
use shoal_domain::events::EventsSpec;

/// The features that a log has the columns for, in the order of the tables.
fn available(spec: &EventsSpec) -> impl Iterator<Item = Family> {
    let (has_amounts, has_items) = (spec.amount.is_some(), spec.item.is_some());
    FAMILIES.into_iter().filter(move |family| match family.need {
        Need::Nothing => true,
        Need::Amounts => has_amounts,
        Need::Items => has_items,
    })
}

/// Whether the job's events can have such a feature, one of its own included.
pub(crate) fn is_feature_of(spec: &EventsSpec, name: &str) -> bool {
    is_feature(name) || spec.measures.contains_key(name) || measures::category(spec, name).is_some()
}

/// Whether there is such a feature, whatever it needs.
pub(super) fn is_feature(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.names.contains(&name)) || rfm_cells::SCORES.contains(&name)
}

/// The features by name: those that the job lists, or all that there are.
pub(super) fn names(spec: &EventsSpec, listed: Option<&[String]>) -> Result<Vec<String>, BehaviorError> {
    let mut known: Vec<&str> = available(spec).flat_map(|family| family.names).copied().collect();
    if spec.amount.is_some() {
        known.extend(rfm_cells::SCORES);
    }
    for measure in measures::of_job(spec) {
        let is_affinity = spec.affinity.is_some() && measure.name.starts_with(measures::AFFINITY);
        if is_affinity || is_feature(measure.name) || measure.name == rfm_cells::CELL || *measure.name == spec.customer
        {
            return Err(measure.wrong("is the name of another column of the features"));
        }
        known.push(measure.name);
    }
    let Some(listed) = listed else {
        return Ok(known.into_iter().map(str::to_owned).collect());
    };
    for feature in listed.iter().filter(|feature| measures::category(spec, feature).is_none()) {
        if !known.contains(&feature.as_str()) {
            let needs =
                FAMILIES.iter().find(|family| family.names.contains(&feature.as_str())).map(|family| family.need);
            let is_score = rfm_cells::SCORES.contains(&feature.as_str());
            let needs = match needs {
                Some(Need::Items) => Some("source.events.item"),
                Some(Need::Amounts) => Some("source.events.amount"),
                _ => is_score.then_some("source.events.amount"),
            };
            return Err(match needs {
                Some(needs) => BehaviorError::FeatureNeeds { feature: feature.clone(), needs },
                None => BehaviorError::NoFeature { feature: feature.clone(), known: known.join(", ") },
            });
        }
    }
    Ok(listed.to_vec())
}

/// The families that compute these features.
pub(super) fn families(spec: &EventsSpec, names: &[String]) -> Vec<Family> {
    let scores = names.iter().any(|name| rfm_cells::SCORES.contains(&name.as_str()));
    let is_wanted =
        |feature: &str| names.iter().any(|name| name == feature) || (scores && rfm_cells::SCORED.contains(&feature));
    available(spec).filter(|family| family.names.iter().any(|feature| is_wanted(feature))).collect()
}
