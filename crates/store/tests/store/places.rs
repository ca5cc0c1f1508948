//! Journals of several processes in one folder: each has its subfolder, and the remains of an ended
//! one are found.

use std::path::Path;

use llm_router_store::journal::{Journal, JournalError, JournalSettings, inspect, others};

use crate::support::{Random, entry, random_open_entry};

fn beside(folder: &Path) -> Journal {
    Journal::open_beside(&JournalSettings::new(folder))
        .unwrap()
        .0
}

#[test]
fn each_process_has_a_place_and_free_ones_are_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (first, _) = Journal::open_alone(JournalSettings::new(root)).unwrap();
    let second = beside(root);
    assert_eq!(second.folder(), root.join("beside-1"));
    assert_eq!(beside(root).folder(), root.join("beside-2"));
    assert!(Journal::is_locked(root) && !Journal::is_locked(&root.join("beside-2")));
    drop(first);
    assert_eq!(beside(root).folder(), root);
    // A process that starts without another one has no subfolder beside its own.
    let alone = Journal::open_alone(JournalSettings::new(root));
    assert!(matches!(alone, Err(JournalError::Locked(place)) if place == root.join("beside-1")));
    drop(second);
    Journal::open_alone(JournalSettings::new(root)).unwrap();
}

#[test]
fn what_others_left_is_found_and_settled_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut random = Random(7);
    let (first, _) = Journal::open_alone(JournalSettings::new(root)).unwrap();
    let second = beside(root);
    let (open, done) = (random_open_entry(&mut random, 5), entry(&mut random, 5));
    first.record_settled(done);
    second.record_opened(&open).unwrap();
    second.record_settled(entry(&mut random, 5));
    let report = inspect(root).unwrap();
    assert_eq!((report.open, report.settled.len()), (1, 2));
    assert_eq!(others(root, root), [root.join("beside-1")]);
    assert_eq!(others(root, second.folder()), [root]);
    drop(second);
    let (left, found) = Journal::open(JournalSettings::new(root.join("beside-1"))).unwrap();
    assert_eq!(found.lost, [open.into_interrupted()]);
    left.discard().unwrap();
    assert_eq!(others(root, root), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(inspect(root).unwrap().settled.len(), 1);
}
