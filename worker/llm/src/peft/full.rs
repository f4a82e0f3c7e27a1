//! Full fine-tuning: every weight is trained. It needs gradients and optimizer state of the whole model, and
//! gives a whole model.

use super::added::AddedWeight;
use super::error::Error;
use super::method::Method;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole};
use serde::{Deserialize, Serialize};

/// Full fine-tuning has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FullConfig {}

impl Method for FullConfig {
    fn name(&self) -> &'static str {
        "full"
    }

    fn validate(&self, _config: &ModelConfig) -> Result<(), Error> {
        Ok(())
    }

    fn role(&self, _name: &str, _shape: &[usize], _precision: Precision) -> WeightRole {
        WeightRole::Trained
    }

    fn added(&self, _config: &ModelConfig) -> Result<Vec<AddedWeight>, Error> {
        Ok(Vec::new())
    }

    fn attach(&self, _decoder: &mut Decoder) -> Result<(), Error> {
        Ok(())
    }
}
