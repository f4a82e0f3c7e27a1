//! The result of a replay.

use super::style::Style;
use super::{jobs, time};
use muster_protocol::view::ReplayView;

/// Task transitions per second.
pub fn per_second(replay: &ReplayView) -> u64 {
    let per_second = u128::from(replay.transitions) * 1_000_000 / u128::from(replay.elapsed_us.max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

pub fn replay(replay: &ReplayView, with_jobs: bool, style: Style) -> String {
    let rate = per_second(replay);
    let verified = match replay.verified {
        Some(true) => style.success("every command was decided again, with the same events"),
        Some(false) => style.error("deciding again gave DIFFERENT events"),
        None => "not checked; --verify decides every command again".to_string(),
    };
    let rows = [
        ("ledger of", replay.coordinator.clone()),
        ("entries", format!("{} to {}", replay.from, replay.to)),
        ("events", replay.events.to_string()),
        (
            "transitions",
            format!(
                "{} of tasks, {rate} per second, in {}",
                replay.transitions,
                time::duration(replay.elapsed_us / 1000)
            ),
        ),
        ("verified", verified),
        ("chain", format!("{} at {}", replay.chain.hash, replay.chain.index)),
        ("state hash", style.bold(&replay.state_hash.to_string())),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect();
    if with_jobs {
        text.push('\n');
        text.push_str(&jobs::list(&replay.jobs, style));
    }
    text
}
