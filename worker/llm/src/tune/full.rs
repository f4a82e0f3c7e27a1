//! Every weight is trained. It costs the gradients and the optimizer's state of the whole model, and leaves a
//! whole model.

use super::{Added, Error, Method};
use crate::model::{Decoder, Hold, ModelConfig, Precision};
use serde::{Deserialize, Serialize};

/// Trains everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Full {}

impl Method for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn validate(&self, _config: &ModelConfig) -> Result<(), Error> {
        Ok(())
    }

    fn hold(&self, _name: &str, _shape: &[usize], _precision: Precision) -> Hold {
        Hold::Trained
    }

    fn added(&self, _config: &ModelConfig) -> Result<Vec<Added>, Error> {
        Ok(Vec::new())
    }

    fn attach(&self, _decoder: &mut Decoder) -> Result<(), Error> {
        Ok(())
    }
}
