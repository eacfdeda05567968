//! A plugin's settings: its table of the configuration, as the host hands it over (JSON).

use serde::de::DeserializeOwned;

use crate::Host;

/// Reads this plugin's settings. The error names the setting by its path (`lists[1].weight: …`), so that an operator finds it.
pub fn settings<T: DeserializeOwned>(host: &Host) -> Result<T, String> {
    parse_settings(&host.env().config())
}

/// The same from a text; no text at all is an empty table.
pub fn parse_settings<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner().to_string();
        // The position in a JSON text that nobody wrote by hand helps nobody.
        let cause = cause.split(" at line ").next().unwrap_or_default();
        if path == "." { cause.to_string() } else { format!("{path}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        lists: Vec<Inner>,
    }

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        weight: f64,
    }

    fn error(text: &str) -> String {
        parse_settings::<Outer>(text).unwrap_err()
    }

    #[test]
    fn errors_name_the_setting() {
        assert!(parse_settings::<Outer>("").unwrap().lists.is_empty());
        assert_eq!(
            error(r#"{"lists": [{"weight": 1}, {"weight": "x"}]}"#),
            "lists[1].weight: invalid type: string \"x\", expected f64"
        );
        assert!(
            error(r#"{"lists": [{"wait": 1}]}"#).starts_with("lists[0].wait: unknown field"),
            "{}",
            error(r#"{"lists": [{"wait": 1}]}"#)
        );
        assert!(error(r#"{"lists": [{}]}"#).contains("missing field `weight`"));
    }
}
