//! What coordinators rely on, the same of both stores.

use crate::etcd::Etcd;
use shoal_coordination::{Condition, EtcdStore, FileStore, LEADER, Leader, LeaderError, Store, StoreError, Write};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// The shortest lease that etcd grants.
const TTL: Duration = Duration::from_secs(2);
/// More than any of these takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), lease: None }
}

/// A store, and what it lives in.
struct Home {
    store: Arc<dyn Store>,
    _etcd: Option<Etcd>,
    _folder: Option<TempDir>,
}

fn homes() -> [Home; 2] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = FileStore::open(&folder.path().join("records")).expect("a new file");
    let etcd = Etcd::start();
    [
        Home { store: Arc::new(file), _etcd: None, _folder: Some(folder) },
        Home { store: Arc::new(in_etcd(&etcd)), _etcd: Some(etcd), _folder: None },
    ]
}

fn in_etcd(etcd: &Etcd) -> EtcdStore {
    EtcdStore::new(&[etcd.url().to_owned()], "/test/").expect("a URL")
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_make_all_changes_or_none() -> Result<(), StoreError> {
    for Home { store, .. } in homes().iter() {
        assert_eq!(store.get("a").await?, None);
        let first = store.commit(&[Condition::Absent("a".into())], &[put("a", "1"), put("b", "1")]).await?;
        let first = first.expect("nothing is there yet");
        // A condition that does not hold, whatever the others.
        let conditions = [Condition::Created("b".into(), first), Condition::Absent("a".into())];
        assert_eq!(store.commit(&conditions, &[put("b", "2"), put("c", "2")]).await?, None);
        assert_eq!(store.commit(&[Condition::Created("a".into(), first + 1)], &[put("b", "2")]).await?, None);
        assert_eq!(store.get("c").await?, None);
        assert_eq!(store.get("b").await?.expect("it was put").value, b"1");
        // A key that is replaced stays the same key, one that was removed does not.
        let second = store.commit(&[Condition::Created("a".into(), first)], &[put("a", "2")]).await?.expect("it holds");
        assert!(second > first);
        assert_eq!(store.get("a").await?.expect("it was put").created, first);
        store.commit(&[], &[Write::Delete("a".into()), Write::Delete("never".into())]).await?.expect("no condition");
        let third = store.commit(&[], &[put("a", "3")]).await?.expect("no condition");
        assert!(third > second);
        assert_eq!(store.get("a").await?.expect("it was put").created, third);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_all_keys_of_a_prefix_in_order() -> Result<(), StoreError> {
    for Home { store, .. } in homes().iter() {
        // More than one answer of etcd has.
        let mut keys: Vec<String> = (0..1_200).map(|number| format!("jobs/{number}")).collect();
        for some in keys.chunks(100) {
            let writes: Vec<Write> = some.iter().map(|key| put(key, key)).collect();
            store.commit(&[], &writes).await?.expect("no condition");
        }
        let neighbours = [put("jobs", "before"), put("jobs0", "after"), put("jobs/\u{10ffff}", "last"), put("x", "y")];
        store.commit(&[], &neighbours).await?.expect("no condition");
        keys.push("jobs/\u{10ffff}".to_owned());
        keys.sort();
        let listed = store.list("jobs/").await?;
        assert_eq!(listed.iter().map(|entry| &entry.key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
        assert!(store.list("nothing/").await?.is_empty());
        let large = "x".repeat(1 << 20);
        store.commit(&[], &[put("large", &large)]).await?.expect("no condition");
        assert!(store.get("large").await?.expect("it was put").value == large.as_bytes());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_with_their_lease() -> Result<(), StoreError> {
    for Home { store, .. } in homes().iter() {
        let (lease, lasts) = store.grant(TTL).await?;
        assert!(lasts >= TTL);
        let leased = Write::Put { key: "leased".into(), value: b"1".to_vec(), lease: Some(lease) };
        store.commit(&[], &[leased.clone(), put("kept", "1")]).await?.expect("no condition");
        // Renewed for longer than it lasts.
        for _ in 0..6 {
            sleep(lasts / 4).await;
            assert!(store.keep_alive(lease).await?);
        }
        assert!(store.get("leased").await?.is_some());
        let gone = async {
            while store.get("leased").await?.is_some() {
                sleep(TTL / 20).await
            }
            Ok(())
        };
        timeout(PATIENCE, gone).await.expect("a lease that is not renewed ends")?;
        assert!(!store.keep_alive(lease).await?);
        assert!(store.get("kept").await?.is_some());
        let refused = store.commit(&[], &[leased]).await;
        assert!(matches!(refused, Err(StoreError::NoLease { .. })), "{refused:?}");
        let (other, _) = store.grant(PATIENCE).await?;
        let leased = Write::Put { key: "leased".into(), value: b"2".to_vec(), lease: Some(other) };
        store.commit(&[], &[leased]).await?.expect("no condition");
        store.revoke(other).await?;
        assert!(store.get("leased").await?.is_none());
        store.revoke(other).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_only_it_can_write() -> Result<(), LeaderError> {
    for Home { store, .. } in homes().iter() {
        let first = Leader::campaign(store.clone(), "first", TTL).await?;
        assert_eq!(store.get(LEADER).await?.expect("it leads").value, b"first");
        first.write(&[put("a", "first")]).await?;
        let rival = tokio::spawn(Leader::campaign(store.clone(), "second", TTL));
        // It renews its lease, so nobody else comes to lead.
        sleep(2 * TTL).await;
        assert!(first.leads() && !rival.is_finished());
        first.resign().await;
        let second = timeout(PATIENCE, rival).await.expect("the next one leads").expect("no panic")?;
        assert!(second.epoch() > first.epoch() && second.leads() && !first.leads());
        assert!(matches!(first.write(&[put("a", "too late")]).await, Err(LeaderError::Deposed)));
        second.write(&[put("b", "second")]).await?;
        assert_eq!(store.get("a").await?.expect("it was put").value, b"first");
        // Somebody takes the key away: the leader learns of it when it writes.
        store.commit(&[], &[Write::Delete(LEADER.to_owned())]).await?.expect("no condition");
        assert!(matches!(second.write(&[put("a", "too late")]).await, Err(LeaderError::Deposed)));
        timeout(PATIENCE, second.until_deposed()).await.expect("it knows");
        assert_eq!(store.get("a").await?.expect("it was put").value, b"first");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_outlasts_the_store() -> Result<(), StoreError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("records");
    let store = FileStore::open(&path)?;
    assert!(matches!(FileStore::open(&path), Err(StoreError::InUse { .. })));
    let revision = store.commit(&[], &[put("a", "1")]).await?;
    let (lease, _) = store.grant(PATIENCE).await?;
    store.commit(&[], &[Write::Put { key: LEADER.into(), value: Vec::new(), lease: Some(lease) }]).await?;
    drop(store);
    let store = FileStore::open(&path)?;
    assert_eq!(store.get("a").await?.expect("it was put").value, b"1");
    assert!(store.get(LEADER).await?.is_none(), "leases end with the process");
    assert!(store.commit(&[], &[put("b", "1")]).await? > revision);

    let mut etcd = Etcd::start();
    let store = in_etcd(&etcd);
    let revision = store.commit(&[], &[put("a", "1")]).await?;
    etcd.restart();
    assert_eq!(store.get("a").await?.expect("it was put").value, b"1");
    assert!(store.commit(&[], &[put("b", "1")]).await? > revision);
    etcd.compact();
    assert_eq!(store.list("").await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_an_error_in_time() -> Result<(), LeaderError> {
    let etcd = Etcd::start();
    // The first server of the list is none.
    let urls = ["http://127.0.0.1:1".to_owned(), etcd.url().to_owned()];
    let store: Arc<dyn Store> = Arc::new(EtcdStore::new(&urls, "/test/")?);
    let leader = Leader::campaign(store.clone(), "leader", TTL).await?;
    etcd.stand_still();
    assert!(matches!(store.get("a").await, Err(StoreError::Unreachable { .. })));
    timeout(PATIENCE, leader.until_deposed()).await.expect("it cannot renew its lease");
    assert!(matches!(leader.write(&[put("a", "1")]).await, Err(LeaderError::Deposed)));
    etcd.go_on();
    let again =
        timeout(PATIENCE, Leader::campaign(store.clone(), "leader", TTL)).await.expect("its lease has ended")?;
    assert!(again.epoch() > leader.epoch());
    assert!(matches!(EtcdStore::new(&["etcd:2379".to_owned()], ""), Err(StoreError::Endpoint { .. })));
    Ok(())
}
