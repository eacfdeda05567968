//! `[checks]` and `listener.*.checks`: what each port makes of the built-in checks. The port's word comes first, then that of all ports, then
//! the preset's.

use waypost_types::Transport;
use waypost_types::checks::{Action, Actions, CHECKS, Check};

use crate::lookup;
use crate::mistake::{Mistake, Place, nearest};
use crate::model::Checks;
use crate::sheet::Sheet;

/// The settings that name access tables.
pub(crate) const ACCESS: [&str; 4] = ["client-access", "helo-access", "sender-access", "recipient-access"];

/// Tells what is wrong with the checks of all ports, and with those of each listener.
pub(crate) fn check(sheet: &Sheet, mistakes: &mut Vec<Mistake>) {
    for about in CHECKS {
        let path = format!("checks.{}", about.word);
        if let Some(text) = sheet.text(&path) {
            action(about.check, text, &path, &sheet.place(&path), mistakes);
        }
    }
    for leaf in ACCESS {
        lookup::named(sheet, &format!("checks.{leaf}"), mistakes);
    }
    let tables: Vec<&str> = sheet.names("table").iter().map(|(name, _)| name.as_str()).collect();
    for (name, _) in sheet.names("listener") {
        let path = format!("listener.{name}.checks");
        for (key, values, place) in sheet.map(&path) {
            let full = format!("{path}.{key}");
            if ACCESS.contains(&key) {
                let missing = values.iter().filter(|value| !tables.contains(value));
                mistakes.extend(missing.map(|value| lookup::unknown(place.clone(), &full, value, &tables)));
            } else if let Some(check) = Check::named(key) {
                action(check, &values.join(", "), &full, place, mistakes);
            } else {
                let known: Vec<&str> = CHECKS.iter().map(|about| about.word).chain(ACCESS).collect();
                let remedy = match nearest(key, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the checks are {}", known.join(", ")),
                };
                mistakes.push(Mistake::new(place.clone(), format!("`{full}` is no check"), remedy));
            }
        }
    }
}

fn action(check: Check, text: &str, path: &str, place: &Place, mistakes: &mut Vec<Mistake>) -> Option<Action> {
    match Action::parse(check, text) {
        Ok(action) => Some(action),
        Err(why) => {
            let remedy = format!("the default when it fails is: {}", check.reply());
            mistakes.push(Mistake::new(place.clone(), format!("`{path}`: {why}"), remedy));
            None
        }
    }
}

/// The checks of a listener. Everything was checked.
pub(crate) fn build(sheet: &Sheet, listener: &str, transport: Transport) -> Checks {
    let mut actions = Actions::preset(transport);
    for about in CHECKS {
        let given = sheet.text(&format!("checks.{}", about.word));
        if let Some(action) = given.and_then(|text| Action::parse(about.check, text).ok()) {
            actions.set(about.check, action);
        }
    }
    let texts = |leaf: &str| -> Vec<String> {
        sheet.texts(&format!("checks.{leaf}")).unwrap_or_default().into_iter().map(str::to_string).collect()
    };
    let mut access = ACCESS.map(texts);
    for (key, values, _) in sheet.map(&format!("listener.{listener}.checks")) {
        if let Some(at) = ACCESS.iter().position(|leaf| *leaf == key) {
            access[at] = values.into_iter().map(str::to_string).collect();
        } else if let Some(check) = Check::named(key)
            && let Ok(action) = Action::parse(check, &values.join(", "))
        {
            actions.set(check, action);
        }
    }
    let [client, helo, sender, recipient] = access;
    Checks { actions, client, helo, sender, recipient }
}
