//! Names for messages and sessions, and the one clock value that is written to disk.
//!
//! Identifiers are made by callers from a time and 64 bits of randomness, so that the lower floors stay deterministic and a
//! replicated store never has to hand out numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC. What entries keep on disk: unlike `Instant` it survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The far future: due times of held messages.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// Milliseconds since the epoch.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This moment plus `span`, stopping at [`Timestamp::NEVER`].
    pub fn after(self, span: Duration) -> Timestamp {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `Tue, 24 Nov 2026 06:11:10 +0000`: RFC 5322 §3.3, always UTC.
    pub fn rfc5322(self) -> String {
        let c = self.civil();
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        format!(
            "{}, {} {} {:04} {:02}:{:02}:{:02} +0000",
            DAYS[(c.days % 7) as usize],
            c.day,
            MONTHS[c.month as usize - 1],
            c.year,
            c.hour,
            c.minute,
            c.second
        )
    }

    /// `2026-11-24T06:11:10.123Z`: RFC 3339, for logs and the admin interface.
    pub fn rfc3339(self) -> String {
        let c = self.civil();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            c.year,
            c.month,
            c.day,
            c.hour,
            c.minute,
            c.second,
            self.0 % 1000
        )
    }

    /// The proleptic Gregorian calendar in UTC (Howard Hinnant's `civil_from_days`).
    fn civil(self) -> Civil {
        let seconds = self.seconds();
        let days = seconds / 86_400;
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Civil {
            days,
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: seconds % 86_400 / 3600,
            minute: seconds % 3600 / 60,
            second: seconds % 60,
        }
    }
}

struct Civil {
    days: u64,
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so that an id read over the telephone arrives.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(mut value: u128, out: &mut [u8]) {
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
}

fn decode(text: &str) -> Option<u128> {
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&a| a == byte.to_ascii_lowercase())?;
        Some(value << 5 | digit as u128)
    })
}

/// A message's name in the queue, the log, the `Received` header and the reply to the final dot. 100 bits: 48 of
/// milliseconds, so that ids sort by age, and 52 of randomness. Written as 20 characters of base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// How many characters an id has when written.
    pub const TEXT_LEN: usize = 20;
    /// Below every id that [`MessageId::new`] makes.
    pub const MIN: MessageId = MessageId(0);

    /// An id for a message that arrived at `now`; `entropy` must come from a good source of randomness.
    pub fn new(now: Timestamp, entropy: u64) -> MessageId {
        let time = u128::from(now.0 & ((1 << 48) - 1));
        MessageId(time << 52 | u128::from(entropy & ((1 << 52) - 1)))
    }

    /// When the id was made.
    pub fn timestamp(self) -> Timestamp {
        Timestamp((self.0 >> 52) as u64)
    }

    /// Thirteen bytes, big-endian: sorts as the id sorts. For keys on disk.
    pub fn to_bytes(self) -> [u8; 13] {
        let mut bytes = [0; 13];
        bytes.copy_from_slice(&self.0.to_be_bytes()[3..]);
        bytes
    }

    /// What [`MessageId::to_bytes`] wrote; `None` if it cannot have written this.
    pub fn from_bytes(bytes: &[u8]) -> Option<MessageId> {
        let mut whole = [0; 16];
        whole[3..].copy_from_slice(bytes.get(..13).filter(|_| bytes.len() == 13)?);
        let value = u128::from_be_bytes(whole);
        (value < 1 << 100).then_some(MessageId(value))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        encode(self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<MessageId, InvalidId> {
        if text.len() != Self::TEXT_LEN {
            return Err(InvalidId);
        }
        decode(text).map(MessageId).ok_or(InvalidId)
    }
}

/// The text is no message id: it must be 20 characters of base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message id (20 letters and digits, as the log and `waypost queue list` print them)")
    }
}

impl std::error::Error for InvalidId {}

/// A session's name: 60 bits, written as 12 characters. Shared by every log line of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A session id from 60 random or counted bits.
    pub fn new(bits: u64) -> SessionId {
        SessionId(bits & ((1 << 60) - 1))
    }

    /// The 60 bits: what the queue writes to disk.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 12];
        encode(u128::from(self.0), &mut text);
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_bytes_and_sort_by_time() {
        let early = MessageId::new(Timestamp(1_000), u64::MAX);
        let late = MessageId::new(Timestamp(1_001), 0);
        assert!(early < late && early.to_bytes() < late.to_bytes() && early.to_string() < late.to_string());
        for id in [early, late] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(MessageId::from_bytes(&id.to_bytes()), Some(id));
        }
        assert_eq!(late.timestamp(), Timestamp(1_001));
        assert_eq!("not an id".parse::<MessageId>(), Err(InvalidId));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let t = Timestamp(1_795_500_670_123);
        assert_eq!(t.rfc5322(), "Tue, 24 Nov 2026 06:11:10 +0000");
        assert_eq!(t.rfc3339(), "2026-11-24T06:11:10.123Z");
        assert_eq!(Timestamp(0).rfc5322(), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(Timestamp(951_782_400_000).rfc5322(), "Tue, 29 Feb 2000 00:00:00 +0000");
    }
}
