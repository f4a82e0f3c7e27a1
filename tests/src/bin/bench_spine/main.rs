//! Benchmarks of the scheduler on real processes: three coordinators, workers, a real nats-server, real
//! disks.
//!
//! It measures what a user sees, from outside: it uses the HTTP API and process ids only. Standard output has
//! the figures; everything else goes to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose result is what it prints")]

mod kills;
mod load;
mod noop;
mod sample;
mod submit;
mod worker_lost;

use clap::Parser;
use sample::Figures;
use serde_json::Value;

#[derive(Parser)]
#[command(about = "Benchmarks the scheduler on real processes")]
struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Run only these parts: `submit`, `noop`, `worker-lost`, `kills`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many leaders to kill; each failover is timed.
    #[arg(long, default_value_t = 10)]
    leader_kills: usize,
    /// How many coordinators to kill in all; those after the leaders are random.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Submits per second while coordinators are killed.
    #[arg(long, default_value_t = 200)]
    submits_per_s: u32,
    /// No-op tasks in the array whose throughput is measured.
    #[arg(long, default_value_t = 10_000)]
    noops: u32,
    /// Submits by one client, one after the other.
    #[arg(long, default_value_t = 1_000)]
    submits: usize,
    /// How many workers' agents to kill.
    #[arg(long, default_value_t = 5)]
    worker_kills: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut figures = Figures::new();
    if wanted("submit") {
        eprintln!("submit: {} submits, one client, 3 replicas", arguments.submits);
        submit::measure(arguments.submits, &mut figures);
    }
    if wanted("noop") {
        eprintln!("noop: {} tasks in one array, 2 workers", arguments.noops);
        noop::measure(arguments.noops, &mut figures);
    }
    if wanted("worker-lost") {
        eprintln!("worker-lost: {} kills of an agent", arguments.worker_kills);
        worker_lost::measure(arguments.worker_kills, &mut figures);
    }
    if wanted("kills") {
        eprintln!(
            "kills: {} of leaders, {} in all, at {} submits/s",
            arguments.leader_kills, arguments.kills, arguments.submits_per_s
        );
        kills::measure(arguments.leader_kills, arguments.kills, arguments.submits_per_s, &mut figures);
    }
    let report = Value::Object(figures);
    if arguments.json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
}
