//! The one binary: `muster`.
//!
//! Its one job is to be the face: it reads the command line, runs a verb, and exits with the code that the
//! README documents. What clusters do is in other rooms; what is printed is in [`render`], and nowhere else.

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
    // An executor runs alone in its process, and has threads of its own.
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
    // A blocked thread (a resolver, a disk) must not keep a verb that is done.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            render::failure(&failure);
            failure.exit_code()
        }
    }
}
