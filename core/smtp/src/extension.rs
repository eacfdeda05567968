//! The service extensions that Waypost speaks, as data: keyword, RFC, and whether a server offers it by default.
//!
//! Both sides use it: the server to write its EHLO answer, the client to read one. STARTTLS, AUTH and REQUIRETLS stand in the
//! set like any other; *when* they make sense (before TLS, inside TLS) is the session's business.

/// A service extension of SMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Extension {
    /// RFC 2920.
    Pipelining,
    /// RFC 1870.
    Size,
    /// RFC 6152.
    EightBitMime,
    /// RFC 6531.
    SmtpUtf8,
    /// RFC 2034.
    EnhancedStatusCodes,
    /// RFC 3030: BDAT.
    Chunking,
    /// RFC 3030: BODY=BINARYMIME.
    BinaryMime,
    /// RFC 3461.
    Dsn,
    /// RFC 3207.
    StartTls,
    /// RFC 4954.
    Auth,
    /// RFC 8689.
    RequireTls,
    /// RFC 9422.
    Limits,
    /// RFC 6710.
    MtPriority,
    /// RFC 2852.
    DeliverBy,
    /// RFC 4865.
    FutureRelease,
    /// XCLIENT: for hosts that speak for others.
    XClient,
    /// XFORWARD: for content filters.
    XForward,
}

impl Extension {
    /// Every extension, in the order of the EHLO answer.
    pub const ALL: [Extension; 17] = [
        Extension::Pipelining,
        Extension::Size,
        Extension::EightBitMime,
        Extension::SmtpUtf8,
        Extension::EnhancedStatusCodes,
        Extension::Chunking,
        Extension::BinaryMime,
        Extension::Dsn,
        Extension::StartTls,
        Extension::Auth,
        Extension::RequireTls,
        Extension::Limits,
        Extension::MtPriority,
        Extension::DeliverBy,
        Extension::FutureRelease,
        Extension::XClient,
        Extension::XForward,
    ];

    /// The EHLO keyword.
    pub fn keyword(self) -> &'static str {
        match self {
            Extension::Pipelining => "PIPELINING",
            Extension::Size => "SIZE",
            Extension::EightBitMime => "8BITMIME",
            Extension::SmtpUtf8 => "SMTPUTF8",
            Extension::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Extension::Chunking => "CHUNKING",
            Extension::BinaryMime => "BINARYMIME",
            Extension::Dsn => "DSN",
            Extension::StartTls => "STARTTLS",
            Extension::Auth => "AUTH",
            Extension::RequireTls => "REQUIRETLS",
            Extension::Limits => "LIMITS",
            Extension::MtPriority => "MT-PRIORITY",
            Extension::DeliverBy => "DELIVERBY",
            Extension::FutureRelease => "FUTURERELEASE",
            Extension::XClient => "XCLIENT",
            Extension::XForward => "XFORWARD",
        }
    }

    /// The extension with this keyword, in any case.
    pub fn from_keyword(keyword: &str) -> Option<Extension> {
        Extension::ALL.into_iter().find(|extension| extension.keyword().eq_ignore_ascii_case(keyword))
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionSet(u32);

impl ExtensionSet {
    /// None at all.
    pub const EMPTY: ExtensionSet = ExtensionSet(0);

    /// Everything but what is for some clients: MT-PRIORITY, DELIVERBY and FUTURERELEASE promise a behaviour of the queue, XCLIENT
    /// and XFORWARD let a client pass for another.
    pub fn standard() -> ExtensionSet {
        use Extension::{DeliverBy, FutureRelease, MtPriority, XClient, XForward};
        let all = Extension::ALL.into_iter().fold(ExtensionSet::EMPTY, ExtensionSet::with);
        [MtPriority, DeliverBy, FutureRelease, XClient, XForward].into_iter().fold(all, ExtensionSet::without)
    }

    /// The members of both sets.
    #[must_use]
    pub fn plus(self, other: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 | other.0)
    }

    /// The members of this set that are not in `other`.
    #[must_use]
    pub fn minus(self, other: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 & !other.0)
    }

    /// This set and `extension`.
    #[must_use]
    pub fn with(self, extension: Extension) -> ExtensionSet {
        ExtensionSet(self.0 | 1 << extension as u32)
    }

    /// This set but for `extension`.
    #[must_use]
    pub fn without(self, extension: Extension) -> ExtensionSet {
        ExtensionSet(self.0 & !(1 << extension as u32))
    }

    /// Whether `extension` is in it.
    pub fn contains(self, extension: Extension) -> bool {
        self.0 & 1 << extension as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_in_any_case() {
        for extension in Extension::ALL {
            assert_eq!(Extension::from_keyword(&extension.keyword().to_lowercase()), Some(extension));
        }
        assert_eq!(Extension::from_keyword("HELP"), None);
    }

    #[test]
    fn sets_take_and_lose_members() {
        let set = ExtensionSet::EMPTY.with(Extension::Dsn).with(Extension::Size).without(Extension::Dsn);
        assert!(set.contains(Extension::Size) && !set.contains(Extension::Dsn));
        assert!(!ExtensionSet::standard().contains(Extension::FutureRelease));
    }
}
