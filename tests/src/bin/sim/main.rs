//! Runs simulated clusters, one per seed, and reports violated invariants.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is what it prints")]

use clap::Parser;
use muster_tests::sim::{self, Report, Settings, Stats};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

#[derive(Parser)]
#[command(
    about = "Simulated clusters, one per seed",
    after_help = "Example: sim --seeds 0..200\nOne seed, with its whole trace: sim --seeds 17 --verbose"
)]
struct Arguments {
    /// `A..B` without B, or a single seed.
    #[arg(long, default_value = "0..200", value_parser = seeds)]
    seeds: Range<u64>,
    /// Print the whole trace of the first seed that fails, or of a single seed.
    #[arg(long)]
    verbose: bool,
    /// Run the first seed, every Nth after it and each that fails twice, and compare the traces; 0: never.
    #[arg(long, default_value_t = 20)]
    twice_every: u64,
    /// Expect a planted bug to be caught; print the seed and the invariant that caught it in one line.
    #[arg(long)]
    planted: bool,
    /// How many seeds to run in parallel.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write a line for each seed: the seed, the last index of its log, and the chain head there. Two builds
    /// that decide alike write the same file.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    match text.split_once("..") {
        Some((from, to)) => {
            let range = number(from)?..number(to)?;
            if range.is_empty() { Err(format!("{text}: the range is empty")) } else { Ok(range) }
        }
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the product is a failure of its seed, and is reported with the others.
    std::panic::set_hook(Box::new(|_| {}));
    let settings = Settings { verbose: arguments.verbose, ..Settings::default() };
    let (next, stop) = (AtomicU64::new(arguments.seeds.start), AtomicU64::new(u64::MAX));
    let runs_twice = AtomicU64::new(0);
    let heads = Mutex::new(BTreeMap::new());
    let sum = Mutex::new((Stats::default(), Vec::<(Report, String)>::new()));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seeds.end || seed > stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = sim::run(seed, &settings);
                    let twice = arguments.twice_every > 0
                        && (seed - arguments.seeds.start).is_multiple_of(arguments.twice_every);
                    let mut wrong = wrong(&report, arguments.planted);
                    // A failure that does not happen again cannot be debugged.
                    if (twice || wrong.is_some()) && arguments.twice_every > 0 {
                        runs_twice.fetch_add(1, Ordering::Relaxed);
                        if sim::run(seed, &settings).trace != report.trace {
                            let first =
                                wrong.map_or_else(String::new, |wrong| format!("; the first run: {wrong}"));
                            wrong = Some(format!("determinism: the second run has another trace{first}"));
                        }
                    }
                    let mut sum = sum.lock().expect("no thread panics with the lock");
                    sum.0.add(&report.stats);
                    heads.lock().expect("no thread panics with the lock").insert(seed, report.head);
                    if let Some(wrong) = wrong {
                        if arguments.planted {
                            stop.fetch_min(seed, Ordering::Relaxed);
                        }
                        sum.1.push((report, wrong));
                    } else if arguments.verbose && arguments.seeds.end - arguments.seeds.start == 1 {
                        report.last.iter().for_each(|line| println!("{line}"));
                    }
                }
            });
        }
    });
    let (stats, mut failures) = sum.into_inner().expect("no thread panics with the lock");
    if let Some(file) = &arguments.heads {
        let mut lines = String::new();
        for (seed, (index, head)) in heads.into_inner().expect("no thread panics with the lock") {
            let _ = writeln!(lines, "{seed} {index} {head}");
        }
        if let Err(error) = std::fs::write(file, lines) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    failures.sort_by_key(|(report, _)| report.seed);
    if arguments.planted {
        report_planted(&arguments.seeds, failures.first());
    } else {
        report(&arguments, &stats, &failures, runs_twice.into_inner(), began.elapsed().as_secs_f64());
    }
    if failures.is_empty() == arguments.planted { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is wrong with a run. With a planted bug, missing coverage does not count as caught.
fn wrong(report: &Report, planted: bool) -> Option<String> {
    if let Some(failure) = &report.failure {
        return Some(format!("{}: {}", failure.invariant, failure.what));
    }
    report
        .stats
        .missing_coverage()
        .filter(|_| !planted)
        .map(|missing_coverage| format!("coverage: {missing_coverage}"))
}

/// Prints one line: the seed that caught the planted bug, and the invariant.
fn report_planted(seeds: &Range<u64>, caught: Option<&(Report, String)>) {
    match caught {
        Some((report, wrong)) => {
            let wrong = wrong.lines().next().unwrap_or_default();
            println!("planted: seed {}: {}", report.seed, wrong.chars().take(200).collect::<String>());
        }
        None => println!("planted: not caught by seeds {}..{}", seeds.start, seeds.end),
    }
}

fn report(arguments: &Arguments, stats: &Stats, failures: &[(Report, String)], twice: u64, seconds: f64) {
    if let Some((report, wrong)) = failures.first() {
        report.last.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("seed {}: {wrong}", report.seed);
    }
    for (report, wrong) in failures.iter().skip(1).take(20) {
        eprintln!("seed {}: {}", report.seed, wrong.chars().take(300).collect::<String>());
    }
    let seeds = arguments.seeds.end - arguments.seeds.start;
    let per_s = (stats.messages as f64 / seconds).round();
    if arguments.json {
        let failed: Vec<u64> = failures.iter().map(|(report, _)| report.seed).collect();
        println!(
            "{}",
            json!({
                "seeds": seeds, "failed": failed, "twice": twice, "seconds": seconds, "messages": stats.messages, "messages_per_s": per_s, "lost": stats.lost,
                "elections": stats.elections, "crashes": stats.crashes, "snapshot_installs": stats.installs, "tasks": stats.tasks,
                "entries": stats.entries, "acknowledged": stats.acknowledged, "simulated_s": stats.simulated_ms / 1_000,
            })
        );
        return;
    }
    println!(
        "sim: {seeds} seeds, {twice} of them twice, {} failed; {} messages ({per_s} per second), {} lost, {} elections, {} crashes, {} snapshot installs, {} tasks, {} entries, {} s simulated in {seconds:.1} s",
        failures.len(),
        stats.messages,
        stats.lost,
        stats.elections,
        stats.crashes,
        stats.installs,
        stats.tasks,
        stats.entries,
        stats.simulated_ms / 1_000,
    );
    if let Some((report, _)) = failures.first() {
        println!("sim: to see the first again: cargo xtask sim --seeds {}", report.seed);
    }
}
