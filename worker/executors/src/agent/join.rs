//! `agent.join`: reports what one sample is worth against the best of n.

use crate::error::Error;
use crate::outputs::{JoinOutput, Judged, Mean, VerifyOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `agent.join`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JoinParams {
    /// The open stage of `agent.complete`.
    pub complete_stage: String,
    /// The open stage of `agent.verify`.
    pub verify_stage: String,
    /// The open stage of `agent.join`.
    pub join_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for JoinParams {
    fn default() -> JoinParams {
        JoinParams {
            complete_stage: "complete".to_owned(),
            verify_stage: "verify".to_owned(),
            join_stage: "join".to_owned(),
            seed: 1,
        }
    }
}

impl Params for JoinParams {}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &JoinParams) -> Result<(), Error> {
    let verdicts: Vec<VerifyOutput> = attempt.outputs_of(&params.verify_stage)?;
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
    Ok(attempt.output(&output)?)
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
