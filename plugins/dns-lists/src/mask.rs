//! Which answers of a list are listings.
//!
//! An answer is an address in 127.0.0.0/8 whose octets say why (RFC 5782 §2.3). Anything else is a resolver or a registrar that
//! lies. 127.255.255.0/24 is how large lists say "not to you", and 127.0.0.1 how others do; neither is a listing unless a mask
//! names it.

use std::net::Ipv4Addr;

use serde::Deserialize;

/// A pattern for answers: four octets, each a number, `*`, `2-11` or, in Postfix's way, `[2..11]` and `[2;4..6]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Mask([Vec<(u8, u8)>; 4]);

impl TryFrom<String> for Mask {
    type Error = String;

    fn try_from(text: String) -> Result<Mask, String> {
        parse(&text)
            .filter(|mask| mask.0[0] == [(127, 127)])
            .ok_or_else(|| format!("`{text}` is no reply mask (write 127.0.0.2, 127.0.0.[2..11], 127.0.*.1-3)"))
    }
}

impl Mask {
    fn matches(&self, answer: Ipv4Addr) -> bool {
        self.0
            .iter()
            .zip(answer.octets())
            .all(|(ranges, octet)| ranges.iter().any(|(low, high)| (*low..=*high).contains(&octet)))
    }
}

/// What one record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The client is listed.
    Listed,
    /// Listed for a reason that is not asked for here.
    NotMeant,
    /// No listing at all: the list does not serve us, or somebody answers in its place.
    NotServed,
}

/// Reads a record by a list's masks; without masks every proper answer is a listing.
pub fn read(record: &str, masks: &[Mask]) -> Reading {
    let Ok(answer) = record.parse::<Ipv4Addr>() else { return Reading::NotServed };
    let [first, second, third, _] = answer.octets();
    if masks.iter().any(|mask| mask.matches(answer)) {
        return Reading::Listed;
    }
    if first != 127 || (second, third) == (255, 255) || answer == Ipv4Addr::LOCALHOST {
        return Reading::NotServed;
    }
    if masks.is_empty() { Reading::Listed } else { Reading::NotMeant }
}

/// Dots inside brackets belong to ranges.
fn parse(text: &str) -> Option<Mask> {
    let mut octets: Vec<String> = vec![String::new()];
    let mut in_brackets = false;
    for c in text.chars() {
        match c {
            '[' if !in_brackets && octets.last()?.is_empty() => in_brackets = true,
            ']' if in_brackets => in_brackets = false,
            '.' if !in_brackets => octets.push(String::new()),
            c => octets.last_mut()?.push(c),
        }
    }
    let ranges: Option<Vec<Vec<(u8, u8)>>> = octets.iter().map(|octet| octet.split(';').map(range).collect()).collect();
    let ranges: [Vec<(u8, u8)>; 4] = ranges?.try_into().ok()?;
    (!in_brackets).then_some(Mask(ranges))
}

fn range(text: &str) -> Option<(u8, u8)> {
    if text == "*" {
        return Some((0, 255));
    }
    let (low, high) = text.split_once("..").or_else(|| text.split_once('-')).unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(texts: &[&str]) -> Vec<Mask> {
        texts.iter().map(|text| Mask::try_from(text.to_string()).unwrap()).collect()
    }

    #[test]
    fn without_masks_proper_answers_are_listings_and_others_are_not() {
        assert_eq!(read("127.0.0.2", &[]), Reading::Listed);
        assert_eq!(read("127.0.1.4", &[]), Reading::Listed);
        for not_served in
            ["127.255.255.254", "127.255.255.252", "127.0.0.1", "192.0.2.1", "10.0.0.1", "::1", "nonsense", ""]
        {
            assert_eq!(read(not_served, &[]), Reading::NotServed, "{not_served}");
        }
    }

    #[test]
    fn masks_choose_among_reasons() {
        let zen = masks(&["127.0.0.[2..4]", "127.0.0.[9;11]"]);
        assert_eq!(read("127.0.0.3", &zen), Reading::Listed);
        assert_eq!(read("127.0.0.9", &zen), Reading::Listed);
        assert_eq!(read("127.0.0.10", &zen), Reading::NotMeant, "policy listings were not asked for");
        assert_eq!(read("127.255.255.254", &zen), Reading::NotServed);
        let trust = masks(&["127.0.*.1-3"]);
        assert_eq!(read("127.0.15.2", &trust), Reading::Listed);
        assert_eq!(read("127.0.15.0", &trust), Reading::NotMeant);
        assert_eq!(read("127.0.0.1", &masks(&["127.0.0.1"])), Reading::Listed, "named, so meant");
    }

    #[test]
    fn masks_that_cannot_be_meant_are_refused() {
        for bad in [
            "",
            "127.0.0",
            "127.0.0.2.3",
            "127.0.0.256",
            "127.0.0.[2..",
            "127.0.0.9-2",
            "192.0.2.1",
            "*.0.0.2",
            "127.0.0.x",
            "127.0.0.[2]3.4",
        ] {
            assert!(Mask::try_from(bad.to_string()).is_err(), "{bad}");
        }
    }
}
