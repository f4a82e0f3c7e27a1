use super::*;
use crate::documents::Turn;
use crate::documents::{Body, Place};
use crate::filters::DropReason;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;

/// Every record of a file, block after block.
fn records(path: &Path, format: Format, block_bytes: u64) -> Result<Vec<Record>, Error> {
    let bytes = fs::metadata(path).expect("is there").len();
    let mut records = Vec::new();
    for part in parts(path, bytes, format, block_bytes)? {
        read(&part, &Fields::default(), 1 << 20, &mut |record| {
            records.push(record);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(records)
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match &record.raw {
        RawRecord::Text(bytes) | RawRecord::Json(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        RawRecord::Row(Ok(body)) => body.plain().into_owned(),
        RawRecord::Row(Err(reason)) => format!("!{reason}"),
        RawRecord::TooLarge => "!large".to_owned(),
    };
    records.iter().map(text).collect()
}

#[test]
fn each_record_comes_once_wherever_the_blocks_end() {
    let home = tempfile::tempdir().expect("makes a directory");
    let path = home.path().join("a.txt");
    let table: [(&str, Format, &str, &[&str]); 11] = [
        ("lines", Format::Lines, "one\ntwo\nthree\n", &["one", "two", "three"]),
        ("no final end", Format::Lines, "one\ntwo", &["one", "two"]),
        ("carriage returns", Format::Lines, "one\r\n\r\ntwo\r\nthree\r", &["one", "two", "three"]),
        ("blank lines", Format::Lines, "\n\n \none\n\n\ntwo\n\n", &["one", "two"]),
        (
            "many bytes",
            Format::Lines,
            "\u{e9}\u{1f980}\n\u{6f22}\u{5b57}\n\u{e9}",
            &["\u{e9}\u{1f980}", "\u{6f22}\u{5b57}", "\u{e9}"],
        ),
        ("nothing", Format::Lines, "", &[]),
        ("only ends", Format::Lines, "\n\r\n\n", &[]),
        ("paragraphs", Format::Paragraphs, "a\nb\n\nc\n \nd\ne\nf", &["a\nb", "c", "d\ne\nf"]),
        ("paragraphs with returns", Format::Paragraphs, "\r\na\r\nb\r\n\r\n\r\nc\r\n", &["a\nb", "c"]),
        ("one paragraph", Format::Paragraphs, "a\nbb\nccc\ndddd\n", &["a\nbb\nccc\ndddd"]),
        ("rows", Format::Jsonl, "{\"a\":1}\n\n{\"b\":\"\\n\"}\n", &["{\"a\":1}", "{\"b\":\"\\n\"}"]),
    ];
    for (name, format, text, expected) in table {
        fs::write(&path, text).expect("writes");
        let whole = records(&path, format, u64::MAX).expect("reads");
        assert_eq!(texts(&whole), expected, "{name}");
        for record in &whole {
            // The place is where the text is.
            let Place::Bytes { start, end } = record.place else { panic!("{name}: records have bytes") };
            let bytes = &text.as_bytes()[start as usize..end as usize];
            assert_eq!(
                String::from_utf8_lossy(bytes).replace("\r\n", "\n"),
                texts(std::slice::from_ref(record))[0],
                "{name}"
            );
            assert_eq!(record.line, Some(line_of(&path, start).expect("reads")), "{name}");
        }
        for block in 1..=text.len() as u64 + 1 {
            let cut = records(&path, format, block).expect("reads");
            assert_eq!(texts(&cut), expected, "{name}, blocks of {block}");
            let places = |records: &[Record]| records.iter().map(|record| record.place).collect::<Vec<_>>();
            assert_eq!(places(&cut), places(&whole), "{name}, blocks of {block}");
        }
    }
}

#[test]
fn a_long_record_is_passed_over_in_little_memory() {
    let home = tempfile::tempdir().expect("makes a directory");
    let path = home.path().join("a.txt");
    let mut file = fs::File::create(&path).expect("opens");
    file.write_all(b"before\n").expect("writes");
    for _ in 0..=RECORD_BYTES_MAX / (1 << 20) {
        file.write_all(&vec![b'x'; 1 << 20]).expect("writes");
    }
    file.write_all(b"\nafter\n").expect("writes");
    drop(file);
    let found = records(&path, Format::Lines, u64::MAX).expect("reads");
    assert_eq!(texts(&found), ["before", "!large", "after"]);
    assert_eq!(found[1].bytes, (RECORD_BYTES_MAX + (1 << 20)) as u64);
    assert_eq!(
        texts(&records(&path, Format::Lines, 40 << 20).expect("reads")),
        ["before", "!large", "after"]
    );
    assert_eq!(texts(&records(&path, Format::Text, u64::MAX).expect("reads")), ["!large"]);
}

/// A zstd frame of stored blocks, as RFC 8878 has it.
fn zstd_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    frame.extend((text.len() as u32).to_le_bytes());
    let header = (text.len() as u32) << 3 | 1;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(text);
    frame
}

fn gzip_member(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("packs");
    encoder.finish().expect("packs")
}

#[test]
fn packed_files_are_read_and_damaged_ones_named() {
    let home = tempfile::tempdir().expect("makes a directory");
    let text = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n";
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let zstd = [zstd_frame(&text.as_bytes()[..20]), skippable, zstd_frame(&text.as_bytes()[20..])].concat();
    let gzip = [gzip_member(&text.as_bytes()[..20]), gzip_member(&text.as_bytes()[20..])].concat();
    let mut flipped = gzip.clone();
    let crc = gzip.len() - 7;
    flipped[crc] ^= 1;
    let expected = ["{\"text\":\"one\"}", "{\"text\":\"two\"}"];
    type Read<'a> = Result<&'a [&'a str], &'a str>;
    let table: [(&str, &[u8], Read<'_>); 9] = [
        ("a.jsonl.gz", &gzip, Ok(&expected)),
        ("a.jsonl.zst", &zstd, Ok(&expected)),
        ("a.txt.gz", &gzip, Ok(&[text])),
        ("cut.jsonl.gz", &gzip[..gzip.len() - 9], Err("cut.jsonl.gz: unpack gzip: it is truncated")),
        ("cut.jsonl.zst", &zstd[..zstd.len() - 3], Err("cut.jsonl.zst: unpack zstd: it is truncated")),
        ("flipped.jsonl.gz", &flipped, Err("flipped.jsonl.gz: unpack gzip: ")),
        ("plain.jsonl.gz", text.as_bytes(), Err("plain.jsonl.gz: unpack gzip: ")),
        ("plain.jsonl.zst", text.as_bytes(), Err("plain.jsonl.zst: unpack zstd: ")),
        ("a.parquet.gz", &gzip, Err("a.parquet.gz: a compressed Parquet file")),
    ];
    for (name, bytes, expected) in table {
        let path = home.path().join(name);
        fs::write(&path, bytes).expect("writes");
        match (records(&path, Format::Auto, 1), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(texts(&found), expected, "{name}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{name}: {error}"),
            (found, expected) => panic!("{name}: {found:?} is not {expected:?}"),
        }
    }
}

#[test]
fn a_file_that_changes_is_refused() {
    let home = tempfile::tempdir().expect("makes a directory");
    let path = home.path().join("a.txt");
    fs::write(&path, "four").expect("writes");
    let parts = parts(&path, 9, Format::Auto, u64::MAX).expect("lists");
    let message = read(&parts[0], &Fields::default(), 99, &mut |_| Ok(ControlFlow::Continue(())))
        .expect_err("changed")
        .to_string();
    assert!(message.contains("it had 9 bytes when it was listed, and now has 4"), "{message}");
}

#[test]
fn rows_become_documents_and_bad_ones_say_what_would_be_right() {
    let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
    let preference =
        |prompt| Body::Preference { prompt, chosen: "yes".to_owned(), rejected: "no".to_owned() };
    let answered = Body::Chat(vec![turn("user", "why"), turn("assistant", "so")]);
    let table: [(&str, Result<Body, &str>); 22] = [
        (r#"{"text": "a", "id": 3}"#, Ok(Body::Text("a".to_owned()))),
        (
            r#"{"text": null, "messages": [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]}"#,
            Ok(answered.clone()),
        ),
        (r#"{"prompt": "why", "completion": "so"}"#, Ok(answered.clone())),
        (
            r#"{"prompt": [{"role":"user","content":"why"}], "completion": [{"role":"assistant","content":"so"}]}"#,
            Ok(answered),
        ),
        (
            r#"{"prompt": "why", "chosen": "yes", "rejected": "no"}"#,
            Ok(preference(vec![turn("user", "why")])),
        ),
        (
            r#"{"chosen": [{"role":"user","content":"why"},{"role":"assistant","content":"yes"}],
                "rejected": [{"role":"user","content":"why"},{"role":"assistant","content":"no"}]}"#,
            Ok(preference(vec![turn("user", "why")])),
        ),
        (
            r#"{"prompt": "why", "chosen": [{"role":"assistant","content":"yes"}], "rejected": [{"role":"assistant","content":"no"}]}"#,
            Ok(preference(vec![turn("user", "why")])),
        ),
        ("[1]", Err("expected a JSON object, got a list")),
        (r#"{"text": "a""#, Err("invalid JSON: EOF")),
        (r#"{"text": 3}"#, Err("`text` is a number, not a text")),
        (
            r#"{"txt": "a"}"#,
            Err(
                "no `text`, no `messages`, no `prompt` with `completion`, and no `chosen` with `rejected`; it has `txt`",
            ),
        ),
        (r#"{}"#, Err("it has nothing")),
        (r#"{"prompt": "why"}"#, Err("it has `prompt`")),
        (r#"{"messages": "a"}"#, Err("`messages` is a text, not a list of {role, content}")),
        (r#"{"messages": []}"#, Err("`messages` is empty")),
        (r#"{"messages": [3]}"#, Err("`messages[0]` is a number, not {role, content}")),
        (r#"{"messages": [{"role": "user"}]}"#, Err("`messages[0]` has no `content`")),
        (
            r#"{"messages": [{"role": "user", "content": null}]}"#,
            Err("`messages[0].content` is null, not a text"),
        ),
        (r#"{"prompt": "why", "chosen": "yes"}"#, Err("`chosen` without `rejected`")),
        (r#"{"prompt": "why", "rejected": "no"}"#, Err("`rejected` without `chosen`")),
        (r#"{"chosen": "yes", "rejected": "no"}"#, Err("no `prompt`: answers without a question")),
        (
            r#"{"chosen": [{"role":"user","content":"a"},{"role":"assistant","content":"yes"}],
                "rejected": [{"role":"user","content":"b"},{"role":"assistant","content":"no"}]}"#,
            Err("answers to different conversations"),
        ),
    ];
    for (row, expected) in table {
        match (RawRecord::Json(row.as_bytes().to_vec()).body(&Fields::default()), expected) {
            (Ok(body), Ok(expected)) => assert_eq!(body, expected, "{row}"),
            (Err((DropReason::Malformed, reason)), Err(expected)) => {
                assert!(reason.contains(expected), "{row}: {reason}")
            }
            (found, expected) => panic!("{row}: {found:?} is not {expected:?}"),
        }
    }
    let body = |raw: RawRecord| raw.body(&Fields::default()).expect_err("is dropped").0;
    assert_eq!(body(RawRecord::Text(vec![0xff])), DropReason::NotUtf8);
    assert_eq!(body(RawRecord::Json(vec![0xff])), DropReason::Malformed);
    assert_eq!(body(RawRecord::TooLarge), DropReason::TooLarge);
    let marked = "\u{feff}{\"text\": \"a\"}".as_bytes().to_vec();
    assert_eq!(RawRecord::Json(marked).body(&Fields::default()), Ok(Body::Text("a".to_owned())));
}

#[test]
fn formats_have_names_and_endings() {
    for (name, format) in Format::NAMES {
        assert_eq!(Format::named(name).expect("is one"), format);
    }
    assert!(
        Format::named("csv")
            .expect_err("is none")
            .to_string()
            .contains("there are auto, text, lines, paragraphs, jsonl, parquet")
    );
    let format = |name: &str| parts(Path::new(name), 10, Format::Auto, 99).expect("lists")[0].format;
    assert_eq!(
        [format("a.jsonl.gz"), format("b/a.ndjson"), format("a.txt.zst"), format("a")],
        [Format::Jsonl, Format::Jsonl, Format::Text, Format::Text]
    );
    assert_eq!([ending("a.jsonl.gz"), ending("a.rs"), ending("a")], [Some("jsonl"), Some("rs"), None]);
}
