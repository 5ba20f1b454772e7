//! What a GPU and its driver offer, as far as kernels are chosen by it.

use troika_base::Bytes;

/// A shape of cooperative matrices, all with f16 factors: `C[size, size] += A[size, size] * B[size, size]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tile {
    /// Rows and columns of all three: 8 or 16.
    pub size: u32,
    /// Whether sums are f32; f16 otherwise.
    pub wide: bool,
}

impl std::fmt::Display for Tile {
    /// `16x16`, and `16x16 in F16` where sums are no wider than factors.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{0}x{0}", self.size)?;
        match self.wide {
            true => Ok(()),
            false => f.write_str(" in F16"),
        }
    }
}

/// What kernels are chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Invocations of a subgroup, at least and at most: drivers choose within. `None` where subgroups are not offered.
    pub subgroup: Option<(u32, u32)>,
    /// Arithmetic in half precision.
    pub f16: bool,
    /// Whether four products of bytes are one instruction, as far as the interface tells: Apple's GPUs have none.
    pub packed_dot: bool,
    /// Cooperative matrices that the driver says it has; see the self-test before any is used.
    pub tiles: Vec<Tile>,
    /// Whether time stamps can be written between dispatches.
    pub timestamps: bool,
    /// The largest part of a buffer that one kernel can see.
    pub binding: Bytes,
    /// The largest buffer.
    pub buffer: Bytes,
    /// Memory that a workgroup shares.
    pub workgroup_memory: Bytes,
    /// Invocations of a workgroup, at most.
    pub workgroup_size: u32,
    /// Storage buffers that one kernel can see, at most.
    pub bindings: u32,
    /// Whether the GPU computes in the memory of the computer, not in one of its own.
    pub unified: bool,
    /// Whether buffers of its memory can be mapped and written by the CPU.
    pub mappable: bool,
    /// Whether the "GPU" is a program on the CPU: good for tests, and for nothing else.
    pub software: bool,
}

impl Caps {
    pub(crate) fn of(adapter: &wgpu::Adapter) -> Self {
        let (features, limits, info) = (adapter.features(), adapter.limits(), adapter.get_info());
        let has = |feature| features.contains(feature);
        let tiles = match has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
            && has(wgpu::Features::SHADER_F16)
        {
            true => adapter.cooperative_matrix_properties(),
            false => Vec::new(),
        };
        Self {
            subgroup: has(wgpu::Features::SUBGROUP)
                .then_some((info.subgroup_min_size, info.subgroup_max_size)),
            f16: has(wgpu::Features::SHADER_F16),
            packed_dot: info.backend != wgpu::Backend::Metal,
            tiles: tiles.iter().filter_map(tile).collect(),
            timestamps: has(
                wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS
            ),
            binding: Bytes(limits.max_storage_buffer_binding_size),
            buffer: Bytes(limits.max_buffer_size),
            workgroup_memory: Bytes(u64::from(limits.max_compute_workgroup_storage_size)),
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            bindings: limits.max_storage_buffers_per_shader_stage,
            unified: matches!(
                info.device_type,
                wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Cpu
            ),
            mappable: has(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
            software: info.device_type == wgpu::DeviceType::Cpu,
        }
    }
}

/// Square shapes of eight and sixteen with f16 factors are the ones that WGSL can name.
fn tile(of: &wgpu::CooperativeMatrixProperties) -> Option<Tile> {
    use wgpu::CooperativeScalarType as Scalar;
    let square = of.m_size == of.n_size && of.n_size == of.k_size;
    let known = matches!(of.m_size, 8 | 16) && matches!(of.cr_type, Scalar::F16 | Scalar::F32);
    (square && known && of.ab_type == Scalar::F16).then_some(Tile {
        size: of.m_size,
        wide: of.cr_type == Scalar::F32,
    })
}
