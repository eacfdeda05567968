//! Rules over parts, text, HTML and links.

use waypost_sdk::types::Part;

use crate::html::{self, Html};
use crate::letter::Headers;
use crate::link::Links;
use crate::phrases::{self, Phrases};
use crate::rules::{Hits, Rule};
use crate::text::Text;

/// What was read of the body.
#[derive(Debug, Default)]
pub struct Body {
    /// Shown text of all parts.
    pub text: Text,
    /// HTML besides its text.
    pub html: Html,
    /// Links of all parts.
    pub links: Links,
    /// Text parts seen.
    pub plain_parts: usize,
    /// HTML parts seen.
    pub html_parts: usize,
}

impl Body {
    /// Takes in a text part (UTF-8, decoded).
    pub fn add(&mut self, mime_type: &str, content: &[u8]) {
        if mime_type == "text/html" {
            self.html_parts += 1;
            html::walk(content, &mut self.html, &mut self.text, &mut self.links);
        } else {
            self.plain_parts += 1;
            let from = self.text.len();
            self.text.push_plain(content);
            self.links.scan_plain(&self.text.squeezed[from..]);
        }
        self.text.blank();
    }
}

/// How much so many different phrases of newsletters make one: spam hardly ever has three.
const NEWSLETTER_FACTORS: [f64; 6] = [0.0, 0.0, 0.25, 1.0, 1.3, 1.6];

/// Hits every rule about the body.
pub fn apply(headers: &Headers, parts: &[Part], body: &Body, phrases: &Phrases, hits: &mut Hits) {
    structure(headers, parts, body, hits);
    attachments(parts, hits);
    text(headers, body, hits);
    html_tricks(body, hits);
    links(body, hits);
    let found = phrases.find(&body.text.squeezed);
    for (rule, count) in phrases::rules().zip(found) {
        // One everyday word is no sign of anything in a long text.
        let expected = if matches!(rule, Rule::PHRASE_OFFER | Rule::PHRASE_CALL | Rule::PHRASE_MONEY) {
            body.text.len() / 8000
        } else {
            body.text.len() / 20_000
        };
        match rule {
            // One such phrase is in many a mail; those who send newsletters write many.
            Rule::NEWSLETTER if count < 2 => {}
            Rule::NEWSLETTER => hits.add_times(rule, NEWSLETTER_FACTORS[usize::from(count).min(5)]),
            _ => hits.add_count(rule, usize::from(count).saturating_sub(expected)),
        }
    }
}

fn structure(headers: &Headers, parts: &[Part], body: &Body, hits: &mut Hits) {
    hits.add_if(Rule::HTML_ONLY, body.html_parts > 0 && body.plain_parts == 0);
    let encoding = headers.get("content-transfer-encoding").unwrap_or_default();
    let one_text = parts.len() == 1 && parts[0].mime_type.starts_with("text/");
    hits.add_if(Rule::TEXT_BASE64, one_text && encoding.eq_ignore_ascii_case("base64") && body.text.beyond_ascii == 0);
    let kind = headers.get("content-type").unwrap_or_default().to_lowercase();
    let names_charset = kind.contains("charset") || kind.starts_with("multipart/");
    hits.add_if(Rule::CHARSET_MISSING, body.text.beyond_ascii > 5 && !names_charset);
    hits.add_if(Rule::BODY_EMPTY, body.text.is_empty() && body.html.images == 0 && parts.len() <= 1);
}

fn attachments(parts: &[Part], hits: &mut Hits) {
    const PROGRAMS: &[&str] = &[
        "exe", "scr", "pif", "bat", "cmd", "com", "vbs", "vbe", "js", "jse", "wsf", "wsh", "hta", "lnk", "cpl", "msi",
        "jar", "ps1", "reg", "iso", "img", "chm", "shs", "vhd",
    ];
    const MACROS: &[&str] = &["docm", "xlsm", "pptm", "dotm", "xlam", "xll", "one"];
    const SHOWN: &[&str] =
        &["pdf", "doc", "docx", "xls", "xlsx", "txt", "jpg", "jpeg", "png", "gif", "zip", "mp3", "mov"];
    let (mut program, mut doubled, mut macros, mut odd) = (false, false, false, false);
    for (name, part) in parts.iter().filter_map(|part| Some((part.filename.as_deref()?.trim().to_lowercase(), part))) {
        let mut extensions = name.rsplit('.');
        let last = extensions.next().unwrap_or_default();
        let before = extensions.next().unwrap_or_default().trim_end();
        program |= PROGRAMS.contains(&last) && name.contains('.');
        doubled |= PROGRAMS.contains(&last) && SHOWN.contains(&before);
        macros |= MACROS.contains(&last);
        odd |=
            PROGRAMS.contains(&last) && (part.mime_type.starts_with("audio/") || part.mime_type.starts_with("image/"));
    }
    hits.add_if(Rule::ATTACH_EXECUTABLE, program);
    hits.add_if(Rule::ATTACH_DOUBLE_EXTENSION, doubled);
    hits.add_if(Rule::ATTACH_MACRO, macros);
    hits.add_if(Rule::ATTACH_ODD_TYPE, odd);
}

fn text(headers: &Headers, body: &Body, hits: &mut Hits) {
    let text = &body.text;
    hits.add_if(Rule::BODY_CAPS, text.letters >= 200 && text.capitals * 4 >= text.letters);
    hits.add_if(Rule::BODY_EXCLAIM, text.exclaimed >= 5 && text.exclaimed * 150 >= text.len());
    hits.add_if(Rule::BODY_DOLLARS, text.amounts() >= 4);
    hits.add_if(Rule::BODY_RANDOM, text.ends_in_random_word());
    hits.add_if(Rule::BODY_SHORT_LINK, body.links.count > 0 && text.letters < 160 && !headers.has("list-id"));
    let replied = headers.has("in-reply-to") || headers.has("references");
    hits.add_if(Rule::REPLY_REAL, replied && text.quotes);
    hits.add_if(Rule::SIGNED_OFF, text.signed_off);
}

fn html_tricks(body: &Body, hits: &mut Hits) {
    let html = &body.html;
    if body.html_parts == 0 {
        return;
    }
    hits.add_if(Rule::HTML_HIDDEN, html.hidden > 400 && html.hidden > body.text.len() / 4);
    hits.add_if(
        Rule::HTML_IMAGE_ONLY,
        html.images > 0 && body.text.letters < 200 * html.images.min(3) && body.plain_parts == 0,
    );
    hits.add_if(Rule::HTML_FORM, html.forms > 0);
    hits.add_if(Rule::HTML_SCRIPT, html.active > 0);
    hits.add_if(Rule::HTML_WEB_BUG, html.web_bugs > 0);
    hits.add_if(Rule::HTML_SPLIT_WORDS, html.splits >= 3);
    hits.add_if(Rule::HTML_BIG_FONT, html.big > 0 && html.coloured > 0);
    hits.add_if(Rule::HTML_ENTITIES, html.entities >= 20);
    hits.add_if(Rule::HTML_SHORT, body.text.letters < 250 && body.plain_parts == 0);
}

fn links(body: &Body, hits: &mut Hits) {
    let links = &body.links;
    hits.add_if(Rule::LINK_MISLEADING, links.misleading > 0);
    hits.add_if(Rule::LINK_NUMERIC, links.numeric > 0);
    hits.add_if(Rule::LINK_MASKED, links.masked > 0);
    hits.add_if(Rule::LINK_ODD_TLD, links.odd_tld > 0);
    hits.add_if(Rule::LINK_SHORTENER, links.shortened > 0);
    hits.add_if(Rule::LINK_TRACKED, links.tracked > 0);
    hits.add_if(Rule::LINK_REMOVE, links.remove > 0);
}
