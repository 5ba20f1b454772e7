//! Device nodes: which belong to a device, and whether we may use them.

use crate::model::Found;

use super::root::{Access, Root};

/// The nodes of a device by the classes of `/sys/class`, such as `/dev/dri/renderD128`.
///
/// `directory` is the device's, without links.
pub(super) fn of_device(root: &Root, class: &str, prefix: &str, directory: &str) -> Vec<String> {
    let base = match class {
        "drm" => "/dev/dri",
        "accel" => "/dev/accel",
        _ => "/dev",
    };
    let names = root.list(&format!("/sys/class/{class}"));
    let mut nodes: Vec<String> = names
        .into_iter()
        .filter(|name| is_numbered(name, prefix))
        .filter(|name| {
            let device = root.canonical(&format!("/sys/class/{class}/{name}/device"));
            device.is_some_and(|device| device == directory)
        })
        .map(|name| format!("{base}/{name}"))
        .collect();
    if nodes.is_empty() {
        let names = root.list(&format!("{directory}/{class}"));
        let names = names.into_iter().filter(|name| is_numbered(name, prefix));
        nodes.extend(names.map(|name| format!("{base}/{name}")));
    }
    nodes
}

/// `renderD128` with the prefix `renderD`; not `renderD128-x`.
pub(super) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether we may use a node.
pub(super) fn found(root: &Root, node: &str) -> Found {
    match root.access(node) {
        Access::Granted | Access::Unknown => Found::Ready,
        Access::Denied => Found::Blocked {
            why: format!("no permission on {node}"),
            remedy: match node {
                node if node.starts_with("/dev/dri") || node.starts_with("/dev/accel") => {
                    "join the group render: `sudo usermod -aG render $USER`, then log in again"
                }
                _ => "let your user read and write it, by a rule of udev's or as its group",
            }
            .to_owned(),
        },
        Access::Missing => Found::Blocked {
            why: format!("{node} is not there"),
            remedy: "in a container, hand the device in: `--device /dev/dri`, `--device /dev/accel`; else reload the driver"
                .to_owned(),
        },
    }
}

/// The first that is in the way.
pub(super) fn all(founds: impl IntoIterator<Item = Found>) -> Found {
    founds
        .into_iter()
        .find(|found| *found != Found::Ready)
        .unwrap_or(Found::Ready)
}
