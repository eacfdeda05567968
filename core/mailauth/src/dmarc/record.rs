//! A DMARC record (RFC 9989 §4.8). What is wrong behind the version counts as not said.

/// What a domain asks for when mail in its name is not authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Nothing.
    #[default]
    None,
    /// Suspicion.
    Quarantine,
    /// Refusal.
    Reject,
}

impl Policy {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Policy::None => "none",
            Policy::Quarantine => "quarantine",
            Policy::Reject => "reject",
        }
    }

    fn parse(text: &str) -> Option<Policy> {
        [Policy::None, Policy::Quarantine, Policy::Reject].into_iter().find(|p| p.word().eq_ignore_ascii_case(text))
    }
}

/// `psd=`: whether others register below this name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Psd {
    Yes,
    No,
    #[default]
    Unsaid,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    p: Option<Policy>,
    sp: Option<Policy>,
    np: Option<Policy>,
    /// Somebody wants reports.
    reports: bool,
    /// A policy is there that is none of the three.
    damaged: bool,
    pub(crate) psd: Psd,
    pub(crate) strict_dkim: bool,
    pub(crate) strict_spf: bool,
    testing: bool,
}

/// Which of a record's policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The record's own domain.
    Own,
    /// One below it.
    Below,
    /// One below it that does not exist.
    Absent,
}

impl Record {
    /// Reads a TXT record; `None` if it is no DMARC record.
    pub(crate) fn parse(text: &str) -> Option<Record> {
        let mut tags = text.split(';').map(|tag| tag.split_once('=').map(|(name, value)| (name.trim(), value.trim())));
        if tags.next()?? != ("v", "DMARC1") {
            return None;
        }
        let mut record = Record::default();
        for (name, value) in tags.flatten() {
            let mut policy = || {
                let policy = Policy::parse(value);
                record.damaged |= policy.is_none();
                policy
            };
            match name.to_ascii_lowercase().as_str() {
                "p" => record.p = policy(),
                "sp" => record.sp = policy(),
                "np" => record.np = policy(),
                "adkim" => record.strict_dkim = value.eq_ignore_ascii_case("s"),
                "aspf" => record.strict_spf = value.eq_ignore_ascii_case("s"),
                "t" => record.testing = value.eq_ignore_ascii_case("y"),
                "rua" => record.reports = value.contains(':'),
                "psd" => {
                    record.psd = match value.to_ascii_lowercase().as_str() {
                        "y" => Psd::Yes,
                        "n" => Psd::No,
                        _ => Psd::Unsaid,
                    }
                }
                _ => {}
            }
        }
        Some(record)
    }

    /// The policy for somebody, testing (`t=y`) taken into account; `None` if the record has none to apply (§4.7).
    pub(crate) fn policy(&self, whose: Whose) -> Option<Policy> {
        if self.p.is_none() || self.damaged {
            return self.reports.then_some(Policy::None);
        }
        let wanted = match whose {
            Whose::Own => self.p,
            Whose::Below => self.sp.or(self.p),
            Whose::Absent => self.np.or(self.sp).or(self.p),
        };
        wanted.map(|policy| match (self.testing, policy) {
            (true, Policy::Reject) => Policy::Quarantine,
            (true, _) => Policy::None,
            (false, policy) => policy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str, whose: Whose) -> Option<Policy> {
        Record::parse(text).expect("a record").policy(whose)
    }

    #[test]
    fn each_kind_of_domain_has_its_policy() {
        let text = "v=DMARC1; p=reject; sp=quarantine; np=none";
        assert_eq!(policy(text, Whose::Own), Some(Policy::Reject));
        assert_eq!(policy(text, Whose::Below), Some(Policy::Quarantine));
        assert_eq!(policy(text, Whose::Absent), Some(Policy::None));
        assert_eq!(policy("v=DMARC1;p=REJECT;sp=none", Whose::Absent), Some(Policy::None));
        assert_eq!(policy("v=DMARC1; p=reject", Whose::Absent), Some(Policy::Reject));
    }

    #[test]
    fn testing_takes_a_step_back() {
        assert_eq!(policy("v=DMARC1; p=reject; t=y", Whose::Own), Some(Policy::Quarantine));
        assert_eq!(policy("v=DMARC1; p=quarantine; t=y", Whose::Own), Some(Policy::None));
    }

    #[test]
    fn a_damaged_policy_is_none_or_nothing() {
        assert_eq!(policy("v=DMARC1; p=delete; rua=mailto:a@b.example", Whose::Own), Some(Policy::None));
        assert_eq!(policy("v=DMARC1; p=delete", Whose::Own), None);
        assert_eq!(policy("v=DMARC1; p=reject; sp=x", Whose::Own), None);
        assert_eq!(policy("v=DMARC1", Whose::Own), None);
        for text in ["v=DMARC2; p=none", "p=none; v=DMARC1", "", "v=dmarc1"] {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }
}
