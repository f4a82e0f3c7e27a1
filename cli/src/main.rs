//! `muster`: the command line and the one binary.
//!
//! Its one job is to parse the command line, run a verb and exit with the code that the README documents. The
//! work is in other crates. Only [`render`] prints.

mod args;
mod audit;
mod broker;
mod client;
mod demo;
mod error;
mod jobfile;
mod local;
mod logging;
mod offline;
mod quantities;
mod render;
mod servers;
mod verbs;

use args::{Cli, Verb};
use clap::Parser;
use error::CliError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // An executor has a process and threads of its own, and no runtime.
    if let Verb::Executor(arguments) = &cli.verb {
        return servers::executor(&arguments.name);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure =
                CliError::Other(anyhow::Error::new(error).context("start the threads of the runtime"));
            render::failure(&failure);
            return failure.exit_code();
        }
    };
    let ended = runtime.block_on(verbs::run(cli.verb));
    // Blocked threads (a resolver, a disk) must not delay the exit.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            render::failure(&failure);
            failure.exit_code()
        }
    }
}
