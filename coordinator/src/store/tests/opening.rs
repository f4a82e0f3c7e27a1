//! Who may open a data directory, and the errors for all others.

use super::*;
use crate::store::{DATA_FORMAT, StoreError};
use std::os::unix::fs::PermissionsExt;

fn refused(dir: &Path, identity: &StoreIdentity) -> StoreError {
    Store::open(dir, identity).expect_err("this must not open")
}

#[test]
fn one_process_opens_it_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for error in
        [refused(dir.path(), &identity()), Store::open_for_reading(dir.path()).expect_err("it is in use")]
    {
        assert!(
            matches!(error, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert!(
            error.to_string().contains(&format!("is in use by process {}", std::process::id())),
            "{error}"
        );
    }
    drop(store);
    Store::open_for_reading(dir.path()).unwrap();
}

#[test]
fn only_its_own_coordinator_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for (other, expected) in [
        (
            StoreIdentity { cluster: "other".to_string(), ..identity() },
            "belongs to cluster \"local\", not to \"other\"",
        ),
        (
            StoreIdentity { name: "c2".to_string(), ..identity() },
            "belongs to coordinator \"c1\", not to \"c2\"",
        ),
        (
            StoreIdentity { raft_id: RaftId(2), ..identity() },
            "belongs to raft id \"raft-1\", not to \"raft-2\"",
        ),
    ] {
        let error = refused(dir.path(), &other);
        assert!(
            matches!(error, StoreError::OtherIdentity { .. }) && error.to_string().contains(expected),
            "{error}"
        );
    }
    assert_eq!(*Store::open_for_reading(dir.path()).unwrap().identity(), identity());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("identity"), format!("format {}\nwhatever comes then\n", DATA_FORMAT + 1))
        .unwrap();
    let error = refused(dir.path(), &identity());
    assert!(matches!(error, StoreError::NewerFormat { found, .. } if found == DATA_FORMAT + 1), "{error}");
    assert!(error.to_string().contains("use a newer muster"), "{error}");
}

#[test]
fn a_directory_with_anything_else_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_for_reading(dir.path()), Err(StoreError::NotAStore { .. })));
    assert!(matches!(Store::open_for_reading(&dir.path().join("absent")), Err(StoreError::NotAStore { .. })));
    fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    assert!(matches!(refused(dir.path(), &identity()), StoreError::NotAStore { .. }));
    let file = dir.path().join("thesis.tex");
    assert!(Store::open(&file, &identity()).is_err());

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("identity");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("raft_id 1", "raft_id 2")).unwrap();
    let error = refused(dir.path(), &StoreIdentity { raft_id: RaftId(2), ..identity() });
    assert!(error.to_string().contains("identity is corrupted"), "{error}");
}

#[test]
fn missing_permission_has_its_own_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(open(&data));
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    let opened = Store::open(&data, &identity());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    // Root may open anything.
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(opened, Err(StoreError::NoPermission { .. })), "{opened:?}");
    }
}

#[test]
fn a_path_is_created_and_free_space_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir.path().join("some/where"));
    assert!(store.free_bytes() > 0);
}
