//! A different part each day of what is too much for one run: it changes by the date alone, so that a run can be had
//! again.

/// Days since 1970.
pub fn today() -> usize {
    (jiff::Timestamp::now().as_second() / (24 * 60 * 60)) as usize
}

/// At most `count` numbers below `all`: evenly from first to last, since neighbours are alike, and the next ones on the
/// next day, so that all have their turn.
pub fn of_day(all: usize, count: usize, day: usize) -> impl Iterator<Item = usize> {
    let turns = all.div_ceil(count.max(1));
    (0..all).filter(move |n| n % turns == day % turns)
}

/// Today's part of a list.
pub fn part<T>(list: Vec<T>, count: u64) -> Vec<T> {
    let mut today = of_day(list.len(), count as usize, today()).peekable();
    list.into_iter().enumerate().filter(|(n, _)| today.next_if_eq(n).is_some()).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::{of_day, part};

    fn all_turns(all: usize, count: usize) -> Vec<Vec<usize>> {
        (0..all.div_ceil(count)).map(|day| of_day(all, count, 20_000 + day).collect()).collect()
    }

    #[test]
    fn each_day_has_a_few_and_all_days_have_all() {
        for (all, count) in [(86, 6), (7, 3), (3, 5), (1, 1)] {
            let turns = all_turns(all, count);
            assert!(turns.iter().all(|turn| !turn.is_empty() && turn.len() <= count), "{turns:?}");
            let mut seen = turns.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..all).collect::<Vec<_>>());
        }
        assert!(of_day(7, 3, 4).eq([1, 4]));
        let part = part((0..17).collect(), 6);
        assert!(part.len() >= 5 && part.windows(2).all(|pair| pair[1] == pair[0] + 3), "{part:?}");
    }
}
