//! `shoal journeys`: what customers do one after the other.

use crate::args::{Format, JourneysArguments};
use crate::environment::read_options;
use crate::job_file;
use crate::output::OutFolder;
use crate::progress::ProgressLine;
use crate::say::say;
use crate::segments_of::segments_of;
use crate::table::{aligned, counted, grouped};
use anyhow::{Result, anyhow, bail};
use shoal_behavior::journeys::{Funnel, JourneyCounts, JourneyReport, Path};
use shoal_behavior::open_journeys;
use shoal_wire::documents::to_bytes;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Transitions that a table shows of each group.
const SHOWN: usize = 12;

/// Counts the journeys, writes what they say and prints the most common steps.
pub(crate) async fn journeys(arguments: &JourneysArguments) -> Result<()> {
    let spec = job_file::read_source(&arguments.job)?;
    let Some(events) = &spec.events else {
        return Err(anyhow!("{}: source.events: journeys are of events, and there are none", arguments.job.display()));
    };
    let segments = arguments.labels.as_deref().map(segments_of).transpose()?;
    let line = ProgressLine::new();
    line.begin("journeys", None);
    let journeys = open_journeys(&spec, events, &read_options(arguments.memory)).await?;
    let number = |option: &str, state: &String| {
        let unknown = || anyhow!("--{option}: there is no state `{state}`; there are {}", journeys.states.join(", "));
        journeys.states.binary_search(state).map_err(|_| unknown())
    };
    let target = arguments.target.as_ref().map(|state| number("target", state)).transpose()?;
    let funnel =
        arguments.funnel.iter().map(|state| Ok(number("funnel", state)? as u16)).collect::<Result<Vec<_>>>()?;
    let new = || Group::new(journeys.states.len(), arguments.places as usize, &funnel);
    let mut all = new();
    let mut by_segment: BTreeMap<i64, Group> = BTreeMap::new();
    journeys
        .for_each(|path| {
            all.add(&path);
            if let Some(segment) = segments.as_ref().and_then(|segments| segments.get(path.customer)) {
                by_segment.entry(*segment).or_insert_with(new).add(&path);
            }
            line.rows(1);
        })
        .await?;
    if all.n_customers == 0 {
        bail!("{}: source.events: there are no visits of customers before {}", arguments.job.display(), events.as_of);
    }
    if let (Some(labels), true) = (&arguments.labels, by_segment.is_empty()) {
        bail!("--labels: {}: none of its ids is a customer of the log", labels.display());
    }
    let n_unlabelled = all.n_customers - by_segment.values().map(|group| group.n_customers).sum::<u64>();
    let mut reports = vec![all.report(&journeys.states, target, None)];
    reports.extend(by_segment.iter().map(|(segment, group)| group.report(&journeys.states, target, Some(*segment))));
    let mut out = OutFolder::create(&arguments.out)?;
    out.write_bytes("journeys.graphml", reports[0].graphml().as_bytes())?;
    out.write_bytes("journeys_graph.json", &to_bytes(&reports[0].node_link())?)?;
    out.write_bytes("journeys.json", &to_bytes(&reports)?)?;
    out.commit()?;
    line.finish();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&reports)?)),
        Format::Table => {
            say(&reports.iter().map(render).collect::<Vec<_>>().join("\n"))?;
            if arguments.labels.is_some() && n_unlabelled > 0 {
                say(&format!("in no segment: {}\n", counted(n_unlabelled, "customer")))?;
            }
            say(&format!(
                "written: {}/{{journeys.json, journeys.graphml, journeys_graph.json}}\n",
                arguments.out.display()
            ))
        }
    }
}

/// Customers who are counted together.
struct Group {
    n_customers: u64,
    counts: JourneyCounts,
    funnel: Funnel,
}

impl Group {
    fn new(n_states: usize, n_places: usize, funnel: &[u16]) -> Self {
        Self { n_customers: 0, counts: JourneyCounts::new(n_states, n_places), funnel: Funnel::new(funnel.to_vec()) }
    }

    fn add(&mut self, path: &Path<'_>) {
        self.n_customers += u64::from(!path.visits.is_empty());
        for visit in &path.visits {
            self.counts.add(visit);
            self.funnel.add(visit);
        }
    }

    fn report(&self, names: &[String], target: Option<usize>, segment: Option<i64>) -> JourneyReport {
        JourneyReport { segment, ..JourneyReport::new(self.n_customers, &self.counts, &self.funnel, names, target) }
    }
}

fn render(report: &JourneyReport) -> String {
    let mut text = String::new();
    let who = report.segment.map_or("all customers".to_owned(), |segment| format!("segment {segment}"));
    let (visits, customers) = (grouped(report.n_visits), grouped(report.n_customers));
    let _ = writeln!(
        text,
        "{who}: {visits} visits of {customers} customers; a chain of order {} tells best what comes next\n",
        report.best_order()
    );
    let mut steps: Vec<_> = report.transitions.iter().collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.count));
    let mut rows = vec![["from", "to", "times", "of all from there"].map(str::to_owned).to_vec()];
    for step in steps.into_iter().take(SHOWN) {
        let name = |state: &Option<String>, none: &str| state.clone().unwrap_or_else(|| none.to_owned());
        let share = format!("{:.1} %", step.probability * 100.0);
        rows.push(vec![name(&step.from, "(begin)"), name(&step.to, "(end)"), grouped(step.count), share]);
    }
    aligned(&mut text, &rows);
    if !report.funnel.is_empty() {
        text.push('\n');
        let step = |step: &shoal_behavior::journeys::FunnelStep| {
            vec![step.state.clone(), grouped(step.n_visits), format!("{:.1} %", step.share * 100.0)]
        };
        let header = ["funnel", "visits", "of all"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(header).chain(report.funnel.iter().map(step)).collect();
        aligned(&mut text, &rows);
    }
    text
}
