//! The result of an audit.

use super::style::{Style, truncate};
use crate::audit::Audit;

const TEXT_CHARS_MAX: usize = 160;

pub fn samples(audit: &Audit, style: Style) -> String {
    let mut text = String::new();
    for stage in &audit.stages {
        let set = |numbers: &crate::audit::SampleSet| match numbers.count() {
            0 => "none".to_owned(),
            count => format!("{count}: {}", truncate(&numbers.to_string(), TEXT_CHARS_MAX)),
        };
        let verdict = if stage.violations.is_empty() {
            style.success("each consumed exactly once")
        } else {
            style.error("NOT exactly once")
        };
        let rows = [
            ("rounds", stage.rounds.to_string()),
            ("leases", format!("{} by {} attempts", stage.leases, stage.attempts)),
            ("consumed", set(&stage.consumed)),
            ("skipped", set(&stage.skipped)),
            ("returned", format!("{} leased samples went back", stage.returned)),
            ("samples", verdict),
        ];
        text.push_str(&format!("{}\n", style.bold(&truncate(&stage.stage, 32))));
        for (name, value) in rows {
            text.push_str(&format!("  {name:<9} {value}\n"));
        }
        for violation in &stage.violations {
            text.push_str(&format!("  {}\n", style.error(&truncate(violation, TEXT_CHARS_MAX))));
        }
    }
    text
}
