//! Runs simulated clusters, one per seed, and says what did not hold.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is what it prints")]

use clap::Parser;
use muster_tests::sim::{self, Report, Settings, Stats};
use serde_json::json;
use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

#[derive(Parser)]
#[command(
    about = "Simulated clusters, one per seed",
    after_help = "Example: sim --seeds 0..200\nOne seed, with its whole trace: sim --seeds 17 --verbose"
)]
struct Arguments {
    /// `A..B`, B not included; or one seed.
    #[arg(long, default_value = "0..200", value_parser = seeds)]
    seeds: Range<u64>,
    /// Print the whole trace of the first seed that fails, or of the only one.
    #[arg(long)]
    verbose: bool,
    /// Run every so-many-th seed twice, and compare the traces.
    #[arg(long, default_value_t = 20)]
    twice_every: u64,
    /// Expect a failure: the product has a planted bug, which must be caught.
    #[arg(long)]
    planted: bool,
    /// Seeds at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    match text.split_once("..") {
        Some((from, to)) => {
            let range = number(from)?..number(to)?;
            if range.is_empty() { Err(format!("{text}: no seed is in it")) } else { Ok(range) }
        }
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the product is a failure of its seed, told with the others.
    std::panic::set_hook(Box::new(|_| {}));
    let settings = Settings { verbose: arguments.verbose, ..Settings::default() };
    let (next, stop) = (AtomicU64::new(arguments.seeds.start), AtomicU64::new(u64::MAX));
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
                    let wrong = wrong(&report, &settings, arguments.twice_every);
                    let mut sum = sum.lock().expect("no thread panics with the lock");
                    sum.0.add(&report.stats);
                    if let Some(wrong) = wrong {
                        if arguments.planted {
                            stop.store(seed, Ordering::Relaxed);
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
    failures.sort_by_key(|(report, _)| report.seed);
    tell(&arguments, &stats, &failures, began.elapsed().as_secs_f64());
    if failures.is_empty() == arguments.planted { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is wrong with a run, if anything.
fn wrong(report: &Report, settings: &Settings, twice_every: u64) -> Option<String> {
    if let Some(failure) = &report.failure {
        return Some(format!("{}: {}", failure.invariant, failure.what));
    }
    if let Some(lacking) = report.stats.lacking() {
        return Some(format!("coverage: {lacking}"));
    }
    let again = twice_every > 0 && report.seed.is_multiple_of(twice_every);
    (again && sim::run(report.seed, settings).trace != report.trace).then(|| "determinism: run again, it left another trace".to_string())
}

fn tell(arguments: &Arguments, stats: &Stats, failures: &[(Report, String)], seconds: f64) {
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
                "seeds": seeds, "failed": failed, "seconds": seconds, "messages": stats.messages, "messages_per_s": per_s, "lost": stats.lost,
                "elections": stats.elections, "crashes": stats.crashes, "snapshot_installs": stats.installs, "tasks": stats.tasks,
                "entries": stats.entries, "acknowledged": stats.acknowledged, "simulated_s": stats.simulated_ms / 1_000,
            })
        );
        return;
    }
    println!(
        "sim: {seeds} seeds, {} failed; {} messages ({per_s} per second), {} lost, {} elections, {} crashes, {} snapshot installs, {} tasks, {} entries, {} s simulated in {seconds:.1} s",
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
