//! The `nats-server` that the tests need: found on the PATH, else installed from the system's packages.

use crate::cargo;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

const HOW_TO: &str = "install it from your distribution's packages (Debian and Ubuntu: apt-get install nats-server; \
    macOS: brew install nats-server) or from https://github.com/nats-io/nats-server/releases, and put it on the PATH";

/// Installs `nats-server` with apt, as root or through sudo, if it is missing.
pub fn ensure() -> Result<()> {
    if runs("nats-server", &["--version"]) {
        return Ok(());
    }
    if !runs("apt-get", &["--version"]) {
        bail!("the tests need nats-server: {HOW_TO}");
    }
    let is_root =
        Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    // Never asks for a password: nobody may be there to type it.
    if !is_root && !runs("sudo", &["-n", "true"]) {
        bail!("the tests need nats-server, and apt-get needs root or a sudo without password: {HOW_TO}");
    }
    println!("installing nats-server from the system's packages");
    let apt = |arguments: &[&str]| -> Result<bool> {
        let sudo: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
        let words = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
        Ok(cargo::status(Command::new(words[0]).args(&words[1..]))?.success())
    };
    let install = ["install", "-y", "-q", "--no-install-recommends", "nats-server"];
    let installed = apt(&install)? || (apt(&["update", "-q"])? && apt(&install)?);
    if !installed {
        bail!("apt-get could not install nats-server, which the tests need: {HOW_TO}");
    }
    // The package also starts a service on the default port. The tests start their own servers on free ports.
    if !runs("nats-server", &["--version"]) {
        bail!("nats-server was installed but is not on the PATH");
    }
    Ok(())
}
