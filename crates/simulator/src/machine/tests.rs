//! Machines by name and by measurement.

use troika_scheduler::ModelId;

use super::*;

fn named(name: &str) -> VirtualMachine {
    VirtualMachine::named(name, Catalogue::builtin()).expect("is known")
}

fn device_names(machine: &VirtualMachine) -> Vec<&str> {
    machine.devices.iter().map(|d| d.name.as_str()).collect()
}

#[test]
fn short_names_are_known() {
    for (name, chips) in [
        (
            "core-ultra-258v",
            &[
                "Intel Core Ultra 7 258V CPU",
                "Intel Core Ultra 7 258V GPU",
                "Intel Core Ultra 7 258V NPU",
            ][..],
        ),
        (
            "dual-3090",
            &[
                "AMD Ryzen 7 7700X",
                "NVIDIA GeForce RTX 3090",
                "NVIDIA GeForce RTX 3090",
            ],
        ),
        (
            "ryzen-ai-370+4090",
            &[
                "AMD Ryzen AI 9 HX 370 CPU",
                "AMD Ryzen AI 9 HX 370 GPU",
                "NVIDIA GeForce RTX 4090",
                "AMD Ryzen AI 9 HX 370 NPU",
            ],
        ),
        (
            "ryzen-ai-max+-395",
            &[
                "AMD Ryzen AI Max+ 395 CPU",
                "AMD Ryzen AI Max+ 395 GPU",
                "AMD Ryzen AI Max+ 395 NPU",
            ],
        ),
        (
            "2x-7900-xtx+core-i9-13900k",
            &[
                "Intel Core i9-13900K",
                "AMD Radeon RX 7900 XTX",
                "AMD Radeon RX 7900 XTX",
            ],
        ),
    ] {
        let machine = named(name);
        let singles = machine.devices.iter().filter(|d| d.parts.is_empty());
        let found: Vec<_> = singles.map(|d| d.chip.as_str()).collect();
        assert_eq!(found, chips, "{name}");
    }
}

#[test]
fn a_package_has_one_pool_and_each_card_its_own() {
    let machine = named("core-ultra-258v:32gb");
    assert_eq!(device_names(&machine), ["cpu0", "gpu0", "npu0"]);
    assert!(machine.devices.iter().all(|d| d.pools == [PoolId(0)]));
    assert_eq!(machine.pools[0].capacity, Bytes(32 << 30));

    let rig = named("dual-3090:128gb");
    assert_eq!(
        device_names(&rig),
        ["cpu0", "gpu0", "gpu1", "gpu0+gpu1", "gpu0+cpu0"]
    );
    assert_eq!(rig.pools.len(), 3);
    assert_eq!(rig.devices[3].pools, [PoolId(1), PoolId(2)]);
    assert!(
        rig.notes.iter().any(|note| note.contains("7700X")),
        "{:?}",
        rig.notes
    );
}

#[test]
fn what_is_unknown_is_refused_with_what_is_near() {
    let check = |name: &str, says: &str| {
        let error = VirtualMachine::named(name, Catalogue::builtin()).expect_err(name);
        assert!(error.to_string().contains(says), "{name}: {error}");
    };
    check("dual-3900", "3090");
    check("core-ultra-258v+rtx-40900", "4090");
    check("core-ultra-258v:lots", ":32gb");
    check("core-ultra-258v:0gb", ":32gb");
    check("core-ultra-258v+core-i9-13900k", "more than one processor");
    check("", "chip");
}

#[test]
fn a_profile_without_bandwidth_is_refused() {
    let mut profile = DeviceProfile::unknown("Mystery", DeviceKind::Cpu);
    profile.memory = Some(Bytes(16 << 30));
    let measured = |profile: &DeviceProfile| {
        let profiles = vec![profile.clone()];
        VirtualMachine::measured("m", profiles, Bytes(16 << 30), Catalogue::builtin())
    };
    for (gbs, says) in [
        (None, "Mystery: its memory bandwidth is not known"),
        (Some(0.0), "a memory bandwidth of 0 GB/s"),
        (Some(f64::NAN), "a memory bandwidth of NaN GB/s"),
    ] {
        profile.bandwidth_measured_gbs = gbs;
        let error = measured(&profile).expect_err("no bandwidth").to_string();
        assert!(error.contains(says), "{error}");
    }
    profile.bandwidth_measured_gbs = Some(40.0);
    assert_eq!(device_names(&measured(&profile).expect("enough")), ["cpu0"]);
    profile.memory = None;
    assert!(measured(&profile).is_err());
}

#[test]
fn a_model_is_what_its_devices_make_of_it() {
    let catalogue = Catalogue::builtin();
    let facts = |machine: &str, model: &str| {
        named(machine)
            .model_facts(ModelId(3), model, catalogue)
            .expect("is known")
    };
    let laptop = facts("core-ultra-258v", "llama-3.1-8b");
    assert_eq!(laptop.forms.len(), 3, "{:?}", laptop.impossible);
    let [cpu, gpu, npu] = [0, 1, 2].map(|id| &laptop.forms[&DeviceId(id)]);
    assert!(gpu.gait.token_s < cpu.gait.token_s, "a GPU reads faster");
    assert!(npu.gait.watts_decode < gpu.gait.watts_decode / 2.0);
    assert!(npu.load_s > 10.0 * cpu.load_s, "it compiles");
    assert_eq!(npu.n_ctx, NPU_CTX_OF_TESTS);
    assert_eq!(laptop.kv_bytes_per_token, 131_072);

    let big = facts("dual-3090", "llama-3.3-70b");
    let names: Vec<_> = big.forms.keys().collect();
    assert!(
        names.contains(&&DeviceId(3)),
        "both cards hold it: {:?}",
        big.impossible
    );
    assert!(!names.contains(&&DeviceId(1)), "one card does not");
    assert!(
        big.impossible[&DeviceId(1)].contains("needs"),
        "{:?}",
        big.impossible
    );
    let both = &big.forms[&DeviceId(3)];
    assert_eq!(both.bytes.len(), 2);

    let small = facts("dual-3090", "llama-3.1-8b");
    assert_eq!(small.impossible[&DeviceId(3)], "it fits gpu0 alone");
    let embedding = facts("core-ultra-258v", "nomic-embed-text-v1.5");
    assert!(!embedding.forms.is_empty());
    let error = named("dual-3090")
        .model_facts(ModelId(0), "lama-3.1-8b", catalogue)
        .expect_err("no such model");
    assert!(error.to_string().contains("llama-3.1-8b"), "{error}");
}

const NPU_CTX_OF_TESTS: u32 = 4096;
