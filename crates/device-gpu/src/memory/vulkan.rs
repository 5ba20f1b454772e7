//! Heaps and budgets, asked of Vulkan itself: the interface above it does not pass them on.

#![expect(unsafe_code, reason = "calls Vulkan's C functions")]

use ash::{ext, vk};
use troika_base::Bytes;

use super::Memory;

/// The largest heap that the GPU reads at full speed; `None` if it is not reached through Vulkan.
pub(super) fn of(adapter: &wgpu::Adapter) -> Option<Memory> {
    // SAFETY: nothing is destroyed through the handle, and it goes before the adapter does.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = hal.shared_instance().raw_instance();
    let device = hal.raw_physical_device();
    // SAFETY: the handle is one of this instance.
    let extensions = unsafe { instance.enumerate_device_extension_properties(device) };
    let extensions = extensions.unwrap_or_default();
    let mut names = extensions
        .iter()
        .map(vk::ExtensionProperties::extension_name_as_c_str);
    let tells_budget = names.any(|name| name == Ok(ext::memory_budget::NAME));
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceMemoryProperties2::default();
    if tells_budget {
        properties = properties.push_next(&mut budget);
    }
    // SAFETY: wgpu's instances are of version 1.1 at least or have the extension that this came from, and the chain
    // holds only what the device knows.
    unsafe { instance.get_physical_device_memory_properties2(device, &mut properties) };
    let heaps = properties.memory_properties;
    let (largest, total) = (0..heaps.memory_heap_count as usize)
        .filter(|&i| {
            heaps.memory_heaps[i]
                .flags
                .contains(vk::MemoryHeapFlags::DEVICE_LOCAL)
        })
        .map(|i| (i, heaps.memory_heaps[i].size))
        .max_by_key(|&(_, size)| size)?;
    let left = budget.heap_budget[largest].saturating_sub(budget.heap_usage[largest]);
    Some(Memory {
        total: Bytes(total),
        free: tells_budget.then_some(Bytes(left.min(total))),
    })
}
