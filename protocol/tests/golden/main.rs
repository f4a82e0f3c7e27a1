//! The bytes of all types in the log, on the wire or on a socket, pinned in `protocol/golden`.
//!
//! Every later version must read today's log, so these bytes never change: a change needs a new tag or a new
//! format version, not a new recording. `MUSTER_RECORD=1 cargo test -p muster-protocol` adds the files of
//! *new* samples and nothing else.

mod kinds;
mod memory;
mod samples;

use kinds::{Kind, kinds};
use muster_protocol::codec::CodecError;
use std::path::PathBuf;
use std::sync::Once;
use std::{env, fs};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn path(kind: &Kind, tag: u16, name: &str) -> PathBuf {
    directory().join(kind.name).join(format!("{tag:02}-{name}.hex"))
}

/// Hexadecimal, 32 bytes to a line, so that a review shows what changed.
fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).expect("golden files hold hex digits")
        })
        .collect()
}

/// Adds the files of new samples, once, before any test reads them.
fn record_new() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        if env::var_os("MUSTER_RECORD").is_none_or(|flag| flag != "1") {
            return;
        }
        for kind in kinds() {
            for sample in (kind.samples)() {
                let path = path(&kind, sample.tag, sample.name);
                if !path.exists() {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, to_hex(&sample.bytes)).unwrap();
                }
            }
        }
    });
}

/// Kind, name and bytes of every pinned value.
fn pinned() -> Vec<(Kind, String, Vec<u8>)> {
    record_new();
    let mut all = Vec::new();
    for kind in kinds() {
        for &(tag, name) in kind.tags {
            let path = path(&kind, tag, name);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; record it with MUSTER_RECORD=1", path.display())
            });
            all.push((kind, format!("{} {tag} {name}", kind.name), from_hex(&text)));
        }
    }
    all
}

#[test]
fn every_tag_has_a_sample_and_its_bytes_never_change() {
    record_new();
    for kind in kinds() {
        let samples = (kind.samples)();
        let sampled: Vec<(u16, &str)> = samples.iter().map(|sample| (sample.tag, sample.name)).collect();
        assert_eq!(sampled, kind.tags, "{}: one sample for each tag, in their order", kind.name);
        for sample in samples {
            let path = path(&kind, sample.tag, sample.name);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!(
                    "{} {} has no golden file {}: {error}; MUSTER_RECORD=1 adds it",
                    kind.name,
                    sample.name,
                    path.display()
                )
            });
            assert_eq!(
                to_hex(&sample.bytes),
                text,
                "the bytes of {} {} changed: other versions could not read them. Add a new tag instead",
                kind.name,
                sample.name
            );
        }
    }
}

#[test]
fn no_golden_file_is_left_over() {
    record_new();
    let mut known: Vec<PathBuf> = Vec::new();
    for kind in kinds() {
        known.extend(kind.tags.iter().map(|(tag, name)| path(&kind, *tag, name)));
    }
    for kind in fs::read_dir(directory()).unwrap().map(|kind| kind.unwrap().path()) {
        // The test `views` owns these.
        if kind.ends_with("json") {
            continue;
        }
        for file in fs::read_dir(kind).unwrap() {
            let file = file.unwrap().path();
            assert!(
                known.contains(&file),
                "{} pins a tag that is gone: old logs must stay readable",
                file.display()
            );
        }
    }
}

#[test]
fn pinned_bytes_decode_and_encode_again_to_the_same() {
    for (kind, name, bytes) in pinned() {
        assert_eq!((kind.again)(&bytes).as_deref(), Ok(&bytes[..]), "{name}");
    }
}

#[test]
fn values_survive_json() {
    for (kind, name, bytes) in pinned() {
        let json = (kind.to_json)(&bytes);
        assert_eq!((kind.from_json)(&json), Ok(bytes), "{name}: {json}");
    }
}

#[test]
fn a_cut_is_an_error_at_every_place() {
    for (kind, name, bytes) in pinned() {
        for cut in 0..bytes.len() {
            assert!((kind.again)(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!((kind.again)(&longer), Err(CodecError::Trailing { bytes: 1 }), "{name}");
    }
}

#[test]
fn damaged_bytes_never_panic_and_what_decodes_is_whole() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut decoded = 0_u32;
    for (kind, name, bytes) in pinned() {
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + next() % 4 {
                let at = (next() % damaged.len() as u64) as usize;
                match next() % 3 {
                    0 => damaged[at] = next() as u8,
                    1 => damaged.insert(at, next() as u8),
                    _ => damaged[at] ^= 1 << (next() % 8),
                }
            }
            // Damage may go unnoticed here, since checksums are the store's task. But a decoded value must be
            // complete.
            if let Ok(again) = (kind.again)(&damaged) {
                assert_eq!((kind.again)(&again).as_deref(), Ok(&again[..]), "{name}: {damaged:02x?}");
                decoded += 1;
            }
        }
        for _ in 0..100 {
            let garbage: Vec<u8> = (0..next() % 200).map(|_| next() as u8).collect();
            let _ = (kind.again)(&garbage);
        }
    }
    assert!(decoded > 100, "too few damaged values decode to test anything: {decoded}");
}

#[test]
fn an_announced_length_takes_no_memory() {
    // A length of nearly 1 GiB before a few bytes: read as text, as bytes, and as a list.
    let length = [&[252_u8][..], &(1_u32 << 30).saturating_sub(64).to_le_bytes()].concat();
    for (kind, name, bytes) in pinned() {
        for at in 0..bytes.len() {
            let lying = [&bytes[..at], &length[..], &bytes[at..]].concat();
            let (taken_bytes, _) = memory::peak_of(|| (kind.again)(&lying));
            assert!(taken_bytes < 4 << 20, "{name}: a length at {at} took {taken_bytes} bytes");
        }
    }
}

#[test]
fn small_elements_in_number_are_within_the_decoders_limit() {
    use muster_protocol::{bus, codec, event};
    // These elements grow the most from wire to memory. The limit must let honest messages through.
    let events = vec![samples::smallest_event(); 100_000];
    let bytes = codec::encode(&events);
    assert_eq!(codec::decode::<Vec<event::EventRecord>>(&bytes, bytes.len()).as_ref(), Ok(&events));
    for count in [1, 50, 100, 1_000, 20_000] {
        let launches = bus::Run { launches: vec![samples::smallest_launch(); count] };
        let bytes = codec::encode(&launches);
        assert_eq!(codec::decode::<bus::Run>(&bytes, bytes.len()).as_ref(), Ok(&launches), "{count}");
    }
}
