//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the password is proved by both sides and shown by none.
//!
//! What it promises: keys are asked for by name alone, and an unknown user's exchange differs from a wrong password's in nothing
//! (whoever answers gives keys that nobody can satisfy). -PLUS binds to `tls-exporter` (RFC 9266) and to nothing else. A client
//! that could bind and says that we could not, though we offered it (`y`), has been lied to by somebody in the middle: it fails
//! as with a wrong password (RFC 5802 §6).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use waypost_types::login::{Credentials, Proof, ScramKeys};

use super::{Ending, Exchange, NONCE_BYTES, Step, saslname};

/// One exchange.
#[derive(Debug)]
pub(super) struct Scram {
    plus: bool,
    plus_offered: bool,
    exporter: Option<Arc<[u8]>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The client's first message comes next.
    First,
    /// The keys come next.
    Keys(First),
    /// The client's final message comes next.
    Final(Box<Pending>),
    /// It is over.
    Done,
}

/// The client's first message, taken apart.
#[derive(Debug)]
struct First {
    /// `n,,`, `y,,` or `p=tls-exporter,,`, with the authorization identity: sent again, to be covered by the proof.
    header: String,
    /// Everything behind it.
    bare: String,
    user: String,
    nonce: String,
    /// The client may bind its channel as it says it does.
    honest: bool,
}

#[derive(Debug)]
struct Pending {
    first: First,
    server_first: String,
    nonce: String,
    keys: ScramKeys,
}

impl Scram {
    pub(super) fn new(plus: bool, plus_offered: bool, exporter: Option<Arc<[u8]>>) -> Scram {
        Scram { plus, plus_offered, exporter, stage: Stage::First }
    }

    fn mechanism(&self) -> &'static str {
        if self.plus { "SCRAM-SHA-256-PLUS" } else { "SCRAM-SHA-256" }
    }

    /// Whether the channel-binding flag is what it must be (RFC 5802 §6).
    fn is_honest(&self, flag: &str) -> bool {
        match flag {
            "p=tls-exporter" => self.plus,
            "n" => !self.plus,
            "y" => !self.plus && !self.plus_offered,
            _ => false,
        }
    }

    fn on_first(&mut self, response: &[u8]) -> Option<Step> {
        let text = std::str::from_utf8(response).ok()?;
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        (matches!(flag, "n" | "y") || flag.starts_with("p=")).then_some(())?;
        let mut attributes = bare.split(',');
        // `m=` in front would be a mandatory extension: none is known (RFC 5802 §5.1).
        let user = saslname(attributes.next()?.strip_prefix("n=")?).filter(|user| !user.is_empty())?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let printable = !nonce.is_empty() && nonce.bytes().all(|b| matches!(b, 0x21..=0x7e));
        let own = match authzid.strip_prefix("a=") {
            Some(name) => saslname(name)? == user,
            None => authzid.is_empty(),
        };
        (printable && own && !user.contains('\0')).then_some(())?;
        let first = First {
            header: text[..text.len() - bare.len()].to_string(),
            bare: bare.to_string(),
            nonce: nonce.to_string(),
            honest: self.is_honest(flag),
            user: user.clone(),
        };
        self.stage = Stage::Keys(first);
        Some(Step::Keys(user))
    }

    fn on_final(&self, pending: &Pending, response: &[u8]) -> Option<Step> {
        let text = std::str::from_utf8(response).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = BASE64.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let proof: [u8; 32] = BASE64.decode(proof).ok()?.try_into().ok()?;

        let message = format!("{},{},{without_proof}", pending.first.bare, pending.server_first);
        let signature = hmac(&pending.keys.stored_key, message.as_bytes());
        let client_key: [u8; 32] = std::array::from_fn(|at| proof[at] ^ signature[at]);
        let proven = same(&Sha256::digest(client_key), &pending.keys.stored_key);
        let bound = same(&binding, &self.binding(&pending.first)) && nonce == pending.nonce;
        let good = proven && bound && pending.first.honest;

        let verifier = hmac(&pending.keys.server_key, message.as_bytes());
        let granted = Some(format!("v={}", BASE64.encode(verifier)).into_bytes());
        let credentials = Credentials {
            mechanism: self.mechanism(),
            identity: pending.first.user.clone(),
            proof: Proof::Exchanged(good),
        };
        Some(Step::Ask(credentials, Ending { granted, denied: None }))
    }

    /// What `c=` must hold: the header as sent at first and, with -PLUS, what TLS says of the channel.
    fn binding(&self, first: &First) -> Vec<u8> {
        let mut binding = first.header.clone().into_bytes();
        if self.plus {
            binding.extend_from_slice(self.exporter.as_deref().unwrap_or_default());
        }
        binding
    }
}

impl Exchange for Scram {
    fn handle(&mut self, response: Option<&[u8]>) -> Step {
        let Some(response) = response else { return Step::Challenge(Vec::new()) };
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::First => self.on_first(response).unwrap_or(Step::Malformed),
            Stage::Final(pending) => self.on_final(&pending, response).unwrap_or(Step::Malformed),
            Stage::Keys(_) | Stage::Done => Step::Malformed,
        }
    }

    fn handle_keys(&mut self, keys: ScramKeys, nonce: [u8; NONCE_BYTES]) -> Step {
        let Stage::Keys(first) = std::mem::replace(&mut self.stage, Stage::Done) else {
            panic!("keys were handed in that nobody asked for");
        };
        let nonce = format!("{}{}", first.nonce, BASE64.encode(nonce));
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        let challenge = server_first.clone().into_bytes();
        self.stage = Stage::Final(Box::new(Pending { first, server_first, nonce, keys }));
        Step::Challenge(challenge)
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Compares in a time that does not tell where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What RFC 7677 §3 shows: user `user`, password `pencil`.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CLIENT_FINAL: &str = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
        let mut block = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut sum = block;
        for _ in 1..iterations {
            block = hmac(password, &block);
            sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }

    fn keys(password: &str, salt: &[u8], iterations: u32) -> ScramKeys {
        let salted = salted(password.as_bytes(), salt, iterations);
        ScramKeys {
            iterations,
            salt: salt.into(),
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    fn rfc_keys() -> ScramKeys {
        keys("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"), 4096)
    }

    /// A client's side: what it answers to the server's first message.
    fn client_final(password: &str, header: &str, binding: &[u8], bare: &str, server_first: &str) -> String {
        let at = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).expect("it is there");
        let salted =
            salted(password.as_bytes(), &BASE64.decode(at("s=")).expect("base64"), at("i=").parse().expect("a number"));
        let client_key = hmac(&salted, b"Client Key");
        let bound = BASE64.encode([header.as_bytes(), binding].concat());
        let without = format!("c={bound},r={}", at("r="));
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        let signature = hmac(&stored, format!("{bare},{server_first},{without}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        format!("{without},p={}", BASE64.encode(proof))
    }

    /// Goes through an exchange; whether the proof was good.
    fn exchange(machine: &mut Scram, password: &str, header: &str, binding: &[u8]) -> Option<bool> {
        let bare = "n=user,r=abc";
        let Step::Keys(user) = machine.handle(Some(format!("{header}{bare}").as_bytes())) else { return None };
        assert_eq!(user, "user");
        let Step::Challenge(challenge) = machine.handle_keys(rfc_keys(), [7; NONCE_BYTES]) else {
            panic!("a challenge")
        };
        let server_first = String::from_utf8(challenge).expect("text");
        let answer = client_final(password, header, binding, bare, &server_first);
        match machine.handle(Some(answer.as_bytes())) {
            Step::Ask(Credentials { proof: Proof::Exchanged(good), .. }, _) => Some(good),
            _ => None,
        }
    }

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        // The server's nonce of the example is no base64 of 18 octets, so its messages are put in by hand.
        let first = First {
            header: "n,,".into(),
            bare: format!("n=user,r={CLIENT_NONCE}"),
            user: "user".into(),
            nonce: CLIENT_NONCE.into(),
            honest: true,
        };
        let nonce = format!("{CLIENT_NONCE}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let stage = Stage::Final(Box::new(Pending { first, server_first, nonce: nonce.clone(), keys: rfc_keys() }));
        let mut machine = Scram { plus: false, plus_offered: false, exporter: None, stage };
        let Step::Ask(credentials, ending) =
            machine.handle(Some(format!("c=biws,r={nonce},{CLIENT_FINAL}").as_bytes()))
        else {
            panic!("the credentials")
        };
        assert_eq!(credentials.proof, Proof::Exchanged(true));
        assert_eq!(ending.granted.as_deref(), Some(&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..]));
    }

    #[test]
    fn the_right_password_and_nothing_else_is_proved() {
        assert_eq!(exchange(&mut Scram::new(false, false, None), "pencil", "n,,", b""), Some(true));
        assert_eq!(exchange(&mut Scram::new(false, false, None), "pencil", "n,a=user,", b""), Some(true));
        assert_eq!(exchange(&mut Scram::new(false, false, None), "Pencil", "n,,", b""), Some(false));
    }

    #[test]
    fn the_channel_is_bound_or_the_proof_is_worth_nothing() {
        let plus = || Scram::new(true, true, Some(Arc::from(&b"channel"[..])));
        assert_eq!(exchange(&mut plus(), "pencil", "p=tls-exporter,,", b"channel"), Some(true));
        assert_eq!(exchange(&mut plus(), "pencil", "p=tls-exporter,,", b"another"), Some(false), "another channel");
        assert_eq!(exchange(&mut plus(), "pencil", "p=tls-unique,,", b"channel"), Some(false), "no such binding");
        assert_eq!(exchange(&mut plus(), "pencil", "n,,", b""), Some(false), "-PLUS without binding");
        let plain = |offered| Scram::new(false, offered, Some(Arc::from(&b"channel"[..])));
        assert_eq!(exchange(&mut plain(true), "pencil", "y,,", b""), Some(false), "somebody hid -PLUS from the client");
        assert_eq!(exchange(&mut plain(false), "pencil", "y,,", b""), Some(true), "it is not offered");
        assert_eq!(exchange(&mut plain(true), "pencil", "n,,", b""), Some(true), "a client that cannot bind");
        assert_eq!(exchange(&mut plain(true), "pencil", "p=tls-exporter,,", b"channel"), Some(false));
    }

    #[test]
    fn what_breaks_the_grammar_is_malformed() {
        for text in [
            "",
            "n",
            "n,,",
            "x,,n=user,r=a",
            "n,,m=x,n=user,r=a",
            "n,,n=,r=a",
            "n,,n=user",
            "n,,n=user,r=",
            "n,a=other,n=user,r=a",
            "n,,n=us=er,r=a",
        ] {
            let mut machine = Scram::new(false, false, None);
            assert!(matches!(machine.handle(Some(text.as_bytes())), Step::Malformed), "{text}");
        }
        let mut machine = Scram::new(false, false, None);
        machine.handle(Some(b"n,,n=user,r=abc"));
        machine.handle_keys(rfc_keys(), [7; NONCE_BYTES]);
        assert!(matches!(machine.handle(Some(b"c=biws,r=abc,p=short")), Step::Malformed));
        assert!(matches!(machine.handle(Some(b"again")), Step::Malformed), "a broken exchange is over");
    }
}
