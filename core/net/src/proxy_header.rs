//! The PROXY protocol, versions 1 and 2, as a receiver: who the client of a load balancer is.
//!
//! [`parse`] is pure: it takes what has been read so far and says whether that is a header, not yet one, or none. [`read`] drives it on a
//! stream and never takes a byte more than the header. It is for the caller to read it only from balancers that are known: whoever
//! may send this header may claim any address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::listen::unmapped;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A client's connection.
    Client {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        target: SocketAddr,
    },
    /// The balancer's own connection (a health check), or of a kind that it does not tell: the addresses of the connection count.
    Unchanged,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// More bytes are needed; at least this many in all.
    Incomplete(usize),
    /// This is no header; the reason is for the log.
    Invalid(&'static str),
}

impl fmt::Display for NoHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHeader::Incomplete(_) => f.write_str("PROXY header incomplete"),
            NoHeader::Invalid(why) => write!(f, "no PROXY header: {why}"),
        }
    }
}

const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, CRLF included (specification §2.1).
const V1_BYTES_MAX: usize = 107;
/// The fixed part of version 2.
const V2_FIXED_BYTES: usize = 16;
/// Addresses and extensions of version 2; real balancers send well below 600.
const V2_REST_BYTES_MAX: usize = 4096;

/// Reads a header from the front of `input`; gives its length.
pub fn parse(input: &[u8]) -> Result<(Proxied, usize), NoHeader> {
    match input {
        [] => Err(NoHeader::Incomplete(1)),
        [b'P', ..] => parse_v1(input),
        [b'\r', ..] => parse_v2(input),
        _ => Err(NoHeader::Invalid("neither version's signature")),
    }
}

fn parse_v1(input: &[u8]) -> Result<(Proxied, usize), NoHeader> {
    let head = &input[..input.len().min(V1_BYTES_MAX)];
    let signature = b"PROXY ";
    if !head.starts_with(&signature[..head.len().min(signature.len())]) {
        return Err(NoHeader::Invalid("neither version's signature"));
    }
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        let full = input.len() >= V1_BYTES_MAX;
        return Err(if full { NoHeader::Invalid("line too long") } else { NoHeader::Incomplete(input.len() + 1) });
    };
    let line = std::str::from_utf8(&head[..end]).map_err(|_| NoHeader::Invalid("not ASCII"))?;
    Ok((v1_line(line).ok_or(NoHeader::Invalid("malformed line"))?, end + 2))
}

fn v1_line(line: &str) -> Option<Proxied> {
    let mut fields = line.split(' ').skip(1);
    let family = fields.next()?;
    if family == "UNKNOWN" {
        return Some(Proxied::Unchanged);
    }
    let mut address = || match family {
        "TCP4" => fields.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => fields.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, target) = (address()?, address()?);
    let mut port = || fields.next().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse::<u16>().ok();
    let (source, target) = (SocketAddr::new(source, port()?), SocketAddr::new(target, port()?));
    fields.next().is_none().then_some(Proxied::Client { source: unmapped(source), target: unmapped(target) })
}

fn parse_v2(input: &[u8]) -> Result<(Proxied, usize), NoHeader> {
    if !input.starts_with(&SIGNATURE_V2[..input.len().min(SIGNATURE_V2.len())]) {
        return Err(NoHeader::Invalid("neither version's signature"));
    }
    if input.len() < V2_FIXED_BYTES {
        return Err(NoHeader::Incomplete(V2_FIXED_BYTES));
    }
    let rest = usize::from(u16::from_be_bytes([input[14], input[15]]));
    if rest > V2_REST_BYTES_MAX {
        return Err(NoHeader::Invalid("too many extensions"));
    }
    let length = V2_FIXED_BYTES + rest;
    let Some(body) = input.get(V2_FIXED_BYTES..length) else { return Err(NoHeader::Incomplete(length)) };
    let proxied = match (input[12], input[13]) {
        (0x20, _) => Proxied::Unchanged,
        (0x21, 0x11) => v2_addresses::<4>(body, |octets| IpAddr::from(*octets))?,
        (0x21, 0x21) => v2_addresses::<16>(body, |octets| IpAddr::from(*octets))?,
        // Datagrams and local sockets: the specification §2.2 says to accept and go by the connection's addresses.
        (0x21, _) => Proxied::Unchanged,
        _ => return Err(NoHeader::Invalid("unknown version or command")),
    };
    Ok((proxied, length))
}

fn v2_addresses<const N: usize>(body: &[u8], address: impl Fn(&[u8; N]) -> IpAddr) -> Result<Proxied, NoHeader> {
    let read = || {
        let (source, rest) = body.split_first_chunk::<N>()?;
        let (target, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (target_port, _extensions) = rest.split_first_chunk::<2>()?;
        let socket = |octets, port: &[u8; 2]| unmapped(SocketAddr::new(address(octets), u16::from_be_bytes(*port)));
        Some(Proxied::Client { source: socket(source, source_port), target: socket(target, target_port) })
    };
    read().ok_or(NoHeader::Invalid("addresses cut short"))
}

/// Reads a header from a stream, and nothing behind it. The caller sets the deadline.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Proxied> {
    let mut input = Vec::with_capacity(V1_BYTES_MAX);
    loop {
        match parse(&input) {
            Ok((proxied, length)) => {
                assert_eq!(length, input.len(), "never more was read than was known to be needed");
                return Ok(proxied);
            }
            Err(NoHeader::Incomplete(needed)) => {
                let had = input.len();
                input.resize(needed, 0);
                stream.read_exact(&mut input[had..]).await?;
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, target: &str) -> Proxied {
        let of = |text: &str| text.parse().expect("an address");
        Proxied::Client { source: of(source), target: of(target) }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(body);
        header
    }

    #[test]
    fn version_1() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\r\nEHLO";
        assert_eq!(parse(line), Ok((client("192.0.2.1:5000", "198.51.100.2:25"), 43)));
        let line = b"PROXY TCP6 2001:db8::1 ::1 5000 25\r\n";
        assert_eq!(parse(line), Ok((client("[2001:db8::1]:5000", "[::1]:25"), line.len())));
        assert_eq!(parse(b"PROXY UNKNOWN whatever\r\n"), Ok((Proxied::Unchanged, 24)));
    }

    #[test]
    fn version_2() {
        let body = [192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0, 25, 4, 0, 0];
        let header = v2(0x21, 0x11, &body);
        assert_eq!(parse(&header), Ok((client("192.0.2.1:5000", "198.51.100.2:25"), header.len())));
        assert_eq!(parse(&v2(0x20, 0, b"")), Ok((Proxied::Unchanged, 16)));
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])), Ok((Proxied::Unchanged, 232)));
    }

    #[test]
    fn what_is_no_header_is_refused_at_the_first_byte_that_shows_it() {
        for bad in [
            &b"EHLO x\r\n"[..],
            b"PROX-",
            b"\r\n\r\nX",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            &[b'P'; 1],
        ] {
            match parse(bad) {
                Err(NoHeader::Invalid(_)) => {}
                Err(NoHeader::Incomplete(_)) => assert_eq!(bad, b"P"),
                Ok(found) => panic!("{found:?}"),
            }
        }
        assert!(matches!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Err(NoHeader::Invalid(_))));
        assert!(matches!(parse(&v2(0x22, 0x11, &[0; 12])), Err(NoHeader::Invalid(_))));
        assert!(matches!(parse(&v2(0x21, 0x11, &[0; 11])), Err(NoHeader::Invalid(_))));
    }

    /// Headers, damaged at random and cut anywhere: never a panic, never more asked for than the bounds allow, and what is a header
    /// is one whichever way it comes in.
    #[test]
    fn whatever_comes_is_bounded_and_read_the_same_in_pieces() {
        let mut seed = 7u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let whole = [
            b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::1 ::1 5000 25\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0, 25, 4, 0, 0]),
            v2(0x21, 0x21, &[7; 36]),
            v2(0x20, 0, b""),
        ];
        let mut headers = 0;
        for _ in 0..100_000 {
            let mut bytes = whole[random(whole.len())].clone();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                bytes[at] = [random(256) as u8, b' ', b'\r', b'\n', b'0'][random(5)];
            }
            let mut read = 0;
            let found = loop {
                match parse(&bytes[..read]) {
                    Err(NoHeader::Incomplete(needed)) if needed <= bytes.len() => {
                        assert!(needed > read, "more is asked for");
                        read = needed;
                    }
                    other => break other,
                }
            };
            match found {
                Ok((proxied, length)) => {
                    headers += 1;
                    assert_eq!(length, read, "never more is read than the header");
                    assert_eq!(parse(&bytes), Ok((proxied, length)));
                }
                Err(NoHeader::Incomplete(needed)) => {
                    assert!(needed <= V2_FIXED_BYTES + V2_REST_BYTES_MAX && needed > bytes.len());
                }
                Err(NoHeader::Invalid(_)) => assert!(parse(&bytes).is_err()),
            }
        }
        assert!(headers > 10_000, "{headers}");
    }

    #[tokio::test]
    async fn what_follows_the_header_stays_in_the_stream() {
        for header in [b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 25\r\n".to_vec(), v2(0x20, 0, b"abc")] {
            let bytes = [header.as_slice(), b"EHLO"].concat();
            let mut stream = bytes.as_slice();
            read(&mut stream).await.expect("a header");
            assert_eq!(stream, b"EHLO");
        }
    }
}
