//! Who may send as whom: a user who has logged in uses his own address, one of an alias that leads to him, a subaddress of those, or a row of
//! the table of further senders. The null sender is everybody's: reports go out with it.

use std::collections::HashMap;

use waypost_route::{Class, NextHop, Router};
use waypost_types::{Address, Enhanced, Reply, Timestamp};

use super::Refusal;

/// Further senders by login, both in lower case: whole addresses, or `@domain`.
pub type ExtraSenders = HashMap<Box<str>, Vec<Box<str>>>;

/// Judges the sender of somebody who has logged in.
pub(crate) async fn matches_login(
    sender: &Address,
    login: &str,
    extra: &ExtraSenders,
    router: &Router,
    now: Timestamp,
) -> Result<(), Refusal> {
    if is_extra(sender, login, extra) || leads_to(sender, login, router, now).await {
        return Ok(());
    }
    let text = format!("{login} may not send as {sender}");
    Err(Refusal { by: "sender", reply: Reply::new(553, Enhanced(5, 7, 1), text) })
}

fn is_extra(sender: &Address, login: &str, extra: &ExtraSenders) -> bool {
    let Some(rows) = extra.get(login.to_lowercase().as_str()) else { return false };
    let sender = sender.to_string().to_lowercase();
    rows.iter().any(|row| if row.starts_with('@') { sender.ends_with(&**row) } else { sender == **row })
}

/// Whether mail to the sender's address would reach this login: his mailbox, or, where logins are addresses, his address.
async fn leads_to(sender: &Address, login: &str, router: &Router, now: Timestamp) -> bool {
    if sender.to_string().eq_ignore_ascii_case(login) {
        return true;
    }
    let resolution = router.resolve(sender, now).get().await;
    if resolution.class != Class::Own {
        return false;
    }
    if resolution.leads.is_empty() {
        return is_login(sender, login, router).await;
    }
    for leaf in &resolution.leads {
        if is_login(&leaf.address, login, router).await {
            return true;
        }
    }
    false
}

async fn is_login(address: &Address, login: &str, router: &Router) -> bool {
    match router.next_hop(address).get().await {
        NextHop::Mailbox(mailbox) if mailbox.eq_ignore_ascii_case(login) => true,
        _ => address.to_string().eq_ignore_ascii_case(login),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_route::{Alias, AliasKey, Tables, Target};
    use waypost_types::Host;

    /// Tables in memory answer at once.
    fn now_or_never<T>(asked: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(asked).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("tables in memory answer at once"),
        }
    }

    fn router() -> Router {
        let alias = |name: &str, targets: &[&str]| Alias {
            line: 0,
            key: AliasKey::Name(name.into()),
            targets: targets.iter().map(|target| Target::Name((*target).into())).collect(),
        };
        let tables = Tables {
            own: vec![Host::parse("own.test").expect("a host"), Host::parse("other.test").expect("a host")],
            users: vec!["alice".into(), "bob".into()],
            aliases: vec![alias("sales", &["alice", "bob"]), alias("boss", &["bob"])],
            separators: "+".into(),
            ..Tables::default()
        };
        tables.build().expect("no mistakes")
    }

    #[test]
    fn a_login_sends_as_itself_its_aliases_and_its_further_senders() {
        let extra: ExtraSenders = [("alice".into(), vec!["news@partner.test".into(), "@list.test".into()])].into();
        let router = router();
        let judge = |login: &str, sender: &str| {
            let sender = Address::parse(sender).expect("an address");
            now_or_never(matches_login(&sender, login, &extra, &router, Timestamp(0))).is_ok()
        };
        for sender in [
            "alice@own.test",
            "Alice@OTHER.test",
            "alice+shop@own.test",
            "sales@own.test",
            "sales+x@own.test",
            "news@partner.test",
            "anything@list.test",
        ] {
            assert!(judge("alice", sender), "{sender}");
        }
        for sender in [
            "bob@own.test",
            "boss@own.test",
            "nobody@own.test",
            "alice@foreign.test",
            "x@partner.test",
            "x@evil-list.test",
            "x@sub.list.test",
        ] {
            assert!(!judge("alice", sender), "{sender}");
        }
        assert!(judge("carol@foreign.test", "carol@foreign.test"), "logins that are addresses");
        assert!(!judge("carol@foreign.test", "dave@foreign.test"));
    }

    #[test]
    fn the_refusal_names_both() {
        let sender = Address::parse("bob@own.test").expect("an address");
        let refusal = now_or_never(matches_login(&sender, "alice", &ExtraSenders::default(), &router(), Timestamp(0)))
            .expect_err("refused");
        assert_eq!(refusal.reply.to_string(), "553 5.7.1 alice may not send as bob@own.test");
    }
}
