//! The parameters of `train`.

use crate::params::Params;
use muster_data::pack::TooLong;
use muster_llm::model::Precision;
use muster_llm::train::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An enum of words, the first of which is the default.
macro_rules! word_enum {
    ($(#[$meta:meta])* $name:ident { $first:ident, $($other:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            #[default]
            $first,
            $($other),*
        }
    };
}

word_enum!(Mode { Sync, Single, Diloco });
word_enum!(ObjectiveName { Lm, Sft, Dpo });
word_enum!(TooLongRule { Error, Truncate, Drop });
word_enum!(ComputePrecision { F32, Bf16 });
word_enum!(Method { Full, Lora, Qlora, Prefix, Prompt });
word_enum!(Quantised { Q4K, Q8_0 });
word_enum!(ScheduleName { Cosine, Linear, Wsd, Constant });
word_enum!(ShareRule { Measured, Equal });

impl From<TooLongRule> for TooLong {
    fn from(word: TooLongRule) -> TooLong {
        match word {
            TooLongRule::Error => TooLong::Error,
            TooLongRule::Truncate => TooLong::Truncate,
            TooLongRule::Drop => TooLong::Drop,
        }
    }
}

impl From<ComputePrecision> for Precision {
    fn from(word: ComputePrecision) -> Precision {
        match word {
            ComputePrecision::F32 => Precision::F32,
            ComputePrecision::Bf16 => Precision::Bf16,
        }
    }
}

impl From<Quantised> for Precision {
    fn from(word: Quantised) -> Precision {
        match word {
            Quantised::Q4K => Precision::Q4K,
            Quantised::Q8_0 => Precision::Q8_0,
        }
    }
}

impl From<ScheduleName> for Schedule {
    fn from(word: ScheduleName) -> Schedule {
        match word {
            ScheduleName::Cosine => Schedule::Cosine,
            ScheduleName::Linear => Schedule::Linear,
            ScheduleName::Wsd => Schedule::Wsd,
            ScheduleName::Constant => Schedule::Constant,
        }
    }
}

/// Parameters of `train`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainParams {
    /// `sync`: all ranks do each step together; `single`: one task; `diloco`: replicas train alone and
    /// synchronise in rounds.
    pub mode: Mode,
    /// `lm`: all text; `sft`: whole sequences, with the loss on the tokens that the data's masks select;
    /// `dpo`: preferences.
    pub objective: ObjectiveName,
    /// Steps of the whole run.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub steps: u64,
    /// Positions of a sample.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub context: usize,
    /// Microbatches of a step, over all ranks (of each replica in `diloco`); a rank with several accumulates
    /// gradients.
    #[schemars(range(min = 1, max = 4096))]
    pub microbatches: usize,
    /// Sequences of a microbatch.
    #[schemars(range(min = 1, max = 4096))]
    pub sequences: usize,
    /// Attention does not look back beyond the start of a document.
    #[schemars(extend("x-only-with" = {"objective": ["lm"]}))]
    pub cut_documents: bool,
    /// What is done with a conversation that is longer than the context.
    #[schemars(extend("x-only-with" = {"objective": ["sft"]}))]
    pub too_long: TooLongRule,
    /// The weight of the KL penalty against the reference model.
    #[schemars(range(min = 1e-6, max = 1e3), extend("x-only-with" = {"objective": ["dpo"]}))]
    pub dpo_beta: f64,
    /// The share of preferences that is assumed to be wrong.
    #[schemars(range(min = 0.0, max = 0.499), extend("x-only-with" = {"objective": ["dpo"]}))]
    pub label_smoothing: f64,
    /// The precision of the computation; master weights and moments stay f32.
    pub precision: ComputePrecision,
    /// Recomputes blocks in the backward pass instead of keeping their activations: less memory, a third more
    /// work.
    pub gradient_checkpointing: bool,
    /// A stage of `data.load` that runs beside this one and makes the batches; empty: they are made here.
    pub loader_stage: String,
    /// Batches that a rank prefetches from the loaders.
    #[schemars(range(min = 1, max = 1024), extend("x-only-with" = {"loader_stage": true}))]
    pub prefetch: usize,
    /// A microbatch that does not fit in memory is computed in halves instead of failing.
    pub allow_accumulation: bool,

    /// The model to start from: a directory in the Hugging Face layout, or a checkpoint (`blake3:…`); empty:
    /// from scratch.
    pub base: String,
    /// The model to start from: that of a `train` stage of the same job.
    pub base_stage: String,
    /// Width of a model from scratch.
    #[schemars(range(min = 16, max = 8192), extend("x-only-with" = {"base": false, "base_stage": false}))]
    pub hidden_size: usize,
    /// Width of its feed-forward layers.
    #[schemars(range(min = 16, max = 65_536), extend("x-only-with" = {"base": false, "base_stage": false}))]
    pub intermediate_size: usize,
    /// Its blocks.
    #[schemars(range(min = 1, max = 256), extend("x-only-with" = {"base": false, "base_stage": false}))]
    pub layers: usize,
    /// Its query heads.
    #[schemars(range(min = 1, max = 256), extend("x-only-with" = {"base": false, "base_stage": false}))]
    pub heads: usize,
    /// Its key and value heads.
    #[schemars(range(min = 1, max = 256), extend("x-only-with" = {"base": false, "base_stage": false}))]
    pub kv_heads: usize,

    /// What is trained: all weights (`full`), or an adapter on a frozen base.
    pub method: Method,
    /// Rank of the LoRA layers.
    #[schemars(range(min = 1, max = 4096), extend("x-only-with" = {"method": ["lora", "qlora"]}))]
    pub rank: usize,
    /// LoRA layers are scaled by alpha / rank.
    #[schemars(range(min = 1e-3, max = 1e6), extend("x-only-with" = {"method": ["lora", "qlora"]}))]
    pub alpha: f64,
    /// Dropout of the LoRA layers' input.
    #[schemars(range(min = 0.0, max = 0.99), extend("x-only-with" = {"method": ["lora", "qlora"]}))]
    pub dropout: f64,
    /// LoRA layers are scaled by alpha / sqrt(rank).
    #[schemars(extend("x-only-with" = {"method": ["lora", "qlora"]}))]
    pub rslora: bool,
    /// Projections that get a LoRA layer, such as `q_proj`; empty: all of them.
    #[schemars(extend("x-only-with" = {"method": ["lora", "qlora"]}))]
    pub targets: Vec<String>,
    /// The base's quantisation: GGUF blocks, not NF4.
    #[schemars(extend("x-only-with" = {"method": ["qlora"]}))]
    pub quantised: Quantised,
    /// Learnt rows before each sample.
    #[schemars(range(min = 1, max = 65_536), extend("x-only-with" = {"method": ["prefix", "prompt"]}))]
    pub virtual_tokens: usize,

    /// The greatest learning rate.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub learning_rate: f64,
    /// The schedule of the learning rate after the warm-up.
    pub schedule: ScheduleName,
    /// Steps until the greatest learning rate is reached.
    #[schemars(range(max = 1_000_000), extend("x-at-most" = "steps"))]
    pub warmup_steps: u64,
    /// Steps of the decay at the end.
    #[schemars(range(max = 10_000_000), extend("x-only-with" = {"schedule": ["wsd"]}))]
    pub decay_steps: u64,
    /// The last learning rate, as a part of the greatest.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_rate: f64,
    /// Decay of AdamW's first moment.
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub beta1: f64,
    /// Decay of AdamW's second moment.
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub beta2: f64,
    /// Weight decay of the matrices.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// The gradient is clipped to this norm.
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub clip_norm: f64,

    /// Logical replicas, whatever the number of ranks.
    #[schemars(range(min = 1, max = 1024), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub replicas: usize,
    /// Steps of a replica between two rounds.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub inner_steps: u64,
    /// Replicas that are enough for a round at its deadline; 0: all.
    #[schemars(range(max = 1024), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub min_contributions: usize,
    /// The deadline of a round: later contributions are rejected, and their samples are returned; 0: as soon
    /// as enough have contributed.
    #[schemars(range(max = 1_048_576), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub round_seconds: u64,
    /// Learning rate of the outer Nesterov step.
    #[schemars(range(min = 1e-6, max = 10.0), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub outer_lr: f64,
    /// Momentum of the outer Nesterov step.
    #[schemars(range(min = 0.0, max = 0.999_999), extend("x-only-with" = {"mode": ["diloco"]}))]
    pub outer_momentum: f64,
    /// How microbatches or replicas are divided among ranks: by measured speed, or equally; the result is the
    /// same.
    pub shares: ShareRule,

    /// Steps between two checkpoints, which are written while the training goes on; rounds of `diloco` have
    /// one each.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-only-with" = {"mode": ["sync", "single"]}))]
    pub checkpoint_every: u64,
    /// Steps between two records of the metrics.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub metrics_every: u64,
    /// How many of the newest checkpoints are kept.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub keep_last: usize,
    /// Checkpoints at multiples of this number of steps are kept too; 0: none.
    #[schemars(range(max = 10_000_000))]
    pub keep_every: u64,
    /// How many checkpoints with the least loss are kept too.
    #[schemars(range(max = 1_048_576))]
    pub keep_best: usize,
    /// How often a run may roll back after a loss spike, NaN or infinity; 0: it fails at once.
    #[schemars(range(max = 1000))]
    pub guard_max: u64,
    /// How many deviations above the median make a loss a spike; 0: never.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub guard_deviations: f64,

    /// The stage that ran `data.manifest`.
    pub manifest_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for TrainParams {
    fn default() -> TrainParams {
        TrainParams {
            mode: Mode::default(),
            objective: ObjectiveName::default(),
            steps: 600,
            context: 128,
            microbatches: 4,
            sequences: 8,
            cut_documents: false,
            too_long: TooLongRule::default(),
            dpo_beta: 0.1,
            label_smoothing: 0.0,
            precision: ComputePrecision::default(),
            gradient_checkpointing: false,
            loader_stage: String::new(),
            prefetch: 4,
            allow_accumulation: false,
            base: String::new(),
            base_stage: String::new(),
            hidden_size: 128,
            intermediate_size: 352,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            method: Method::default(),
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            rslora: false,
            targets: Vec::new(),
            quantised: Quantised::default(),
            virtual_tokens: 16,
            learning_rate: 3e-3,
            schedule: ScheduleName::default(),
            warmup_steps: 40,
            decay_steps: 0,
            final_rate: 0.05,
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 0.1,
            clip_norm: 1.0,
            replicas: 4,
            inner_steps: 25,
            min_contributions: 0,
            round_seconds: 600,
            outer_lr: 0.7,
            outer_momentum: 0.8,
            shares: ShareRule::default(),
            checkpoint_every: 50,
            metrics_every: 10,
            keep_last: 2,
            keep_every: 0,
            keep_best: 1,
            guard_max: 3,
            guard_deviations: 8.0,
            manifest_stage: "manifest".to_owned(),
            seed: 1,
        }
    }
}

/// Checks which values go together, when a job is submitted: a gang would find a contradiction only after the
/// data stages.
impl Params for TrainParams {
    fn contradiction(&self) -> Option<String> {
        let TrainParams { base, base_stage, steps, decay_steps, .. } = self;
        let from_scratch = base.is_empty() && base_stage.is_empty();
        if !base.is_empty() && !base_stage.is_empty() {
            return Some(format!(
                "`base` = {base} and `base_stage` = {base_stage} are two models to start from: give one"
            ));
        }
        if from_scratch && self.method != Method::Full {
            let method = match self.method {
                Method::Full => "full",
                Method::Lora => "lora",
                Method::Qlora => "qlora",
                Method::Prefix => "prefix",
                Method::Prompt => "prompt",
            };
            return Some(format!(
                "`method` = {method} trains something small on a frozen base: give it one by `base` or `base_stage`"
            ));
        }
        let loaders = !self.loader_stage.is_empty();
        if loaders && self.objective == ObjectiveName::Dpo {
            return Some(
                "`objective` = dpo can't take `loader_stage`: the trainer itself measures what the reference says of each pair".to_owned(),
            );
        }
        if loaders && self.method == Method::Prompt && self.objective == ObjectiveName::Sft {
            return Some(
                "`method` = prompt with `objective` = sft can't take `loader_stage`: loaders pack several conversations".to_owned(),
            );
        }
        if self.method == Method::Prompt && self.cut_documents {
            return Some(
                "`cut_documents` cuts a window's later documents off from what `method` = prompt learns before it"
                    .to_owned(),
            );
        }
        if decay_steps > steps {
            return Some(format!("`decay_steps` = {decay_steps} must fit into `steps` = {steps}"));
        }
        if self.mode != Mode::Diloco {
            return None;
        }
        let (inner, replicas, least) = (self.inner_steps, self.replicas, self.min_contributions);
        if !steps.is_multiple_of(inner) {
            return Some(format!(
                "`steps` = {steps} must be a multiple of `inner_steps` = {inner}: a round is never cut"
            ));
        }
        (least > replicas)
            .then(|| format!("`replicas` = {replicas} can't make `min_contributions` = {least} of them"))
    }
}

#[cfg(test)]
mod tests {
    use crate::check;

    #[test]
    fn what_does_not_go_together_is_said_at_submit() {
        let table = [
            (
                r#"{"rank": 4}"#,
                "`rank` means something only with `method` = lora or qlora, and `method` is full",
            ),
            (r#"{"method": "lora"}"#, "give it one by `base` or `base_stage`"),
            (r#"{"method": "lora", "base": "/m", "base_stage": "s"}"#, "two models to start from"),
            (
                r#"{"base": "/m", "layers": 2}"#,
                "`layers` means something only without `base`, and `base` is /m",
            ),
            (
                r#"{"method": "qlora", "base": "/m", "virtual_tokens": 3}"#,
                "`virtual_tokens` means something only with `method` = prefix or prompt",
            ),
            (
                r#"{"mode": "diloco", "steps": 100, "inner_steps": 30}"#,
                "must be a multiple of `inner_steps` = 30",
            ),
            (
                r#"{"mode": "diloco", "steps": 100, "min_contributions": 9}"#,
                "`replicas` = 4 can't make `min_contributions` = 9",
            ),
            (r#"{"inner_steps": 10}"#, "only with `mode` = diloco, and `mode` is sync"),
            (r#"{"prefetch": 2}"#, "only with `loader_stage`"),
            (
                r#"{"objective": "dpo", "base": "/m", "loader_stage": "load"}"#,
                "`objective` = dpo can't take `loader_stage`",
            ),
            (r#"{"steps": 10, "warmup_steps": 20}"#, "`warmup_steps` = 20 must fit into `steps` = 10"),
            (
                r#"{"schedule": "wsd", "steps": 100, "decay_steps": 101}"#,
                "`decay_steps` = 101 must fit into `steps` = 100",
            ),
            (
                r#"{"method": "prompt", "base": "/m", "cut_documents": true}"#,
                "`cut_documents` cuts a window's later documents off",
            ),
            (r#"{"mode": "gossip"}"#, r#"`mode` is sync, single or diloco, not "gossip""#),
            (r#"{"rslora": 1}"#, "`rslora` is true or false, not 1"),
        ];
        for (stage, expected) in table {
            let message = check("train", "", stage).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        for right in [
            r#"{"method": "lora", "base_stage": "pretrain", "rank": 4, "targets": ["q_proj"]}"#,
            r#"{"mode": "diloco", "steps": 100, "inner_steps": 25, "replicas": 8, "min_contributions": 6}"#,
            r#"{"objective": "dpo", "dpo_beta": 0.2, "base": "/m"}"#,
            r#"{"method": "qlora", "base": "/m", "quantised": "q8_0"}"#,
            r#"{"steps": 10}"#,
        ] {
            // The job's parameters are not meant for one stage alone.
            check("train", r#"{"seed": 3, "warmup_steps": 900, "layers": 2, "inner_steps": 5}"#, right)
                .unwrap();
        }
    }
}
