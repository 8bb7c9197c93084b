//! Contenders that take turns.

use anyhow::Result;

use super::stats::Summary;

/// Something to measure beside others.
pub(crate) struct Contender<'a> {
    /// How often it gets its turn, where that is less often than the others.
    at_most: usize,
    run: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` takes one sample.
    pub fn new(run: impl FnMut() -> Result<f64> + 'a) -> Contender<'a> {
        Contender {
            at_most: usize::MAX,
            run: Box::new(run),
        }
    }

    /// Lets it sit out all but the first rounds.
    pub fn at_most(mut self, rounds: usize) -> Contender<'a> {
        self.at_most = rounds;
        self
    }
}

/// One turn of everybody that does not count, then the rounds; summaries in the contenders' order.
pub(crate) fn interleave(rounds: usize, mut contenders: Vec<Contender>) -> Result<Vec<Summary>> {
    let mut samples = vec![Vec::new(); contenders.len()];
    for contender in &mut contenders {
        (contender.run)()?;
    }
    for round in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            if round < contender.at_most {
                samples.push((contender.run)()?);
            }
        }
    }
    Ok(samples.into_iter().map(Summary::of).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{Contender, interleave};

    #[test]
    fn contenders_take_turns_after_a_warm_up() {
        let order = RefCell::new(String::new());
        let contender = |name: char| {
            let order = &order;
            Contender::new(move || {
                order.borrow_mut().push(name);
                Ok(order.borrow().len() as f64)
            })
        };
        let slow = contender('s').at_most(1);
        let summaries = interleave(2, vec![contender('a'), slow]).expect("nothing fails");
        assert_eq!(order.into_inner(), "asasa");
        assert_eq!(summaries[0].samples, [3.0, 5.0]);
        assert_eq!(summaries[1].samples, [4.0]);
    }
}
