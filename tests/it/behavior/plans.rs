//! A tracking plan, and events that are not as it has them.

use super::{Features, events, source};
use anyhow::Result;
use arrow::array::AsArray;
use futures::TryStreamExt;
use shoal_behavior::{ReadOptions, quarantine};
use shoal_domain::events::EventsSpec;
use shoal_stats::RandomStream;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const N_EVENTS: u64 = 10_000;

/// Ten thousand events of which three in a hundred break the plan: their messages, and what is wrong with each.
fn log() -> Result<(String, BTreeMap<String, &'static str>)> {
    let mut text = "customer,time,kind,order,amount,item,message\n".to_owned();
    let mut planted = BTreeMap::new();
    let chance = RandomStream { seed: 5, stream: 0 };
    for event in 0..N_EVENTS {
        let (number, message) = (chance.uniform(event), format!("m{event}"));
        let (kind, order, amount, item, wrong) = match number {
            number if number < 0.01 => ("veiw_item", "", "", "i1", Some("the plan has no such event")),
            number if number < 0.02 => ("view_item", "", "", "", Some("the plan wants `item` of `view_item`")),
            number if number < 0.03 => ("purchase", "", "9.5", "i1", Some("the plan wants `order` of `purchase`")),
            number if number < 0.50 => ("view_item", "", "", "i1", None),
            number if number < 0.80 => ("page_view", "", "", "", None),
            _ => ("purchase", "o", "9.5", "", None),
        };
        planted.extend(wrong.map(|wrong| (message.clone(), wrong)));
        let (customer, day) = (event % 50, event % 28 + 1);
        writeln!(text, "c{customer},2025-01-{day:02} 10:00:00,{kind},{order},{amount},{item},{message}")?;
    }
    Ok((text, planted))
}

fn spec() -> EventsSpec {
    let own = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    let plan = [("view_item", own(&["item"])), ("purchase", own(&["order", "amount"])), ("page_view", own(&[]))];
    let plan = plan.into_iter().map(|(name, columns)| (name.to_owned(), columns)).collect();
    EventsSpec { plan, message: Some("message".to_owned()), ..events("2025-02-01") }
}

#[test]
fn all_violations_and_only_they_are_put_in_quarantine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    let (text, planted) = log()?;
    std::fs::write(&path, text)?;
    let (source, spec) = (source(&path, spec()), spec());
    let quality = Features::of(&source)?.quality;
    assert!(planted.values().collect::<BTreeSet<_>>().len() == 3 && planted.len() > 200, "{}", planted.len());
    assert_eq!(quality.quarantined.against_plan, planted.len() as u64);
    assert_eq!((quality.quarantined.sum(), quality.n_rows), (planted.len() as u64, N_EVENTS));
    let found = tokio::runtime::Runtime::new()?.block_on(async {
        let rows = quarantine(&source, &spec, &ReadOptions::default()).await?;
        let batches: Vec<_> = rows.try_collect().await?;
        let mut found = BTreeMap::new();
        for batch in &batches {
            let column = |name: &str| batch.column_by_name(name).expect("it is there").as_string::<i32>();
            let (messages, reasons) = (column("message"), column("reason"));
            found.extend(
                (0..batch.num_rows()).map(|row| (messages.value(row).to_owned(), reasons.value(row).to_owned())),
            );
        }
        anyhow::Ok(found)
    })?;
    assert!(
        found
            .iter()
            .map(|(message, reason)| (message.as_str(), reason.as_str()))
            .eq(planted.iter().map(|(message, wrong)| (message.as_str(), *wrong)))
    );
    let unknown = EventsSpec { plan: BTreeMap::from([("purchase".to_owned(), vec!["sku".to_owned()])]), ..spec };
    let error =
        Features::of(&super::source(&path, unknown)).map(|_| ()).expect_err("there is no such column").to_string();
    assert!(error.contains("source.events.plan") && error.contains("`sku`"), "{error}");
    Ok(())
}
