//! Limits how many messages a client network may begin in a while: an IPv4 address, or an IPv6 /64.
//!
//! Stage `mail`. Grant `kv`. Settings:
//!
//! ```toml
//! [plugin.rate-limit.config]
//! messages = 100        # in each period; 100 unless set
//! period-seconds = 60   # 60 unless set
//! ```

use std::net::IpAddr;

use serde::Deserialize;
use waypost_sdk::{Action, Host, Outcome, Plugin, Registration, networks};

/// The settings. `deny_unknown_fields` tells the operator of a mistyped one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    messages: i64,
    period_seconds: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { messages: 100, period_seconds: 60 }
    }
}

/// The plugin. What belongs to a session does not live here: an instance sees many sessions.
pub struct RateLimit {
    settings: Settings,
}

impl Plugin for RateLimit {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let settings: Settings = waypost_sdk::settings(host)?;
        if settings.messages < 1 || settings.period_seconds < 1 {
            return Err("messages and period-seconds must be at least 1".into());
        }
        Ok((RateLimit { settings }, Registration::new("rate-limit", env!("CARGO_PKG_VERSION"))))
    }

    fn mail(&mut self, host: &Host, _sender: &str) -> Outcome {
        let session = host.session();
        let Some(client) = session.client_address().filter(|client| !networks::is_private(*client)) else {
            return Ok(Action::Next);
        };
        if session.is_own() {
            return Ok(Action::Next);
        }
        // The key changes with the period, so a counter that expired late does no harm.
        let period = host.env().now_ms() / 1000 / u64::from(self.settings.period_seconds);
        let key = format!("{} {period}", network(client));
        let count = host.kv().incr(key.as_bytes(), 1, Some(self.settings.period_seconds * 2));
        if count > self.settings.messages {
            return Ok(Action::tempfail(450, (4, 7, 1), format!("Too many messages from [{client}], try again later")));
        }
        Ok(Action::Next)
    }
}

/// Who counts as one: whoever has an IPv6 address has a /64 of them.
fn network(client: IpAddr) -> String {
    match client {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => six.segments()[..4].iter().map(|segment| format!("{segment:x}:")).collect(),
    }
}

waypost_sdk::export!(RateLimit: mail);

#[cfg(test)]
mod tests {
    use waypost_sdk::Bench;

    use super::*;

    fn bench() -> Bench<RateLimit> {
        let mut bench = Bench::start(r#"{"messages": 2}"#).unwrap();
        bench.client("198.51.100.7");
        bench
    }

    #[test]
    fn the_third_message_in_a_minute_is_put_off_and_the_next_minute_is_fresh() {
        let mut bench = bench();
        for _ in 0..2 {
            assert_eq!(bench.mail("a@example.com"), Ok(Action::Next));
        }
        assert!(matches!(bench.mail("a@example.com"), Ok(Action::Tempfail(reply)) if reply.code == 450));
        bench.script().env.now_ms += 60_000;
        assert_eq!(bench.mail("a@example.com"), Ok(Action::Next));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_own_users_do_not_count() {
        let mut bench = bench();
        for client in ["2001:db8::1", "2001:db8::2"] {
            assert_eq!(bench.client(client).mail("a@example.com"), Ok(Action::Next));
        }
        assert!(matches!(bench.client("2001:db8::3").mail("a@example.com"), Ok(Action::Tempfail(_))));
        assert_eq!(bench.client("2001:db8:0:1::1").mail("a@example.com"), Ok(Action::Next));
        bench.client("2001:db8::3").logged_in("alice");
        assert_eq!(bench.mail("a@example.com"), Ok(Action::Next));
    }

    #[test]
    fn a_limit_of_nothing_is_a_mistake() {
        assert!(Bench::<RateLimit>::start(r#"{"messages": 0}"#).is_err());
    }
}
