//! Other people's servers, which end with the test.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A program that runs until it is dropped.
pub struct Peer(Child);

impl Peer {
    /// Starts it.
    pub fn start(program: &str, arguments: &[&str]) -> Peer {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // saslauthd ends by ending its process group, which must not be ours.
        command.process_group(0);
        Peer(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; `make setup-tests` installs it")))
    }

    /// A script for Debian's Python.
    pub fn python(script: &str, arguments: &[&str]) -> Peer {
        Peer::start("/usr/bin/python3", &[&["-c", script], arguments].concat())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // TERM, so that a program of several processes takes them all along.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
