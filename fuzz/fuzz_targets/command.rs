//! A command line and the arguments of MAIL, RCPT and BDAT. Asserts: no panic; what is cut as a line holds no line end; parameters
//! that were taken hold no control characters; xtext survives encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_smtp::command::{self, Kind};
use waypost_smtp::extension::{Extension, ExtensionSet};
use waypost_smtp::line::{self, Cut};
use waypost_smtp::{bdat::Chunk, parameter, path};
use waypost_types::Timestamp;

fuzz_target!(|input: &[u8]| {
    let text = match line::cut(input, 2048) {
        Cut::Line { text, whole, .. } => {
            assert!(text < whole && whole <= input.len() && !input[..text].contains(&b'\n'));
            &input[..text]
        }
        Cut::Partial => return assert!(input.len() < 2048),
        Cut::Overlong { text, whole, .. } => return assert!(text <= whole && whole <= input.len()),
    };
    let Ok(command) = command::parse(text) else { return };
    let offered = Extension::ALL.into_iter().fold(ExtensionSet::EMPTY, ExtensionSet::with);
    match command.verb.kind {
        Kind::Mail => {
            let Ok(parsed) = path::reverse(command.argument, false) else { return };
            if let Ok(p) = parameter::mail(parsed.parameters, offered, Some(Timestamp(1_795_500_670_000))) {
                clean(p.envelope_id.as_deref());
                clean(p.auth.as_deref());
                assert!((-9..=9).contains(&p.priority));
            }
        }
        Kind::Rcpt => {
            let Ok(parsed) = path::forward(command.argument, false) else { return };
            if let Ok(p) = parameter::rcpt(parsed.parameters, offered) {
                clean(p.original.as_deref());
            }
        }
        Kind::Bdat => {
            if let Some(chunk) = Chunk::parse(command.argument) {
                assert_eq!(chunk.size, chunk.left);
            }
        }
        _ => {}
    }
});

fn clean(text: Option<&str>) {
    let Some(text) = text else { return };
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(parameter::xtext(&parameter::to_xtext(text)).as_deref(), Some(text));
}
