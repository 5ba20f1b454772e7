//! Mixtures of experts: tokens are sorted by expert, so that each expert's weights are read once for all of its tokens.

use std::ops::Range;

use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::{PackedMatrix, Product};

use super::{CpuOps, ROWS_PER_TASK, Tensor, add_row, pack};
use crate::{Error, Mixture};

/// A matrix `[n_out, n_in]` of every expert.
#[derive(Debug)]
pub struct ExpertMatrices(Vec<PackedMatrix>);

impl ExpertMatrices {
    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(PackedMatrix::bytes).sum()
    }

    fn n_out(&self) -> usize {
        self.0.first().map_or(0, PackedMatrix::n_out)
    }
}

/// A token that goes to an expert.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Assignment {
    expert: usize,
    token: usize,
    /// Of what the expert makes of it.
    weight: f32,
}

/// Who goes where, by expert and by token.
struct Routes {
    by_expert: Vec<Assignment>,
    /// Places in `by_expert`: `n_used` for each token, in order of the experts.
    of_token: Vec<usize>,
    n_used: usize,
}

impl Routes {
    fn new(scores: &Tensor, n_used: usize) -> Self {
        let mut by_expert = Vec::with_capacity(scores.n_tok() * n_used);
        for token in 0..scores.n_tok() {
            by_expert.extend(chosen(scores.row(token), n_used).into_iter().map(
                |(expert, weight)| Assignment {
                    expert,
                    token,
                    weight,
                },
            ));
        }
        by_expert.sort_unstable_by_key(|route| (route.expert, route.token));
        let mut of_token: Vec<usize> = (0..by_expert.len()).collect();
        // Stable: a token's experts stay in order.
        of_token.sort_by_key(|&place| by_expert[place].token);
        Self {
            by_expert,
            of_token,
            n_used,
        }
    }

    /// Each expert that somebody goes to, and its places.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut end = 0;
        self.by_expert
            .chunk_by(|a, b| a.expert == b.expert)
            .map(move |run| {
                let start = end;
                end += run.len();
                (run[0].expert, start..end)
            })
    }
}

/// The experts with the highest scores, and the softmax over these.
fn chosen(scores: &[f32], n_used: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if n_used < order.len() {
        order.select_nth_unstable_by(n_used, better);
        order.truncate(n_used);
    }
    order.sort_unstable();
    let max = order.iter().map(|&i| scores[i]).fold(f32::MIN, f32::max);
    let weights: Vec<f32> = order.iter().map(|&i| (scores[i] - max).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let weights = weights.into_iter().map(|weight| weight / sum);
    order.into_iter().zip(weights).collect()
}

impl CpuOps {
    pub(super) fn pack_experts(
        &self,
        file: &ModelFile,
        tensor: &TensorInfo,
    ) -> Result<ExpertMatrices, Error> {
        let [_, n_out, n_expert] = tensor.shape[..] else {
            unreachable!("the loader has checked the shape. This is a bug.")
        };
        (0..n_expert)
            .map(|expert| {
                pack(
                    &self.pool,
                    file,
                    tensor,
                    expert * n_out..(expert + 1) * n_out,
                )
            })
            .collect::<Result<_, Error>>()
            .map(ExpertMatrices)
    }

    pub(super) fn mix(
        &mut self,
        x: &Tensor,
        scores: &Tensor,
        mixture: &Mixture<'_, ExpertMatrices, Vec<f32>>,
    ) -> Tensor {
        let routes = Routes::new(scores, mixture.n_used);
        let mut x_of = None;
        if x.n_tok() > 1 {
            let mut sorted = self.tensors.take(routes.by_expert.len(), x.width());
            sorted.for_each_row(&self.pool, ROWS_PER_TASK, |place, row| {
                row.copy_from_slice(x.row(routes.by_expert[place].token));
            });
            x_of = Some(sorted);
        }
        let [mut gate, mut up] = self.by_experts(
            &routes,
            x_of.as_ref().unwrap_or(x),
            [mixture.gate, mixture.up],
        );
        drop(x_of);
        if let Some([gate_bias, up_bias, _]) = mixture.biases {
            self.add_biases(&routes, &mut gate, gate_bias);
            self.add_biases(&routes, &mut up, up_bias);
        }
        gate.for_each_row(&self.pool, ROWS_PER_TASK, |place, gate| {
            self.kernels.gate(mixture.gating, gate, up.row(place));
        });
        drop(up);
        let [mut down] = self.by_experts(&routes, &gate, [mixture.down]);
        if let Some([_, _, bias]) = mixture.biases {
            self.add_biases(&routes, &mut down, bias);
        }
        let mut y = self.tensors.take(x.n_tok(), down.width());
        y.for_each_row(&self.pool, ROWS_PER_TASK, |token, y| {
            y.fill(0.0);
            for &place in &routes.of_token[token * routes.n_used..][..routes.n_used] {
                let weight = routes.by_expert[place].weight;
                let made = down.row(place).iter();
                y.iter_mut().zip(made).for_each(|(y, x)| *y += weight * x);
            }
        });
        y
    }

    /// Multiplies each expert's rows with its matrices. One row of `x` is that of all experts: its products run together.
    fn by_experts<const N: usize>(
        &mut self,
        routes: &Routes,
        x: &Tensor,
        w: [&ExpertMatrices; N],
    ) -> [Tensor; N] {
        let n = routes.by_expert.len();
        let mut outputs = w.map(|w| self.tensors.take(n, w.n_out()));
        let mut products: Vec<(usize, Vec<Product<'_>>)> = routes
            .runs()
            .map(|(_, run)| (run.len(), Vec::new()))
            .collect();
        for (w, y) in w.iter().zip(&mut outputs) {
            let (n_out, mut rest) = (w.n_out(), &mut **y);
            for ((expert, run), (_, products)) in routes.runs().zip(&mut products) {
                let (y, after) = std::mem::take(&mut rest).split_at_mut(run.len() * n_out);
                let w = &w.0[expert];
                products.push(Product { w, y });
                rest = after;
            }
        }
        if x.n_tok() == 1 {
            let mut all: Vec<_> = products.into_iter().flat_map(|(_, of)| of).collect();
            self.multiply_rows(x, 1, &mut all);
            return outputs;
        }
        let mut rows = &x[..];
        for (n_tok, mut products) in products {
            let (x, after) = rows.split_at(n_tok * x.width());
            self.multiply_rows(x, n_tok, &mut products);
            rows = after;
        }
        outputs
    }

    /// Adds to each row the bias of its expert; `biases` is `[n_expert, width]`.
    fn add_biases(&self, routes: &Routes, x: &mut Tensor, biases: &[f32]) {
        let width = x.width();
        x.for_each_row(&self.pool, ROWS_PER_TASK, |place, row| {
            let bias = &biases[routes.by_expert[place].expert * width..][..width];
            add_row(row, bias);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_chosen_and_weighed_among_themselves() {
        let scores = [0.0, 2.0, 1.0, 2.0, -1.0];
        let have = chosen(&scores, 3);
        let sum = 2.0 + (-1f32).exp();
        let want = [(1, 1.0 / sum), (2, (-1f32).exp() / sum), (3, 1.0 / sum)];
        for ((expert, weight), want) in have.iter().zip(want) {
            assert_eq!(*expert, want.0);
            assert!(
                (weight - want.1).abs() < 1e-6,
                "{weight} and not {}",
                want.1
            );
        }
        // Of equals the first.
        let all = |n| {
            chosen(&[1.0; 4], n)
                .into_iter()
                .map(|(i, _)| i)
                .collect::<Vec<_>>()
        };
        assert_eq!(all(2), [0, 1]);
        assert_eq!(all(4), [0, 1, 2, 3]);
    }
}
