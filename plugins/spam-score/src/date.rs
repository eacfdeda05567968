//! Reading dates of mail (RFC 5322 §3.3), obsolete zones included.

/// Seconds since 1970 of a `Date` value; `None` if it is none.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.split_once(',').filter(|(day, _)| day.trim().len() <= 9).map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace();
    let mut day = words.next()?;
    // `Thu 22 Aug 2002`: the comma is sometimes forgotten.
    if day.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        day = words.next()?;
    }
    let day: i64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = month(words.next()?)?;
    let year = year(words.next()?)?;
    let seconds = clock(words.next()?)?;
    let zone = words.next().map_or(Some(0), zone)?;
    Some(days(year, month, day) * 86_400 + seconds - zone)
}

fn month(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let head = word.get(..3)?;
    MONTHS.iter().position(|month| month.eq_ignore_ascii_case(head)).map(|at| at as i64 + 1)
}

/// Two digits mean what RFC 5322 §4.3 says.
fn year(word: &str) -> Option<i64> {
    let year: i64 = word.parse().ok()?;
    match word.len() {
        2 if year < 50 => Some(2000 + year),
        2 | 3 => Some(1900 + year),
        4 if year >= 1900 => Some(year),
        _ => None,
    }
}

fn clock(word: &str) -> Option<i64> {
    let mut parts = word.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let fine =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0..61).contains(&second) && parts.next().is_none();
    fine.then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds east of Greenwich. Unknown names mean nothing (RFC 5322 §4.3).
fn zone(word: &str) -> Option<i64> {
    let digits = word.strip_prefix(['+', '-']);
    if let Some(digits) = digits {
        let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
        let seconds = (number / 100 * 60 + number % 100) * 60;
        return (seconds <= 14 * 3600).then_some(if word.starts_with('-') { -seconds } else { seconds });
    }
    let hours = match word.to_ascii_uppercase().as_str() {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => 0,
    };
    Some(hours * 3600)
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_as_mail_has_them() {
        let expected = Some(1_030_033_585);
        for text in [
            "Thu, 22 Aug 2002 12:26:25 -0400",
            "22 Aug 2002 16:26:25 GMT",
            "Thu, 22 Aug 02 12:26:25 EDT",
            "Thu 22 August 2002 18:26:25 +0200 (CEST)",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("1 Jan 1970 00:00 +0000"), Some(0));
        assert_eq!(parse("29 Feb 2024 00:00:00 +0000"), Some(1_709_164_800));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "yesterday",
            "Thu, 32 Aug 2002 12:26:25 -0400",
            "22 Foo 2002 1:2:3",
            "22 Aug 20020 1:2:3",
            "22 Aug 2002 25:00:00",
            "22 Aug 2002 12:26:25 +9999",
            "2002-08-22",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
