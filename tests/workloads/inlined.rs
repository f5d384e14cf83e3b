//! As inlined.c, in Rust: generics, iterators and closures.

#[inline(always)]
fn innermost<T: Into<u64>>(value: T) -> u64 {
    let value: u64 = value.into();
    (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

#[inline(always)]
fn middle(value: u64, rounds: u64) -> u64 {
    (0..rounds).fold(value, |sum, round| innermost(sum.wrapping_add(round)))
}

struct Basket {
    seed: u64,
}

impl Basket {
    #[inline(never)]
    fn total(&self, prices: &[u64]) -> u64 {
        let priced = prices.iter().map(|price| middle(self.seed ^ price, price & 7));
        priced.fold(0, |sum, price| sum.wrapping_add(price).wrapping_add(innermost(3_u32)))
    }
}

fn main() {
    let seed = std::env::args().count() as u64 + 6;
    let mut prices: Vec<u64> = (0..100).map(|step| step * seed).collect();
    prices.sort_by_key(|price| std::cmp::Reverse(price % 17));
    println!("{}", Basket { seed }.total(&prices));
}
