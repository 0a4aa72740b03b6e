//! Shrinking: the fewest items of a failing schedule that still fail.

/// Leaves out one item after the other for as long as the rest still fails. Every item of the result is needed.
pub fn fewest<T: Clone>(mut items: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    loop {
        let before = items.len();
        items = without_pieces(items, 1, &fails);
        if items.len() == before {
            return items;
        }
    }
}

/// Leaves out halves first, then smaller pieces, down to single items, once: fewer runs than [`fewest`] for long
/// schedules. Call it until the result stays the same to have every item needed.
pub fn fewest_in_pieces<T: Clone>(mut items: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut piece = items.len().div_ceil(2);
    while piece > 0 {
        items = without_pieces(items, piece, &fails);
        piece /= 2;
    }
    items
}

fn without_pieces<T: Clone>(mut items: Vec<T>, piece: usize, fails: &impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut index = 0;
    while index < items.len() {
        let mut left = items.clone();
        left.drain(index..(index + piece).min(items.len()));
        if fails(&left) {
            items = left;
        } else {
            index += piece;
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_still_fails_and_every_item_of_it_is_needed() {
        let fails = |items: &[u32]| items.contains(&3) && items.contains(&90);
        for shrunk in [fewest((0..100).collect(), fails), fewest_in_pieces((0..100).collect(), fails)] {
            assert_eq!(shrunk, [3, 90]);
        }
        assert_eq!(fewest(vec![1, 2], |_| false), [1, 2]);
        assert_eq!(fewest_in_pieces(Vec::<u32>::new(), |_| true), []);
    }
}
