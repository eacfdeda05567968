//! Bearer tokens against a key whose private half nobody has, and what password files may hold. Asserts: no panic; no token is ever good;
//! keys for SCRAM are written as they were read.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use waypost_fuzz::run;
use waypost_login::token::{ALGORITHMS, Claims, Jwks, Tokens};
use waypost_login::{hash, scram};

/// The public keys of RFC 7517 appendix A.1 and RFC 8037 appendix A.2.
const KEYS: &str = r#"{"keys":[
{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"},
{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"2"}]}"#;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("waypost-fuzz-jwks-{}", std::process::id()));
    std::fs::write(&path, KEYS).expect("written");
    let algorithms = ALGORITHMS.map(str::to_string);
    let keys = Jwks::open(&path, &algorithms).expect("two keys");
    let _ = std::fs::remove_file(&path);
    Tokens::Jwks(keys, Claims { issuer: None, audiences: Vec::new(), user: "sub".into(), scope: None })
});

fuzz_target!(|input: &str| {
    assert_eq!(run(TOKENS.user(input)).ok(), Some(None), "a token that nobody signed");
    let _ = hash::check(input);
    if let Some(keys) = scram::read(input) {
        assert_eq!(scram::read(&scram::write(&keys)), Some(keys));
    }
});
