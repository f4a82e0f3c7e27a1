//! Everything that is printed. Nothing else in this program prints.
//!
//! What is shown is made by pure functions, from data to text; [`out`] and [`err`] are the only doors to the
//! terminal. A reader who has seen enough (`muster list | head`) ends the verb quietly.

pub mod annotate;
pub mod audit;
pub mod chart;
pub mod cluster;
pub mod demo;
pub mod events;
pub mod jobs;
pub mod plan;
pub mod progress;
pub mod replay;
pub mod style;
pub mod table;
#[cfg(test)]
mod tests;
pub mod time;
pub mod training;

use crate::error::CliError;
use anyhow::Context;
use serde::Serialize;
use std::io::{self, ErrorKind, Write};

/// Text to standard output, as it is.
pub fn out(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::OutputClosed),
        Err(error) => Err(CliError::Other(anyhow::Error::new(error).context("write to standard output"))),
    }
}

/// A line to standard output.
pub fn line(text: &str) -> Result<(), CliError> {
    out(&format!("{text}\n"))
}

/// A line to standard error. Where nobody reads it, it is lost.
pub fn err(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One JSON document.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    line(&text)
}

/// One JSON document on one line, for streams of them.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string(value).context("write JSON")?;
    line(&text)
}

/// How a verb failed, on standard error.
pub fn failure(failure: &CliError) {
    if let Some(message) = failure.message() {
        let style = style::Style::of_stderr();
        err(&format!("{} {message}", style.error("error:")));
    }
}

/// Something that a user should know, on standard error.
pub fn note(text: &str) {
    let style = style::Style::of_stderr();
    err(&style.dim(text));
}
