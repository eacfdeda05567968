//! What the counters of tokens come to: an estimate of each, and Fisher's combination of the strongest.
//!
//! Each token's share among spam and among ham is drawn towards its share among all mail, as if some more messages had been
//! learned of each kind: a word seen once says less if that was in the kind of which much more has been learned. (Robinson's
//! estimate draws both towards one half alike; it left two and a half times as much spam below one half.) Pairs of neighbouring
//! words are far from independent, so the statistic counts a tenth of a degree of freedom for each token (Robinson's effective size,
//! as Bogofilter has it): unsure stays unsure.

/// Messages learned as spam and as ham: all, or those with a token.
pub type Pair = (u32, u32);

/// How far shares are drawn together, in parts of the smaller kind.
const DRAWN: f64 = 0.1;
/// How much one half weighs against what was seen, in messages.
const DOUBT: f64 = 0.02;
/// Tokens nearer to one half than this say nothing.
const DEVIATION_MIN: f64 = 0.1;
/// The strongest so many are combined.
const STRONGEST: usize = 300;
/// Degrees of freedom for each token, halved.
const EFFECTIVE: f64 = 0.1;
/// Fewer known tokens say nothing.
const TOKENS_MIN: usize = 10;

/// How likely spam is, from 0 to 1; `None` where too little is known.
pub fn classify(learned: Pair, counters: &[Pair], scratch: &mut Vec<f32>) -> Option<f64> {
    scratch.clear();
    let estimate = estimator(learned);
    let known = counters.iter().filter(|(spam, ham)| spam | ham != 0);
    scratch.extend(known.map(estimate).filter(|estimate| (estimate - 0.5).abs() >= DEVIATION_MIN as f32));
    if scratch.len() > STRONGEST {
        scratch.select_nth_unstable_by(STRONGEST, |a, b| (b - 0.5).abs().total_cmp(&(a - 0.5).abs()));
        scratch.truncate(STRONGEST);
    }
    if scratch.len() < TOKENS_MIN {
        return None;
    }
    Some(combine(scratch))
}

/// How likely a message with a token is spam, both kinds being equally frequent.
fn estimator((spam, ham): Pair) -> impl Fn(&Pair) -> f32 {
    let (spam, ham) = (f64::from(spam.max(1)), f64::from(ham.max(1)));
    let more = DRAWN * spam.min(ham);
    move |&(in_spam, in_ham)| {
        let seen = f64::from(in_spam) + f64::from(in_ham);
        let drawn = more * seen / (spam + ham);
        let as_spam = (f64::from(in_spam) + drawn) / (spam + more);
        let as_ham = (f64::from(in_ham) + drawn) / (ham + more);
        ((DOUBT * 0.5 + seen * as_spam / (as_spam + as_ham)) / (DOUBT + seen)) as f32
    }
}

/// Fisher's method for both kinds, and Robinson's indicator of the two.
fn combine(estimates: &[f32]) -> f64 {
    let (for_spam, for_ham) = estimates
        .chunks(PRODUCT_MAX)
        .map(|some| some.iter().fold((1.0, 1.0), |(a, b), &e| (a * f64::from(e), b * (1.0 - f64::from(e)))))
        .fold((0.0, 0.0), |(a, b), (c, d): (f64, f64)| (a + c.ln(), b + d.ln()));
    let half = (estimates.len() as f64 * EFFECTIVE).round().max(1.0) as u32;
    let (low, high) = (chi_tail(-for_spam * EFFECTIVE, half), chi_tail(-for_ham * EFFECTIVE, half));
    (1.0 + low - high) / 2.0
}

/// Logarithms are slow: so many estimates, none of which is nearer to 0 than a ten-thousandth, are multiplied first.
const PRODUCT_MAX: usize = 30;

/// The upper tail of chi-square with twice `half` degrees of freedom, at twice `x`.
fn chi_tail(x: f64, half: u32) -> f64 {
    let mut term = (-x).exp();
    let mut sum = term;
    for at in 1..half {
        term *= x / f64::from(at);
        sum += term;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counters: &[Pair]) -> Option<f64> {
        classify((400, 2000), counters, &mut Vec::new())
    }

    #[test]
    fn agreement_is_certain_and_disagreement_is_not() {
        assert!(of(&[(40, 0); 60]).unwrap() > 0.99);
        assert!(of(&[(0, 200); 60]).unwrap() < 0.01);
        let torn = of(&[[(40, 0); 30], [(0, 200); 30]].concat()).unwrap();
        assert!((0.3..0.7).contains(&torn), "{torn}");
    }

    #[test]
    fn a_word_seen_once_in_the_larger_kind_says_less() {
        let estimate = estimator((400, 2000));
        let (once_ham, once_spam) = (estimate(&(0, 1)), estimate(&(1, 0)));
        assert!(once_ham > 0.05 && once_ham > 5.0 * (1.0 - once_spam), "{once_ham} {once_spam}");
        assert!((estimate(&(40, 200)) - 0.5).abs() < 0.01, "equally frequent");
    }

    #[test]
    fn few_or_unknown_tokens_are_no_opinion() {
        assert_eq!(of(&[(40, 0); 9]), None);
        assert_eq!(of(&[(0, 0); 900]), None);
        assert_eq!(of(&[(40, 200); 900]), None);
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        // Upper 5 % points of chi-square: 5.991 at 2 degrees of freedom, 18.307 at 10.
        assert!((chi_tail(5.991 / 2.0, 1) - 0.05).abs() < 1e-3);
        assert!((chi_tail(18.307 / 2.0, 5) - 0.05).abs() < 1e-3);
        assert!((chi_tail(0.0, 5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn extremes_neither_overflow_nor_vanish() {
        let p = of(&[(u32::MAX, 0); 1500]).unwrap();
        assert!(p > 0.99 && p <= 1.0);
    }
}
