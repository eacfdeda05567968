//! Rules over the header block.

use waypost_sdk::addresses;
use waypost_sdk::mailbox::{self, Mailbox};

use crate::date;
use crate::letter::Headers;
use crate::link::is_odd_tld;
use crate::rules::{Hits, Rule};

/// How long a message may be under way before its date is odd.
const PAST_MAX: i64 = 4 * 86_400;
/// Clocks that are ahead are common; hours are not.
const FUTURE_MAX: i64 = 4 * 3600;

/// Hits every rule about the block. `now` in seconds since 1970; `recipients` the addresses of the envelope.
pub fn apply(headers: &Headers, now: i64, recipients: &[String], hits: &mut Hits) {
    let authors = headers.get("from").map(mailbox::parse).unwrap_or_default();
    let author = authors.first().cloned().unwrap_or_default();
    presence(headers, hits);
    dates(headers, now, hits);
    from(headers, &author, hits);
    addressees(headers, &author, hits);
    subject(headers, recipients, hits);
    message_id(headers, hits);
    programs(headers, hits);
    marks_of_ham(headers, hits);
}

fn presence(headers: &Headers, hits: &mut Hits) {
    hits.add_if(Rule::MISSING_DATE, !headers.has("date"));
    hits.add_if(Rule::MISSING_FROM, !headers.has("from"));
    hits.add_if(Rule::MISSING_MID, !headers.has("message-id"));
    hits.add_if(Rule::MISSING_TO, !headers.has("to") && !headers.has("cc"));
    hits.add_if(Rule::MISSING_SUBJECT, headers.get("subject").is_none_or(str::is_empty));
    let once = [
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "message-id",
        "reply-to",
        "sender",
        "in-reply-to",
        "references",
        "mime-version",
    ];
    hits.add_if(Rule::DUPLICATE_FIELD, once.iter().any(|name| headers.count(name) > 1));
    let mime = headers.has("content-type") || headers.has("content-transfer-encoding");
    hits.add_if(Rule::MIME_VERSION_MISSING, mime && !headers.has("mime-version"));
}

/// The date is held against the newest `Received` that came with the message, so that old mail replayed later is judged the same.
fn dates(headers: &Headers, now: i64, hits: &mut Hits) {
    let Some(value) = headers.get("date") else { return };
    let Some(date) = date::parse(value) else { return hits.add(Rule::DATE_INVALID) };
    let received = headers.all("received").find_map(|field| date::parse(field.rsplit_once(';')?.1));
    let age = received.unwrap_or(now) - date;
    hits.add_if(Rule::DATE_FUTURE, age < -FUTURE_MAX);
    hits.add_if(Rule::DATE_PAST, age > PAST_MAX);
}

fn from(headers: &Headers, author: &Mailbox, hits: &mut Hits) {
    let Some(field) = headers.get("from") else { return };
    let domain = author.domain();
    let local = addresses::split(&author.address).0;
    let usable = domain.contains('.') && !local.is_empty();
    hits.add_if(Rule::FROM_NO_ADDRESS, !usable);
    let shown = mailbox::parse(&author.name).first().map(Mailbox::domain).unwrap_or_default();
    hits.add_if(Rule::FROM_NAME_IS_ADDRESS, !shown.is_empty() && usable && !related(&shown, &domain));
    hits.add_if(Rule::FROM_DIGITS, local.len() - local.trim_end_matches(|c: char| c.is_ascii_digit()).len() >= 3);
    hits.add_if(Rule::FROM_8BIT, !field.is_ascii() && field.contains('\u{fffd}'));
    hits.add_if(Rule::FROM_ODD_TLD, is_odd_tld(domain.as_bytes()));
    let reply_to = headers
        .get("reply-to")
        .map(mailbox::parse)
        .and_then(|all| all.into_iter().next())
        .map(|to| to.domain())
        .unwrap_or_default();
    if !reply_to.is_empty() && !headers.has("list-id") {
        let elsewhere = !related(&reply_to, &domain);
        let freemail = elsewhere && is_freemail(&reply_to) && !is_freemail(&domain);
        hits.add_if(Rule::REPLY_TO_FREEMAIL, freemail);
        hits.add_if(Rule::REPLY_TO_ELSEWHERE, elsewhere && !freemail);
    }
}

fn addressees(headers: &Headers, author: &Mailbox, hits: &mut Hits) {
    let Some(to) = headers.get("to") else { return };
    let mailboxes = mailbox::parse(to);
    let malformed = mailboxes.iter().all(|mailbox| !mailbox.address.contains('@'));
    hits.add_if(Rule::TO_UNDISCLOSED, malformed);
    let to_itself = mailboxes.iter().any(|mailbox| mailbox.address.eq_ignore_ascii_case(&author.address));
    hits.add_if(Rule::TO_IS_FROM, !malformed && mailboxes.len() == 1 && to_itself);
}

fn subject(headers: &Headers, recipients: &[String], hits: &mut Hits) {
    let Some(raw) = headers.get("subject") else { return };
    let decoded = headers.decoded("subject");
    let subject = decoded.trim();
    let letters = subject.chars().filter(|c| c.is_alphabetic()).count();
    let capitals = subject.chars().filter(|c| c.is_uppercase()).count();
    hits.add_if(Rule::SUBJECT_CAPS, letters >= 8 && subject.contains(' ') && capitals * 10 >= letters * 7);
    hits.add_if(Rule::SUBJECT_EXCLAIM, subject.contains("!!") || (subject.ends_with('!') && subject.len() > 10));
    hits.add_if(Rule::SUBJECT_MONEY, has_money(subject));
    hits.add_if(Rule::SUBJECT_GAP, subject.contains("      ") || subject.contains('\t') || raw.contains("      "));
    hits.add_if(Rule::SUBJECT_SPACED, is_spaced(subject));
    hits.add_if(Rule::SUBJECT_8BIT, raw.contains('\u{fffd}'));
    let lower = subject.to_lowercase();
    hits.add_if(
        Rule::SUBJECT_ADV,
        lower.starts_with("adv:")
            || lower.starts_with("[adv]")
            || lower.starts_with("adv ")
            || lower.starts_with("(adv"),
    );
    let names_you = recipients
        .iter()
        .map(|address| addresses::split(address).0)
        .any(|local| local.len() >= 4 && lower.contains(&local.to_lowercase()));
    hits.add_if(Rule::SUBJECT_ADDRESSES_YOU, names_you);
    const PHRASES: &[&str] = &[
        "free",
        "guarantee",
        "mortgage",
        "credit",
        "viagra",
        "save ",
        "money",
        "debt",
        "rates",
        "offer",
        "income",
        "profit",
        "cash",
        "earn ",
        "winner",
        "prize",
        "lose weight",
        "weight",
        "hgh",
        "cartridge",
        "insurance",
        "investment",
        "opportunity",
        "urgent",
        "assistance",
        "adult",
        "sexy",
        "xxx",
        "sex",
        "you won",
        "limited time",
        "discount",
        "act now",
        "lowest",
        "hot ",
        "click",
        "loan",
        "account suspended",
        "verify",
    ];
    let found = PHRASES.iter().filter(|phrase| lower.contains(*phrase)).count();
    hits.add_count(Rule::SUBJECT_PHRASE, found);
    let reply = lower.starts_with("re:") || lower.starts_with("fwd:");
    hits.add_if(
        Rule::FAKE_REPLY,
        reply
            && !headers.has("in-reply-to")
            && !headers.has("references")
            && !headers.has("list-id")
            && !headers.has("user-agent"),
    );
}

/// `$1000`, `$$`, `£50`.
fn has_money(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if matches!(c, '$' | '£' | '€') && chars.peek().is_some_and(|next| next.is_ascii_digit() || *next == c) {
            return true;
        }
    }
    false
}

/// Single letters with blanks between them, or digits and signs inside words (`V1agra`, `F.R.E.E`).
fn is_spaced(text: &str) -> bool {
    let mut run = 0;
    for word in text.split([' ', '.', '_', '*', '-']) {
        run = if word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic() { run + 1 } else { 0 };
        if run >= 4 {
            return true;
        }
    }
    false
}

fn message_id(headers: &Headers, hits: &mut Hits) {
    let Some(id) = headers.get("message-id") else { return };
    let inner = id.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let host = inner.and_then(|inner| inner.rsplit_once('@')).map_or("", |(_, host)| host);
    let odd = host.is_empty() || host == "localhost" || id.contains(' ');
    hits.add_if(Rule::MID_ODD, odd);
}

/// Mail programs leave more than one mark.
fn programs(headers: &Headers, hits: &mut Hits) {
    let mailer = headers.get("x-mailer").or(headers.get("user-agent")).unwrap_or_default();
    let lower = mailer.to_lowercase();
    let id = headers.get("message-id").unwrap_or_default();
    let list = headers.has("list-id");
    let outlook_express = lower.starts_with("microsoft outlook express");
    let outlook = lower.starts_with("microsoft outlook") && !outlook_express;
    let forged = (outlook_express && (!headers.has("x-mimeole") || !is_outlook_id(id)) && !list)
        || (outlook && !headers.has("x-mimeole") && !lower.contains("16.0") && !list && !lower.contains("15.0"))
        || (lower.starts_with("qualcomm")
            && headers.get("content-type").is_some_and(|kind| kind.contains("=_NextPart")))
        || (headers.has("x-msmail-priority") && !headers.has("x-mimeole") && !list);
    hits.add_if(Rule::MUA_FORGED, forged);
    const BULK: &[&str] = &[
        "bulk",
        "mailking",
        "group mail",
        "groupmail",
        "emailer",
        "mass",
        "extractor",
        "dmailer",
        "advanced direct",
        "direct email",
        "jixing",
        "aureate",
        "floodgate",
        "millennium mailer",
        "foxmail",
        "the bat! (v1.52f) business",
    ];
    hits.add_if(Rule::MUA_BULK, BULK.iter().any(|bulk| lower.contains(bulk)) || is_gibberish(mailer));
    let urgent = headers.get("x-priority").is_some_and(|value| value.starts_with(['1', '2']))
        || headers.get("importance").is_some_and(|value| value.eq_ignore_ascii_case("high"));
    hits.add_if(Rule::PRIORITY_HIGH, urgent);
    let numeric = headers.all("received").filter_map(|field| field.strip_prefix("from ")).any(|field| {
        let name = field.split([' ', '(']).next().unwrap_or_default();
        !name.is_empty()
            && name
                .trim_matches(['[', ']'])
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|address| !waypost_sdk::networks::is_private(address.into()))
    });
    hits.add_if(Rule::RECEIVED_NUMERIC, numeric);
}

/// `<000b01c24b1f$5b3c0a30$0200a8c0@host>`.
fn is_outlook_id(id: &str) -> bool {
    let inner = id.strip_prefix('<').unwrap_or(id);
    let mut parts = inner.split(['$', '@']);
    let hex = |part: Option<&str>| {
        part.is_some_and(|part| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    (hex(parts.next()) && hex(parts.next()) && parts.next().is_some()) || inner.contains(".phx.gbl")
}

/// Long, without a blank, letters and digits mixed: no program calls itself so.
fn is_gibberish(mailer: &str) -> bool {
    let digits = mailer.bytes().filter(u8::is_ascii_digit).count();
    mailer.len() >= 16
        && mailer.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && digits * 4 >= mailer.len()
        && digits < mailer.len()
}

fn marks_of_ham(headers: &Headers, hits: &mut Hits) {
    let unsubscribe = headers.has("list-unsubscribe") || headers.has("list-post") || headers.has("x-mailman-version");
    hits.add_if(Rule::LIST_MAIL, headers.has("list-id") && unsubscribe);
}

/// The same domain, or one below the other.
fn related(a: &str, b: &str) -> bool {
    let below = |a: &str, b: &str| a.strip_suffix(b).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below(a, b) || below(b, a)
}

/// Whether anybody can have a mailbox there.
pub fn is_freemail(domain: &str) -> bool {
    const FREE: &[&str] = &[
        "gmail.com",
        "googlemail.com",
        "yahoo.com",
        "ymail.com",
        "hotmail.com",
        "outlook.com",
        "live.com",
        "msn.com",
        "aol.com",
        "gmx.com",
        "gmx.net",
        "gmx.de",
        "mail.com",
        "mail.ru",
        "yandex.ru",
        "yandex.com",
        "proton.me",
        "protonmail.com",
        "icloud.com",
        "excite.com",
        "lycos.com",
        "netscape.net",
        "rediffmail.com",
        "web.de",
        "qq.com",
        "163.com",
        "126.com",
        "zoho.com",
        "tutanota.com",
        "fastmail.com",
        "eudoramail.com",
        "bigfoot.com",
        "usa.net",
    ];
    FREE.contains(&domain) || domain.starts_with("yahoo.co")
}
