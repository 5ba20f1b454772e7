//! What a sequence has behind it, as graphs take it: f32, head by head, from position 0 on.
//!
//! A graph wants all keys and values of the past with every run. Copying them each time would take longer than many a
//! run, so they stay, and only what is new since the last run is fetched from the [`Cache`]. Whoever overwrites a token
//! there says so by [`Staging::forget`].

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use troika_device::{KvShape, PAGE_TOKENS};

use super::cache::Cache;
use crate::exec::{Data, Tensor};

/// Keys and values of one sequence.
pub(super) struct Staging {
    shape: KvShape,
    /// Tokens that there is room for.
    room: usize,
    /// Keys and values of each layer, `[1, n_head_kv, room, head_dim]`.
    tensors: Vec<Tensor>,
    pages: Vec<usize>,
    n_tok: usize,
    /// The first token with a value that is infinite or none. A graph multiplies what is masked by 0, which does not make
    /// 0 of these.
    poisoned: Option<usize>,
}

impl Staging {
    pub(super) fn new(shape: KvShape, room: usize) -> Self {
        let tensor = || Tensor::zeros([1, shape.n_head_kv, room, shape.head_dim]);
        Self {
            shape,
            room,
            tensors: std::iter::repeat_with(tensor)
                .take(2 * shape.n_layer)
                .collect(),
            pages: Vec::new(),
            n_tok: 0,
            poisoned: None,
        }
    }

    /// Layer by layer, keys before values.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter()
    }

    /// Of a sequence on these pages, how many of its first tokens are here.
    pub(super) fn holds(&self, pages: &[usize]) -> usize {
        let same = std::iter::zip(&self.pages, pages);
        let same = same.take_while(|(have, want)| have == want).count();
        self.n_tok.min(same * PAGE_TOKENS)
    }

    /// As [`Self::holds`], if nothing else is here that would be lost.
    pub(super) fn holds_alone(&self, pages: &[usize]) -> Option<usize> {
        let held = self.holds(pages);
        (held == self.n_tok).then_some(held)
    }

    /// Whoever stands on this page has another token there, from some place on.
    pub(super) fn forget(&mut self, page: usize, place: usize) {
        if let Some(at) = self.pages.iter().position(|&have| have == page) {
            self.n_tok = self.n_tok.min(at * PAGE_TOKENS + place);
        }
    }

    /// Fetches what is lacking of a sequence's first `n_tok` tokens. `order` puts a head's key into the graph's order.
    ///
    /// # Panics
    /// If there is no room for so many.
    pub(super) fn bring(
        &mut self,
        cache: &Cache,
        pages: &[usize],
        n_tok: usize,
        order: impl Fn(&[f16], &mut [f16]),
    ) {
        assert!(
            n_tok <= self.room,
            "{n_tok} tokens, and room for {}",
            self.room
        );
        let mut held = self.holds(pages).min(n_tok);
        if self.poisoned.is_some_and(|at| at >= held) {
            *self = Self::new(self.shape, self.room);
            held = 0;
        }
        self.pages.clear();
        self.pages
            .extend_from_slice(&pages[..n_tok.div_ceil(PAGE_TOKENS)]);
        for position in held..n_tok {
            self.place(position, cache.token(pages, position), &order);
        }
        self.n_tok = n_tok;
    }

    fn place(&mut self, position: usize, token: &[f16], order: impl Fn(&[f16], &mut [f16])) {
        let KvShape {
            n_head_kv,
            head_dim,
            ..
        } = self.shape;
        if self.poisoned.is_none() && token.iter().any(|value| !value.is_finite()) {
            self.poisoned = Some(position);
        }
        let mut ordered = vec![f16::ZERO; head_dim];
        let parts = token.chunks_exact(n_head_kv * head_dim);
        for (i, (tensor, part)) in self.tensors.iter_mut().zip(parts).enumerate() {
            let Data::F32(values) = &mut tensor.data else {
                unreachable!("they are made as floats. This is a bug.");
            };
            for (head, from) in part.chunks_exact(head_dim).enumerate() {
                let to = &mut values[(head * self.room + position) * head_dim..][..head_dim];
                match i % 2 {
                    0 => {
                        order(from, &mut ordered);
                        ordered.convert_to_f32_slice(to);
                    }
                    _ => from.convert_to_f32_slice(to),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KvShape = KvShape {
        n_layer: 2,
        n_head_kv: 3,
        head_dim: 4,
        kv_type: troika_base::KvType::F16,
    };

    fn reversed(from: &[f16], to: &mut [f16]) {
        to.copy_from_slice(from);
        to.reverse();
    }

    /// Every value of a cache says where it lies.
    fn cache(n_page: usize) -> Cache {
        let mut cache = Cache::new(SHAPE, n_page);
        let pages: Vec<usize> = (0..n_page).collect();
        for position in 0..n_page * PAGE_TOKENS {
            for (i, value) in cache.token_mut(&pages, position).iter_mut().enumerate() {
                *value = f16::from_f32((position * 48 + i) as f32 / 16.0);
            }
        }
        cache
    }

    /// The tokens that are staged are those of the cache, each value at its place.
    fn check(staging: &Staging, cache: &Cache, pages: &[usize], n_tok: usize) {
        for position in 0..n_tok {
            let token = cache.token(pages, position);
            for (i, tensor) in staging.tensors().enumerate() {
                let have = tensor.as_f32().unwrap();
                for head in 0..3 {
                    for value in 0..4 {
                        let from = if i % 2 == 0 { 3 - value } else { value };
                        let want = token[i * 12 + head * 4 + from].to_f32();
                        let have = have[(head * staging.room + position) * 4 + value];
                        assert_eq!(have, want, "position {position}, tensor {i}, head {head}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_what_is_lacking_is_fetched_and_nothing_stale_stays() {
        let mut cache = cache(4);
        let mut staging = Staging::new(SHAPE, 70);
        let pages = [3, 0, 1];
        staging.bring(&cache, &pages, 40, reversed);
        check(&staging, &cache, &pages, 40);
        assert_eq!((staging.holds(&pages), staging.holds(&[3, 2])), (40, 32));

        // A neighbour that shares the first page, and the first sequence again.
        staging.bring(&cache, &[3, 2], 50, reversed);
        check(&staging, &cache, &[3, 2], 50);
        assert_eq!(staging.holds(&pages), 32);
        staging.bring(&cache, &pages, 70, reversed);
        check(&staging, &cache, &pages, 70);

        // What is overwritten is fetched again, and nothing before it.
        cache.token_mut(&pages, 35).fill(f16::NEG_ONE);
        staging.forget(0, 3);
        assert_eq!(staging.holds(&pages), 35);
        staging.forget(2, 0);
        assert_eq!(staging.holds(&pages), 35);
        staging.bring(&cache, &pages, 36, reversed);
        check(&staging, &cache, &pages, 36);
    }

    /// A mask hides what is finite alone, so a neighbour's overflow must not be left behind.
    #[test]
    fn what_is_no_number_stays_with_its_sequence() {
        let mut cache = cache(2);
        cache.token_mut(&[0], 9)[5] = f16::INFINITY;
        let mut staging = Staging::new(SHAPE, 32);
        staging.bring(&cache, &[0], 20, reversed);
        check(&staging, &cache, &[0], 20);
        // Before and behind that token.
        staging.forget(0, 4);
        staging.bring(&cache, &[0], 4, reversed);
        let finite = |tensor: &Tensor| {
            tensor
                .as_f32()
                .unwrap()
                .iter()
                .all(|value| value.is_finite())
        };
        assert!(staging.tensors().all(finite));
        staging.bring(&cache, &[0], 20, reversed);
        staging.bring(&cache, &[1], 2, reversed);
        check(&staging, &cache, &[1], 2);
        assert!(staging.tensors().all(finite));
    }
}
