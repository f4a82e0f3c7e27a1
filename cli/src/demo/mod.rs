//! The demo.
use crate::{args::DemoArgs, failure::Failure};
/// Runs it.
pub async fn demo(_arguments: DemoArgs) -> Result<(), Failure> {
    Err(Failure::Input("not yet".to_string()))
}
