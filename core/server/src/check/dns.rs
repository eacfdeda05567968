//! What checks ask of DNS. A question that is not answered in time, or by an error, is [`Answer::Unsure`]: never a reason to refuse for good.

use std::time::Duration;

use waypost_types::Domain;
use waypost_types::port::{Dns, DnsError, DnsType};

/// What DNS says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// RFC 7505: it exists, and takes no mail.
    NullMx,
    Unsure,
}

/// Whether mail could be sent to the domain: by its MX records, or by an address (RFC 5321 §5.1).
pub(crate) async fn takes_mail(dns: &dyn Dns, domain: &Domain, patience: Duration) -> Answer {
    within(patience, async {
        match dns.lookup(domain.as_str(), DnsType::Mx).await {
            Ok(answer) if answer.records.iter().all(|record| is_null(record)) => Answer::NullMx,
            Ok(_) => Answer::Yes,
            Err(DnsError::NoData) => has_address(dns, domain).await,
            Err(error) => no_or_unsure(error),
        }
    })
    .await
}

/// Whether the name has an address or mail hosts: a HELO name may be of either kind.
pub(crate) async fn resolves(dns: &dyn Dns, domain: &Domain, patience: Duration) -> Answer {
    within(patience, async {
        match has_address(dns, domain).await {
            Answer::No => match dns.lookup(domain.as_str(), DnsType::Mx).await {
                Ok(_) => Answer::Yes,
                Err(error) => no_or_unsure(error),
            },
            answer => answer,
        }
    })
    .await
}

/// Whether the question has any answer.
pub(crate) async fn has(dns: &dyn Dns, name: &str, kind: DnsType, patience: Duration) -> Answer {
    within(patience, async {
        match dns.lookup(name, kind).await {
            Ok(_) => Answer::Yes,
            Err(error) => no_or_unsure(error),
        }
    })
    .await
}

/// `work`, or unsure when its time is over.
pub(crate) async fn within(patience: Duration, work: impl Future<Output = Answer>) -> Answer {
    tokio::time::timeout(patience, work).await.unwrap_or(Answer::Unsure)
}

async fn has_address(dns: &dyn Dns, domain: &Domain) -> Answer {
    let mut unsure = false;
    for kind in [DnsType::A, DnsType::Aaaa] {
        match dns.lookup(domain.as_str(), kind).await {
            Ok(_) => return Answer::Yes,
            Err(error) => unsure |= error.is_transient(),
        }
    }
    if unsure { Answer::Unsure } else { Answer::No }
}

/// `0 .`, and `localhost`, which means the same by those who do not know RFC 7505.
fn is_null(record: &str) -> bool {
    record.rsplit(' ').next().is_some_and(|host| matches!(host, "." | "localhost." | "localhost"))
}

fn no_or_unsure(error: DnsError) -> Answer {
    if error.is_transient() { Answer::Unsure } else { Answer::No }
}
