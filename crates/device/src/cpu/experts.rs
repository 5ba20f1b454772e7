//! Mixtures of experts: tokens are sorted by expert, so that each expert's weights are read once for all of its tokens.

use std::ops::Range;

use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::{Group, Product, matmul_groups, panel_bytes, quant};

use super::expert_store::{ExpertMatrices, matrices, runs};
use super::{CpuOps, ROWS_PER_TASK, Tensor, add_row, unsupported_format};
use crate::{Error, Mixture};

/// A token that goes to an expert.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Assignment {
    expert: usize,
    token: usize,
    /// Of what the expert makes of it.
    weight: f32,
}

/// Who goes where, by expert and by token.
pub(super) struct Routes {
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
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
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
        let n_in = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        if panel_bytes(tensor.dtype, n_in).is_none() {
            return Err(unsupported_format(file, tensor, quant::is_computed));
        }
        match &self.streamed {
            Some(_) => ExpertMatrices::in_file(file, tensor),
            None => ExpertMatrices::in_memory(&self.pool, file, tensor),
        }
    }

    pub(super) fn mix(
        &mut self,
        x: &Tensor,
        scores: &Tensor,
        mixture: &Mixture<'_, ExpertMatrices, Vec<f32>>,
    ) -> Tensor {
        let routes = Routes::new(scores, mixture.n_used);
        let of_token: Vec<usize> = routes.by_expert.iter().map(|route| route.token).collect();
        self.tell(&routes, x, &of_token, &[mixture.gate, mixture.up]);
        let [mut gate, mut up] = self.by_experts(&routes, x, &of_token, [mixture.gate, mixture.up]);
        if let Some([gate_bias, up_bias, _]) = mixture.biases {
            self.add_biases(&routes, &mut gate, gate_bias);
            self.add_biases(&routes, &mut up, up_bias);
        }
        gate.for_each_row(&self.pool, ROWS_PER_TASK, |place, gate| {
            self.kernels.gate(mixture.gating, gate, up.row(place));
        });
        drop(up);
        let each: Vec<usize> = (0..gate.n_tok()).collect();
        self.tell(&routes, &gate, &each, &[mixture.down]);
        let [mut down] = self.by_experts(&routes, &gate, &each, [mixture.down]);
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

    /// Multiplies the row of `x` that stands at each place of `rows` with the matrices of that place's expert. All experts
    /// run together, as far as their matrices may be in memory at a time. One that cannot be read is told at the step's
    /// end; what comes back then means nothing.
    fn by_experts<const N: usize>(
        &mut self,
        routes: &Routes,
        x: &Tensor,
        rows: &[usize],
        w: [&ExpertMatrices; N],
    ) -> [Tensor; N] {
        let mut outputs = w.map(|w| self.tensors.take(rows.len(), w.n_out()));
        let mut rest = outputs.each_mut().map(|y| &mut **y);
        let chosen: Vec<(usize, Range<usize>)> = routes.runs().collect();
        let of_expert = w.iter().map(|w| w.matrix_bytes()).sum();
        for run in runs(self.streamed.as_ref(), of_expert, chosen.len()) {
            let chosen = &chosen[run];
            let experts: Vec<usize> = chosen.iter().map(|(expert, _)| *expert).collect();
            let packed = match matrices(&self.pool, self.streamed.as_mut(), w, &experts) {
                Ok(packed) => packed,
                Err(error) => {
                    self.failed.get_or_insert(error);
                    break;
                }
            };
            let mut products: Vec<Vec<Product<'_>>> = Vec::with_capacity(chosen.len());
            for ((_, places), packed) in chosen.iter().zip(packed.chunks_exact(N)) {
                let parts = packed.iter().zip(&mut rest);
                products.push(
                    parts
                        .map(|(w, rest)| {
                            let len = places.len() * w.n_out();
                            let (y, after) = std::mem::take(rest).split_at_mut(len);
                            *rest = after;
                            Product { w, y }
                        })
                        .collect(),
                );
            }
            // One row is that of all experts, and is brought into the kernels' form once.
            if x.n_tok() == 1 {
                products = vec![products.into_iter().flatten().collect()];
            }
            let mut groups: Vec<Group<'_, '_>> = chosen
                .iter()
                .zip(&mut products)
                .map(|((_, places), products)| Group {
                    rows: &rows[places.clone()],
                    products,
                })
                .collect();
            let workspace = &mut self.workspace;
            matmul_groups(self.kernels, &self.pool, x, &mut groups, workspace);
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
