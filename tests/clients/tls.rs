//! What each port's TLS will and will not do, in the judgement of programs that examine it for a living.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::{Authority, Waypost, tool};

use crate::{clients, has};

/// A server whose certificate an authority of the test's own has signed.
fn site() -> (Waypost, Authority) {
    let authority = Authority::new();
    let (certificate, key) = authority.host("waypost.test");
    let server = Waypost::start(&[&format!("tls.certificate={certificate}"), &format!("tls.key={key}")]);
    (server, authority)
}

/// Ports, and whether they begin with STARTTLS.
fn doors(server: &Waypost) -> [(u16, bool); 3] {
    [(server.mx, true), (server.submission, true), (server.submissions, false)]
}

#[test]
fn openssl() {
    if !has("openssl") {
        return;
    }
    let (server, authority) = site();
    let ca = authority.certificate();
    for (port, start) in doors(&server) {
        let starttls = if start { "-starttls smtp -name client.example" } else { "" };
        let run = |more: &str| {
            let common = format!("-connect 127.0.0.1:{port} -CAfile {ca} -servername waypost.test {starttls}");
            // The end of the input ends the session; what TLS 1.0 wants of OpenSSL 3 is a lower security level.
            let script = format!(
                "printf 'QUIT\\r\\n' | timeout 20 openssl s_client {common} {more} -cipher ALL:@SECLEVEL=0 -quiet -no_ign_eof 2>&1"
            );
            let output = tool::run("sh", &["-c", &script]);
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for (version, good) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
            let (_, said) = run(version);
            assert_eq!(
                said.contains("221 2.0.0") || said.contains("verify return:1"),
                good,
                "{port} {version}: {said}"
            );
        }
        let (good, said) = run("-verify_return_error -verify_hostname waypost.test");
        assert!(good, "{port}: {said}");
        let (good, said) = run("-verify_return_error -verify_hostname other.test");
        assert!(!good, "{port}: {said}");
        // RSA key transport, no forward secrecy, and export: nothing to agree upon.
        for weak in [
            "-tls1_2 -cipher AES128-SHA",
            "-tls1_2 -cipher aNULL:@SECLEVEL=0",
            "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA",
        ] {
            let script = format!(
                "printf 'QUIT\\r\\n' | timeout 20 openssl s_client -connect 127.0.0.1:{port} {starttls} {weak} 2>&1"
            );
            let said = String::from_utf8_lossy(&tool::run("sh", &["-c", &script]).stdout).into_owned();
            assert!(said.contains("Cipher is (NONE)"), "{port} {weak}: {said}");
        }
    }
}

#[test]
fn sessions_are_resumed_unless_tickets_are_switched_off() {
    if !has("openssl") {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let kept = folder.path().join("session").to_str().expect("UTF-8").to_string();
    for tickets in [true, false] {
        let server = Waypost::start(&[&format!("tls.tickets={tickets}")]);
        let run = |version: &str, more: &str| {
            let at = format!("-connect 127.0.0.1:{}", server.submissions);
            // TLS 1.3 sends tickets behind the handshake: there must be something to read. `Q` is a word of s_client's own.
            let script = format!(
                "(sleep 0.5; printf 'quit\\r\\n'; sleep 0.5) | timeout 20 openssl s_client {at} {version} {more} 2>&1"
            );
            String::from_utf8_lossy(&tool::run("sh", &["-c", &script]).stdout).into_owned()
        };
        for version in ["-tls1_2", "-tls1_3"] {
            let first = run(version, &format!("-sess_out {kept}"));
            assert!(first.contains("221 2.0.0"), "{first}");
            assert_eq!(first.contains("TLS session ticket:"), tickets, "{version}: {first}");
            if tickets {
                let second = run(version, &format!("-sess_in {kept}"));
                assert!(second.contains("Reused, TLSv1") && second.contains("221 2.0.0"), "{version}: {second}");
            }
        }
    }
}

#[test]
fn posttls_finger() {
    if !has("posttls-finger") {
        return;
    }
    let (server, authority) = site();
    let ca = authority.certificate();
    for (port, start) in doors(&server) {
        let at = format!("[127.0.0.1]:{port}");
        let wrapper: &[&str] = if start { &[] } else { &["-w"] };
        let run = |arguments: &[&str]| {
            let all = [&["-c", "-t", "20"], wrapper, arguments].concat();
            let output = tool::run("posttls-finger", &all);
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        };
        let roots = ["-F", ca.as_str()];
        for (level, roots, more, wanted) in [
            ("may", &[][..], &[][..], "Untrusted TLS connection established"),
            ("encrypt", &[], &[], "Untrusted TLS connection established"),
            ("verify", &roots, &["waypost.test"], "Verified TLS connection established"),
            ("secure", &roots, &["waypost.test"], "Verified TLS connection established"),
            ("secure", &roots, &["other.test"], "hostname mismatch"),
        ] {
            let said = run(&[roots, &["-l", level, &at], more].concat());
            assert!(said.contains(wanted), "{port} {level} {more:?}: {said}");
            assert!(said.contains("TLSv1.3"), "{said}");
        }
        for protocol in ["TLSv1", "TLSv1.1"] {
            let said = run(&["-l", "encrypt", "-p", protocol, &at]);
            assert!(!said.contains("TLS connection established"), "{port} {protocol}: {said}");
        }
        let said = run(&["-l", "encrypt", "-p", "TLSv1.2", &at]);
        assert!(said.contains("TLS connection established") && said.contains("TLSv1.2"), "{port}: {said}");
    }
}

#[test]
fn sslyze() {
    let program = clients().join("python/bin/sslyze").to_str().expect("UTF-8").to_string();
    if !has(&program) {
        return;
    }
    let (server, _authority) = site();
    let folder = TempDir::new().expect("a folder");
    for (port, start) in doors(&server) {
        let file = folder.path().join(port.to_string());
        let (file, at) = (file.to_str().expect("UTF-8"), format!("127.0.0.1:{port}"));
        let starttls: &[&str] = if start { &["--starttls=smtp"] } else { &[] };
        // Its last word is on a browser's policy, which asks for a certificate of the web's.
        tool::run(&program, &[starttls, &["--quiet", "--json_out", file, &at]].concat());
        let found: Value = serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON");
        let scan = &found["server_scan_results"][0];
        assert_eq!(scan["scan_status"], "COMPLETED", "{port}: {scan}");
        let of = |name: &str| &scan["scan_result"][name]["result"];
        let suites = |version: &str| {
            of(&format!("{version}_cipher_suites"))["accepted_cipher_suites"].as_array().map_or(99, Vec::len)
        };
        for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
            assert_eq!(suites(version), 0, "{port}: {version}");
        }
        assert_eq!((suites("tls_1_2"), suites("tls_1_3")), (3, 3), "{port}: forward secrecy and AEAD alone");
        for (command, field, value) in [
            ("tls_compression", "supports_compression", false),
            ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false),
            ("heartbleed", "is_vulnerable_to_heartbleed", false),
            ("tls_fallback_scsv", "supports_fallback_scsv", true),
            ("session_renegotiation", "supports_secure_renegotiation", true),
            ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false),
            ("tls_extended_master_secret", "supports_ems_extension", true),
        ] {
            assert_eq!(of(command)[field], value, "{port}: {command} {field}");
        }
        assert_eq!(of("robot")["robot_result"], "NOT_VULNERABLE_RSA_NOT_SUPPORTED", "{port}");
    }
}

/// What testssl asks here: protocols, forward secrecy, server's certificate, and every hole that has a name but client renegotiation, which takes it
/// a minute to find nothing.
const TESTSSL: [&str; 15] = ["-p", "-f", "-S", "-H", "-I", "-BB", "-C", "-O", "-Z", "-W", "-A", "-L", "-F", "-J", "-D"];

#[test]
fn testssl() {
    if !has("testssl") {
        return;
    }
    let (server, _authority) = site();
    let folder = TempDir::new().expect("a folder");
    std::thread::scope(|scope| {
        for (port, start) in doors(&server) {
            let folder = &folder;
            scope.spawn(move || examine(port, start, folder));
        }
    });
}

fn examine(port: u16, start: bool, folder: &TempDir) {
    let file = folder.path().join(port.to_string());
    let (file, at) = (file.to_str().expect("UTF-8"), format!("127.0.0.1:{port}"));
    let starttls: &[&str] = if start { &["-t", "smtp"] } else { &[] };
    let words = ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", file];
    let begun = std::time::Instant::now();
    tool::run("testssl", &[&words[..], &TESTSSL, starttls, &[&at]].concat());
    assert!(begun.elapsed() < Duration::from_secs(300), "testssl took {:?}", begun.elapsed());
    let found: Value = serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON");
    let found = found.as_array().expect("a list");
    let of = |id: &str| found.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{port}: nothing on {id}"));
    for id in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert_eq!(of(id)["finding"], "not offered", "{port}: {id}");
    }
    for id in ["TLS1_2", "TLS1_3"] {
        assert_eq!(of(id)["severity"], "OK", "{port}: {id}");
    }
    for id in [
        "PFS",
        "heartbleed",
        "CCS",
        "ROBOT",
        "POODLE_SSL",
        "fallback_SCSV",
        "SWEET32",
        "BEAST",
        "LUCKY13",
        "FREAK",
        "LOGJAM",
        "DROWN",
    ] {
        assert_eq!(of(id)["severity"], "OK", "{port}: {}", of(id));
    }
    // What is grave is so for the certificate alone, whose authority the world does not know.
    for one in found.iter().filter(|one| one["severity"] == "HIGH" || one["severity"] == "CRITICAL") {
        assert!(one["id"].as_str().is_some_and(|id| id.starts_with("cert_")), "{port}: {one}");
    }
}
