//! `[decision.*]`: thresholds for what plugins state, checked together: no two sections may speak of the same mail.

use waypost_types::Domain;

use crate::mistake::{Mistake, nearest};
use crate::model::Decision;
use crate::sheet::Sheet;

const THRESHOLDS: [&str; 5] = ["header-at", "subject-at", "greylist-at", "hold-at", "refuse-at"];

/// What is wrong with the sections.
pub(crate) fn check(sheet: &Sheet, mistakes: &mut Vec<Mistake>) {
    let sections = build(sheet);
    let listeners: Vec<&str> = sheet.names("listener").iter().map(|(name, _)| name.as_str()).collect();
    for (index, section) in sections.iter().enumerate() {
        let at = |leaf: &str| format!("decision.{}.{leaf}", section.name);
        let mut say = |leaf: &str, problem: String, remedy: String| {
            mistakes.push(Mistake::new(sheet.place(&at(leaf)), problem, remedy));
        };
        if THRESHOLDS.iter().all(|leaf| sheet.weight(&at(leaf)).is_none() && !sheet.is_misread(&at(leaf))) {
            let problem = format!("[decision.{}] decides nothing", section.name);
            say("header-at", problem, format!("set one of {}, or take the section out", THRESHOLDS.join(", ")));
        }
        for name in section.listeners.iter().filter(|name| !listeners.contains(&name.as_str())) {
            let remedy = match nearest(name, listeners.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("there are {}", listeners.join(", ")),
            };
            say("listeners", format!("`{}` names {name}, which is no listener", at("listeners")), remedy);
        }
        if let Some(other) = sections[..index].iter().find(|other| overlap(section, other)) {
            let problem = format!("[decision.{}] and [decision.{}] speak of the same mail", other.name, section.name);
            say("domains", problem, "give them different `domains` or `listeners`, or join them".into());
        }
    }
}

/// Whether some mail has both sections' thresholds. One with listeners stands before one without.
fn overlap(one: &Decision, other: &Decision) -> bool {
    let shares =
        |a: &[Domain], b: &[Domain]| (a.is_empty() && b.is_empty()) || a.iter().any(|domain| b.contains(domain));
    let ports = match (one.listeners.is_empty(), other.listeners.is_empty()) {
        (true, true) => true,
        (false, false) => one.listeners.iter().any(|name| other.listeners.contains(name)),
        _ => false,
    };
    ports && shares(&one.domains, &other.domains)
}

/// The sections as they are.
pub(crate) fn build(sheet: &Sheet) -> Vec<Decision> {
    let section = |name: &str| {
        let at = |leaf: &str| format!("decision.{name}.{leaf}");
        let text = |leaf: &str| sheet.text(&at(leaf)).unwrap_or_default().to_string();
        let weight = |leaf: &str| sheet.weight(&at(leaf));
        Decision {
            name: name.to_string(),
            domains: sheet.domains(&at("domains")),
            listeners: sheet.texts(&at("listeners")).unwrap_or_default().into_iter().map(str::to_string).collect(),
            header: weight("header-at"),
            subject: weight("subject-at"),
            tag: text("tag"),
            greylist: weight("greylist-at"),
            hold: weight("hold-at"),
            refuse: weight("refuse-at"),
            text: text("text"),
        }
    };
    sheet.names("decision").iter().map(|(name, _)| section(name)).collect()
}
