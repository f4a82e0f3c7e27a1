//! A real `nats-server` for the tests: found on the PATH, else installed from the system's packages.

use crate::cargo;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

fn is_there(program: &str, argument: &str) -> bool {
    let started = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    started.is_ok_and(|status| status.success())
}

/// Makes sure that `nats-server` can be run, or says what to do.
pub fn ensure() -> Result<()> {
    if is_there("nats-server", "--version") {
        return Ok(());
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root || !is_there("apt-get", "--version") {
        bail!(
            "the tests need nats-server on the PATH: install it (Debian and Ubuntu: apt-get install nats-server) and run this again"
        );
    }
    println!("installing nats-server from the system's packages");
    let quiet = |arguments: &[&str]| -> Result<bool> {
        Ok(cargo::status(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))?
            .success())
    };
    let install = ["install", "-y", "-q", "--no-install-recommends", "nats-server"];
    let installed = quiet(&install)? || (quiet(&["update", "-q"])? && quiet(&install)?);
    if !installed {
        bail!("apt-get could not install nats-server, which the tests need");
    }
    // The package starts a service of its own on the usual port; the tests start theirs on free ones.
    if !is_there("nats-server", "--version") {
        bail!("nats-server was installed, but is not on the PATH");
    }
    Ok(())
}
