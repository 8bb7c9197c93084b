//! Denials over time.
//!
//! Owns what can honestly be drawn: a record says when it was seen first and last, not when in between.
//! So a bar counts the records whose time it touches, and of these those that were new.

use maud::{Markup, html};

use super::data::Denial;

/// How many bars.
const BARS: usize = 48;
const HEIGHT: f64 = 100.0;
const WIDTH: f64 = 10.0;

/// One part of the period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bar {
    /// Records that were seen first in it or before, and last in it or after.
    pub all: usize,
    /// Those that were seen in it for the first time.
    pub new: usize,
}

/// The bars of the time from the first record to the last.
pub fn bars(denials: &[Denial]) -> Vec<Bar> {
    let start = denials
        .iter()
        .map(|denial| denial.first)
        .fold(f64::INFINITY, f64::min);
    let end = denials
        .iter()
        .map(|denial| denial.last)
        .fold(f64::NEG_INFINITY, f64::max);
    if !start.is_finite() || !end.is_finite() {
        return Vec::new();
    }
    let width = ((end - start) / BARS as f64).max(f64::MIN_POSITIVE);
    let place = |time: f64| (((time - start) / width) as usize).min(BARS - 1);
    let mut bars = vec![Bar::default(); BARS];
    for denial in denials {
        let (first, last) = (place(denial.first), place(denial.last));
        for bar in &mut bars[first..=last.max(first)] {
            bar.all += 1;
        }
        bars[first].new += 1;
    }
    bars
}

/// The picture, with what it shows in words.
pub fn section(denials: &[Denial]) -> Markup {
    let bars = bars(denials);
    let highest = bars.iter().map(|bar| bar.all).max().unwrap_or(0);
    let height = |count: usize| HEIGHT * count as f64 / highest.max(1) as f64;
    let earliest = denials.iter().min_by(|a, b| a.first.total_cmp(&b.first));
    let latest = denials.iter().max_by(|a, b| a.last.total_cmp(&b.last));
    html! {
        section id="time" {
            h2 { "Denials over time" }
            @if let (Some(earliest), Some(latest)) = (earliest, latest) {
                p.soft {
                    "Kinds of denial that each part of the period touches, at most " (highest)
                    ". In the stronger colour: seen for the first time."
                }
                svg role="img" aria-label="Denials over time" preserveAspectRatio="none"
                    viewBox=(format!("0 0 {} {HEIGHT}", BARS as f64 * WIDTH)) {
                    @for (place, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.all > 0) {
                        @let left = place as f64 * WIDTH + 1.0;
                        rect.all x=(left) y=(HEIGHT - height(bar.all)) width=(WIDTH - 2.0) height=(height(bar.all)) {
                            title { (bar.all) " seen, " (bar.new) " new" }
                        }
                        rect.new x=(left) y=(HEIGHT - height(bar.new)) width=(WIDTH - 2.0) height=(height(bar.new)) {}
                    }
                }
                div.axis { span { (earliest.first_seen) } span { (latest.last_seen) } }
            } @else {
                p { "Nothing has been recorded." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(first: f64, last: f64) -> Denial {
        Denial {
            first,
            last,
            ..Denial::default()
        }
    }

    #[test]
    fn a_bar_counts_what_touches_it() {
        let bars = bars(&[denial(0.0, 48.0), denial(24.0, 24.5), denial(48.0, 48.0)]);
        assert_eq!(bars.len(), BARS);
        assert_eq!(bars[0], Bar { all: 1, new: 1 });
        assert_eq!(bars[24], Bar { all: 2, new: 1 });
        assert_eq!(bars[25], Bar { all: 1, new: 0 });
        assert_eq!(bars[47], Bar { all: 2, new: 1 });
        assert_eq!(bars.iter().map(|bar| bar.new).sum::<usize>(), 3);
    }

    #[test]
    fn a_moment_and_nothing_are_drawn_too() {
        assert_eq!(bars(&[denial(5.0, 5.0)])[0], Bar { all: 1, new: 1 });
        assert!(bars(&[]).is_empty());
        assert!(bars(&[denial(f64::NAN, f64::NAN)]).is_empty());
        assert!(
            section(&[])
                .into_string()
                .contains("Nothing has been recorded.")
        );
        // Clocks may step back.
        assert_eq!(
            bars(&[denial(5.0, 3.0)])
                .iter()
                .map(|bar| bar.all)
                .sum::<usize>(),
            1
        );
    }
}
