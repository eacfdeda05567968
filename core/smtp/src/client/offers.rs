//! What a peer offers: the keywords of its latest answer to EHLO or LHLO (RFC 5321 §4.1.1.1).

use waypost_types::Reply;

/// The extensions that we make use of. Forgotten whole when TLS comes up (RFC 3207 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 1870.
    pub size: bool,
    /// The bound that came with SIZE; `None` if none or 0 (no fixed bound) was given.
    pub size_max: Option<u64>,
    /// RFC 6152.
    pub eight_bit: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3030.
    pub binary: bool,
    /// RFC 6531.
    pub utf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 6710.
    pub priority: bool,
    /// RFC 2852, with the least time it promises to keep, in seconds; 0 if it names none.
    pub deliver_by: Option<i64>,
    /// RFC 4954 with PLAIN (RFC 4616).
    pub auth_plain: bool,
    /// RFC 4954 with the older LOGIN, which some relays offer alone.
    pub auth_login: bool,
}

impl Offers {
    /// Reads the keywords from an answer to EHLO; its first line is the peer's name.
    pub fn parse(reply: &Reply) -> Offers {
        let mut offers = Offers::default();
        for line in reply.text.split('\n').skip(1) {
            offers.learn(line);
        }
        offers
    }

    fn learn(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { return };
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            "STARTTLS" => self.starttls = true,
            "SIZE" => {
                self.size = true;
                self.size_max = words.next().and_then(|max| max.parse().ok()).filter(|max| *max > 0);
            }
            "8BITMIME" => self.eight_bit = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary = true,
            "SMTPUTF8" => self.utf8 = true,
            "DSN" => self.dsn = true,
            "REQUIRETLS" => self.require_tls = true,
            "MT-PRIORITY" => self.priority = true,
            "DELIVERBY" => {
                let least = words.next().and_then(|least| least.parse().ok());
                self.deliver_by = Some(least.filter(|least| *least > 0).unwrap_or(0));
            }
            "AUTH" => words.for_each(|mechanism| self.learn_mechanism(mechanism)),
            // `AUTH=PLAIN LOGIN`, as servers wrote it before RFC 2554 was finished.
            other if other.starts_with("AUTH=") => {
                self.learn_mechanism(&keyword[5..]);
                words.for_each(|mechanism| self.learn_mechanism(mechanism));
            }
            _ => {}
        }
    }

    fn learn_mechanism(&mut self, name: &str) {
        self.auth_plain |= name.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= name.eq_ignore_ascii_case("LOGIN");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case_and_the_first_line_is_a_name() {
        let reply = Reply::plain(
            250,
            "DSN STARTTLS\npipelining\nSIZE 1000\n8BITMIME\n\nAUTH=LOGIN\nAUTH SCRAM-SHA-1 plain\nX-UNKNOWN y",
        );
        let offers = Offers::parse(&reply);
        let want = Offers {
            pipelining: true,
            size: true,
            size_max: Some(1000),
            eight_bit: true,
            auth_plain: true,
            auth_login: true,
            ..Offers::default()
        };
        assert_eq!(offers, want);
    }

    #[test]
    fn size_without_a_bound_is_no_bound() {
        for text in ["x\nSIZE", "x\nSIZE 0", "x\nSIZE 99999999999999999999999"] {
            let offers = Offers::parse(&Reply::plain(250, text));
            assert!(offers.size && offers.size_max.is_none(), "{text}");
        }
    }
}
