//! The arithmetic of weighted operations, which is that of C: whole numbers wrap around.

use super::content::Content;

/// A type of values that are numbers.
pub trait Number: Content + Copy {
    /// 1.
    const ONE: Self;
    /// `self * weight`.
    #[must_use]
    fn times(self, weight: Self) -> Self;
    /// `self + other`.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Number for $type {
            const ONE: Self = 1;

            fn times(self, weight: Self) -> Self {
                self.wrapping_mul(weight)
            }

            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    )* };
}

whole_numbers!(i32, i64, u32, u64);

impl Number for f32 {
    const ONE: Self = 1.0;

    fn times(self, weight: Self) -> Self {
        self * weight
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }
}
