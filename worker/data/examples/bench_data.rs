//! Tokens per second from JSON lines to shards on disk, against Hugging Face's `datasets.map` and
//! `tokenizers` on the same text.
//!
//! `bench_data --python PYTHON --script oracle/data/bench_hf.py [--mib N] [--threads N] [--vocab N] [--root
//! DIR]...`
//!
//! The text is real: sources and documentation below the roots, by default what cargo unpacked. Both sides
//! read the same files, use the same `tokenizer.json`, filter nothing, and write every token; the tokens must
//! be the same to the last one, or the bench fails. What Hugging Face's side needs to start Python and to
//! load the lines is told apart, and not counted against it.

use muster_data::dedup::Selection;
use muster_data::documents::Scan;
use muster_data::filters::Filters;
use muster_data::normalise::Normalise;
use muster_data::pack::{PackConfig, pack, parts};
use muster_data::scan::{ScanConfig, Split, scan};
use muster_data::shard::ShardIndex;
use muster_data::tokenizer::{Tokenizer, TokenizerConfig};
use muster_host::compute::Compute;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs, io};

/// Files that the text is divided into.
const FILES: usize = 4;
/// Text that the tokenizer learns from.
const SAMPLE_BYTES: usize = 8 << 20;
/// Text of a shard.
const PART_BYTES: u64 = 64 << 20;
/// Longer files are left out: no person wrote them.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How often our side runs; the median counts.
const RUNS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

struct Options {
    python: PathBuf,
    script: PathBuf,
    bytes: u64,
    threads: usize,
    vocab_size: usize,
    roots: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

fn main() -> Result<()> {
    let options = options()?;
    let home = env::temp_dir().join(format!("muster-bench-data-{}", std::process::id()));
    fs::create_dir_all(&home)?;
    let found = bench(&options, &home);
    fs::remove_dir_all(&home)?;
    writeln!(io::stdout(), "{}", found?)?;
    Ok(())
}

fn options() -> Result<Options> {
    let registry = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut options = Options {
        python: "python3".into(),
        script: "oracle/data/bench_hf.py".into(),
        bytes: 48 << 20,
        threads: 2,
        vocab_size: 32_000,
        roots: Vec::new(),
    };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--python" => options.python = value.into(),
            "--script" => options.script = value.into(),
            "--mib" => options.bytes = value.parse::<u64>()? << 20,
            "--threads" => options.threads = value.parse()?,
            "--vocab" => options.vocab_size = value.parse()?,
            "--root" => options.roots.push(value.into()),
            other => return Err(format!("{other} is no option").into()),
        }
    }
    if options.roots.is_empty() {
        options.roots.extend(registry.map(|home| home.join("registry/src")));
    }
    Ok(options)
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{line}")?)
}

fn bench(options: &Options, home: &Path) -> Result<Value> {
    let (files, text_bytes) = write_lines(options, home)?;
    say(&format!("{text_bytes} bytes of text in {} files", files.len()))?;
    let compute = Compute::new(options.threads)?;
    let scan = read(home, &compute)?;
    let all: Vec<u32> = (0..scan.documents.len() as u32).collect();
    let selection = Selection { keep: vec![all], ..Selection::default() };
    let config = TokenizerConfig {
        vocab_size: options.vocab_size,
        sample_bytes: SAMPLE_BYTES,
        ..TokenizerConfig::default()
    };
    let tokenizer = Tokenizer::train(&config, std::slice::from_ref(&scan), &selection, &compute)?;
    drop(scan);
    let path = home.join("tokenizer.json");
    fs::write(&path, tokenizer.to_bytes())?;
    say(&format!("a tokenizer of {} tokens", tokenizer.vocab_size()))?;

    let mut times = Vec::new();
    let mut shards = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        shards = ours(&tokenizer, home, &compute)?;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let ours_s = times[times.len() / 2];

    let theirs_bin = home.join("hf.bin");
    let mut command = Command::new(&options.python);
    command
        .arg(&options.script)
        .arg(&theirs_bin)
        .arg(&path)
        .arg(tokenizer.eos().to_string())
        .arg(options.threads.to_string());
    let output = command.args(&files).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(
            format!("{} {}: {}", options.python.display(), options.script.display(), output.status).into()
        );
    }
    let said = String::from_utf8(output.stdout)?;
    let theirs: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    let seconds = |key: &str| theirs[key].as_f64().ok_or_else(|| format!("the script says no {key}"));
    let theirs_s = seconds("map_s")? + seconds("write_s")?;

    let width = if tokenizer.vocab_size() <= 1 << 16 { 2 } else { 4 };
    let mine = in_order(&shards, home, width)?;
    let tokens = (mine.len() / width) as f64;
    if let Some(byte) = differ(&mine, &fs::read(&theirs_bin)?) {
        return Err(format!("the tokens differ from token {} on, of {tokens}", byte / width).into());
    }
    let rate = |seconds: f64| (tokens / seconds).round();
    Ok(json!({
        "tokens_vs_hf": round(theirs_s / ours_s),
        "tokens_vs_hf_with_loading": round((theirs_s + seconds("load_s")?) / ours_s),
        "tokens": tokens,
        "same_tokens": true,
        "text_bytes": text_bytes,
        "threads": options.threads,
        "vocab_size": tokenizer.vocab_size(),
        "muster": {"tokens_per_s": rate(ours_s), "mb_per_s": round(text_bytes as f64 / ours_s / 1e6), "seconds": times},
        "hf": {"tokens_per_s": rate(theirs_s), "mb_per_s": round(text_bytes as f64 / theirs_s / 1e6), "detail": theirs},
    }))
}

/// Text files as JSON lines, in several files.
fn write_lines(options: &Options, home: &Path) -> Result<(Vec<PathBuf>, u64)> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = options.roots.clone();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(|e| format!("list {}: {e}", directory.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file()
                && path.extension().is_some_and(|ending| ending == "rs" || ending == "md" || ending == "txt")
            {
                sources.push(path);
            }
        }
    }
    // An even sample: by the hash of the path.
    sources.sort_by_key(|path| *blake3::hash(path.as_os_str().as_encoded_bytes()).as_bytes());
    let paths: Vec<PathBuf> = (0..FILES).map(|number| home.join(format!("{number}.jsonl"))).collect();
    let mut writers = Vec::new();
    for path in &paths {
        writers.push(io::BufWriter::new(fs::File::create(path)?));
    }
    let mut bytes = 0;
    for source in &sources {
        if fs::metadata(source)?.len() > FILE_BYTES_MAX {
            continue;
        }
        let Ok(text) = fs::read_to_string(source) else { continue };
        // One file after the other, so that the order of the lines is that of the files.
        let writer = &mut writers[(bytes * FILES as u64 / options.bytes) as usize];
        bytes += text.len() as u64;
        serde_json::to_writer(&mut *writer, &Row { text: Cow::Owned(text) })?;
        writer.write_all(b"\n")?;
        if bytes >= options.bytes {
            break;
        }
    }
    writers.iter_mut().try_for_each(Write::flush)?;
    Ok((paths, bytes))
}

/// All lines as documents, as a split of `data.scan` reads them.
fn read(home: &Path, compute: &Compute) -> Result<Scan> {
    let config = ScanConfig {
        roots: vec![home.to_owned()],
        extensions: vec!["jsonl".to_owned()],
        normalise: Normalise::NONE,
        filters: Filters::none(),
        held_out_per_mille: 0,
        bytes_max: u64::MAX,
        ..ScanConfig::default()
    };
    Ok(scan(&config, Split { index: 0, of: 1 }, compute)?)
}

/// From the lines to shards on disk; their indices.
fn ours(tokenizer: &Tokenizer, home: &Path, compute: &Compute) -> Result<Vec<ShardIndex>> {
    let scan = read(home, compute)?;
    let keep: Vec<u32> = (0..scan.documents.len() as u32).collect();
    let mut indices = Vec::new();
    for (number, part) in parts(&scan, &keep, PART_BYTES)?.into_iter().enumerate() {
        let packed = pack(&scan, part, &format!("{number:05}"), &PackConfig::default(), tokenizer, compute)?;
        let prefix = home.join(&packed.train.index().name);
        fs::write(prefix.with_extension("bin"), &packed.train.files().bin)?;
        fs::write(prefix.with_extension("idx"), &packed.train.files().idx)?;
        fs::write(prefix.with_extension("json"), packed.train.index_bytes())?;
        indices.push(packed.train.index().clone());
    }
    Ok(indices)
}

/// The tokens of all documents in the order of the lines, as they lie on the disk: a scan reads them in an
/// order of its own.
fn in_order(shards: &[ShardIndex], home: &Path, width: usize) -> Result<Vec<u8>> {
    let mut spans = Vec::new();
    let mut files = Vec::new();
    for (number, shard) in shards.iter().enumerate() {
        spans.extend(shard.documents.iter().map(|span| (&span.path, span.place, number, span)));
        files.push(fs::read(home.join(&shard.files.bin.name))?);
    }
    spans.sort_by_key(|(path, place, ..)| (*path, *place));
    let mut bytes = Vec::new();
    for (_, _, number, span) in spans {
        bytes
            .extend_from_slice(&files[number][span.start as usize * width..][..span.tokens as usize * width]);
    }
    Ok(bytes)
}

/// Where two files differ first.
fn differ(one: &[u8], other: &[u8]) -> Option<usize> {
    let inside = one.iter().zip(other).position(|(a, b)| a != b);
    inside.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
