//! The client that a verb's flags ask for.

use crate::args::ServerArgs;
use crate::client::Client;
use crate::error::CliError;
use std::sync::Arc;
use std::time::Duration;

pub fn client(arguments: &ServerArgs) -> Result<Arc<Client>, CliError> {
    Ok(Arc::new(Client::new(&arguments.url, Duration::from_millis(arguments.patience))?))
}
