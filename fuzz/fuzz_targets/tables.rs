//! The text formats of tables: the first octet chooses one. Asserts: no panic; mistakes stand in lines that are there; what a table has
//! read it finds again.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use waypost_route::{
    CidrTable, Dialect, Networks, RegexpTable, TextTable, parse_aliases, parse_table, parse_targets, parse_transports,
    parse_virtual,
};

fuzz_target!(|input: &[u8]| {
    let [kind, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let lines = text.lines().count() as u32;
    let told =
        |mistakes: Vec<waypost_route::Mistake>| mistakes.iter().for_each(|one| assert!(one.line <= lines, "{one:?}"));
    match kind % 8 {
        0 => match TextTable::parse(text) {
            Ok(table) => {
                // A row may be a key alone there, which is a mistake here.
                for row in parse_table(text).unwrap_or_default() {
                    let address = row.key.parse::<IpAddr>().is_ok();
                    assert!(address || row.key.contains('/') || table.find(&row.key).is_some(), "{row:?}");
                }
            }
            Err(mistakes) => told(mistakes),
        },
        1 => parse_virtual(text)
            .map_or_else(told, |aliases| aliases.iter().for_each(|one| assert!(!one.targets.is_empty()))),
        2 => {
            let include =
                |path: &str| if path.len() < 4 { Ok("a, b".to_string()) } else { Err("no such file".to_string()) };
            parse_aliases(text, include)
                .map_or_else(told, |all| all.iter().for_each(|one| assert!(!one.targets.is_empty())));
        }
        3 => match CidrTable::parse(text) {
            Ok(table) => ["192.0.2.7", "::1", "::ffff:192.0.2.7"].iter().for_each(|text| {
                table.find(text.parse().expect("an address"));
            }),
            Err(mistakes) => told(mistakes),
        },
        dialect @ (4 | 5) => {
            let dialect = if dialect == 4 { Dialect::Pcre } else { Dialect::Posix };
            match RegexpTable::parse(text, dialect) {
                Ok(table) => ["", "user@example.com", "x.y$1-ü"].iter().for_each(|key| {
                    table.find(key);
                }),
                Err(mistakes) => told(mistakes),
            }
        }
        6 => parse_transports(text).map_or_else(told, drop),
        _ => {
            let _ = parse_targets(text);
            let _ = Networks::parse(text.lines());
        }
    }
});
