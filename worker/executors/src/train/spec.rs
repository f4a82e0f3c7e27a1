//! A training's parameters in the types of the libraries.

use super::params::{Method, Mode, ObjectiveName, ShareRule, TrainParams};
use muster_data::pack::TooLong;
use muster_llm::diloco::OuterConfig;
use muster_llm::model::ModelConfig;
use muster_llm::peft::MethodConfig;
use muster_llm::peft::full::FullConfig;
use muster_llm::peft::lora::{ALL_LINEAR, LoraConfig, TargetModules};
use muster_llm::peft::prefix::PrefixTuningConfig;
use muster_llm::peft::prompt::PromptTuningConfig;
use muster_llm::peft::qlora::QloraConfig;
use muster_llm::train::{Objective, Retention, SpikeGuard, TrainConfig};
use std::time::Duration;

/// What samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// TextWindows of all text; attention may be cut where documents begin.
    Text {
        /// Whether it is.
        cut: bool,
    },
    /// PackedSequences conversations.
    Conversations(TooLong),
    /// PreferencePairs.
    Preferences,
}

/// The parameters of DiLoCo's rounds.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Logical replicas.
    pub replicas: usize,
    /// Steps of each replica between two rounds.
    pub inner_steps: u64,
    /// How many contributions are enough when the time is up.
    pub min_contributions: usize,
    /// How many replicas must be good enough to be merged.
    pub least_merged: usize,
    /// A round's time.
    pub time: Duration,
    /// The outer optimizer.
    pub outer: OuterConfig,
}

/// A training.
#[derive(Clone, Debug)]
pub struct TrainSpec {
    /// How ranks work together.
    pub mode: Mode,
    /// What samples are.
    pub learning: Learning,
    /// Their positions.
    pub context: usize,
    /// The run.
    pub train: TrainConfig,
    /// What is trained.
    pub method: MethodConfig,
    /// Of [`Mode::Diloco`].
    pub rounds: Rounds,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Steps between two records of the metrics.
    pub metrics_every: u64,
    /// Which checkpoints are kept.
    pub retention: Retention,
    /// When a step is a spike.
    pub guard: SpikeGuard,
    /// How often a run may go back.
    pub guard_max: u64,
    /// Whether shares follow measured speeds.
    pub measured: bool,
    /// Whether a microbatch may be cut for lack of memory.
    pub allow_accumulation: bool,
    /// The stage that serves samples; empty: this task makes them.
    pub loader_stage: String,
    /// Batches that are fetched ahead.
    pub prefetch: usize,
}

impl TrainSpec {
    pub fn of(params: &TrainParams) -> TrainSpec {
        let TrainParams { steps, replicas, min_contributions: least, .. } = *params;
        let objective = match params.objective {
            ObjectiveName::Dpo => {
                Objective::Preference { beta: params.dpo_beta, label_smoothing: params.label_smoothing }
            }
            ObjectiveName::Lm | ObjectiveName::Sft => Objective::NextToken,
        };
        let train = TrainConfig {
            seed: params.seed,
            steps,
            microbatches: params.microbatches,
            sequences: params.sequences,
            objective,
            learning_rate: params.learning_rate,
            schedule: params.schedule.into(),
            warmup_steps: params.warmup_steps.min(steps),
            decay_steps: params.decay_steps,
            final_rate: params.final_rate,
            beta1: params.beta1,
            beta2: params.beta2,
            weight_decay: params.weight_decay,
            clip_norm: params.clip_norm,
            precision: params.precision.into(),
            gradient_checkpointing: params.gradient_checkpointing,
            ..TrainConfig::default()
        };
        TrainSpec {
            mode: params.mode,
            learning: match params.objective {
                ObjectiveName::Sft => Learning::Conversations(params.too_long.into()),
                ObjectiveName::Dpo => Learning::Preferences,
                ObjectiveName::Lm => Learning::Text { cut: params.cut_documents },
            },
            context: params.context,
            train,
            method: method(params),
            rounds: Rounds {
                replicas,
                inner_steps: params.inner_steps,
                min_contributions: if least == 0 { replicas } else { least },
                least_merged: least.max(1),
                time: Duration::from_secs(params.round_seconds),
                outer: OuterConfig { learning_rate: params.outer_lr, momentum: params.outer_momentum },
            },
            checkpoint_every: params.checkpoint_every,
            metrics_every: params.metrics_every,
            retention: Retention { last: params.keep_last, every: params.keep_every, best: params.keep_best },
            guard: SpikeGuard { deviations: params.guard_deviations, ..SpikeGuard::default() },
            guard_max: params.guard_max,
            measured: params.shares == ShareRule::Measured,
            allow_accumulation: params.allow_accumulation,
            loader_stage: params.loader_stage.clone(),
            prefetch: params.prefetch,
        }
    }
}

/// The shape of a model from scratch.
pub fn shape(params: &TrainParams, vocab_size: usize) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size: params.hidden_size,
        intermediate_size: params.intermediate_size,
        num_hidden_layers: params.layers,
        num_attention_heads: params.heads,
        num_key_value_heads: params.kv_heads,
        max_position_embeddings: params.context,
        ..ModelConfig::default()
    }
}

fn method(params: &TrainParams) -> MethodConfig {
    let lora = || {
        let named = params.targets.clone();
        let targets = if named.is_empty() {
            TargetModules::All(ALL_LINEAR.to_owned())
        } else {
            TargetModules::Named(named)
        };
        let TrainParams { rank: r, alpha, dropout, rslora, .. } = *params;
        LoraConfig { targets, r, alpha, dropout, rslora, base: None }
    };
    let virtual_tokens = params.virtual_tokens;
    match params.method {
        Method::Full => MethodConfig::Full(FullConfig {}),
        Method::Lora => MethodConfig::Lora(lora()),
        Method::Qlora => MethodConfig::Qlora(QloraConfig {
            base: params.quantised.into(),
            lora: lora(),
            ..QloraConfig::default()
        }),
        Method::Prefix => {
            MethodConfig::Prefix(PrefixTuningConfig { virtual_tokens, ..PrefixTuningConfig::default() })
        }
        Method::Prompt => {
            MethodConfig::Prompt(PromptTuningConfig { virtual_tokens, ..PromptTuningConfig::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use muster_llm::train::Schedule;

    fn spec(stage: &serde_json::Value) -> TrainSpec {
        TrainSpec::of(&check("train", "", &stage.to_string()).unwrap().parse().unwrap())
    }

    #[test]
    fn every_word_of_a_parameter_is_known_to_the_library() {
        for (key, words) in [
            ("schedule", &["cosine", "linear", "wsd", "constant"][..]),
            ("precision", &["f32", "bf16"]),
            ("mode", &["sync", "single", "diloco"]),
            ("objective", &["lm", "sft", "dpo"]),
        ] {
            for value in words {
                let spec = spec(&serde_json::json!({ key: value }));
                spec.train.validate().unwrap();
                assert_ne!((key, *value, spec.train.schedule), ("schedule", "wsd", Schedule::Cosine));
            }
        }
        for too_long in ["error", "truncate", "drop"] {
            let spec = spec(&serde_json::json!({"objective": "sft", "too_long": too_long}));
            assert!(matches!(spec.learning, Learning::Conversations(_)));
        }
    }
}
