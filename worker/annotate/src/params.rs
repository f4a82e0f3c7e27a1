//! The parameters of `data.annotate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `data.annotate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnnotateParams {
    /// A file of JSON lines on the worker, one item each, by its absolute path; read once.
    pub items: String,
    /// Instead: the stage whose outputs name an artifact of JSON lines as `items` or `labelled`, or documents
    /// as `scan`.
    pub items_stage: String,
    /// How many of the first items are labelled; 0: all.
    #[schemars(range(max = 1_000_000))]
    pub items_max: usize,
    /// The member of a line that names the item; without it, its number does.
    pub id_field: String,
    /// The member of a line that is shown.
    pub text_field: String,
    /// The member of a line that a model proposes.
    pub proposal_field: String,
    /// A file of JSON lines with `item` and `label`: what a model proposes.
    pub proposals: String,
    /// The stage whose outputs name an artifact of such lines as `proposals`.
    pub propose_stage: String,
    /// The labels to choose from; empty: any text, beginning with the proposal or the item's.
    pub labels: Vec<String>,
    /// Labels of each item, each by another person.
    #[schemars(range(min = 1, max = 16))]
    pub per_item: usize,
    /// Where those differ, one more person decides; else that is reported.
    pub adjudicate: bool,
    /// `POST /close`, or `muster annotate JOB close --who NAME`, may end it before every item has its labels.
    pub allow_partial: bool,
    /// What people are asked, above each item.
    pub question: String,
    /// Where the form is served; with port 0 a restart on the same host keeps the port if it can.
    pub bind: String,
    /// How people reach it, if that is another address.
    pub url: String,
}

impl Default for AnnotateParams {
    fn default() -> AnnotateParams {
        AnnotateParams {
            items: String::new(),
            items_stage: String::new(),
            items_max: 0,
            id_field: "id".to_owned(),
            text_field: "text".to_owned(),
            proposal_field: "proposal".to_owned(),
            proposals: String::new(),
            propose_stage: String::new(),
            labels: Vec::new(),
            per_item: 1,
            adjudicate: false,
            allow_partial: false,
            question: String::new(),
            bind: "127.0.0.1:0".to_owned(),
            url: String::new(),
        }
    }
}
