//! A plugin that does what it is told, good and bad: by the local part of the recipient at the stage rcpt, by the subject at the
//! stage message, always the same at the others. What it finds out it says in the text of a refusal.
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({
    path: "../../../../../sdk/wit",
    inline: "
        package test:probe;
        world probe {
            include waypost:plugin/imports@0.1.0;
            export waypost:plugin/lifecycle@0.1.0;
            export waypost:plugin/on-connect@0.1.0;
            export waypost:plugin/on-helo@0.1.0;
            export waypost:plugin/on-auth@0.1.0;
            export waypost:plugin/on-mail@0.1.0;
            export waypost:plugin/on-rcpt@0.1.0;
            export waypost:plugin/on-data@0.1.0;
            export waypost:plugin/on-headers@0.1.0;
            export waypost:plugin/on-message@0.1.0;
            export waypost:plugin/on-queue@0.1.0;
        }
    ",
    world: "test:probe/probe",
    generate_all,
});

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use exports::waypost::plugin::lifecycle::{BodyNeed, Registration};
use exports::waypost::plugin::on_auth::{AuthResult, Credentials};
use exports::waypost::plugin::*;
use waypost::plugin::types::{Action, Outcome, Reply};
use waypost::plugin::{auth_results, crypto, dns, env, envelope, http, kv, message, scores, session, tables};

static CALLS: AtomicU32 = AtomicU32::new(0);

struct Probe;

fn reply(code: u16, text: impl Into<String>) -> Reply {
    Reply { code, enhanced: ((code / 100) as u8, 7, 1), text: text.into() }
}

/// A finding.
fn say(text: impl Into<String>) -> Outcome {
    Ok(Action::Reject(reply(550, text)))
}

impl lifecycle::Guest for Probe {
    fn init() -> Result<Registration, String> {
        if env::config().contains("bad-init") {
            return Err("the configuration says so".into());
        }
        if env::config().contains("dns-in-init") {
            let _ = dns::lookup(&dns::Query { name: "x.example".into(), rtype: dns::Rtype::A });
        }
        Ok(Registration {
            name: "probe".into(),
            version: "0.0.1".into(),
            rcpt_domains: vec![],
            only_inbound: false,
            only_authenticated: false,
            max_size: Some(1 << 20),
            body: BodyNeed::FULL,
            preview_bytes: 0,
        })
    }
}

impl on_connect::Guest for Probe {
    fn connect() -> Outcome {
        scores::add("CONNECTED", 1.0, Some(&session::client_ip()));
        Ok(Action::Next)
    }
}

impl on_helo::Guest for Probe {
    fn helo(name: String, esmtp: bool) -> Outcome {
        if name == "bad.example" {
            return Ok(Action::Disconnect(reply(554, format!("esmtp={esmtp} {}", session::helo()))));
        }
        Ok(Action::Next)
    }
}

impl on_auth::Guest for Probe {
    fn authenticate(c: Credentials) -> Result<AuthResult, String> {
        Ok(match (c.identity.as_str(), c.secret.as_deref()) {
            ("alice", Some("secret")) => AuthResult::Ok("alice@waypost.test".into()),
            ("alice", None) => AuthResult::Temporary("no secret shown".into()),
            ("carol", _) => AuthResult::PassOn,
            _ => AuthResult::Denied("wrong".into()),
        })
    }
}

impl on_mail::Guest for Probe {
    fn mail(sender: String) -> Outcome {
        if sender == "params@test.example" {
            return say(format!("{:?}", envelope::sender_params()));
        }
        Ok(Action::Next)
    }
}

impl on_data::Guest for Probe {
    fn data() -> Outcome {
        Ok(Action::Next)
    }
}

impl on_headers::Guest for Probe {
    fn headers() -> Outcome {
        if message::header("Subject") == ["headers accept"] {
            return Ok(Action::Accept);
        }
        Ok(Action::Next)
    }
}

impl on_queue::Guest for Probe {
    fn enqueue(queue_id: String) -> Outcome {
        let value = crypto::dkim_sign("ours", &["From".into()])?;
        message::prepend_header("X-Signed", &format!("{queue_id} {value}"));
        Ok(Action::Next)
    }
}

impl on_rcpt::Guest for Probe {
    fn check(r: on_rcpt::Rcpt) -> Outcome {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let (local, _) = r.address.split_once('@').unwrap();
        match local {
            "ok" => Ok(Action::Next),
            "simple" => simple(),
            "accept" => Ok(Action::Accept),
            "reject" => say("no"),
            "tempfail" => Ok(Action::Tempfail(reply(450, "later"))),
            "discard" => Ok(Action::Discard),
            "quarantine" => Ok(Action::Quarantine("look at it".into())),
            "disconnect" => Ok(Action::Disconnect(reply(421, "bye"))),
            "defer" => Ok(Action::Defer(60)),
            "extension" => Ok(Action::Extension(("future".into(), vec![1]))),
            "err" => Err("it said so".into()),
            "count" => say(CALLS.load(Ordering::Relaxed).to_string()),
            "params" => say(format!("{:?} {:?}", r.orcpt, r.notify)),
            "facts" => say(format!("{:?} {}", scores::symbols(), scores::total())),
            "findings" => say(format!("{:?}", auth_results::entries().len())),
            "message" => say(message::size().to_string()),
            _ => hostile(local).unwrap_or_else(|| asking(local)),
        }
    }
}

/// What an ordinary plugin does: looks at a few things and passes.
fn simple() -> Outcome {
    let known = session::auth_user().is_some() || session::client_ip().starts_with("10.");
    Ok(if known || envelope::recipient_count() > 1000 { Action::Accept } else { Action::Next })
}

/// Recursion that the compiler cannot turn into a loop, and that needs no stack in linear memory.
#[inline(never)]
fn recurse(n: u64) -> u64 {
    if CALLS.load(Ordering::Relaxed) == u32::MAX { n } else { recurse(n + 1).rotate_left(3) ^ n }
}

fn hostile(what: &str) -> Option<Outcome> {
    match what {
        "spin" => loop {
            black_box(0);
        },
        "grow" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
                black_box(&hoard);
            }
        }
        "recurse" => {
            black_box(recurse(0));
        }
        "panic" => panic!("as told"),
        "host-flood" => loop {
            black_box(session::id());
        },
        "log-flood" => loop {
            env::log(env::Level::Info, &"x".repeat(500));
        },
        "log" => env::log(env::Level::Info, "a line\r\nand a forged one"),
        "metric" => env::metric_add("probe_calls", 2.0),
        "bad-metric" => env::metric_add("Probe Calls", 2.0),
        "fact-flood" => loop {
            scores::add("X", 1.0, None);
        },
        "nan" => scores::add("X", f64::NAN, None),
        "fact-then-panic" => {
            scores::add("GHOST", 50.0, None);
            panic!("after stating a fact");
        }
        "exit" => std::process::exit(3),
        "file" => return Some(say(format!("{}", std::fs::read("/etc/passwd").is_err()))),
        "environment" => return Some(say(format!("{} {}", std::env::vars().count(), std::env::args().count()))),
        "variable-flood" => session::set_var("x", &vec![0; 1 << 20]),
        _ => return None,
    }
    Some(Ok(Action::Next))
}

fn asking(what: &str) -> Outcome {
    let question = |name: &str| dns::Query { name: name.into(), rtype: dns::Rtype::A };
    match what {
        "dns" => say(format!("{:?}", dns::lookup(&question("listed.example")))),
        "slow" => say(format!("{:?}", dns::lookup(&question("slow.example")))),
        "dns-many" => {
            let answers =
                dns::lookup_many(&[question("slow.example"), question("listed.example"), question("none.example")]);
            say(answers.iter().map(|a| if a.is_ok() { "y" } else { "n" }).collect::<String>())
        }
        "dns-flood" => {
            let answers = dns::lookup_many(&vec![question("listed.example"); 150]);
            let over = answers.iter().filter(|a| matches!(a, Err(dns::Error::Budget))).count();
            say(format!("{over} over budget"))
        }
        "var-set" => {
            session::set_var("x", b"kept");
            Ok(Action::Next)
        }
        "var-get" => say(format!("{:?}", session::get_var("x").map(|v| String::from_utf8(v).unwrap()))),
        "kv-set" => {
            kv::set(b"key", b"value", Some(60));
            Ok(Action::Next)
        }
        "kv-get" => say(format!("{:?}", kv::get(b"key"))),
        "kv-count" => {
            kv::incr_many_u64("t", &[1, 2], 1, -1);
            kv::incr_many_u64("t", &[2], 1, 3);
            say(format!("{:?} {}", kv::get_many_u64("t", &[1, 2, 3]), kv::incr(b"n", 5, None)))
        }
        "kv-cas" => say(format!("{} {}", kv::cas(b"c", None, b"1", None), kv::cas(b"c", None, b"2", None))),
        "kv-flood" => {
            for n in 0..900u32 {
                kv::set(&n.to_le_bytes(), &vec![0; 60 << 10], None);
            }
            Ok(Action::Next)
        }
        "table" => {
            say(format!("{:?} {}", tables::lookup("people", "alice"), tables::contains_cidr("people", "192.0.2.7")))
        }
        "other-table" => say(format!("{:?}", tables::lookup("secrets", "alice"))),
        "sign" => say(format!("{:?}", crypto::sign("ours", &[0; 32]))),
        "sign-other" => say(format!("{:?}", crypto::sign("theirs", &[0; 32]))),
        "hmac" => say(format!("{:?}", crypto::hmac("ours", b"x").map(|mac| mac.len()))),
        "sha256" => say(format!("{:02x?}", &crypto::sha256(b"abc")[..4])),
        "random" => say(format!("{}", crypto::random(16) != crypto::random(16))),
        "fetch" => say(format!("{:?}", fetch("https://api.example.net/v1/x"))),
        "fetch-other" => say(format!("{:?}", fetch("https://evil.example/"))),
        "rewrite" => say(format!("{:?}", envelope::add_recipient("new@test.example"))),
        "add-recipient" => {
            envelope::add_recipient("new@test.example")?;
            Ok(Action::Next)
        }
        "now" => say((env::now_ms() == env::now_ms()).to_string()),
        "budget" => say((env::budget_us() <= 10_000 && env::budget_us() > 0).to_string()),
        "session" => say(format!(
            "{} {:?} {:?} {:?} {:?}",
            session::client_port(),
            session::transport(),
            session::ptr_name(),
            session::tls(),
            session::tls_client_cert_sha256()
        )),
        "clocks" => {
            let before = std::time::Instant::now();
            let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            say(format!("{} {}", before.elapsed().as_secs() < 5, wall.as_secs()))
        }
        other => say(format!("unknown: {other}")),
    }
}

fn fetch(url: &str) -> Result<u16, String> {
    let request =
        http::Request { method: "GET".into(), url: url.into(), headers: vec![], body: vec![], timeout_ms: 1000 };
    http::fetch(&request).map(|response| response.status)
}

impl on_message::Guest for Probe {
    fn message() -> Outcome {
        let subject = message::header("subject").concat();
        match subject.as_str() {
            "read" => {
                let start = message::read(0, 8);
                let end = message::read(message::size() - 2, 100);
                let beyond = message::read(1 << 40, 100).len();
                say(format!(
                    "{} {} {} {}",
                    message::headers().len(),
                    message::raw_headers().len() > 20,
                    text(&start),
                    end.len() + beyond
                ))
            }
            "parts" => {
                let parts = message::parts();
                let first = message::read_part(&parts[0].path, 0, 100);
                say(format!("{} {} {}", parts.len(), parts[0].mime_type, text(&first)))
            }
            "no part" => say(format!("{:?}", message::read_part("7.7", 0, 1))),
            "find" => say(format!("{:?}", message::find("bad-words"))),
            "find none" => say(format!("{:?}", message::find("unknown"))),
            "digest" => say(format!("{:02x?}", &message::digest("sha256", None)[..4])),
            "bad digest" => say(format!("{:?}", message::digest("crc32", None))),
            "digest flood" => loop {
                message::digest("sha256", None);
            },
            "tokens" => say(format!("{}", message::token_hashes(100).len())),
            "edit" => {
                message::add_header("X-Last", "b");
                message::prepend_header("X-First", "a;\n\tfolded");
                message::remove_header("Received", Some(0));
                scores::add("EDITED", 2.5, Some("why"));
                Ok(Action::Next)
            }
            "edit then panic" => {
                message::add_header("X-Ghost", "b");
                panic!("after an edit");
            }
            "edit flood" => loop {
                message::add_header("X", "y");
            },
            "forge" => {
                message::add_header("X", "y\r\n\r\nbody");
                Ok(Action::Next)
            }
            "seen" => say(message::header("X-Last").concat()),
            "replace" => {
                message::replace_body(b"new body\r\n")?;
                Ok(Action::Next)
            }
            "quarantine" => Ok(Action::Quarantine("look at it".into())),
            "discard" => Ok(Action::Discard),
            "forbidden" => say("on-message was asked"),
            "headers accept" => say("on-message was asked after accept"),
            _ => Ok(Action::Next),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_string()
}

export!(Probe);
