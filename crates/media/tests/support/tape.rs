//! Choices drawn from numbers that proptest made, so that what fails is made smaller by it.

/// A row of choices; when it is used up, every choice is the first one.
#[derive(Clone, Debug)]
pub struct Tape {
    numbers: Vec<u32>,
    at: usize,
}

impl Tape {
    pub fn new(numbers: Vec<u32>) -> Self {
        Self { numbers, at: 0 }
    }

    pub fn word(&mut self) -> u32 {
        let word = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        word
    }

    /// A number below `count`.
    pub fn below(&mut self, count: u32) -> u32 {
        if count == 0 { 0 } else { self.word() % count }
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u32) as i32
    }

    /// True once in `times`; false when the tape is used up.
    pub fn one_in(&mut self, times: u32) -> bool {
        self.word() % times == times - 1
    }

    pub fn flag(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }
}
