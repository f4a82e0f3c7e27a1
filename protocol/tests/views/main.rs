//! The JSON of the API, pinned in `protocol/golden/json`: keys may be added, but never removed or given
//! another meaning.
//!
//! `MUSTER_RECORD=1 cargo test -p muster-protocol` records new views and new keys. It never records a key
//! that is gone or has another value: the test fails until the key is back.

mod samples;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::path::PathBuf;
use std::{env, fs};

/// Checks a view against its file, and that it survives a round trip.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, view: &T) {
    let seen = serde_json::to_value(view).expect("every view has a JSON form");
    assert_eq!(&serde_json::from_value::<T>(seen.clone()).expect("its own JSON is read"), view, "{name}");
    let text = format!("{seen:#}\n");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/json").join(format!("{name}.json"));
    let pinned = fs::read_to_string(&path).ok();
    if let Some(pinned) = &pinned {
        let pinned: Value = serde_json::from_str(pinned).expect("golden files hold JSON");
        assert_kept(name, &pinned, &seen);
    }
    if pinned.as_ref() == Some(&text) {
        return;
    }
    assert!(
        env::var_os("MUSTER_RECORD").is_some_and(|flag| flag == "1"),
        "{name}: new keys; MUSTER_RECORD=1 records them:\n{text}"
    );
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the golden files can be written");
    fs::write(&path, text).expect("the golden files can be written");
}

/// All pinned values are still there, unchanged.
fn assert_kept(place: &str, pinned: &Value, seen: &Value) {
    match (pinned, seen) {
        (Value::Object(pinned), Value::Object(seen)) => {
            for (key, value) in pinned {
                let now = seen.get(key).unwrap_or_else(|| panic!("{place}.{key} is gone: programs read it"));
                assert_kept(&format!("{place}.{key}"), value, now);
            }
        }
        (Value::Array(pinned), Value::Array(seen)) if pinned.len() == seen.len() => {
            for (at, (pinned, seen)) in pinned.iter().zip(seen).enumerate() {
                assert_kept(&format!("{place}[{at}]"), pinned, seen);
            }
        }
        (pinned, seen) => assert_eq!(pinned, seen, "{place} has another value than before"),
    }
}

#[test]
fn keys_stay_as_they_were() {
    check("status", &samples::status());
    check("job", &samples::job());
    check("job-detail", &samples::job_detail());
    check("task-page", &samples::task_page());
    check("worker", &samples::worker());
    check("event", &samples::event());
    check("accepted", &samples::accepted());
    check("error", &samples::error());
    check("replay", &samples::replay());
    check("log", &samples::log());
}
