//! `agent.join`: reports what one sample is worth against the best of n.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::wire::{JoinOutput, Judged, Mean, VerifyOutput};
use muster_protocol::ids::Digest;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stage = attempt.params.text("verify_stage").to_owned();
    let verdicts: Vec<VerifyOutput> = attempt.outputs_of(&stage)?;
    let output = JoinOutput {
        lines: verdicts.len() as u64,
        samples: verdicts.iter().map(|verdict| verdict.candidates).max().unwrap_or(0),
        one: mean(verdicts.iter().map(|verdict| verdict.one)),
        best_of_n: mean(verdicts.iter().map(|verdict| verdict.picked)),
        perfect_pick: mean(verdicts.iter().map(|verdict| verdict.best)),
        verifier:
            "picks, without the real line, the one that lexes, balances and agrees most with the others; agreement is with the real line"
                .to_owned(),
    };
    let shown = |name: &str, mean: Mean| {
        format!("{name}: {:.0} % well formed, agreement {:.3}", 100.0 * mean.well_formed, mean.agreement)
    };
    attempt.say(&format!("{} lines, {} samples each", output.lines, output.samples));
    attempt.say(&shown("one sample", output.one));
    attempt.say(&shown("the best of n, as picked", output.best_of_n));
    attempt.say(&shown("the best of n, picked perfectly", output.perfect_pick));
    let hash: Digest = attempt.put_json(&output)?;
    attempt.record("agent", 1, hash, &output, true)?;
    attempt.output(&output)
}

fn mean(judged: impl Iterator<Item = Judged>) -> Mean {
    let (mut sum, mut count) = (Mean::default(), 0.0);
    for one in judged {
        sum.well_formed += f64::from(u8::from(one.well_formed));
        sum.agreement += one.agreement;
        count += 1.0;
    }
    let part = |sum: f64| if count == 0.0 { 0.0 } else { (sum / count * 1e4).round() / 1e4 };
    Mean { well_formed: part(sum.well_formed), agreement: part(sum.agreement) }
}
