//! Postfix with a configuration of its own in a folder of its own. Needs root, as Postfix does.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Running, Server, free_port, wait_for};
use crate::Failure;
use crate::scenario::{Scenario, Way};

/// Debian's.
pub(crate) struct Postfix;

impl Server for Postfix {
    fn name(&self) -> &'static str {
        "postfix"
    }

    fn version(&self) -> Result<String, String> {
        let id = Command::new("id").arg("-u").output().map_err(|error| error.to_string())?;
        if id.stdout.trim_ascii() != b"0" {
            return Err("Postfix is started by root only".into());
        }
        let output = Command::new("postconf").args(["-dh", "mail_version"]).output();
        let output = output.map_err(|_| "not installed".to_string())?;
        Ok(format!("Postfix {}", String::from_utf8_lossy(&output.stdout).trim()))
    }

    fn plays(&self, scenario: &Scenario) -> Result<(), &'static str> {
        match scenario.way {
            Way::Relay | Way::AcceptOnly => Ok(()),
            Way::Inbound => Err("needs Rspamd beside it, which this suite does not set up"),
            Way::Submission => Err("needs Dovecot and OpenDKIM beside it, which this suite does not set up"),
            Way::Mailbox => Err("needs a user of its own on this machine"),
        }
    }

    fn start(&self, scenario: &Scenario, folder: &Path, sink: SocketAddr) -> Result<Running, Failure> {
        let port = free_port()?;
        for name in ["etc", "spool", "data"] {
            fs::create_dir(folder.join(name))?;
        }
        // Postfix's own user passes through here.
        run("chmod", &["755", text(folder)?])?;
        run("chown", &["postfix", text(&folder.join("data"))?])?;
        if scenario.tls {
            waypost_net::self_signed(&folder.join("etc"), &["bench.example".into()])?;
        }
        fs::write(folder.join("etc/main.cf"), main_cf(scenario, folder, sink))?;
        fs::write(folder.join("etc/master.cf"), master_cf(port)?)?;
        let etc = text(&folder.join("etc"))?.to_string();
        run("postfix", &["-c", &etc, "start"])?;
        let stop = Box::new(move || {
            let _ = Command::new("postfix").args(["-c", &etc, "stop"]).output();
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut running = Running { address, pid: 0, login: None, mailbox: None, stop: Some(stop) };
        wait_for(address, Duration::from_secs(30))?;
        running.pid = fs::read_to_string(folder.join("spool/pid/master.pid"))?.trim().parse()?;
        Ok(running)
    }
}

fn main_cf(scenario: &Scenario, folder: &Path, sink: SocketAddr) -> String {
    let here = folder.display();
    let next_hop = if scenario.way == Way::AcceptOnly { 9 } else { sink.port() };
    let tls = match scenario.tls {
        true => format!(
            "smtpd_tls_security_level = may\nsmtp_tls_security_level = may\nsmtpd_tls_cert_file = {here}/etc/self-signed.crt\n\
             smtpd_tls_key_file = {here}/etc/self-signed.key\nsmtp_tls_session_cache_database = btree:${{data_directory}}/smtp\n\
             smtp_tls_connection_reuse = yes\n"
        ),
        false => "smtp_tls_security_level = none\n".into(),
    };
    format!(
        "compatibility_level = 3.6\nqueue_directory = {here}/spool\ndata_directory = {here}/data\ncommand_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\nmyhostname = bench.example\ninet_interfaces = 127.0.0.1\nmynetworks = 127.0.0.0/8\n\
         relayhost = [127.0.0.1]:{next_hop}\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
         default_destination_concurrency_limit = 50\nsmtpd_client_connection_count_limit = 0\n\
         maillog_file = /var/log/waypost-bench-postfix.log\n{tls}"
    )
}

/// Debian's services, none in a chroot (whose files are the machine's own), and our port.
fn master_cf(port: u16) -> Result<String, Failure> {
    let shipped = fs::read_to_string("/usr/share/postfix/master.cf.dist")?;
    let mut lines: Vec<String> = Vec::new();
    for line in shipped.lines().filter(|line| !line.starts_with("smtp      inet")) {
        let mut fields: Vec<&str> = line.split_whitespace().collect();
        let service = !line.starts_with([' ', '\t', '#']) && fields.len() >= 8;
        if service {
            fields[4] = "n";
        }
        lines.push(if service { fields.join(" ") } else { line.to_string() });
    }
    lines.push(format!("127.0.0.1:{port} inet n - n - 200 smtpd"));
    if !lines.iter().any(|line| line.starts_with("tlsproxy")) {
        lines.push("tlsproxy unix - - n - 0 tlsproxy".into());
    }
    Ok(lines.join("\n") + "\n")
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| "the temporary folder has no name in UTF-8".into())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into())
}
