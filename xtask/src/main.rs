//! The project's own habits: `cargo xtask verify | house | test | sim | demo | bench | oracle`.
//!
//! Its one job is to run the same checks in the same way everywhere: at a desk and in `.ci/run`. Everything
//! is built with the one profile `ci`, for the whole workspace, so that features are unified once and candle
//! is compiled once. It must never install anything by `cargo install`, and never hide that a check was left
//! out.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and logs: what it prints is its result"
)]

mod bench_data;
mod bench_diloco;
mod bench_gpu;
mod bench_train;
mod cargo;
mod cuda;
mod house;
mod nats;
mod oracle;
mod oracle_data;
mod packages;
mod planted;
mod policy;
mod spdx;
mod suite;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own habits")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, house rules, dependencies, clippy and docs; nothing is run.
    Verify,
    /// The house rules alone: circles, sizes, names, imports.
    House,
    /// Every test of the workspace, then 200 simulated clusters, the planted bugs, and the demo.
    Test {
        /// Leave the simulator out, and the planted bugs with it.
        #[arg(long)]
        no_sim: bool,
        /// Leave the demo out.
        #[arg(long)]
        no_demo: bool,
        /// Passed on to `cargo test`.
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Simulated clusters, one per seed.
    Sim {
        /// `A..B`, B not included; or one seed.
        #[arg(long, default_value = "0..200")]
        seeds: String,
        /// Instead, plant each bug of `tests/planted` in a copy of the tree, and see that simulated clusters
        /// catch it.
        #[arg(long, conflicts_with_all = ["seeds", "rest"])]
        planted: bool,
        /// Passed on to the simulator.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Compiles the feature `cuda`, with a toolkit that is made if there is none, and runs its tests where
    /// there is a GPU.
    Cuda,
    /// The demo, from the binary of the profile `ci`.
    Demo {
        /// Passed on to `muster demo`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Holds the engine against PyTorch, transformers and peft, on fresh checkpoints and both ways, and data
    /// sets against the readers and tokenizers of others. Needs Python; not a part of CI.
    Oracle {
        /// Which part: `engine` or `data`; without it, both.
        part: Option<String>,
        /// Instead, record anew what the tests read.
        #[arg(long)]
        record: bool,
    },
    /// Measures: `cargo xtask bench spine --json` on real processes, `data` against Hugging Face's libraries,
    /// `train` against PyTorch, `diloco` against synchronous training, `collective` against the loopback.
    Bench {
        /// Which bench: `spine`, `data`, `train`, `diloco` or `collective`.
        name: String,
        /// Print one JSON object on standard output, and everything else on standard error.
        #[arg(long)]
        json: bool,
        /// The profile that the measured binaries are built with.
        #[arg(long, default_value = "ci")]
        profile: String,
        /// Passed on to the bench.
        #[arg(last = true)]
        rest: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<bool> {
    match task {
        Task::Verify => verify::verify(),
        Task::House => house::house(),
        Task::Test { no_sim, no_demo, filter } => suite::test(!no_sim, !no_demo, &filter),
        Task::Sim { planted: true, .. } => planted::planted(),
        Task::Sim { seeds, planted: false, rest } => suite::sim(&seeds, &rest),
        Task::Cuda => cuda::cuda(),
        Task::Demo { rest } => suite::demo(&rest),
        Task::Oracle { part, record } => match part.as_deref() {
            None => Ok(oracle::oracle(record)? & oracle_data::oracle(record)?),
            Some("engine") => oracle::oracle(record),
            Some("data") => oracle_data::oracle(record),
            Some(other) => anyhow::bail!("find an oracle named {other:?}: there are `engine` and `data`"),
        },
        Task::Bench { name, json, profile, rest } => suite::bench(&name, json, &profile, &rest),
    }
}
