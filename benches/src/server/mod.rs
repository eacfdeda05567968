//! The servers under test. Each is configured for a scenario in a folder of its own, started, and stopped; nothing of the machine's own
//! configuration is touched.

mod names;
mod postfix;
mod waypost;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::scenario::Scenario;

/// A kind of server.
pub(crate) trait Server {
    /// As the command line names it.
    fn name(&self) -> &'static str;

    /// Its version; or why it cannot be measured here.
    fn version(&self) -> Result<String, String>;

    /// Whether it can play this scenario, as the suite configures it; why not otherwise.
    fn plays(&self, scenario: &Scenario) -> Result<(), &'static str>;

    /// Starts it in `folder`, relaying to `sink`.
    fn start(&self, scenario: &Scenario, folder: &Path, sink: SocketAddr) -> Result<Running, Failure>;
}

/// One that runs. Dropping it stops it.
pub(crate) struct Running {
    /// Where mail is taken.
    pub(crate) address: SocketAddr,
    /// The first of its processes.
    pub(crate) pid: u32,
    /// For scenarios with AUTH: NAME:PASSWORD.
    pub(crate) login: Option<String>,
    /// Where mail for the scenario [`crate::scenario::Way::Mailbox`] ends.
    pub(crate) mailbox: Option<std::path::PathBuf>,
    stop: Option<Box<dyn FnOnce()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

/// All kinds.
pub(crate) fn all(waypost: Option<&Path>) -> Vec<Box<dyn Server>> {
    vec![Box::new(waypost::Waypost::new(waypost)), Box::new(postfix::Postfix)]
}

/// Waits until somebody greets: a port may be bound long before.
pub(crate) fn wait_for(address: SocketAddr, patience: Duration) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if is_greeted(address, patience).is_ok_and(|greeted| greeted) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nobody greets on {address} after {patience:?}").into())
}

fn is_greeted(address: SocketAddr, patience: Duration) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(patience))?;
    let mut code = [0; 3];
    stream.read_exact(&mut code)?;
    stream.write_all(b"QUIT\r\n")?;
    Ok(code == *b"220")
}

/// A port that is free now.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
