//! Both stores keep the same promises.

use std::sync::Arc;

use super::{EmbeddedStore, Expect, MemoryStore, Store, StoreError, Write};

fn each(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::default());
    let directory = tempfile::tempdir().unwrap();
    test(&EmbeddedStore::open(directory.path()).unwrap());
}

fn put(key: &str, expect: Expect, value: &str) -> Write {
    Write { key: key.to_owned(), expect, value: Some(value.to_owned()) }
}

fn delete(key: &str, revision: u64) -> Write {
    Write { key: key.to_owned(), expect: Expect::Revision(revision), value: None }
}

#[test]
fn what_is_written_is_found_and_listed_by_prefix() {
    each(|store| {
        let writes = ["a/1", "a/2", "b/1"].map(|key| put(key, Expect::Absent, key));
        assert_eq!(store.commit(&writes).unwrap(), 1);
        assert_eq!(store.get("a/2").unwrap().unwrap().value, "a/2");
        assert_eq!(store.get("a/3").unwrap(), None);
        let listing = store.list("a/").unwrap();
        assert_eq!(listing.revision, 1);
        let keys: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["a/1", "a/2"]);
        assert_eq!(store.commit(&[delete("a/1", 1)]).unwrap(), 2);
        assert_eq!(store.list("").unwrap().entries.len(), 2);
    });
}

#[test]
fn a_commit_of_which_one_expectation_fails_writes_nothing() {
    each(|store| {
        store.commit(&[put("a", Expect::Absent, "1")]).unwrap();
        for stale in [Expect::Absent, Expect::Revision(7)] {
            let refused = store.commit(&[put("b", Expect::Absent, "1"), put("a", stale, "2")]).unwrap_err();
            assert!(matches!(refused, StoreError::Conflict { key } if key == "a"));
        }
        assert_eq!(store.get("b").unwrap(), None);
        assert_eq!(store.list("").unwrap().revision, 1, "a refused commit uses no revision");
        assert_eq!(store.commit(&[put("a", Expect::Revision(1), "2")]).unwrap(), 2);
    });
}

#[test]
fn watchers_see_whole_commits_in_order_and_only_those_that_happened() {
    each(|store| {
        let mut commits = store.watch();
        store.commit(&[put("a", Expect::Absent, "1"), put("b", Expect::Absent, "1")]).unwrap();
        store.commit(&[put("a", Expect::Absent, "2")]).unwrap_err();
        store.commit(&[delete("a", 1)]).unwrap();
        let mut seen = Vec::new();
        while let Ok(commit) = commits.try_recv() {
            let changes = commit.changes.iter().map(|change| (change.key.clone(), change.value.is_some()));
            seen.push((commit.revision, changes.collect::<Vec<_>>()));
        }
        let put = |key: &str| (key.to_owned(), true);
        let deleted = |key: &str| (key.to_owned(), false);
        assert_eq!(seen, [(1, vec![put("a"), put("b")]), (2, vec![deleted("a")])]);
    });
}

#[test]
fn of_writers_that_race_for_a_revision_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] =
        [Arc::new(MemoryStore::default()), Arc::new(EmbeddedStore::open(directory.path()).unwrap())];
    for store in stores {
        store.commit(&[put("a", Expect::Absent, "0")]).unwrap();
        let racers: Vec<_> = (0..8)
            .map(|racer: u8| {
                let store = store.clone();
                std::thread::spawn(move || {
                    store.commit(&[put("a", Expect::Revision(1), &racer.to_string())]).is_ok()
                })
            })
            .collect();
        let won = racers.into_iter().map(|racer| racer.join().unwrap());
        assert_eq!(won.filter(|won| *won).count(), 1);
    }
}

#[test]
fn a_store_that_is_opened_again_has_everything_and_repeats_no_number() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    store.commit(&[put("a", Expect::Absent, "1")]).unwrap();
    let first = store.reserve(10).unwrap();
    drop(store);
    let store = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(store.get("a").unwrap().unwrap().revision, 1);
    assert_eq!(store.reserve(10).unwrap(), first + 10);
}
