//! The progress of a job: bars on a terminal, lines in a pipe.

use super::jobs;
use super::style::{Style, truncate};
use super::training::TrainingView;
use crate::error::CliError;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_protocol::event::Event;
use muster_protocol::view::{EventView, JobDetail, StageView};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const NAME_CHARS_MAX: usize = 20;
const NOTE_CHARS_MAX: usize = 60;
const TRAIN_CHARS_MAX: usize = 120;
/// In a pipe, a stage whose counts don't change is printed at most this often.
const NOTE_INTERVAL_MS: u64 = 5_000;

pub enum ProgressDisplay {
    /// One bar per stage.
    Bars {
        all: MultiProgress,
        bars: Vec<ProgressBar>,
    },
    /// One line per change.
    Lines {
        /// The last line and note of each stage, and when they were printed.
        said: BTreeMap<String, (String, String, Instant)>,
        /// On standard error.
        aside: bool,
    },
    /// The whole job as JSON at each change.
    Json {
        said: String,
    },
    Silent,
}

impl ProgressDisplay {
    pub fn of_stdout() -> ProgressDisplay {
        if io::stdout().is_terminal() {
            ProgressDisplay::bars(ProgressDrawTarget::stdout())
        } else {
            ProgressDisplay::lines(false)
        }
    }

    /// Bars on standard error if it is a terminal, otherwise nothing.
    pub fn of_stderr() -> ProgressDisplay {
        if io::stderr().is_terminal() {
            ProgressDisplay::bars(ProgressDrawTarget::stderr())
        } else {
            ProgressDisplay::Silent
        }
    }

    /// Bars on standard error if it is a terminal, otherwise lines.
    pub fn of_stderr_always() -> ProgressDisplay {
        if io::stderr().is_terminal() {
            ProgressDisplay::bars(ProgressDrawTarget::stderr())
        } else {
            ProgressDisplay::lines(true)
        }
    }

    pub fn lines(aside: bool) -> ProgressDisplay {
        ProgressDisplay::Lines { said: BTreeMap::new(), aside }
    }

    pub fn json() -> ProgressDisplay {
        ProgressDisplay::Json { said: String::new() }
    }

    pub fn silent() -> ProgressDisplay {
        ProgressDisplay::Silent
    }

    pub fn bars(target: ProgressDrawTarget) -> ProgressDisplay {
        ProgressDisplay::Bars { all: MultiProgress::with_draw_target(target), bars: Vec::new() }
    }

    /// Whether it shows the progress that tasks report.
    pub fn wants_notes(&self) -> bool {
        matches!(self, ProgressDisplay::Bars { .. } | ProgressDisplay::Lines { .. })
    }

    /// Shows a record as a line or as JSON; bars show it with the next update.
    pub fn record(&mut self, event: &EventView, line: Option<&str>) -> Result<(), CliError> {
        match (self, line) {
            (ProgressDisplay::Json { .. }, _) if matches!(event.event, Event::ProgressRecorded(_)) => {
                super::json_line(event)
            }
            (ProgressDisplay::Lines { aside: false, .. }, Some(line)) => super::line(line),
            (ProgressDisplay::Lines { aside: true, .. }, Some(line)) => {
                super::err(line);
                Ok(())
            }
            (
                ProgressDisplay::Json { .. }
                | ProgressDisplay::Lines { .. }
                | ProgressDisplay::Bars { .. }
                | ProgressDisplay::Silent,
                _,
            ) => Ok(()),
        }
    }

    /// Replaces the bars of training stages, as [`ProgressDisplay::show`] left them, by their steps.
    pub fn train(&mut self, detail: &JobDetail, training: &TrainingView) {
        let ProgressDisplay::Bars { bars, .. } = self else { return };
        for (bar, stage) in bars.iter().zip(&detail.stages) {
            if let Some((step, steps, text)) =
                training.position(&stage.name).filter(|_| stage.state == "running")
            {
                bar.set_length(steps.max(1));
                bar.set_position(step);
                bar.set_message(truncate(&text, TRAIN_CHARS_MAX));
            }
        }
    }

    /// Shows the state of a job; `notes` are by stage.
    pub fn show(&mut self, detail: &JobDetail, notes: &BTreeMap<String, String>) -> Result<(), CliError> {
        match self {
            ProgressDisplay::Silent => Ok(()),
            ProgressDisplay::Json { said } => {
                let text = serde_json::to_string(detail).unwrap_or_default();
                if *said != text {
                    said.clone_from(&text);
                    super::line(&text)?;
                }
                Ok(())
            }
            ProgressDisplay::Bars { all, bars } => {
                while bars.len() < detail.stages.len() {
                    bars.push(all.add(ProgressBar::no_length().with_style(bar_style())));
                }
                for (bar, stage) in bars.iter().zip(&detail.stages) {
                    let note = notes.get(&stage.name).map(String::as_str).unwrap_or_default();
                    bar.set_length(jobs::total(&stage.tasks).max(1));
                    bar.set_position(stage.tasks.succeeded);
                    bar.set_prefix(format!("{:<NAME_CHARS_MAX$}", truncate(&stage.name, NAME_CHARS_MAX)));
                    bar.set_message(format!(
                        "{} {}",
                        Style::of_stdout().state(&stage.state),
                        truncate(note, NOTE_CHARS_MAX)
                    ));
                }
                Ok(())
            }
            ProgressDisplay::Lines { said, aside } => {
                for stage in detail.stages.iter().filter(|stage| stage.state != "waiting") {
                    let note = notes.get(&stage.name).cloned().unwrap_or_default();
                    let text = stage_line(detail, stage);
                    let again = match said.get(&stage.name) {
                        None => true,
                        Some((last, _, _)) if *last != text => true,
                        Some((_, last, when)) => {
                            *last != note && when.elapsed() > Duration::from_millis(NOTE_INTERVAL_MS)
                        }
                    };
                    if again {
                        let gap = if note.is_empty() { "" } else { "; " };
                        let line = format!("{text}{gap}{}", truncate(&note, NOTE_CHARS_MAX));
                        if *aside {
                            super::err(&line)
                        } else {
                            super::line(&line)?
                        }
                        said.insert(stage.name.clone(), (text, note, Instant::now()));
                    }
                }
                Ok(())
            }
        }
    }

    /// Removes the bars.
    pub fn finish(&mut self) {
        if let ProgressDisplay::Bars { all, bars } = self {
            for bar in bars.iter() {
                bar.finish_and_clear();
            }
            // A terminal that is gone needs no clearing.
            let _ = all.clear();
        }
    }
}

/// The progress of the demo's job with the messages of the scenario above it.
pub struct DemoConsole {
    board: ProgressDisplay,
    aside: bool,
    style: Style,
}

impl DemoConsole {
    /// `aside` prints to standard error.
    pub fn new(board: ProgressDisplay, aside: bool, style: Style) -> DemoConsole {
        DemoConsole { board, aside, style }
    }

    pub fn show(&mut self, detail: &JobDetail, notes: &BTreeMap<String, String>) -> Result<(), CliError> {
        self.board.show(detail, notes)
    }

    /// Prints a line above the bars; it stays.
    pub fn say(&self, text: &str) -> Result<(), CliError> {
        if let ProgressDisplay::Bars { all, .. } = &self.board {
            // A terminal that is gone takes no lines.
            let _ = all.println(self.style.bold(text));
            return Ok(());
        }
        if self.aside {
            super::err(text);
            return Ok(());
        }
        super::line(text)
    }

    pub fn finish(&mut self) {
        self.board.finish();
    }
}

fn stage_line(detail: &JobDetail, stage: &StageView) -> String {
    format!(
        "{} {} {}: {}",
        detail.job.id,
        truncate(&stage.name, NAME_CHARS_MAX),
        stage.state,
        jobs::counted(&stage.tasks)
    )
}

fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template("  {prefix} {bar:24.green} {pos:>4}/{len:<4} {msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏░")
}
