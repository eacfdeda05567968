//! The rules: name, weight, meaning. Positive weights speak for spam.
//!
//! Weights were fitted on half of a corpus of real mail, with the signs that the meanings demand, then rounded and lowered where a
//! corpus says more than the world does (mailing lists). The settings may give any of them another weight; 0 switches it off.

/// Writes the table down once: an enum to hit by, and what is known of each rule.
macro_rules! rules {
    ($($name:ident $weight:literal $meaning:literal)*) => {
        /// A rule.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $($name),* }

        /// Name, weight and meaning of each rule, in the order of [`Rule`].
        pub const RULES: &[(&str, f64, &str)] = &[$((stringify!($name), $weight, $meaning)),*];
    };
}

rules! {
    GTUBE 1000.0 "the test string that every filter must stop"

    MISSING_DATE 1.2 "no Date field (RFC 5322 requires one)"
    MISSING_FROM 2.0 "no From field (RFC 5322 requires one)"
    MISSING_MID 0.6 "no Message-ID field"
    MISSING_TO 0.3 "neither To nor Cc"
    MISSING_SUBJECT 0.8 "no Subject field, or an empty one"
    DUPLICATE_FIELD 1.5 "a field that may stand once stands twice"
    DATE_INVALID 2.0 "the Date field is no date"
    DATE_FUTURE 1.8 "dated hours after it was received"
    DATE_PAST 0.6 "dated days before it was received"
    FROM_NO_ADDRESS 1.5 "From holds no usable address"
    FROM_NAME_IS_ADDRESS 1.4 "the display name is an address at another domain"
    FROM_DIGITS 1.4 "the local part of From ends in a run of digits"
    FROM_8BIT 1.4 "raw 8-bit characters in From"
    FROM_ODD_TLD 0.8 "From is at a top-level domain that is mostly abused"
    TO_UNDISCLOSED 1.8 "recipients undisclosed, or To malformed"
    TO_IS_FROM 0.5 "the author writes to itself"
    REPLY_TO_ELSEWHERE 0.3 "answers go to another domain than the author's"
    REPLY_TO_FREEMAIL 1.2 "answers go to a free mailbox, the author claims not to have one"
    SUBJECT_CAPS 2.0 "Subject in capitals"
    SUBJECT_EXCLAIM 1.2 "Subject exclaims"
    SUBJECT_MONEY 1.8 "an amount of money in Subject"
    SUBJECT_GAP 3.0 "a gap in Subject, commonly followed by a random word"
    SUBJECT_SPACED 1.5 "S p a c e d or masked words in Subject"
    SUBJECT_8BIT 1.8 "raw 8-bit characters in Subject"
    SUBJECT_ADV 3.0 "Subject declares an advertisement"
    SUBJECT_ADDRESSES_YOU 0.7 "the recipient's mailbox name in Subject"
    SUBJECT_PHRASE 1.3 "phrases of advertising in Subject"
    FAKE_REPLY 0.3 "Subject says Re:, nothing is replied to"
    MID_ODD 0.5 "Message-ID is malformed or names no host"
    MUA_FORGED 2.2 "claims a mail program whose other marks are missing"
    MUA_BULK 1.6 "a mail program made for bulk mail"
    PRIORITY_HIGH 1.2 "says that it is urgent"
    RECEIVED_NUMERIC 0.2 "handed in by a client that greets with an address"
    HELO_ODD 0.8 "the client greets with no host name"
    CLIENT_UNNAMED 0.6 "the client's address has no confirmed name"
    CLIENT_DYNAMIC 1.2 "the client's name is that of a dial-up or home line"
    HELO_UNPROVEN 1.5 "the client greets with a name of the author's, and its address has none"
    FREEMAIL_FORGED 1.5 "the author claims a free mailbox, the client is not its provider's"
    MID_BY_RELAY 1.5 "the Message-ID was added by a relay on the way"
    NULL_SENDER_ODD 0.5 "null sender, but no report"

    MIME_VERSION_MISSING 0.2 "MIME fields without MIME-Version"
    HTML_ONLY 1.2 "HTML without a plain form"
    TEXT_BASE64 1.5 "plain ASCII text hidden in base64"
    CHARSET_MISSING 1.0 "8-bit text that names no charset"
    BODY_EMPTY 1.2 "nothing to read"
    ATTACH_EXECUTABLE 3.5 "a program or script attached"
    ATTACH_DOUBLE_EXTENSION 2.5 "an attachment with a masked extension"
    ATTACH_MACRO 1.0 "an office document with macros attached"
    ATTACH_ODD_TYPE 1.0 "an attachment whose type belies its name"

    HTML_HIDDEN 1.2 "text that is not shown"
    HTML_IMAGE_ONLY 1.8 "images and hardly any text"
    HTML_FORM 1.2 "a form"
    HTML_SCRIPT 1.5 "a script, frame or object"
    HTML_WEB_BUG 0.3 "an image that nobody can see"
    HTML_SPLIT_WORDS 2.0 "words split by comments or empty tags"
    HTML_BIG_FONT 1.2 "large coloured type"
    HTML_ENTITIES 1.2 "plain letters written as entities"
    HTML_SHORT 0.7 "HTML with a few words only"

    LINK_MISLEADING 2.3 "a link shows another host than it leads to"
    LINK_NUMERIC 2.2 "a link to a bare address"
    LINK_MASKED 2.1 "a link with a masked host (user part, escapes, odd port)"
    LINK_ODD_TLD 0.8 "a link to a top-level domain that is mostly abused"
    LINK_SHORTENER 0.5 "a link through a shortener"
    LINK_TRACKED 0.4 "a link that names the recipient or a number of it"
    LINK_REMOVE 0.5 "a link or an address to be removed"

    PHRASE_MONEY 1.2 "earn, save, debt, credit"
    PHRASE_OFFER 0.9 "free, limited, guaranteed"
    PHRASE_CALL 1.0 "click, order, call now"
    PHRASE_REMOVAL 0.6 "how to be removed, why this is no spam"
    PHRASE_PHARMA 1.8 "pills and cures"
    PHRASE_ADULT 1.1 "adult"
    PHRASE_ADVANCE_FEE 2.2 "millions to be transferred"
    PHRASE_PHISHING 0.8 "your account, verify, suspended"
    PHRASE_BULK 1.7 "addresses and bulk mail for sale"
    BODY_CAPS 1.6 "much in capitals"
    BODY_EXCLAIM 1.2 "much exclaimed"
    BODY_DOLLARS 1.2 "many amounts of money"
    BODY_RANDOM 1.8 "ends in a random word"
    BODY_SHORT_LINK 0.5 "a link and hardly any text"

    BAYES_SPAM 5.5 "the classifier takes it for spam; weighs less the less certain it is"
    BAYES_HAM -3.0 "the classifier takes it for wanted; weighs less the less certain it is"

    SPF_FAIL 1.8 "SPF: the client may not send for this sender"
    SPF_SOFTFAIL 0.7 "SPF: the client probably may not send for this sender"
    SPF_PASS -0.1 "SPF: the client may send for this sender"
    DKIM_FAIL 0.5 "DKIM: a signature that does not hold"
    DKIM_PASS -0.2 "DKIM: a signature that holds"
    DMARC_FAIL 2.2 "DMARC: the author's domain is forged"
    DMARC_PASS -0.4 "DMARC: the author's domain is proven"

    REPLY_REAL -1.5 "a reply with references that quotes what it replies to"
    LIST_MAIL -0.5 "from a mailing list that says how to reach it"
    CLIENT_OF_AUTHOR -2.0 "the client's name is in the author's domain"
    LINKS_HOME -0.7 "several links, some to the author's own domain, and all shown as what they are"
    NEWSLETTER -2.0 "says how to subscribe, who publishes, what else was in it"
    SIGNED_OFF -0.3 "a signature block below"
}

impl Rule {
    /// Its name.
    pub fn name(self) -> &'static str {
        RULES[self as usize].0
    }
}

/// The rules that one message hit, each once, with how hard.
#[derive(Debug, Default)]
pub struct Hits {
    hits: Vec<(Rule, f64)>,
}

impl Hits {
    /// A hit.
    pub fn add(&mut self, rule: Rule) {
        self.add_times(rule, 1.0);
    }

    /// A hit if so.
    pub fn add_if(&mut self, rule: Rule, hit: bool) {
        if hit {
            self.add(rule);
        }
    }

    /// A hit that counts by a factor.
    pub fn add_times(&mut self, rule: Rule, factor: f64) {
        debug_assert!(self.hits.iter().all(|(hit, _)| *hit != rule), "{} is hit twice", rule.name());
        self.hits.push((rule, factor));
    }

    /// A hit by a number of finds: the first counts full, the next two half, more says nothing new.
    pub fn add_count(&mut self, rule: Rule, count: usize) {
        if count > 0 {
            self.add_times(rule, 1.0 + 0.5 * count.saturating_sub(1).min(2) as f64);
        }
    }

    /// Every hit.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, f64)> + '_ {
        self.hits.iter().copied()
    }

    /// Whether a rule was hit.
    pub fn has(&self, rule: Rule) -> bool {
        self.hits.iter().any(|(hit, _)| *hit == rule)
    }
}

/// What the classifier says, as a hit: certainty between the points given counts in between.
pub fn on_classified(likely: f64, hits: &mut Hits) {
    // Half certain weighs more than half: hardly any wanted mail comes that far, and a tenth of the spam comes no further.
    const SPAM: [(f64, f64); 6] = [(0.42, 0.0), (0.5, 0.55), (0.6, 0.73), (0.8, 0.86), (0.95, 0.95), (1.0, 1.0)];
    const HAM: [(f64, f64); 3] = [(0.0, 1.0), (0.1, 0.67), (0.35, 0.0)];
    if likely > SPAM[0].0 {
        hits.add_times(Rule::BAYES_SPAM, between(&SPAM, likely));
    } else if likely < HAM[2].0 {
        hits.add_times(Rule::BAYES_HAM, between(&HAM, likely));
    }
}

/// On the line through points.
fn between(points: &[(f64, f64)], at: f64) -> f64 {
    let on = |pair: &[(f64, f64)]| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (at <= x1).then(|| y0 + (y1 - y0) * (at - x0) / (x1 - x0))
    };
    points.windows(2).find_map(on).unwrap_or(points[points.len() - 1].1)
}
