//! Phrases of unwanted mail, by what they are about. All are looked for in one pass over the lowered, blank-squeezed text.
//!
//! Phrases begin where words do, so only those places are looked at, by a table over the first three octets: half the time of an
//! Aho-Corasick automaton, and a few kilobytes instead of a megabyte in each instance.

use crate::rules::Rule;
use crate::text::Eight;

/// What a find means.
const GROUPS: &[(Rule, &[&str])] = &[
    (Rule::GTUBE, &["xjs*c4jdbqadn1.nsbn3*2idnen*gtube-standard-anti-ube-test-email*c.34x"]),
    (
        Rule::PHRASE_MONEY,
        &[
            "earn money",
            "make money",
            "extra income",
            "financial freedom",
            "financial independence",
            "home based business",
            "home-based business",
            "work from home",
            "work at home",
            "per week",
            "in debt",
            "out of debt",
            "credit card debt",
            "bad credit",
            "credit rating",
            "credit report",
            "consolidate",
            "mortgage rate",
            "lowest rate",
            "interest rates",
            "refinance",
            "home loan",
            "low as $",
            "save thousands",
            "save up to",
            "thousands of dollars",
            "million dollars",
            "cash bonus",
            "your own boss",
            "income opportunity",
            "business opportunity",
            "residual income",
            "multi-level",
            "mlm",
            "get paid",
            "no investment",
            "return on investment",
            "stock alert",
            "undervalued",
            "life insurance",
            "free quote",
            "quotes from",
            "pre-approved",
            "unsecured",
            "earning potential",
            "big money",
            "fast cash",
            "cash flow",
            "tax free",
            "investors",
            "profits",
            "bitcoin investment",
            "crypto investment",
        ],
    ),
    (
        Rule::PHRASE_OFFER,
        &[
            "100% free",
            "absolutely free",
            "totally free",
            "for free",
            "free trial",
            "free sample",
            "free access",
            "free membership",
            "free gift",
            "free info",
            "free report",
            "free consultation",
            "no cost",
            "no obligation",
            "risk free",
            "risk-free",
            "money back guarantee",
            "money-back guarantee",
            "satisfaction guaranteed",
            "guaranteed",
            "limited time",
            "special offer",
            "exclusive offer",
            "once in a lifetime",
            "amazing",
            "incredible",
            "don't miss",
            "you have been selected",
            "you've been selected",
            "you are a winner",
            "you have won",
            "congratulations",
            "as seen on",
            "new technology",
            "breakthrough",
            "revolutionary",
            "the secret",
            "best price",
            "lowest price",
            "at a fraction",
            "discount",
            "% off",
            "retail value",
            "while supplies last",
            "offer expires",
            "dear friend",
            "dear sir",
            "dear homeowner",
            "free shipping",
            "no strings",
        ],
    ),
    (
        Rule::PHRASE_CALL,
        &[
            "click here",
            "click below",
            "click the link",
            "click on the link",
            "order now",
            "order today",
            "order form",
            "buy now",
            "call now",
            "call today",
            "call toll",
            "toll free",
            "toll-free",
            "act now",
            "act today",
            "apply now",
            "sign up now",
            "sign up today",
            "join now",
            "visit our web",
            "reply to this email with",
            "fill out the form",
            "to place an order",
            "to order",
            "24 hours a day",
            "all major credit cards",
            "visa, mastercard",
            "visa or mastercard",
            "print the form",
            "send your check",
            "money order",
            "start today",
            "don't wait",
            "call us",
        ],
    ),
    (
        Rule::PHRASE_REMOVAL,
        &[
            "to be removed",
            "be removed from",
            "remove you from",
            "removed from our",
            "removal instructions",
            "to remove yourself",
            "remove in the subject",
            "remove in subject",
            "\"remove\"",
            "to opt out",
            "opt-out",
            "opt out",
            "opted in",
            "opt-in",
            "no longer wish to receive",
            "do not wish to receive",
            "not wish to receive",
            "receive further",
            "receive future",
            "receive no further",
            "future mailings",
            "further mailings",
            "mailing list, please",
            "this is not spam",
            "not spam",
            "not unsolicited",
            "in compliance with",
            "bill s.1618",
            "s. 1618",
            "section 301",
            "can-spam",
            "one time mailing",
            "one-time mailing",
            "one time email",
            "you are receiving this",
            "you received this email because",
            "our partners",
            "partner sites",
            "apologize for any inconvenience",
            "received this in error",
            "received this message in error",
            "never be contacted",
            "list manager",
            "unsubscribe from this",
        ],
    ),
    (
        Rule::PHRASE_PHARMA,
        &[
            "viagra",
            "cialis",
            "levitra",
            "phentermine",
            "xanax",
            "valium",
            "prescription",
            "online pharmacy",
            "weight loss",
            "lose weight",
            "losing weight",
            "burn fat",
            "body fat",
            "human growth",
            "growth hormone",
            "hgh",
            "anti-aging",
            "anti aging",
            "herbal",
            "wrinkles",
            "impotence",
            "erection",
            "libido",
            "enlarge",
            "enlargement",
            "inches to your",
            "cellulite",
            "all natural",
            "side effects",
            "diet pill",
            "miracle",
            "toner cartridge",
            "male enhancement",
            "testosterone",
            "cbd oil",
            "keto",
        ],
    ),
    (
        Rule::PHRASE_ADULT,
        &[
            "xxx",
            "porn",
            "hardcore",
            "hot teen",
            "teens",
            "nude",
            "naked",
            "horny",
            "adult site",
            "adult web",
            "webcam",
            "live girls",
            "18 years",
            "over 18",
            "over 21",
            "18 or older",
            "sexual",
            "sexy",
            "pussy",
            "cum ",
            "lesbian",
            "singles in your area",
            "lonely",
            "hot girls",
            "adults only",
        ],
    ),
    (
        Rule::PHRASE_ADVANCE_FEE,
        &[
            "million united states",
            "million us dollars",
            "us$",
            "next of kin",
            "foreign account",
            "bank account number",
            "nigeria",
            "lagos",
            "sierra leone",
            "late president",
            "late general",
            "late husband",
            "deceased",
            "strictly confidential",
            "utmost confidence",
            "utmost secrecy",
            "urgent assistance",
            "your assistance",
            "transfer of",
            "transfer the",
            "transfer this",
            "the funds",
            "this fund",
            "the sum of",
            "beneficiary",
            "inheritance",
            "security company",
            "trunk box",
            "consignment",
            "bank of africa",
            "diplomatic courier",
            "barrister",
            "business proposal",
            "foreign partner",
            "lottery",
            "winning number",
            "claims agent",
            "compensation fund",
            "god bless",
            "(usd",
        ],
    ),
    (
        Rule::PHRASE_PHISHING,
        &[
            "verify your account",
            "confirm your account",
            "update your account",
            "account has been",
            "account will be",
            "suspended",
            "unusual activity",
            "suspicious activity",
            "unauthorized access",
            "verify your identity",
            "confirm your identity",
            "update your information",
            "billing information",
            "your password",
            "password will expire",
            "mailbox is full",
            "mailbox quota",
            "storage limit",
            "log in to your",
            "login to your",
            "dear customer",
            "dear valued",
            "security department",
            "social security number",
            "within 24 hours",
            "within 48 hours",
            "failure to",
            "your parcel",
            "your package",
            "invoice attached",
            "attached invoice",
            "payment failed",
            "re-activate",
            "validate your",
        ],
    ),
    (
        Rule::NEWSLETTER,
        &[
            "to subscribe",
            "how to subscribe",
            "subscribe to this",
            "your subscription",
            "change your subscription",
            "manage your subscription",
            "your preferences",
            "your profile",
            "privacy policy",
            "privacy statement",
            "privacy notice",
            "terms of use",
            "terms of service",
            "all rights reserved",
            "copyright 1",
            "copyright 2",
            "copyright (c)",
            "back issues",
            "archives of",
            "archived at",
            "in this issue",
            "issue #",
            "newsletter",
            "published by",
            "editor in chief",
            "managing editor",
            "editorial",
            "advertise in",
            "advertising in",
            "to advertise",
            "sponsored by",
            "forward this",
            "tell a friend",
            "view this email",
            "view it online",
            "was sent to",
            "is sent to",
            "registered trademark",
            "trademarks of",
            "contact customer service",
            "customer service",
            "your order number",
            "order number",
            "order confirmation",
            "truste",
            "copyright ?",
            "copyright \u{a9}",
            "(c) 1",
            "(c) 2",
            "read more",
            "full story",
            "top stories",
            "headlines",
            "next issue",
            "this week's",
            "today's issue",
            "previous issues",
            "member services",
            "you subscribed",
            "you registered",
            "signed up for",
            "sign up for our",
            "tell us what you think",
            "your feedback",
            "letters to the editor",
            "system requirements",
            "reproduction in whole",
            "without permission",
            "reprint",
            "delivery format",
            "html version",
            "text version",
            "plain text version",
            "subscribers",
            "e-mail preferences",
            "email preferences",
            "press release",
        ],
    ),
    (
        Rule::PHRASE_BULK,
        &[
            "bulk email",
            "bulk e-mail",
            "bulk mail",
            "email addresses",
            "e-mail addresses",
            "million addresses",
            "email marketing",
            "e-mail marketing",
            "opt-in email",
            "mass mailing",
            "targeted email",
            "email list",
            "e-mail list",
            "fresh addresses",
            "search engine",
            "website traffic",
            "more traffic",
            "hits to your",
            "web site promotion",
            "website promotion",
            "marketing software",
            "email extractor",
            "merchant account",
            "accept credit cards",
            "university diploma",
            "diplomas",
            "non accredited",
            "no required tests",
            "seo services",
            "first page of google",
            "cable descrambler",
            "descrambler",
            "internet spy",
            "find out anything",
            "banned cd",
            "toner",
        ],
    ),
];

/// The phrases of all groups, ready to be looked for.
pub struct Phrases {
    /// By hash of the first three octets: where its phrases begin in `phrases`, and behind the last bucket their number.
    buckets: Vec<u16>,
    /// Phrase and group, bucket by bucket.
    phrases: Vec<(&'static [u8], u8)>,
}

/// How many different phrases of each group were found.
pub type Found = [u8; GROUPS.len()];

const BUCKETS: usize = 4096;

impl Phrases {
    /// Builds the table: once for an instance.
    pub fn new() -> Phrases {
        let of_group = |(at, (_, phrases)): (usize, &(Rule, &'static [&'static str]))| {
            phrases.iter().map(move |phrase| (phrase.as_bytes(), at as u8)).collect::<Vec<_>>()
        };
        let mut phrases: Vec<(&[u8], u8)> = GROUPS.iter().enumerate().flat_map(of_group).collect();
        phrases.sort_by_key(|(phrase, _)| bucket(phrase));
        let begins = |wanted: usize| phrases.partition_point(|(phrase, _)| bucket(phrase) < wanted) as u16;
        let buckets = (0..=BUCKETS).map(begins).collect();
        Phrases { buckets, phrases }
    }

    /// Looks for all phrases in lowered, squeezed text. A phrase counts once however often it stands there.
    pub fn find(&self, text: &[u8]) -> Found {
        let mut found = Found::default();
        let mut seen = vec![false; self.phrases.len()];
        let mut begin = |at: usize| {
            if at + 2 < text.len() {
                self.find_at(text, at, &mut seen, &mut found);
            }
        };
        // The mark of the octet before the eight at hand, where a mark of theirs would have it: what follows a letter begins no word.
        let mut before = 0;
        let (eights, rest) = text.as_chunks::<8>();
        for (number, eight) in eights.iter().enumerate() {
            let octets = Eight::new(*eight);
            let letters = octets.of_lowered_words();
            let mut begins = octets.shown() & !(letters & ((letters << 8) | before));
            before = letters >> 56;
            while begins != 0 {
                begin(number * 8 + begins.trailing_zeros() as usize / 8);
                begins &= begins - 1;
            }
        }
        let mut in_word = before != 0;
        for (at, byte) in (text.len() - rest.len()..).zip(rest) {
            let is_letter = byte.is_ascii_alphanumeric();
            if *byte != b' ' && !(in_word && is_letter) {
                begin(at);
            }
            in_word = is_letter;
        }
        found
    }

    fn find_at(&self, text: &[u8], at: usize, seen: &mut [bool], found: &mut Found) {
        let bucket = bucket(&text[at..]);
        let (from, to) = (usize::from(self.buckets[bucket]), usize::from(self.buckets[bucket + 1]));
        let fourth = text.get(at + 3);
        for (index, (phrase, group)) in self.phrases[from..to].iter().enumerate() {
            // Most that share three octets differ in the fourth.
            if phrase.get(3).is_some_and(|byte| Some(byte) != fourth) {
                continue;
            }
            if !seen[from + index] && text[at..].starts_with(phrase) && ends_well(text, at + phrase.len(), phrase.len())
            {
                seen[from + index] = true;
                let count = &mut found[usize::from(*group)];
                *count = count.saturating_add(1);
            }
        }
    }
}

impl Default for Phrases {
    fn default() -> Phrases {
        Phrases::new()
    }
}

/// At least three octets, or the hash reads too far: the table is of phrases that have them, and `find` stops before.
fn bucket(text: &[u8]) -> usize {
    let three = u32::from(text[0]) | u32::from(text[1]) << 8 | u32::from(text[2]) << 16;
    (three.wrapping_mul(0x9E37_79B1) >> 20) as usize
}

/// The rule of each group, in the order of [`Found`].
pub fn rules() -> impl Iterator<Item = Rule> {
    GROUPS.iter().map(|(rule, _)| *rule)
}

/// A word may be inflected behind the phrase, but not behind the shortest: `cum` is no part of `cumulative`.
fn ends_well(text: &[u8], end: usize, len: usize) -> bool {
    let is_letter = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    len > 5 || !is_letter(end - 1) || !is_letter(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str, rule: Rule) -> u8 {
        let at = rules().position(|group| group == rule).unwrap();
        Phrases::new().find(text.as_bytes())[at]
    }

    #[test]
    fn phrases_count_once_and_only_as_words() {
        assert_eq!(count("click here or click here, order now", Rule::PHRASE_CALL), 2);
        assert_eq!(count("a specialist", Rule::PHRASE_PHARMA), 0);
        assert_eq!(count("cialis!", Rule::PHRASE_PHARMA), 1);
        assert_eq!(count("ssxxxs", Rule::PHRASE_ADULT), 0);
        assert_eq!(count("now 50% off (usd 5)", Rule::PHRASE_OFFER), 1);
        for short in ["", "m", "ml", "mlm"] {
            assert_eq!(count(short, Rule::PHRASE_MONEY), u8::from(short == "mlm"));
        }
    }

    #[test]
    fn every_phrase_is_found_wherever_it_stands() {
        let phrases = Phrases::new();
        for (group, phrase) in
            GROUPS.iter().enumerate().flat_map(|(at, (_, all))| all.iter().map(move |phrase| (at, phrase)))
        {
            for text in [phrase.to_string(), format!("so ({phrase}). "), format!("a-{phrase}")] {
                assert!(phrases.find(text.as_bytes())[group] > 0, "{phrase} in {text}");
            }
        }
    }

    #[test]
    fn phrases_are_lower_case_and_squeezed() {
        for phrase in GROUPS.iter().flat_map(|(_, phrases)| phrases.iter()) {
            assert_eq!(phrase.to_ascii_lowercase(), *phrase);
            assert!(!phrase.contains("  ") && phrase.len() >= 3);
        }
    }
}
