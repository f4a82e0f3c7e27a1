//! The report of the demo as text.

use super::style::Style;
use super::{chart, time};
use crate::demo::DemoReport;
use serde_json::Value;

const CURVE_WIDTH: usize = 64;
const CURVE_HEIGHT: usize = 8;

pub fn report(report: &DemoReport, style: Style) -> String {
    let mut text = format!("\n{}\n", style.bold("loss (nats per token) by step"));
    text.push_str(&chart::curve(&report.loss_curve, CURVE_WIDTH, CURVE_HEIGHT));
    text.push('\n');
    let number = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let bits = |key: &str| number(&report.eval, &format!("/{key}_bits_per_byte"));
    let mean = |who: &str, what: &str| number(&report.agent, &format!("/{who}/{what}"));
    let agent = |who: &str| {
        format!(
            "{:.0} % well formed, agreement {:.3}",
            100.0 * mean(who, "well_formed"),
            mean(who, "agreement")
        )
    };
    let samples = number(&report.agent, "/samples");
    let megabytes = number(&report.data, "/bytes") / 1e6;
    let rows = [
        (
            "data",
            format!(
                "{} documents, {megabytes:.1} MB, {} tokens to train on",
                whole(&report.data, "/documents"),
                whole(&report.data, "/train_tokens")
            ),
        ),
        (
            "training",
            format!(
                "{} parameters, {} steps, {:.0} tokens/s over both ranks",
                whole(&report.train, "/parameters"),
                report.steps,
                report.tokens_per_s
            ),
        ),
        (
            "bits per byte",
            format!(
                "model {}, unigram {:.3}, uniform {:.3}",
                style.bold(&format!("{:.3}", bits("model"))),
                bits("unigram"),
                bits("uniform")
            ),
        ),
        ("agent, one sample", agent("one")),
        (
            "agent, best of n",
            format!("{} (n = {samples:.0}, picked without knowing the real line)", agent("best_of_n")),
        ),
        (
            "agent, perfect",
            format!(
                "{} (the candidate most like the real line: the best that any verifier can pick)",
                agent("perfect_pick")
            ),
        ),
        (
            "new leader",
            format!("{} after the kill of {}", time::duration(report.new_leader_ms), report.leaders[0]),
        ),
        ("lost worker", format!("its tasks ran again after {}", time::duration(report.worker_lost_ms))),
        (
            "work redone",
            format!(
                "{} of {} steps; {} attempts restarted by the change of leader",
                report.steps_redone, report.steps, report.restarted_attempts
            ),
        ),
        ("submits", format!("{} acknowledged, {} lost", report.acknowledged_submits, report.lost_submits)),
    ];
    for (name, value) in rows {
        text.push_str(&format!("{name:<18} {value}\n"));
    }
    for replay in &report.replays {
        let rate = format!(
            "{} events to index {}, {} transitions/s",
            replay.events, replay.to, replay.transitions_per_s
        );
        text.push_str(&format!(
            "{:<18} {}  ({rate})\n",
            format!("replay of {}", replay.coordinator),
            replay.state_hash
        ));
    }
    let sample = report.eval.get("sample").and_then(Value::as_str).unwrap_or_default();
    if !sample.is_empty() {
        let prompt = report.eval.get("prompt").and_then(Value::as_str).unwrap_or_default();
        text.push_str(&format!("\n{}\n", style.bold("a sample of the model")));
        for line in format!("{prompt}{sample}").lines() {
            text.push_str(&format!("  {}\n", super::style::sanitize(line)));
        }
    }
    text.push('\n');
    for check in &report.checks {
        let mark = if check.ok { style.success("✓") } else { style.error("✗") };
        text.push_str(&format!("{mark} {}: {}\n", check.what, super::style::sanitize(&check.found)));
    }
    let took = time::duration(report.seconds * 1000);
    let verdict =
        if report.ok { style.success("all checks passed") } else { style.error("SOME CHECKS FAILED") };
    text + &format!("\n{verdict}, after {took}\n")
}

fn whole(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_u64).map_or("?".to_string(), |number| number.to_string())
}
