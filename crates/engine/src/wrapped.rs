//! What all that stands around a device's operations has in common.

/// The operations in which no matrix has a part, each as the field `inner` has it: for an implementation of
/// [`Ops`](troika_device::Ops) around another one, whose `Matrix` alone differs. An operation with a default is among them,
/// so that none falls back to it unseen.
macro_rules! pass_on_to_inner {
    () => {
        fn load_vector(
            &self,
            file: &troika_gguf::ModelFile,
            tensor: &troika_gguf::TensorInfo,
        ) -> Result<Self::Vector, troika_device::Error> {
            self.inner.load_vector(file, tensor)
        }

        fn lacks(&self, feature: troika_device::Feature) -> Option<String> {
            self.inner.lacks(feature)
        }

        fn experts_kept(&self) -> Option<troika_base::Bytes> {
            self.inner.experts_kept()
        }

        fn load_experts(
            &self,
            file: &troika_gguf::ModelFile,
            tensor: &troika_gguf::TensorInfo,
        ) -> Result<Self::Experts, troika_device::Error> {
            self.inner.load_experts(file, tensor)
        }

        fn experts_bytes(&self, experts: &Self::Experts) -> usize {
            self.inner.experts_bytes(experts)
        }

        fn new_kv(
            &self,
            shape: troika_device::KvShape,
            n_page: usize,
        ) -> Result<Self::Kv, troika_device::Error> {
            self.inner.new_kv(shape, n_page)
        }

        fn copy_page(&mut self, kv: &mut Self::Kv, from: usize, to: usize) {
            self.inner.copy_page(kv, from, to);
        }

        fn read_kv(
            &mut self,
            kv: &Self::Kv,
            pages: &[usize],
            tokens: std::ops::Range<usize>,
            out: &mut [troika_device::f16],
        ) -> Result<(), troika_device::Error> {
            self.inner.read_kv(kv, pages, tokens, out)
        }

        fn write_kv(
            &mut self,
            kv: &mut Self::Kv,
            pages: &[usize],
            tokens: std::ops::Range<usize>,
            values: &[troika_device::f16],
        ) -> Result<(), troika_device::Error> {
            self.inner.write_kv(kv, pages, tokens, values)
        }

        fn begin(
            &mut self,
            batch: &troika_device::Batch<'_>,
            rope: &troika_device::Rope,
        ) -> Result<Self::Step, troika_device::Error> {
            self.inner.begin(batch, rope)
        }

        fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor {
            self.inner.rms_norm(x, weight, eps)
        }

        fn layer_norm(&mut self, x: &mut Self::Tensor, norm: [&Self::Vector; 2], eps: f32) {
            self.inner.layer_norm(x, norm, eps);
        }

        fn head_norm(&mut self, x: &mut Self::Tensor, weight: &Self::Vector, eps: f32) {
            self.inner.head_norm(x, weight, eps);
        }

        fn add_bias(&mut self, x: &mut Self::Tensor, bias: &Self::Vector) {
            self.inner.add_bias(x, bias);
        }

        fn rope(&mut self, step: &Self::Step, x: &mut Self::Tensor, head_dim: usize) {
            self.inner.rope(step, x, head_dim);
        }

        fn attention(
            &mut self,
            step: &Self::Step,
            kv: &mut Self::Kv,
            attending: &troika_device::Attending<'_, Self::Vector>,
            qkv: [&Self::Tensor; 3],
        ) -> Self::Tensor {
            self.inner.attention(step, kv, attending, qkv)
        }

        fn gelu(&mut self, x: &mut Self::Tensor) {
            self.inner.gelu(x);
        }

        fn gate(
            &mut self,
            gating: troika_device::Gating,
            gate: Self::Tensor,
            up: &Self::Tensor,
        ) -> Self::Tensor {
            self.inner.gate(gating, gate, up)
        }

        fn experts(
            &mut self,
            x: &Self::Tensor,
            scores: &Self::Tensor,
            mixture: &troika_device::Mixture<'_, Self::Experts, Self::Vector>,
        ) -> Self::Tensor {
            self.inner.experts(x, scores, mixture)
        }

        fn scale(&mut self, x: &mut Self::Tensor, factor: f32) {
            self.inner.scale(x, factor);
        }

        fn add(&mut self, x: &mut Self::Tensor, y: &Self::Tensor) {
            self.inner.add(x, y);
        }

        fn rows(&mut self, x: &Self::Tensor, rows: &[usize]) -> Self::Tensor {
            self.inner.rows(x, rows)
        }

        fn hidden(
            &mut self,
            x: &Self::Tensor,
        ) -> Result<troika_device::Hidden, troika_device::Error> {
            self.inner.hidden(x)
        }

        fn upload(&mut self, x: &troika_device::Hidden) -> Self::Tensor {
            self.inner.upload(x)
        }

        fn finish(&mut self) -> Result<(), troika_device::Error> {
            self.inner.finish()
        }
    };
}

pub(crate) use pass_on_to_inner;
