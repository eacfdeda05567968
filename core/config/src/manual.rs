//! The manual of the settings and the example file, made from the rows.

use std::fmt::Write;

use crate::setting::{Fallback, PRESETS, Reload, SECTIONS, SETTINGS, Setting, matches};
use crate::value::expected;

/// The page of every setting whose name, Postfix name or section holds `word`; of all if it is empty. `None` if there is none.
pub fn settings(word: &str) -> Option<String> {
    let mut page = String::new();
    for (section, about) in SECTIONS {
        let about_it = |setting: &&Setting| setting.section() == *section || setting.path == *section;
        let wanted = |setting: &&Setting| {
            setting.path.contains(word) || setting.postfix.contains(word) || matches(setting.path, word)
        };
        let rows: Vec<&Setting> = SETTINGS.iter().filter(about_it).filter(wanted).collect();
        if rows.is_empty() {
            continue;
        }
        let title = if section.is_empty() { "(top of the file)".to_string() } else { format!("[{}]", named(section)) };
        let _ = write!(page, "{title}\n{}", wrap(about, "  "));
        for setting in rows {
            page.push_str(&entry(setting));
        }
        page.push('\n');
    }
    (!page.is_empty()).then_some(page)
}

fn entry(setting: &Setting) -> String {
    let mut text = format!("\n  {}\n{}", named(setting.path), wrap(setting.doc, "      "));
    let _ = write!(text, "{}", wrap(&format!("Write {}.", expected(setting.kind)), "      "));
    let _ = writeln!(text, "      Default: {}", default_text(setting));
    if !setting.postfix.is_empty() {
        let _ = writeln!(text, "      Postfix: {}", setting.postfix);
    }
    if setting.reload == Reload::Restart {
        let _ = writeln!(text, "      A change takes effect at the next start.");
    }
    text
}

fn default_text(setting: &Setting) -> String {
    match setting.default {
        Fallback::Required => "none, it must be given".to_string(),
        Fallback::Absent(words) => words.to_string(),
        Fallback::Toml(text) => text.replace('\'', "\""),
        Fallback::Preset => {
            let says = |(preset, says): &(&str, &[(&str, &str)])| {
                let value = says.iter().find(|(leaf, _)| *leaf == setting.leaf()).map_or("", |(_, value)| value);
                format!("{preset} {}", value.replace('\'', "\""))
            };
            format!("by preset: {}", PRESETS.iter().map(says).collect::<Vec<_>>().join(", "))
        }
    }
}

fn named(path: &str) -> String {
    path.replace('*', "NAME")
}

fn wrap(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_string()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if line.len() + word.len() > 96 && line.len() > indent.len() {
            lines.push(format!("{indent}{word}"));
        } else {
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

/// A configuration file for a first real server, with every other setting as a comment. It parses, and without its comments says
/// only what must be said.
pub fn example() -> String {
    let mut text = String::from(
        "# Waypost's configuration. What is commented out is the default.\n# Check it with `waypost check FILE`; read more with `waypost help settings`.\n",
    );
    let tops = SECTIONS.iter().filter(|(section, _)| section.is_empty());
    for (section, about) in tops.chain(SECTIONS.iter().filter(|(section, _)| !section.is_empty())) {
        let _ = write!(text, "\n{}", wrap(about, "# "));
        text.push_str(&example_section(section));
    }
    text
}

fn example_section(section: &str) -> String {
    let body = |commented: bool| {
        let rows =
            SETTINGS.iter().filter(|s| s.section() == section && !SECTIONS.iter().any(|(name, _)| *name == s.path));
        let line = move |setting: &Setting| {
            let value = match setting.default {
                Fallback::Toml(text) => text.replace('\'', "\""),
                _ => "…".to_string(),
            };
            format!("{}{} = {value}\n", if commented { "# " } else { "" }, setting.leaf())
        };
        rows.filter(|s| !matches!(s.kind, crate::setting::Kind::Free)).map(line).collect::<String>()
    };
    match section {
        "" => format!("hostname = \"mail.example.com\"\n{}", without(&body(true), "hostname")),
        "domains" => "[domains]\nown = [\"example.com\"]\n# relay = []\n".to_string(),
        "listener.*" => format!("{}{}", EXAMPLE_LISTENERS, without(&without(&body(true), "preset"), "bind")),
        "aliases.names" => "[aliases.names]\n# postmaster = \"alice\"\n".to_string(),
        "transport" => "[transport]\n# \"example.net\" = \"smtp:[relay.example.net]\"\n".to_string(),
        "plugin.*" => format!("# [plugin.whitelist]\n{}# [plugin.whitelist.config]\n", body(true)),
        "decision.*" => format!("# [decision.default]\n{}", body(true)),
        "table.*" => format!("# [table.clients]\n{}", body(true)),
        "source.*" => format!("# [source.first]\n{}", body(true)),
        "post.*" => format!("# [post.application]\n{}", body(true)),
        "pipe.*" => format!("# [pipe.program]\n{}", body(true)),
        "smarthost.*" => format!("# [smarthost.provider]\n{}", body(true)),
        "table.*.rows" => "# [table.clients.rows]\n# \"192.0.2.1\" = \"OK\"\n".to_string(),
        "dkim.*" => format!("# [dkim.main]\n{}", body(true)),
        section => format!("[{section}]\n{}", body(true)),
    }
}

const EXAMPLE_LISTENERS: &str = "[listener.mx]
preset = \"mx\"
bind = \"*:25\"

[listener.submission]
preset = \"submission\"
bind = \"*:587\"

[listener.submissions]
preset = \"submissions\"
bind = \"*:465\"
";

fn without(body: &str, leaf: &str) -> String {
    let about = format!("# {leaf} =");
    body.lines().filter(|line| !line.starts_with(&about)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_place_in_the_manual() {
        let page = settings("").expect("all");
        for setting in SETTINGS {
            assert!(page.contains(&format!("  {}\n", named(setting.path))), "{}", setting.path);
        }
        assert!(settings("mynetworks").expect("by Postfix's name").contains("relay.networks"));
        assert!(settings("nonsense").is_none());
    }
}
