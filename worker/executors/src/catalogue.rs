//! The list of executors and their parameters: what each key may be, its default, and what it is for.

/// An executor.
#[derive(Debug)]
pub struct Executor {
    /// Its name in a job file.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its keys, in groups that several executors may share.
    groups: &'static [&'static [Key]],
}

impl Executor {
    /// All its keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// A parameter.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is for.
    pub about: &'static str,
}

/// What a parameter may be.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Whole {
        /// If it is not given.
        default: u64,
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A number.
    Number {
        /// If it is not given.
        default: f64,
        /// At least.
        min: f64,
        /// At most.
        max: f64,
    },
    /// A text.
    Text {
        /// If it is not given.
        default: &'static str,
    },
    /// A list of texts; empty if it is not given.
    Texts,
    /// One of some words.
    OneOf {
        /// All of them; the first is the default.
        words: &'static [&'static str],
    },
    /// True or false; false if it is not given.
    Flag,
}

const fn whole(name: &'static str, default: u64, min: u64, max: u64, about: &'static str) -> Key {
    Key { name, kind: Kind::Whole { default, min, max }, about }
}

const fn number(name: &'static str, default: f64, min: f64, max: f64, about: &'static str) -> Key {
    Key { name, kind: Kind::Number { default, min, max }, about }
}

const fn text(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Text { default }, about }
}

const fn texts(name: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Texts, about }
}

const fn one_of(name: &'static str, words: &'static [&'static str], about: &'static str) -> Key {
    Key { name, kind: Kind::OneOf { words }, about }
}

const fn flag(name: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Flag, about }
}

const SEED: &[Key] = &[whole("seed", 1, 0, u32::MAX as u64, "draws everything that is drawn")];
const SCAN: &[Key] = &[
    Key {
        name: "roots",
        kind: Kind::Texts,
        about: "directories and files to read, from MUSTER_JOB_DIR unless absolute; none: the sources that cargo fetched",
    },
    Key {
        name: "extensions",
        kind: Kind::Texts,
        about: "endings of the files to read, without .gz and .zst; none: that of the format, or rs",
    },
    text(
        "format",
        "auto",
        "auto (by the ending), text (a file is a document), lines, paragraphs, jsonl or parquet",
    ),
    text(
        "text_field",
        "text",
        "the field of a row that holds its text; else messages, prompt and completion, or prompt, chosen and rejected",
    ),
    Key {
        name: "normalise",
        kind: Kind::Texts,
        about: "line_endings, control_characters, nfc, trailing_blanks, or none or all; none given: line_endings for code, else all",
    },
    text("filters", "code", "none, code (source code), or web (Gopher's and C4's rules)"),
    Key { name: "languages", kind: Kind::Texts, about: "languages to keep, as eng or deu; none: all" },
    Key {
        name: "decontaminate",
        kind: Kind::Texts,
        about: "evaluation sets not to train on, each as name=file",
    },
    whole(
        "decontaminate_words",
        13,
        8,
        1000,
        "words in a row that a document may not share with an evaluation set",
    ),
    text(
        "near",
        "words",
        "what a near duplicate shares runs of: words, characters, or none: near duplicates are not looked for",
    ),
    whole("near_length", 0, 0, 1000, "words or characters of a run; 0: 5 words, 25 characters"),
    whole("near_bands", 14, 1, 256, "bands of a signature"),
    whole("near_rows", 8, 1, 16, "rows of a band"),
    whole("max_mib", 24, 1, 1 << 20, "most text of each split, in MiB"),
    whole(
        "block_kib",
        4096,
        1,
        1 << 20,
        "a file of lines is dealt out to the splits in blocks of so many KiB",
    ),
    whole(
        "step_kib",
        16_384,
        1,
        1 << 20,
        "files read before progress is recorded, in KiB; more where max_mib is large",
    ),
    whole("malformed_max", 100, 0, 1 << 40, "malformed lines or rows of a split, at most"),
    whole("held_out_per_mille", 30, 1, 500, "of a thousand documents, how many are kept from training"),
];
const DEDUP: &[Key] = &[number(
    "threshold",
    0.7,
    0.0,
    1.0,
    "the share of a signature that near duplicates have in common, at least",
)];
const FROM_DEDUP: &[Key] =
    &[text("dedup_stage", "dedup", "the stage that ran data.dedup; empty: only equal documents are dropped")];
const TOKENIZER: &[Key] = &[
    whole("vocab_size", 2048, 300, 65_536, "tokens, with the 256 bytes"),
    whole("sample_mib", 4, 1, 1 << 12, "most text to learn merges from, in MiB"),
    Key {
        name: "special_tokens",
        kind: Kind::Texts,
        about: "more special tokens to train with, besides the document boundary",
    },
    text(
        "tokenizer",
        "",
        "a Hugging Face tokenizer.json to take instead of training one; what lies beside it names its special tokens",
    ),
    text(
        "base_tokenizer_stage",
        "",
        "a stage that ran data.tokenizer, whose tokenizer to take instead: that of the data a base learnt from",
    ),
];
const PACK: &[Key] = &[
    text(
        "template",
        "auto",
        "form of conversations: auto, chatml, llama3 or plain; auto: what the tokenizer has special tokens for",
    ),
    whole("context", 0, 0, 1 << 24, "most tokens of a conversation; 0: any number"),
    text("too_long", "error", "what becomes of a longer one: truncate, drop or error"),
    whole(
        "part_kib",
        64 * 1024,
        1,
        4 * 1024 * 1024,
        "text that is packed into one shard, and done again after a kill, in KiB",
    ),
];
const FROM_SCAN: &[Key] = &[text("scan_stage", "scan", "the stage that ran data.scan")];
const FROM_CHOOSE: &[Key] = &[text(
    "choose_stage",
    "",
    "the stage that ran data.choose; empty: equal documents are dropped here, and near duplicates stay",
)];
const FROM_TOKENIZER: &[Key] = &[text("tokenizer_stage", "tokenizer", "the stage that ran data.tokenizer")];
const FROM_PACK: &[Key] = &[text("pack_stage", "pack", "the stage that ran data.pack")];
const FROM_MANIFEST: &[Key] = &[text("manifest_stage", "manifest", "the stage that ran data.manifest")];
const FROM_TRAIN: &[Key] = &[text("train_stage", "train", "the stage that ran train")];
const TRAIN: &[Key] = &[
    one_of(
        "mode",
        &["sync", "single", "diloco"],
        "sync: all ranks make each step together; single: one task; diloco: replicas go alone, and meet in rounds",
    ),
    one_of(
        "objective",
        &["lm", "sft", "dpo"],
        "lm: all text; sft: what the data's masks say; dpo: pairs of answers, of which one is preferred",
    ),
    whole("steps", 600, 1, 10_000_000, "steps of the whole run"),
    whole("context", 128, 8, 1 << 20, "positions of a sample"),
    whole(
        "microbatches",
        4,
        1,
        4096,
        "parts of a step's batch, over all ranks (of each replica in diloco): a rank that holds several accumulates them",
    ),
    whole("sequences", 8, 1, 4096, "samples of a microbatch"),
    flag("cut_documents", "attention does not look back beyond the start of a document; with objective lm"),
    one_of(
        "too_long",
        &["error", "truncate", "drop"],
        "what becomes of a conversation that is longer than the context; with objective sft",
    ),
    number("dpo_beta", 0.1, 1e-6, 1e3, "how dearly it costs to leave the reference; with objective dpo"),
    number(
        "label_smoothing",
        0.0,
        0.0,
        0.499,
        "the part of the preferences that is taken to be wrong; with objective dpo",
    ),
    one_of("precision", &["f32", "bf16"], "what weights are computed with; masters and moments stay f32"),
    flag(
        "gradient_checkpointing",
        "blocks are computed again on the way back: less memory, a third more work",
    ),
    text(
        "loader_stage",
        "",
        "a stage of data.load that runs beside this one and makes the batches; empty: they are made here",
    ),
    whole("prefetch", 4, 1, 1024, "batches that a rank has fetched ahead of its work; with loader_stage"),
    flag(
        "allow_accumulation",
        "a microbatch for which the memory is too small is computed in halves instead of failing",
    ),
];
const MODEL: &[Key] = &[
    text(
        "base",
        "",
        "what to go on from: a directory in the Hugging Face layout, or a checkpoint (blake3:…); none: from scratch",
    ),
    text("base_stage", "", "what to go on from: a stage of this job that ran train"),
    whole("hidden_size", 128, 16, 8192, "width of a model from scratch"),
    whole("intermediate_size", 352, 16, 65_536, "width of its feed-forward layers"),
    whole("layers", 4, 1, 256, "its blocks"),
    whole("heads", 4, 1, 256, "its query heads"),
    whole("kv_heads", 2, 1, 256, "its key and value heads"),
];
const METHOD: &[Key] = &[
    one_of(
        "method",
        &["full", "lora", "qlora", "prefix", "prompt"],
        "what is trained: every weight, or something small on a frozen base",
    ),
    whole("rank", 8, 1, 4096, "rank of the additions; with lora and qlora"),
    number("alpha", 16.0, 1e-3, 1e6, "additions are multiplied with alpha / rank"),
    number("dropout", 0.0, 0.0, 0.99, "part of an addition's input that is dropped"),
    flag("rslora", "additions are multiplied with alpha / sqrt(rank)"),
    Key {
        name: "targets",
        kind: Kind::Texts,
        about: "projections that get an addition, as q_proj; none: all of them",
    },
    one_of("quantised", &["q4_k", "q8_0"], "what qlora holds the base in: GGUF's blocks, not NF4"),
    whole("virtual_tokens", 16, 1, 65_536, "learnt rows before each sample; with prefix and prompt"),
];
const OPTIMISER: &[Key] = &[
    number("learning_rate", 3e-3, 0.0, 1.0, "the greatest"),
    one_of("schedule", &["cosine", "linear", "wsd", "constant"], "its course after the warm-up"),
    whole("warmup_steps", 40, 0, 1_000_000, "steps until it is reached"),
    whole("decay_steps", 0, 0, 10_000_000, "steps of the fall at the end of wsd"),
    number("final_rate", 0.05, 0.0, 1.0, "the last rate, as a part of the greatest"),
    number("beta1", 0.9, 0.0, 0.999_999, "decay of AdamW's first moment"),
    number("beta2", 0.95, 0.0, 0.999_999, "decay of its second"),
    number("weight_decay", 0.1, 0.0, 1.0, "pull of the matrices towards zero"),
    number("clip_norm", 1.0, 1e-6, 1e6, "greatest norm of the gradient"),
];
const ROUNDS: &[Key] = &[
    whole("replicas", 4, 1, 1024, "logical replicas of diloco, whatever the number of ranks"),
    whole("inner_steps", 25, 1, 1_000_000, "steps of a replica between two rounds of diloco"),
    whole(
        "min_contributions",
        0,
        0,
        1024,
        "replicas that are enough for a round when its time is up; 0: all",
    ),
    whole(
        "round_seconds",
        600,
        0,
        1 << 20,
        "a round's time: whoever comes later is fenced, and its samples go back; 0: none",
    ),
    number("outer_lr", 0.7, 1e-6, 10.0, "learning rate of diloco's outer Nesterov step"),
    number("outer_momentum", 0.8, 0.0, 0.999_999, "its momentum"),
    one_of(
        "shares",
        &["measured", "equal"],
        "how many replicas a rank holds: by its measured speed, or as many as the others; the result is the same",
    ),
];
const KEEPING: &[Key] = &[
    whole(
        "checkpoint_every",
        50,
        1,
        10_000_000,
        "steps between two checkpoints (rounds in diloco have one each): samples are consumed when it is committed",
    ),
    whole("metrics_every", 10, 1, 1_000_000, "steps between two records of the metrics"),
    whole("keep_last", 2, 1, 1 << 20, "newest checkpoints that are kept"),
    whole("keep_every", 0, 0, 10_000_000, "checkpoints at multiples of so many steps are kept too; 0: none"),
    whole("keep_best", 1, 0, 1 << 20, "checkpoints with the least loss that are kept too"),
    whole(
        "guard_max",
        3,
        0,
        1000,
        "times that a run may go back after a spike or a number that is none; 0: it fails at once",
    ),
    number(
        "guard_deviations",
        8.0,
        0.0,
        1e6,
        "how many deviations above the median a loss is a spike; 0: never",
    ),
];
const ANNOTATE: &[Key] = &[
    text("items", "", "a file of JSON lines on the worker, one item each; its absolute path"),
    text("items_stage", "", "instead: the stage whose outputs name `items`, `labelled` or `scan`"),
    whole("items_max", 0, 0, 1_000_000, "only so many of the first items; 0: all"),
    text("id_field", "id", "the member of a line that names the item; without it, its number does"),
    text("text_field", "text", "the member of a line that is shown"),
    text("proposal_field", "proposal", "the member of a line that a model proposes"),
    text("proposals", "", "a file of JSON lines with `item` and `label`: what a model proposes"),
    text("propose_stage", "", "the stage whose outputs name `proposals`, an artifact of such lines"),
    texts("labels", "the labels to choose from; none: any text, beginning with the proposal or the item's"),
    whole("per_item", 1, 1, 16, "labels of each item, each by another person"),
    flag("adjudicate", "where those differ, one more person decides"),
    flag("allow_partial", "somebody may end it before every item has its labels"),
    text("question", "", "what people are asked, above each item"),
    text("bind", "127.0.0.1:0", "where the form is served; port 0: any that is free"),
    text("url", "", "how people reach it, if that is another address"),
];
const LOAD: &[Key] = &[
    texts("feeds", "stages of train that take their samples from here; it ends when they have; none: train"),
    text("bind", "", "where it listens; none: any port of the worker's address"),
];
const EVAL: &[Key] = &[
    whole(
        "tokens_max",
        20_000,
        2,
        1 << 40,
        "held-out tokens to measure on, at most; of data with masks those that are learnt from",
    ),
    whole("sample_tokens", 96, 1, 4096, "tokens of the sample"),
    text(
        "prompt",
        "",
        "what the sample goes on from; empty: `pub fn `, or, of data with masks, held-out questions",
    ),
    number("temperature", 0.8, 0.0, 10.0, "of the sample; 0 takes the likeliest token"),
    whole("top_k", 40, 0, 1 << 20, "of the sample; 0 draws from all tokens"),
];
const STAGES_OF_AGENT: &[Key] = &[
    text("complete_stage", "complete", "the open stage of agent.complete"),
    text("verify_stage", "verify", "the open stage of agent.verify"),
    text("join_stage", "join", "the open stage of agent.join"),
];
const PLAN: &[Key] = &[
    whole("lines", 8, 1, 500, "held-out lines to complete"),
    whole("context_bytes", 400, 0, 1 << 16, "text before the line that the model sees, at most"),
];
const COMPLETE: &[Key] = &[
    whole("samples", 4, 1, 64, "candidates for each line"),
    number("temperature", 0.8, 0.0, 10.0, "of the candidates"),
    whole("top_k", 40, 0, 1 << 20, "of the candidates; 0 draws from all tokens"),
    whole("line_tokens", 32, 1, 4096, "tokens of a candidate, at most"),
];
/// What the planner says to each of its subtasks.
const SUBTASK: &[Key] = &[
    whole("n", 0, 0, u32::MAX as u64, "which line; set by agent.plan"),
    text("line", "", "the artifact of the line; set by agent.plan"),
];

/// Every executor.
pub const EXECUTORS: &[Executor] = &[
    Executor {
        name: "data.scan",
        about: "reads and filters one split of the input files",
        groups: &[SEED, SCAN],
    },
    Executor {
        name: "data.dedup",
        about: "finds near duplicates over all splits, in a share of the buckets",
        groups: &[SEED, DEDUP, FROM_SCAN],
    },
    Executor {
        name: "data.choose",
        about: "keeps one of each set of duplicates",
        groups: &[SEED, FROM_SCAN, FROM_DEDUP],
    },
    Executor {
        name: "data.tokenizer",
        about: "drops duplicates over all splits, and trains a tokenizer or takes one",
        groups: &[SEED, TOKENIZER, FROM_SCAN, FROM_CHOOSE],
    },
    Executor {
        name: "data.pack",
        about: "tokenizes one split into shards",
        groups: &[SEED, PACK, FROM_SCAN, FROM_TOKENIZER],
    },
    Executor {
        name: "data.manifest",
        about: "joins the shards into a data set, with its account",
        groups: &[SEED, FROM_SCAN, FROM_TOKENIZER, FROM_PACK],
    },
    Executor {
        name: "data.annotate",
        about: "waits for people who label items, and measures how they agree",
        groups: &[ANNOTATE],
    },
    Executor {
        name: "data.load",
        about: "makes batches for trainers elsewhere, while they train",
        groups: &[SEED, LOAD, FROM_MANIFEST],
    },
    Executor {
        name: "train",
        about: "trains or tunes a model, alone or as a gang",
        groups: &[SEED, TRAIN, MODEL, METHOD, OPTIMISER, ROUNDS, KEEPING, FROM_MANIFEST],
    },
    Executor {
        name: "eval",
        about: "measures a model on held-out text or answers, and samples from it",
        groups: &[SEED, EVAL, FROM_MANIFEST, FROM_TRAIN],
    },
    Executor {
        name: "agent.plan",
        about: "plans the completion of held-out lines; plain code, no model",
        groups: &[SEED, PLAN, STAGES_OF_AGENT, FROM_MANIFEST],
    },
    Executor {
        name: "agent.complete",
        about: "samples candidates for one line from the model",
        groups: &[SEED, COMPLETE, SUBTASK, FROM_MANIFEST, FROM_TRAIN],
    },
    Executor {
        name: "agent.verify",
        about: "judges the candidates for one line",
        groups: &[SEED, SUBTASK, STAGES_OF_AGENT],
    },
    Executor {
        name: "agent.join",
        about: "reports one sample against the best of n",
        groups: &[SEED, STAGES_OF_AGENT],
    },
];
