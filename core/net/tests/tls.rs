//! Real handshakes between both sides: what is accepted, what is refused, what is reported.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use waypost_net::{
    CertificateFiles, ClientCertificates, ClientTls, ClientTlsOptions, ServerTls, ServerTlsOptions, Stream, TlsVersion,
};
use waypost_types::{Security, TlsFacts, Tlsa};

/// A directory with an authority and the certificates that it gave.
struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// One certificate of it.
struct Given {
    files: CertificateFiles,
    der: Vec<u8>,
    spki: Vec<u8>,
}

impl Authority {
    fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "Test Authority");
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("signed");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("root.pem"), issuer.pem()).expect("written");
        Authority { directory, issuer }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// A certificate for `name`; the chain file holds the authority's certificate too, as DANE-TA wants it.
    fn give(&self, name: &str, expired: bool) -> Given {
        let mut parameters = CertificateParams::new(vec![name.to_string()]).expect("a name");
        if expired {
            parameters.not_before = date_time_ymd(2001, 1, 1);
            parameters.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signed");
        let at = |end: &str| self.directory.path().join(format!("{name}.{end}"));
        let files = CertificateFiles { chain: at("crt"), key: at("key") };
        fs::write(&files.chain, format!("{}{}", certificate.pem(), self.issuer.pem())).expect("written");
        fs::write(&files.key, key.serialize_pem()).expect("written");
        Given { files, der: certificate.der().to_vec(), spki: key.subject_public_key_info() }
    }
}

fn server(certificates: &[&Given]) -> ServerTls {
    let certificates = certificates.iter().map(|given| given.files.clone()).collect();
    ServerTls::new(ServerTlsOptions { certificates, ..ServerTlsOptions::default() }).expect("usable certificates")
}

fn client(extra_roots: Option<PathBuf>) -> ClientTls {
    ClientTls::new(ClientTlsOptions { extra_roots, ..ClientTlsOptions::default() }).expect("usable roots")
}

type Side = io::Result<(Box<dyn Stream>, Arc<TlsFacts>)>;

async fn shake(server: &ServerTls, client: &ClientTls, name: &str, security: &Security) -> (Side, Side) {
    let (near, far) = duplex(64 * 1024);
    tokio::join!(server.accept(Box::new(far)), client.connect(Box::new(near), name, security))
}

/// What both sides report of a handshake that succeeds, after an octet went each way (which brings the client its ticket).
async fn meet(
    server: &ServerTls,
    client: &ClientTls,
    name: &str,
    security: &Security,
) -> (Arc<TlsFacts>, Arc<TlsFacts>) {
    let (far, near) = shake(server, client, name, security).await;
    let ((mut far, server_facts), (mut near, client_facts)) = (far.expect("accepted"), near.expect("connected"));
    near.write_all(b">").await.expect("sent");
    near.flush().await.expect("flushed");
    assert_eq!(far.read_u8().await.expect("received"), b'>');
    far.write_all(b"<").await.expect("sent");
    far.flush().await.expect("flushed");
    assert_eq!(near.read_u8().await.expect("received"), b'<');
    (server_facts, client_facts)
}

async fn refused(server: &ServerTls, client: &ClientTls, name: &str, security: &Security) {
    let (_, near) = shake(server, client, name, security).await;
    let error = near.err().expect("the client must refuse");
    assert!(waypost_net::tls::is_certificate_error(&error), "{error}");
}

fn tlsa(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
    let data = match matching {
        0 => data.to_vec(),
        1 => digest(&SHA256, data).as_ref().to_vec(),
        _ => digest(&SHA512, data).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn dane(records: impl IntoIterator<Item = Tlsa>) -> Security {
    Security::Dane(records.into_iter().collect())
}

#[tokio::test]
async fn a_first_start_serves_a_self_signed_certificate_and_both_sides_agree_on_the_facts() {
    let directory = tempfile::tempdir().expect("a directory");
    let names = ["mail.waypost.test".to_string()];
    let server = ServerTls::from_self_signed(directory.path(), &names, ServerTlsOptions::default()).expect("made");
    let (of_server, of_client) = meet(&server, &client(None), "mail.waypost.test", &Security::Opportunistic).await;
    assert_eq!(of_server, of_client);
    assert_eq!(of_server.version, "TLSv1.3");
    assert_eq!(of_server.cipher, "TLS_AES_256_GCM_SHA384");
    assert_eq!(of_server.server_name.as_deref(), Some("mail.waypost.test"));
    assert_eq!(of_server.exporter.as_ref().map(|bytes| bytes.len()), Some(32));
    assert!(!of_server.resumed);
    assert_eq!(of_server.client_certificate, None);
}

#[tokio::test]
async fn sessions_are_resumed_even_across_a_reload_but_not_under_another_demand() {
    let authority = Authority::new();
    let server = server(&[&authority.give("mx.test", false)]);
    let client = client(Some(authority.root()));
    let resumed = async |security: &Security| meet(&server, &client, "mx.test", security).await.0.resumed;
    assert!(!resumed(&Security::Opportunistic).await);
    assert!(resumed(&Security::Opportunistic).await);
    server.reload().expect("the files are still there");
    assert!(resumed(&Security::Opportunistic).await);
    assert!(!resumed(&Security::Verified).await, "what was never verified must not pass for verified");
    assert!(resumed(&Security::Verified).await);
}

#[tokio::test]
async fn tickets_can_be_switched_off() {
    let authority = Authority::new();
    let certificates = vec![authority.give("mx.test", false).files];
    let options = ServerTlsOptions { certificates, tickets: false, ..ServerTlsOptions::default() };
    let server = ServerTls::new(options).expect("usable");
    let client = client(None);
    for _ in 0..3 {
        assert!(!meet(&server, &client, "mx.test", &Security::Opportunistic).await.0.resumed);
    }
}

#[tokio::test]
async fn reload_brings_the_new_certificate_and_keeps_the_old_one_on_error() {
    let authority = Authority::new();
    let old = authority.give("mx.test", false);
    let server = server(&[&old]);
    let new = authority.give("mx.test", false);
    let client = client(None);
    refused(&server, &client, "mx.test", &dane([tlsa(3, 1, 1, &new.spki)])).await;
    server.reload().expect("usable");
    meet(&server, &client, "mx.test", &dane([tlsa(3, 1, 1, &new.spki)])).await;
    fs::write(&new.files.key, "no key").expect("written");
    server.reload().expect_err("unusable");
    meet(&server, &client, "mx.test", &dane([tlsa(3, 1, 1, &new.spki)])).await;
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let authority = Authority::new();
    let (one, two, wild) =
        (authority.give("one.test", false), authority.give("two.test", false), authority.give("*.wild.test", false));
    let server = server(&[&one, &two, &wild]);
    let client = client(Some(authority.root()));
    for name in ["one.test", "two.test", "a.wild.test"] {
        meet(&server, &client, name, &Security::Verified).await;
    }
    meet(&server, &client, "other.test", &dane([tlsa(3, 0, 1, &one.der)])).await;
}

#[tokio::test]
async fn verified_wants_a_known_root_the_name_and_a_valid_date() {
    let authority = Authority::new();
    let good = server(&[&authority.give("mx.test", false)]);
    let trusting = client(Some(authority.root()));
    meet(&good, &trusting, "mx.test", &Security::Verified).await;
    refused(&good, &trusting, "other.test", &Security::Verified).await;
    refused(&good, &client(None), "mx.test", &Security::Verified).await;
    let expired = server(&[&authority.give("old.test", true)]);
    refused(&expired, &trusting, "old.test", &Security::Verified).await;
    for lax in [Security::Opportunistic, Security::Encrypted] {
        meet(&expired, &client(None), "quite.other.test", &lax).await;
    }
}

#[tokio::test]
async fn dane_ee_looks_at_nothing_but_the_match() {
    let authority = Authority::new();
    let given = authority.give("mx.test", true);
    let server = server(&[&given]);
    let client = client(None);
    for record in [
        tlsa(3, 1, 1, &given.spki),
        tlsa(3, 1, 2, &given.spki),
        tlsa(3, 1, 0, &given.spki),
        tlsa(3, 0, 1, &given.der),
        tlsa(3, 0, 2, &given.der),
        tlsa(3, 0, 0, &given.der),
    ] {
        meet(&server, &client, "wrong.name.test", &dane([tlsa(3, 1, 1, b"of yesterday"), record])).await;
    }
    refused(&server, &client, "mx.test", &dane([tlsa(3, 1, 1, b"another key")])).await;
    refused(&server, &client, "mx.test", &dane([tlsa(3, 1, 1, &given.der)])).await;
}

#[tokio::test]
async fn dane_ta_wants_the_name_the_date_and_a_chain_to_the_anchor() {
    let authority = Authority::new();
    let server_of = |given: &Given| server(&[given]);
    let good = server_of(&authority.give("mx.test", false));
    let client = client(None);
    let anchor_der = authority.issuer.der().to_vec();
    let anchor_spki = authority.issuer.key().subject_public_key_info();
    for record in [
        tlsa(2, 0, 1, &anchor_der),
        tlsa(2, 1, 1, &anchor_spki),
        tlsa(2, 1, 2, &anchor_spki),
        tlsa(2, 0, 0, &anchor_der),
    ] {
        meet(&good, &client, "mx.test", &dane([record.clone()])).await;
        refused(&good, &client, "other.test", &dane([record])).await;
    }
    refused(&good, &client, "mx.test", &dane([tlsa(2, 0, 1, b"another authority")])).await;
    let expired = server_of(&authority.give("old.test", true));
    refused(&expired, &client, "old.test", &dane([tlsa(2, 0, 1, &anchor_der)])).await;
}

#[tokio::test]
async fn showing_the_anchor_is_not_being_signed_by_it() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let given = stranger.give("mx.test", false);
    let chain = fs::read_to_string(&given.files.chain).expect("readable");
    fs::write(&given.files.chain, format!("{chain}{}", authority.issuer.pem())).expect("written");
    let record = tlsa(2, 0, 1, authority.issuer.der());
    refused(&server(&[&given]), &client(None), "mx.test", &dane([record])).await;
}

#[tokio::test]
async fn dane_ta_takes_the_whole_anchor_from_the_record() {
    let authority = Authority::new();
    let given = authority.give("mx.test", false);
    let chain = fs::read_to_string(&given.files.chain).expect("readable");
    let leaf_alone = chain.split_inclusive("-----END CERTIFICATE-----\n").next().expect("a certificate");
    fs::write(&given.files.chain, leaf_alone).expect("written");
    let server = server(&[&given]);
    meet(&server, &client(None), "mx.test", &dane([tlsa(2, 0, 0, authority.issuer.der())])).await;
    refused(&server, &client(None), "mx.test", &dane([tlsa(2, 0, 1, authority.issuer.der())])).await;
}

#[tokio::test]
async fn names_that_sni_cannot_carry_stop_only_those_who_verify() {
    let authority = Authority::new();
    let server = server(&[&authority.give("mx.test", false)]);
    let client = client(None);
    for name in ["192.0.2.1", "[2001:db8::1]", "-no-name-", ""] {
        let (of_server, _) = meet(&server, &client, name, &Security::Opportunistic).await;
        assert_eq!(of_server.server_name, None, "{name}");
    }
    let (near, _far) = duplex(1024);
    let error = client.connect(Box::new(near), "-no-name-", &Security::Verified).await.err().expect("refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let (near, _far) = duplex(1024);
    assert!(client.connect(Box::new(near), "mx.test", &Security::Plain).await.is_err());
}

#[tokio::test]
async fn the_hello_fits_into_one_segment() {
    let (near, mut far) = duplex(64 * 1024);
    let client = client(None);
    let hello = async {
        let mut head = [0; 5];
        far.read_exact(&mut head).await.expect("a record");
        drop(far);
        u16::from_be_bytes([head[3], head[4]])
    };
    let (length, _) = tokio::join!(hello, client.connect(Box::new(near), "mx.test", &Security::Opportunistic));
    assert!(length < 600, "{length} octets: a post-quantum share was sent first");
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let authority = Authority::new();
    let timeout = Duration::from_millis(5);
    let certificates = vec![authority.give("mx.test", false).files];
    let options = ServerTlsOptions { certificates, handshake_timeout: timeout, ..ServerTlsOptions::default() };
    let server = ServerTls::new(options).expect("usable");
    let client = ClientTls::new(ClientTlsOptions { handshake_timeout: timeout, ..ClientTlsOptions::default() });
    let silent = || -> (Box<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(64 * 1024);
        (Box::new(near), far)
    };
    let (near, _far) = silent();
    assert_eq!(server.accept(near).await.err().expect("given up").kind(), io::ErrorKind::TimedOut);
    let (near, _far) = silent();
    let outcome = client.expect("usable").connect(near, "mx.test", &Security::Opportunistic).await;
    assert_eq!(outcome.err().expect("given up").kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn plaintext_on_a_tls_port_is_an_error_and_not_a_hang() {
    let authority = Authority::new();
    let server = server(&[&authority.give("mx.test", false)]);
    let (mut near, far) = duplex(1024);
    near.write_all(b"EHLO client.example\r\n").await.expect("sent");
    let error = server.accept(Box::new(far)).await.err().expect("no TLS");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn vectored_writes_pass_through_tls() {
    let authority = Authority::new();
    let server = server(&[&authority.give("mx.test", false)]);
    let (far, near) = shake(&server, &client(None), "mx.test", &Security::Opportunistic).await;
    let ((mut far, _), (mut near, _)) = (far.expect("accepted"), near.expect("connected"));
    assert!(near.is_write_vectored() && far.is_write_vectored());
    let parts = [io::IoSlice::new(b"DA"), io::IoSlice::new(b"TA")];
    assert_eq!(near.write_vectored(&parts).await.expect("sent"), 4);
    near.flush().await.expect("flushed");
    let mut read = [0; 4];
    far.read_exact(&mut read).await.expect("received");
    assert_eq!(&read, b"DATA");
}

/// A client of plain rustls, for what ours does not do.
fn foreign_client(
    certificate: Option<&Given>,
    version: &'static rustls::SupportedProtocolVersion,
) -> tokio_rustls::TlsConnector {
    foreign_client_naming(certificate, version, &[])
}

/// One that names protocols by ALPN.
fn foreign_client_naming(
    certificate: Option<&Given>,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[&str],
) -> tokio_rustls::TlsConnector {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    #[derive(Debug)]
    struct Any;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &rustls_pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls_pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a known version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(given) => {
            let chain = CertificateDer::pem_file_iter(&given.files.chain).expect("readable");
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("valid");
            let key = PrivateKeyDer::from_pem_file(&given.files.key).expect("valid");
            builder.with_client_auth_cert(chain, key).expect("fitting")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

#[tokio::test]
async fn client_certificates_are_reported_by_fingerprint() {
    let authority = Authority::new();
    let given = authority.give("client.test", false);
    let with = |client_certificates| {
        let certificates = vec![authority.give("mx.test", false).files];
        let options = ServerTlsOptions { certificates, client_certificates, ..ServerTlsOptions::default() };
        ServerTls::new(options).expect("usable")
    };
    let accept = async |server: &ServerTls, certificate: Option<&Given>| {
        let (near, far) = duplex(64 * 1024);
        let name = rustls_pki_types::ServerName::try_from("mx.test").expect("a name");
        let connect = foreign_client(certificate, &rustls::version::TLS13).connect(name, near);
        let (accepted, _client) = tokio::join!(server.accept(Box::new(far)), connect);
        accepted.map(|(_, facts)| facts.client_certificate.as_ref().map(|c| c.fingerprint.clone()))
    };
    let hex: String = digest(&SHA256, &given.der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let ask = with(ClientCertificates::Ask);
    assert_eq!(accept(&ask, Some(&given)).await.expect("accepted"), Some(hex.clone()));
    assert_eq!(accept(&ask, None).await.expect("accepted"), None);
    assert_eq!(accept(&with(ClientCertificates::None), Some(&given)).await.expect("accepted"), None);
    let require = with(ClientCertificates::Require);
    assert_eq!(accept(&require, Some(&given)).await.expect("accepted"), Some(hex));
    assert!(accept(&require, None).await.is_err());
}

#[tokio::test]
async fn the_lowest_version_is_kept_to() {
    let authority = Authority::new();
    let with = |version_min| {
        let certificates = vec![authority.give("mx.test", false).files];
        ServerTls::new(ServerTlsOptions { certificates, version_min, ..ServerTlsOptions::default() }).expect("usable")
    };
    let accept = async |server: ServerTls| {
        let (near, far) = duplex(64 * 1024);
        let name = rustls_pki_types::ServerName::try_from("mx.test").expect("a name");
        let connect = foreign_client(None, &rustls::version::TLS12).connect(name, near);
        tokio::join!(server.accept(Box::new(far)), connect).0.map(|(_, facts)| facts)
    };
    let facts = accept(with(TlsVersion::V1_2)).await.expect("accepted");
    assert_eq!((facts.version, facts.exporter.as_ref()), ("TLSv1.2", None));
    assert!(facts.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{}", facts.cipher);
    assert!(accept(with(TlsVersion::V1_3)).await.is_err());
}

#[tokio::test]
async fn only_the_suites_and_protocols_of_the_policy_are_agreed_to() {
    let authority = Authority::new();
    let with = |suites: &[&str], alpn: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        ServerTls::new(ServerTlsOptions {
            certificates: vec![authority.give("mx.test", false).files],
            cipher_suites: texts(suites),
            alpn: texts(alpn),
            ..ServerTlsOptions::default()
        })
    };
    let accept = async |server: ServerTls, alpn: &[&str]| {
        let (near, far) = duplex(64 * 1024);
        let name = rustls_pki_types::ServerName::try_from("mx.test").expect("a name");
        let connector = foreign_client_naming(None, &rustls::version::TLS13, alpn);
        tokio::join!(server.accept(Box::new(far)), connector.connect(name, near)).0.map(|(_, facts)| facts)
    };
    let chacha = "TLS_CHACHA20_POLY1305_SHA256";
    assert_eq!(accept(with(&[chacha], &[]).expect("usable"), &[]).await.expect("accepted").cipher, chacha);
    let of_1_2 = with(&["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"], &[]).expect("usable");
    assert!(accept(of_1_2, &[]).await.is_err(), "no suite in common");
    assert!(
        accept(with(&[], &["smtp"]).expect("usable"), &["h2", "http/1.1"]).await.is_err(),
        "an HTTPS client sent here"
    );
    assert!(accept(with(&[], &["smtp"]).expect("usable"), &[]).await.is_ok(), "one that names none");
    assert!(accept(with(&[], &[]).expect("usable"), &["h2"]).await.is_ok(), "not looked at");
    let error = with(&["RC4"], &[]).expect_err("no such suite").to_string();
    assert!(error.contains("RC4") && error.contains(chacha), "{error}");
}

#[tokio::test]
async fn a_renewed_one_has_the_new_certificate_and_the_old_one_stays() {
    let authority = Authority::new();
    let old = authority.give("mx.test", false);
    let server = server(&[&old]);
    let new = authority.give("mx.test", false);
    let renewed = server.renewed().expect("usable");
    let shown = async |server: &ServerTls| {
        let (near, far) = duplex(64 * 1024);
        let name = rustls_pki_types::ServerName::try_from("mx.test").expect("a name");
        let connect = foreign_client(None, &rustls::version::TLS13).connect(name, near);
        let (_accepted, client) = tokio::join!(server.accept(Box::new(far)), connect);
        client.expect("connected").get_ref().1.peer_certificates().expect("shown")[0].to_vec()
    };
    assert_eq!((shown(&server).await, shown(&renewed).await), (old.der, new.der));
    fs::write(&old.files.key, "no key").expect("written");
    assert!(renewed.renewed().is_err());
}

#[test]
fn a_missing_file_stops_the_start_with_its_name() {
    let files = CertificateFiles { chain: "/absent/mx.crt".into(), key: "/absent/mx.key".into() };
    let options = ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() };
    let error = ServerTls::new(options).expect_err("nothing is there").to_string();
    assert!(error.contains("/absent/mx.crt"), "{error}");
    assert!(!Path::new("/absent").exists());
}
