//! Walking HTML in one pass: what is shown, what is hidden, where it leads, which tricks it plays.
//!
//! This is no browser. It follows tags as loosely as mail programs do, and never recurses.

use memchr::{memchr, memmem};

use crate::link::{Link, Links};
use crate::text::Text;

/// What was seen besides text and links.
#[derive(Debug, Default)]
pub struct Html {
    /// Pictures.
    pub images: usize,
    /// Pictures nobody can see.
    pub web_bugs: usize,
    /// Forms.
    pub forms: usize,
    /// Scripts, frames, objects.
    pub active: usize,
    /// Octets of text that is not shown.
    pub hidden: usize,
    /// Words split by comments or tags that show nothing.
    pub splits: usize,
    /// Large type.
    pub big: usize,
    /// Coloured type.
    pub coloured: usize,
    /// Plain letters written as entities.
    pub entities: usize,
}

/// Walks one HTML part.
pub fn walk(part: &[u8], html: &mut Html, text: &mut Text, links: &mut Links) {
    let mut walker = Walker { html, text, links, hidden_until: None, anchor: None };
    let mut rest = part;
    while let Some(at) = memchr(b'<', rest) {
        walker.run(&rest[..at]);
        rest = walker.tag(&rest[at..], at > 0 && rest[at - 1].is_ascii_alphabetic());
    }
    walker.run(rest);
    walker.close_anchor();
}

struct Walker<'a> {
    html: &'a mut Html,
    text: &'a mut Text,
    links: &'a mut Links,
    /// The element whose end shows text again.
    hidden_until: Option<Vec<u8>>,
    /// Where an open anchor leads, and where its text begins.
    anchor: Option<(Vec<u8>, usize)>,
}

impl Walker<'_> {
    /// Text between tags.
    fn run(&mut self, run: &[u8]) {
        if self.hidden_until.is_some() {
            self.html.hidden += run.trim_ascii().len();
            return;
        }
        let mut rest = run;
        while let Some(at) = memchr(b'&', rest) {
            self.text.push(&rest[..at]);
            let (decoded, len) = entity(&rest[at..]);
            self.html.entities += usize::from(rest.get(at + 1) == Some(&b'#') && decoded.is_ascii_alphabetic());
            self.text.push(&[decoded]);
            rest = &rest[at + len..];
        }
        self.text.push(rest);
    }

    /// A tag at the front of `rest`; gives what follows it.
    fn tag<'r>(&mut self, rest: &'r [u8], in_word: bool) -> &'r [u8] {
        if rest.starts_with(b"<!--") {
            let after = memmem::find(rest, b"-->").map_or(&rest[rest.len()..], |end| &rest[end + 3..]);
            self.html.splits += usize::from(in_word && after.first().is_some_and(u8::is_ascii_alphabetic));
            return after;
        }
        // A `<` that begins no tag is text.
        if !rest.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?')) {
            self.run(b"&lt;");
            return &rest[1..];
        }
        let end = tag_end(rest);
        let (tag, after) = rest.split_at(end);
        let inner = tag.strip_prefix(b"<").unwrap_or(tag).strip_suffix(b">").unwrap_or(tag);
        let name_len =
            inner.iter().skip(1).position(|byte| !byte.is_ascii_alphanumeric()).map_or(inner.len(), |at| at + 1);
        let (name, attributes) = inner.split_at(name_len);
        self.on_tag(
            &name.to_ascii_lowercase(),
            attributes,
            in_word && after.first().is_some_and(u8::is_ascii_alphabetic),
        );
        after
    }

    fn on_tag(&mut self, name: &[u8], attributes: &[u8], in_word: bool) {
        if let Some(closing) = name.strip_prefix(b"/") {
            if self.hidden_until.as_deref() == Some(closing) {
                self.hidden_until = None;
            }
        } else {
            self.open(name, attributes);
        }
        match name {
            b"a" | b"/a" => {}
            b"b" | b"/b" | b"i" | b"/i" | b"u" | b"/u" | b"em" | b"/em" | b"strong" | b"/strong" | b"wbr" | b"sup"
            | b"sub" => {}
            // Unknown tags inside a word show nothing; blocks end words.
            b"font" | b"/font" | b"span" | b"/span" => {}
            _ if in_word && !is_known(name.strip_prefix(b"/").unwrap_or(name)) => self.html.splits += 1,
            _ => self.text.blank(),
        }
    }

    fn open(&mut self, name: &[u8], attributes: &[u8]) {
        match name {
            b"a" | b"area" => {
                self.close_anchor();
                if let Some(href) = attribute(attributes, b"href") {
                    self.anchor = Some((href.to_vec(), self.text.len()));
                }
            }
            b"img" => self.image(attributes),
            b"form" => self.html.forms += 1,
            b"script" | b"style" | b"title" => {
                self.html.active += usize::from(name == b"script");
                self.hidden_until = Some(name.to_vec());
            }
            b"iframe" | b"object" | b"applet" | b"embed" | b"frame" => self.html.active += 1,
            b"font" => self.font(attributes),
            _ => {}
        }
        if self.hidden_until.is_none() && hides(attributes) && !is_void(name) {
            self.hidden_until = Some(name.to_vec());
        }
        if name == b"/a" {
            self.close_anchor();
        }
    }

    fn image(&mut self, attributes: &[u8]) {
        self.html.images += 1;
        let side =
            |wanted: &[u8]| attribute(attributes, wanted).map(|value| matches!(value, b"0" | b"1" | b"1px" | b"0px"));
        self.html.web_bugs += usize::from(side(b"width") == Some(true) && side(b"height") == Some(true));
        if let Some(source) = attribute(attributes, b"src") {
            self.links.add(Link::image(source));
        }
    }

    fn font(&mut self, attributes: &[u8]) {
        let size = attribute(attributes, b"size").unwrap_or_default();
        self.html.big += usize::from(matches!(size, b"5" | b"6" | b"7" | b"+2" | b"+3" | b"+4"));
        self.html.coloured += usize::from(attribute(attributes, b"color").is_some());
    }

    fn close_anchor(&mut self) {
        if let Some((href, from)) = self.anchor.take() {
            let shown = &self.text.squeezed[from.min(self.text.squeezed.len())..];
            self.links.add(Link::anchor(&href, &shown[..shown.len().min(200)]));
        }
    }
}

/// Where a tag ends: at `>` outside quotes, or at a `>` anyway when the quotes are never closed.
fn tag_end(rest: &[u8]) -> usize {
    const TAG_MAX: usize = 4096;
    let window = &rest[..rest.len().min(TAG_MAX)];
    let mut quote = None;
    for (at, &byte) in window.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') if at > 0 && window[at - 1] == b'=' => quote = Some(byte),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    memchr(b'>', window).map_or(window.len(), |at| at + 1)
}

/// The value of an attribute, quotes removed.
fn attribute<'a>(attributes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_ascii_start();
        let name_end = rest.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=')?;
        let (name, tail) = rest.split_at(name_end);
        let tail = tail.trim_ascii_start();
        let Some(tail) = tail.strip_prefix(b"=") else {
            rest = tail;
            continue;
        };
        let tail = tail.trim_ascii_start();
        let (value, after) = match tail.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let end = memchr(*quote, &tail[1..]).map_or(tail.len(), |at| at + 1);
                (&tail[1..end], tail.get(end + 1..).unwrap_or_default())
            }
            _ => tail.split_at(tail.iter().position(u8::is_ascii_whitespace).unwrap_or(tail.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.trim_ascii());
        }
        rest = after;
    }
}

/// Whether a style makes an element invisible.
fn hides(attributes: &[u8]) -> bool {
    if attributes.len() < 12 {
        return false;
    }
    let Some(style) = attribute(attributes, b"style") else { return false };
    let style: Vec<u8> = style.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
    const TRICKS: [&[u8]; 5] = [b"display:none", b"visibility:hidden", b"font-size:0", b"font-size:1px", b"opacity:0;"];
    TRICKS.iter().any(|trick| {
        memmem::find(&style, trick).is_some_and(|at| {
            // `font-size:0.9em` is small, not hidden.
            !matches!(style.get(at + trick.len()), Some(b'.' | b'0'..=b'9'))
        })
    })
}

fn is_void(name: &[u8]) -> bool {
    matches!(name, b"img" | b"br" | b"hr" | b"input" | b"meta" | b"link" | b"area" | b"base" | b"col" | b"wbr")
}

fn is_known(name: &[u8]) -> bool {
    const KNOWN: &[&[u8]] = &[
        b"br",
        b"p",
        b"div",
        b"td",
        b"tr",
        b"th",
        b"table",
        b"tbody",
        b"li",
        b"ul",
        b"ol",
        b"img",
        b"hr",
        b"h1",
        b"h2",
        b"h3",
        b"h4",
        b"h5",
        b"h6",
        b"center",
        b"pre",
        b"tt",
        b"code",
        b"small",
        b"big",
        b"s",
        b"strike",
        b"blockquote",
        b"html",
        b"body",
        b"head",
        b"title",
        b"style",
        b"script",
        b"meta",
        b"link",
        b"input",
        b"form",
        b"select",
        b"option",
        b"textarea",
        b"dl",
        b"dt",
        b"dd",
        b"map",
        b"area",
        b"nobr",
        b"cite",
        b"q",
        b"del",
        b"ins",
        b"acronym",
        b"abbr",
        b"label",
        b"button",
        b"thead",
        b"tfoot",
        b"col",
        b"address",
        b"o",
        b"v",
        b"blink",
        b"marquee",
        b"layer",
        b"noscript",
        b"iframe",
        b"object",
        b"embed",
        b"param",
        b"base",
        b"basefont",
        b"caption",
        b"fieldset",
    ];
    KNOWN.contains(&name)
}

/// An entity at the front: the octet it stands for (`?` beyond ASCII) and its length.
fn entity(rest: &[u8]) -> (u8, usize) {
    let window = &rest[..rest.len().min(10)];
    let Some(end) = memchr(b';', window) else { return (b'&', 1) };
    let name = &window[1..end];
    let decoded = match name {
        b"lt" => b'<',
        b"gt" => b'>',
        b"amp" => b'&',
        b"quot" => b'"',
        b"nbsp" => b' ',
        _ => match name.strip_prefix(b"#").and_then(|digits| std::str::from_utf8(digits).ok()) {
            Some(digits) => {
                let number = match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => digits.parse().ok(),
                };
                number.filter(|number| (32..127).contains(number)).map_or(b'?', |number| number as u8)
            }
            None if name.iter().all(u8::is_ascii_alphanumeric) && !name.is_empty() => b'?',
            None => return (b'&', 1),
        },
    };
    (decoded, end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(part: &str) -> (Html, String, Links) {
        let (mut html, mut text, mut links) = (Html::default(), Text::default(), Links::default());
        walk(part.as_bytes(), &mut html, &mut text, &mut links);
        (html, String::from_utf8(text.squeezed).unwrap().trim().to_string(), links)
    }

    #[test]
    fn shown_text_is_gathered() {
        let (html, text, _) = walked(
            "<html><head><title>T</title><style>p{}</style></head><body><p>A <b>b</b>c</p><p>D &amp; e<br>f 1 < 2</body>",
        );
        assert_eq!(text, "a bc d & e f 1 < 2");
        assert_eq!(html.hidden, 4);
    }

    #[test]
    fn tricks_are_seen() {
        let (html, text, _) = walked(
            "V<!-- x -->ia<qq>gra <span style='font-size: 0px'>secret words</span><img src=x width=1 height=1><form><script>x</script>",
        );
        assert_eq!(text, "viagra");
        assert_eq!((html.splits, html.images, html.web_bugs, html.forms, html.active), (2, 1, 1, 1, 1));
        assert!(html.hidden >= 12);
        assert_eq!(walked("<p style='font-size:0.9em'>shown</p>").1, "shown");
        assert_eq!(walked("&#86;&#105;agra &#x41;").0.entities, 3);
    }

    #[test]
    fn anchors_know_what_they_show() {
        let (_, _, links) =
            walked("<a href=\"http://evil.example/x\">www.bank.example</a> <a href='mailto:x@y.example'>m</a>");
        assert_eq!(links.misleading, 1);
        assert_eq!(links.count, 1, "an address is no link");
    }

    #[test]
    fn broken_markup_ends() {
        for part in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"",
            "<!--",
            "</",
            "<a href='x",
            "&",
            "&#",
            "&#x;",
            "<p style=\"",
            "a<<<>>>b",
            "<a =x>",
            "<a ='",
        ] {
            walked(part);
        }
        walked(&"<a href='".repeat(5000));
        walked(&"<!--".repeat(5000));
    }
}
