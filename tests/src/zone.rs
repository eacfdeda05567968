//! A name server on loopback that knows a few addresses and has bad days: it fails, is late, or says nothing.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often, in hundredths of all questions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// SERVFAIL.
    pub failing: u32,
    /// No answer.
    pub silent: u32,
}

/// What a name has.
#[derive(Clone, Debug)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// A mail host.
    Mx(u16, String),
    /// The server cannot answer about the name: SERVFAIL.
    Failing,
    /// A text.
    Txt(String),
    /// One mail host, `mx.` in front of the name that was asked for.
    Own,
}

type Records = Vec<(String, Record)>;

fn owned(records: &[(&str, Record)]) -> Records {
    records.iter().map(|(name, record)| (name.to_string(), record.clone())).collect()
}

/// The server. Stops when dropped.
pub struct Zone {
    /// Its UDP port on 127.0.0.1.
    pub port: u16,
    records: Arc<Mutex<Records>>,
    stop: Arc<AtomicBool>,
}

impl Zone {
    /// Listens on a free port. Names that are not in `records` do not exist; a name with records has no others.
    /// `*` stands for every name that is not there, `mx.*` for every such name that begins with `mx.`.
    pub fn start(records: &[(&str, Record)], faults: Faults) -> Zone {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
        let port = socket.local_addr().expect("bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        let records = Arc::new(Mutex::new(owned(records)));
        let known = records.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            let mut asked = 0_u32;
            while !theirs.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
                asked = asked.wrapping_add(1);
                // Knuth's multiplier spreads the count evenly over the hundredths.
                let luck = (asked.wrapping_mul(2_654_435_761) >> 16) % 100;
                if luck < faults.silent {
                    continue;
                }
                let failing = luck < faults.silent + faults.failing;
                if let Some(answer) = answer(&packet[..len], &known.lock().expect("no panic while held"), failing) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Zone { port, records, stop }
    }

    /// Other records from now on.
    pub fn set(&self, records: &[(&str, Record)]) {
        *self.records.lock().expect("no panic while held") = owned(records);
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The query's header and question with what is known behind it (RFC 1035 §4.1).
fn answer(query: &[u8], records: &[(String, Record)], failing: bool) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while let Some(&len) = query.get(at).filter(|len| **len != 0) {
        let label = query.get(at + 1..at + 1 + usize::from(len))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + usize::from(len);
    }
    let end = at;
    let kind = u16::from_be_bytes([*query.get(end + 1)?, *query.get(end + 2)?]);
    let name = labels.join(".");
    let with = |wanted: &str| {
        records.iter().filter(|(known, _)| *known == wanted).map(|(_, record)| record).collect::<Vec<_>>()
    };
    let known = match with(&name) {
        known if !known.is_empty() => known,
        _ if name.starts_with("mx.") => with("mx.*"),
        _ => with("*"),
    };
    let failing = failing || known.iter().any(|record| matches!(record, Record::Failing));
    let found: Vec<Vec<u8>> = known.iter().filter_map(|record| data(record, kind, &name)).collect();
    let mut answer = query.get(..end + 5)?.to_vec();
    let code = if failing {
        2
    } else if known.is_empty() {
        3
    } else {
        0
    };
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    answer[6..12].fill(0);
    if failing {
        return Some(answer);
    }
    answer[7] = u8::try_from(found.len()).ok()?;
    for data in found {
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 2]);
        answer.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

fn data(record: &Record, kind: u16, name: &str) -> Option<Vec<u8>> {
    match record {
        Record::A(address) if kind == 1 => Some(address.octets().to_vec()),
        Record::Mx(preference, host) if kind == 15 => {
            let mut data = preference.to_be_bytes().to_vec();
            for label in host.split('.').filter(|label| !label.is_empty()) {
                data.push(u8::try_from(label.len()).ok()?);
                data.extend_from_slice(label.as_bytes());
            }
            data.push(0);
            Some(data)
        }
        Record::Txt(text) if kind == 16 => {
            let mut data = vec![u8::try_from(text.len()).ok()?];
            data.extend_from_slice(text.as_bytes());
            Some(data)
        }
        Record::Own => data(&Record::Mx(10, format!("mx.{name}")), kind, name),
        _ => None,
    }
}
