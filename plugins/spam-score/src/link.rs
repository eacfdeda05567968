//! Where links lead, and how they try to hide it.

use memchr::memmem;

/// What was seen of all links of a message.
#[derive(Debug, Default)]
pub struct Links {
    /// Links to somewhere (pictures and addresses not counted).
    pub count: usize,
    /// Links to bare addresses, pictures included.
    pub numeric: usize,
    /// Links whose host is masked.
    pub masked: usize,
    /// Links that show another host.
    pub misleading: usize,
    /// Links to mostly abused top-level domains.
    pub odd_tld: usize,
    /// Links through shorteners.
    pub shortened: usize,
    /// Links that carry an address or a long number.
    pub tracked: usize,
    /// Links and addresses to be removed.
    pub remove: usize,
    /// The hosts of links, each once; the first ones only.
    pub hosts: Vec<Vec<u8>>,
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Lowered, blanks taken out.
    url: Vec<u8>,
    shown: Vec<u8>,
    is_image: bool,
}

impl Link {
    /// An anchor and the (lowered) text that it shows.
    pub fn anchor(url: &[u8], shown: &[u8]) -> Link {
        Link { url: clean(url), shown: shown.to_vec(), is_image: false }
    }

    /// A picture that is fetched.
    pub fn image(url: &[u8]) -> Link {
        Link { url: clean(url), shown: Vec::new(), is_image: true }
    }
}

/// Links that are looked at; the first thousand say it all.
const LINKS_MAX: usize = 1000;
const URL_MAX: usize = 2048;
/// Hosts that are remembered.
const HOSTS_MAX: usize = 20;

/// Top-level domains of which little else than abuse is seen in mail.
pub fn is_odd_tld(host: &[u8]) -> bool {
    const ODD: &[&[u8]] = &[
        b"biz",
        b"info",
        b"xyz",
        b"top",
        b"click",
        b"link",
        b"win",
        b"bid",
        b"loan",
        b"download",
        b"stream",
        b"gdn",
        b"icu",
        b"cyou",
        b"buzz",
        b"rest",
        b"monster",
        b"sbs",
        b"cfd",
        b"quest",
        b"tk",
        b"ml",
        b"ga",
        b"cf",
        b"gq",
        b"pw",
        b"su",
        b"men",
        b"work",
        b"date",
        b"racing",
    ];
    host.rsplit(|byte| *byte == b'.').next().is_some_and(|tld| ODD.contains(&tld))
}

fn is_shortener(host: &[u8]) -> bool {
    const SHORT: &[&[u8]] = &[
        b"bit.ly",
        b"tinyurl.com",
        b"goo.gl",
        b"t.ly",
        b"is.gd",
        b"ow.ly",
        b"cutt.ly",
        b"rb.gy",
        b"rebrand.ly",
        b"shorturl.at",
        b"v.gd",
        b"tiny.cc",
    ];
    SHORT.contains(&host)
}

impl Links {
    /// Takes in the links of squeezed plain text.
    pub fn scan_plain(&mut self, text: &[u8]) {
        let mut from = 0;
        while let Some(at) = memmem::find(&text[from..], b"://") {
            let colon = from + at;
            from = colon + 3;
            let start = text[..colon].iter().rposition(|byte| !byte.is_ascii_alphabetic()).map_or(0, |at| at + 1);
            if matches!(&text[start..colon], b"http" | b"https") {
                let end = text[from..]
                    .iter()
                    .position(|byte| matches!(byte, b' ' | b'<' | b'>' | b'"' | b')' | b']'))
                    .map_or(text.len(), |at| from + at);
                self.add(Link::anchor(&text[start..end], b""));
                from = end;
            }
        }
    }

    /// Takes in a link.
    pub fn add(&mut self, link: Link) {
        if self.count >= LINKS_MAX {
            return;
        }
        let url = &link.url[..];
        if let Some(address) = url.strip_prefix(b"mailto:") {
            self.remove += usize::from(says_remove(address));
            return;
        }
        let Some(rest) =
            [&b"http://"[..], b"https://", b"http:\\\\", b"//"].iter().find_map(|scheme| url.strip_prefix(*scheme))
        else {
            return;
        };
        let authority_end =
            rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let user_end = authority.iter().rposition(|byte| *byte == b'@');
        let host_port = user_end.map_or(authority, |at| &authority[at + 1..]);
        let (host, port) = match host_port.iter().rposition(|byte| *byte == b':') {
            Some(at) if !host_port.starts_with(b"[") => (&host_port[..at], &host_port[at + 1..]),
            _ => (host_port, &b""[..]),
        };
        if self.hosts.len() < HOSTS_MAX && !self.hosts.iter().any(|there| there == host) {
            self.hosts.push(host.to_vec());
        }
        self.judge_host(host, user_end.is_some() || !matches!(port, b"" | b"80" | b"443" | b"8080"));
        if link.is_image {
            return;
        }
        self.count += 1;
        self.remove += usize::from(says_remove(path));
        self.tracked += usize::from(tracks(path));
        self.misleading += usize::from(shows_another_host(&link.shown, host));
    }

    fn judge_host(&mut self, host: &[u8], masked: bool) {
        let numeric = is_numeric(host);
        let one_number = numeric && !host.contains(&b'.') && !host.starts_with(b"[");
        self.numeric += usize::from(numeric);
        self.masked += usize::from(masked || one_number || host.contains(&b'%'));
        self.odd_tld += usize::from(!numeric && is_odd_tld(host));
        self.shortened += usize::from(is_shortener(host));
    }
}

fn clean(url: &[u8]) -> Vec<u8> {
    url.iter().take(URL_MAX).filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect()
}

/// An address instead of a name, in any of the ways browsers take: dotted, one number, hexadecimal, IPv6.
fn is_numeric(host: &[u8]) -> bool {
    let hex = host.starts_with(b"0x") && host[2..].iter().all(u8::is_ascii_hexdigit);
    let dotted = !host.is_empty()
        && host.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && host.iter().any(u8::is_ascii_digit);
    hex || dotted || host.starts_with(b"[")
}

fn says_remove(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"remove", b"unsub", b"optout", b"opt-out"];
    WORDS.iter().any(|word| memmem::find(text, word).is_some())
}

/// An address, or a long run of digits or hex, behind `?` or `=`.
fn tracks(path: &[u8]) -> bool {
    let Some(query) = path.iter().position(|byte| *byte == b'?').map(|at| &path[at..]) else { return false };
    let run = query.split(|byte| !byte.is_ascii_hexdigit()).map(<[u8]>::len).max().unwrap_or(0);
    query.contains(&b'@') || memmem::find(query, b"%40").is_some() || run >= 12
}

/// The shown text is a host name that is neither the link's nor related to it.
fn shows_another_host(shown: &[u8], host: &[u8]) -> bool {
    let shown = shown.trim_ascii();
    let bare = [&b"http://"[..], b"https://"].iter().find_map(|scheme| shown.strip_prefix(*scheme)).unwrap_or(shown);
    let name = &bare[..bare.iter().position(|byte| matches!(byte, b'/' | b'?' | b' ' | b':')).unwrap_or(bare.len())];
    let is_host = name.contains(&b'.')
        && !name.ends_with(b".")
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && (bare.len() < shown.len() || name.starts_with(b"www."))
        && !is_numeric(name);
    is_host && organisation(name) != organisation(host)
}

/// Who answers for a host: the last two labels; three where the last two are a registry's (`co.uk`).
pub fn organisation(host: &[u8]) -> &[u8] {
    let mut dots = host.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    let (Some(last), second) = (dots.next(), dots.next()) else { return host };
    let Some(second) = second else { return host };
    let registry = host.len() - last <= 3 && last - second <= 4;
    let from = if registry { dots.next().map_or(0, |at| at + 1) } else { second + 1 };
    &host[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(url: &str, shown: &str) -> Links {
        let mut links = Links::default();
        links.add(Link::anchor(url.as_bytes(), shown.as_bytes()));
        links
    }

    #[test]
    fn hosts_that_hide() {
        assert_eq!(one("http://192.0.2.1/x", "").numeric, 1);
        assert_eq!(one("http://3221226219/x", "").masked, 1);
        assert_eq!(one("http://www.bank.example@evil.example/", "").masked, 1);
        assert_eq!(one("http://www.%65vil.example/", "").masked, 1);
        assert_eq!(one("http://example.com:8765/", "").masked, 1);
        let fine = one("https://www.example.com:443/a?b=c", "our page");
        assert_eq!((fine.count, fine.masked, fine.numeric, fine.misleading, fine.tracked), (1, 0, 0, 0, 0));
    }

    #[test]
    fn texts_that_mislead() {
        assert_eq!(one("http://evil.example/", "http://www.bank.example/login").misleading, 1);
        assert_eq!(one("http://click.bank.example/", "www.bank.example").misleading, 0, "the same organisation");
        assert_eq!(one("http://mail.shop.co.uk/", "http://www.shop.co.uk").misleading, 0);
        assert_eq!(one("http://evil.co.uk/", "http://www.shop.co.uk").misleading, 1);
        assert_eq!(one("http://example.com/", "version 1.2").misleading, 0);
    }

    #[test]
    fn links_in_plain_text() {
        let mut links = Links::default();
        links.scan_plain(b"see http://a.biz/remove?x=abcdef0123456789 and <https://b.example> ftp://c.biz x://");
        assert_eq!((links.count, links.odd_tld, links.remove, links.tracked), (2, 1, 1, 1));
    }
}
