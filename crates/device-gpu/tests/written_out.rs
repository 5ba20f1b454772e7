//! Every kernel is WGSL that is sound, and that every platform's compiler can be given: no driver is needed.
//!
//! With `TROIKA_GPU_TEST_SPIRV` set to a folder, the SPIR-V is left there for `spirv-val`.

use std::path::PathBuf;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use troika_device_gpu::Key;

#[test]
fn every_kernel_is_written_out_for_every_platform() {
    let folder = std::env::var_os("TROIKA_GPU_TEST_SPIRV").map(PathBuf::from);
    for (i, key) in Key::all().into_iter().enumerate() {
        let kernel = key.kernel();
        let source = kernel.source();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{key:?}: {}", error.emit_to_string(&source)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{key:?}: {}", error.emit_to_string(&source)));
        let spirv = spv::Options {
            lang_version: (1, 6),
            ..Default::default()
        };
        let words = spv::write_vec(&module, &info, &spirv, None)
            .unwrap_or_else(|error| panic!("{key:?}: SPIR-V: {error}"));
        if let Some(folder) = &folder {
            let file = folder.join(format!("{i}-{}.spv", kernel.name));
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            std::fs::write(&file, bytes).expect("the folder is there");
        }
        let metal = msl::Options {
            lang_version: (3, 1),
            fake_missing_bindings: true,
            ..Default::default()
        };
        msl::write_string(&module, &info, &metal, &Default::default())
            .unwrap_or_else(|error| panic!("{key:?}: MSL: {error}"));
        // DX12 has no cooperative matrices to write out.
        if kernel.enables.contains(&"wgpu_cooperative_matrix") {
            continue;
        }
        let direct = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_4,
            fake_missing_bindings: true,
            immediates_target: Some(hlsl::BindTarget::default()),
            ..Default::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &direct, &Default::default())
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{key:?}: HLSL: {error}"));
    }
}
