//! Tasks of the project: `cargo xtask verify | house | test | sim | demo | bench | oracle`.
//!
//! Its one job is to run the same checks in the same way everywhere, at a desk and in `.ci/run`. Everything
//! is built with the profile `ci` and for the whole workspace, so that features unify in one way and candle
//! is compiled once. It must never use `cargo install`, and never hide that a check was skipped.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]

mod bench;
mod cargo;
mod cuda;
mod deny;
mod house;
mod nats;
mod oracle;
mod packages;
mod planted;
mod spdx;
mod test;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, tests and benchmarks of the project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check format, house rules, dependencies, clippy and docs.
    Verify,
    /// Check the house rules alone: imports, circles, sizes, names, words, paths in documents.
    House,
    /// Run every test of the workspace, 200 simulated clusters, the planted bugs and the demo.
    Test {
        /// Skip the simulator and the planted bugs.
        #[arg(long)]
        no_sim: bool,
        /// Skip the demo.
        #[arg(long)]
        no_demo: bool,
        /// Passed on to `cargo test`.
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Run simulated clusters, one per seed.
    Sim {
        /// `A..B` without B, or one seed.
        #[arg(long, default_value = "0..200")]
        seeds: String,
        /// Instead, plant each bug of `tests/planted` in a copy of the tree and check that a simulated
        /// cluster catches it.
        #[arg(long, conflicts_with_all = ["seeds", "rest"])]
        planted: bool,
        /// Passed on to the simulator.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Compile the feature `cuda` and, with a GPU, run its tests. Installs a toolkit into the target folder
    /// if there is none.
    Cuda,
    /// Run the demo with the binary of the profile `ci`.
    Demo {
        /// Passed on to `muster demo`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Compare the engine with PyTorch, transformers and peft, and data sets with the readers and tokenizers
    /// of other libraries. Needs Python; not part of CI.
    Oracle {
        /// `engine` or `data`; both by default.
        part: Option<String>,
        /// Instead, renew the recordings that the tests read.
        #[arg(long)]
        record: bool,
    },
    /// Run a benchmark: `spine` on real processes, `data` against Hugging Face's libraries, `train` against
    /// PyTorch, `diloco` against synchronous training, `collective` against the loopback.
    Bench {
        /// `spine`, `data`, `train`, `diloco` or `collective`.
        name: String,
        /// Print one JSON object to standard output, and all else to standard error.
        #[arg(long)]
        json: bool,
        /// The profile of the measured binaries.
        #[arg(long, default_value = "ci")]
        profile: String,
        /// Passed on to the benchmark.
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
        Task::House => house::run(),
        Task::Test { no_sim, no_demo, filter } => test::test(!no_sim, !no_demo, &filter),
        Task::Sim { planted: true, .. } => planted::run(),
        Task::Sim { seeds, planted: false, rest } => test::sim(&seeds, &rest),
        Task::Cuda => cuda::cuda(),
        Task::Demo { rest } => test::demo(&rest),
        Task::Oracle { part, record } => oracle::run(part.as_deref(), record),
        Task::Bench { name, json, profile, rest } => bench::bench(&name, json, &profile, &rest),
    }
}
