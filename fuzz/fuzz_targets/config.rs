//! Settings, as `--set` has them: a line each, over the demo site. Asserts: no panic; what is wrong is told with a place and a remedy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_config::{Source, Surroundings, load};

fuzz_target!(|input: &str| {
    // Files of the machine are not the matter here, and some have no end.
    if input.contains("file") || input.contains('/') || input.lines().count() > 12 {
        return;
    }
    let overrides: Vec<String> = input.lines().map(str::to_string).collect();
    let surroundings = Surroundings {
        folder: "/nonexistent".into(),
        hostname: Some("mx.example.com".into()),
        ..Surroundings::default()
    };
    if let Err(mistakes) = load(&Source::Demo, &overrides, &surroundings) {
        assert!(!mistakes.0.is_empty());
        for mistake in &mistakes.0 {
            assert!(!mistake.problem.is_empty() && !mistake.remedy.is_empty(), "{mistake:?}");
        }
    }
});
