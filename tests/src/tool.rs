//! Other people's programs. `make setup` installs them from Debian's packages; a test that needs one says so and fails without it.

use std::process::{Command, Output};

/// Runs a program to its end; panics with what it printed if it cannot be started.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make setup` installs it"))
}

/// Runs a program that must succeed; gives its standard output.
pub fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Runs a Python script with Debian's interpreter, which has Debian's packages.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let mut all = vec!["-c", script];
    all.extend_from_slice(arguments);
    succeed("/usr/bin/python3", &all)
}
