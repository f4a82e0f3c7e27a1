//! Everything this program prints; no other module prints.
//!
//! Pure functions turn data into text; only [`out`] and [`err`] write to the terminal. When a reader closes
//! the pipe (`muster list | head`), the verb ends quietly.

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

/// Writes text to standard output as it is.
pub fn out(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::OutputClosed),
        Err(error) => Err(CliError::Other(anyhow::Error::new(error).context("write to standard output"))),
    }
}

pub fn line(text: &str) -> Result<(), CliError> {
    out(&format!("{text}\n"))
}

/// Writes a line to standard error; failures are ignored.
pub fn err(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    line(&text)
}

/// JSON on one line, for streams of documents.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string(value).context("write JSON")?;
    line(&text)
}

pub fn failure(failure: &CliError) {
    if let Some(message) = failure.message() {
        let style = style::Style::of_stderr();
        err(&format!("{} {message}", style.error("error:")));
    }
}

/// A remark for the user, on standard error.
pub fn note(text: &str) {
    let style = style::Style::of_stderr();
    err(&style.dim(text));
}
