//! Waypost, as `waypost run` starts it: every message synced before its 250, four plugins in the chain.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Running, Server, free_port, names, wait_for};
use crate::scenario::{Scenario, Way};
use crate::{Failure, program_beside};

/// The binary under test.
pub(crate) struct Waypost {
    binary: PathBuf,
}

impl Waypost {
    /// This binary, or the one beside ours.
    pub(crate) fn new(binary: Option<&Path>) -> Waypost {
        Waypost { binary: binary.map_or_else(|| program_beside("waypost"), Path::to_path_buf) }
    }
}

impl Server for Waypost {
    fn name(&self) -> &'static str {
        "waypost"
    }

    fn version(&self) -> Result<String, String> {
        let output = Command::new(&self.binary).arg("version").output();
        let output = output.map_err(|error| {
            format!("{}: {error}; `cargo build --release -p waypost` makes it", self.binary.display())
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_string())
    }

    fn plays(&self, _scenario: &Scenario) -> Result<(), &'static str> {
        Ok(())
    }

    fn start(&self, scenario: &Scenario, folder: &Path, sink: SocketAddr) -> Result<Running, Failure> {
        let data = folder.join("data");
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let log = File::create(folder.join("log"))?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--data").arg(&data);
        for set in sets(scenario, ports, sink, names::start()?) {
            command.arg("--set").arg(set);
        }
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().map_err(|error| {
            format!("{}: {error}; `cargo build --release -p waypost` makes it", self.binary.display())
        })?;
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let address = at(if scenario.way == Way::Submission { ports[1] } else { ports[0] });
        let pid = child.id();
        let stop = Box::new(move || {
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            let _ = child.wait();
        });
        let mut running = Running { address, pid, login: None, mailbox: None, stop: Some(stop) };
        wait_for(address, Duration::from_secs(60))
            .map_err(|error| format!("{error}\n{}", fs::read_to_string(folder.join("log")).unwrap_or_default()))?;
        if scenario.way == Way::Submission {
            let password = fs::read_to_string(data.join("demo-password"))?;
            running.login = Some(format!("alice@waypost.test:{}", password.trim()));
        }
        running.mailbox = (scenario.way == Way::Mailbox).then(|| data.join("mail/alice/new"));
        Ok(running)
    }
}

fn sets(scenario: &Scenario, ports: [u16; 4], sink: SocketAddr, names: u16) -> Vec<String> {
    let bind = |setting: &str, port: u16| format!("{setting}=[\"127.0.0.1:{port}\"]");
    let mut sets = vec![
        bind("listener.mx.bind", ports[0]),
        bind("listener.submission.bind", ports[1]),
        bind("listener.submissions.bind", ports[2]),
        bind("admin.bind", ports[3]),
        format!("dns.servers=[\"127.0.0.1:{names}\"]"),
        "log.format=json".into(),
        "listener.mx.connections-per-address=100000".into(),
        "listener.submission.connections-per-address=100000".into(),
    ];
    if scenario.way != Way::AcceptOnly {
        sets.push(format!("transport.\"*\"=\"smtp:[127.0.0.1]:{}\"", sink.port()));
    } else {
        sets.push("transport.\"*\"=\"smtp:[127.0.0.1]:9\"".into());
    }
    match scenario.way {
        Way::Relay | Way::AcceptOnly => {
            sets.push("listener.mx.preset=relay".into());
            sets.push("relay.networks=[\"127.0.0.0/8\"]".into());
        }
        Way::Inbound => sets.push("domains.relay=[\"elsewhere.example\"]".into()),
        Way::Submission | Way::Mailbox => {}
    }
    sets
}
