//! A card held against the ports of a model: names, shapes, numbers of classes.

use troika_device_npu::exec::Port;

use super::{Boxes, Card, Error, Job, Layout, Mask, Part, Table};

/// Names and shapes for a message: `images [1, 3, 640, 640], …`.
pub(super) fn list(ports: &[Port]) -> String {
    let shown: Vec<_> = ports
        .iter()
        .map(|port| format!("{} {}", port.name, shape(port)))
        .collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => shown.join(", "),
    }
}

fn shape(port: &Port) -> String {
    let axes: Vec<_> = port
        .shape
        .iter()
        .map(|axis| axis.map_or_else(|| "?".to_owned(), |length| length.to_string()))
        .collect();
    format!("[{}]", axes.join(", "))
}

/// The position of the port that a card means.
///
/// # Errors
/// If there is none of this name, or no name and several ports.
pub(crate) fn find(
    card: &Card,
    key: &str,
    name: Option<&str>,
    ports: &[Port],
) -> Result<usize, Error> {
    match (name, ports) {
        (None, [_]) => Ok(0),
        (None, _) => Err(misfit(
            card,
            key,
            format!(
                "is absent, and the model has several: {}; name one",
                list(ports)
            ),
        )),
        (Some(name), _) => ports
            .iter()
            .position(|port| port.name == name)
            .ok_or_else(|| {
                misfit(
                    card,
                    key,
                    format!("is \"{name}\", and the model has {}", list(ports)),
                )
            }),
    }
}

fn misfit(card: &Card, key: &str, reason: String) -> Error {
    Error::Ports {
        card: card.origin.clone(),
        key: key.to_owned(),
        reason,
    }
}

/// Whether an axis may have this length.
fn is(axis: Option<usize>, length: usize) -> bool {
    axis.is_none_or(|axis| axis == length)
}

/// Holds a card against a model's ports.
pub(super) fn check(card: &Card, inputs: &[Port], outputs: &[Port]) -> Result<(), Error> {
    let picture = &card.picture;
    let input = &inputs[find(card, "picture.input", picture.input.as_deref(), inputs)?];
    if inputs.len() > 1 {
        let reason = format!(
            "is the only input a card can describe, and the model has {}",
            list(inputs)
        );
        return Err(misfit(card, "picture.input", reason));
    }
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    let channels = picture.colour.channels();
    let want = match picture.layout {
        Layout::Nchw => [1, channels, height, width],
        Layout::Nhwc => [1, height, width, channels],
    };
    let fits = input.shape.len() == want.len()
        && input
            .shape
            .iter()
            .zip(want)
            .all(|(&axis, want)| is(axis, want));
    if !fits {
        let reason = format!(
            "and what stands beside it make a picture of {want:?}, and the model's `{}` is {}; check `size` (width first), `layout` and `colour`",
            input.name,
            shape(input)
        );
        return Err(misfit(card, "picture.size", reason));
    }
    match &card.job {
        Job::Segment(mask) => check_mask(card, mask, outputs),
        Job::Classify(scores) => {
            let index = find(card, "scores.output", scores.output.as_deref(), outputs)?;
            let classes = outputs[index]
                .shape
                .iter()
                .try_fold(1, |product: usize, axis| product.checked_mul((*axis)?));
            check_labels(card, classes)
        }
        Job::Detect(boxes) => check_boxes(card, boxes, outputs),
        Job::Embed(vector) => {
            find(card, "vector.output", vector.output.as_deref(), outputs)?;
            Ok(())
        }
    }
}

fn check_mask(card: &Card, mask: &Mask, outputs: &[Port]) -> Result<(), Error> {
    let port = &outputs[find(card, "mask.output", mask.output.as_deref(), outputs)?];
    let channels = match (&*port.shape, mask.layout.unwrap_or(card.picture.layout)) {
        (&[_, channels, _, _], Layout::Nchw) | (&[_, _, _, channels], Layout::Nhwc) => channels,
        ([_, _, _] | [_, _], _) => Some(1),
        _ => {
            let reason = format!("is {}, and a mask has two to four axes", shape(port));
            return Err(misfit(card, "mask.output", reason));
        }
    };
    match channels {
        Some(channels) if mask.channel >= channels => Err(misfit(
            card,
            "mask.channel",
            format!(
                "is {}, and the output {} has {channels}, from 0",
                mask.channel,
                shape(port)
            ),
        )),
        _ => Ok(()),
    }
}

fn check_boxes(card: &Card, boxes: &Boxes, outputs: &[Port]) -> Result<(), Error> {
    let port = &outputs[find(card, "boxes.output", boxes.output.as_deref(), outputs)?];
    let (&[_, rows, columns] | &[rows, columns]) = &*port.shape else {
        let reason = format!(
            "is {}, and a table of boxes has two or three axes",
            shape(port)
        );
        return Err(misfit(card, "boxes.output", reason));
    };
    let width = match boxes.table {
        Table::Rows => columns,
        Table::Columns => rows,
    };
    if let Some(width) = width.filter(|&width| !boxes.row.fits(width)) {
        let reason = format!(
            "has {} numbers{}, and a row of the output {} has {width}; check `table`, too",
            boxes.row.fixed(),
            if boxes.row.has(Part::Scores) {
                " and the scores"
            } else {
                ""
            },
            shape(port)
        );
        return Err(misfit(card, "boxes.row", reason));
    }
    let mut classes = width
        .and_then(|width| boxes.row.find(Part::Scores, width))
        .map(|(_, count)| count);
    if let Some(name) = &boxes.classes_output {
        find(card, "boxes.classes_output", Some(name), outputs)?;
    }
    if let Some(name) = &boxes.scores_output {
        let index = find(card, "boxes.scores_output", Some(name), outputs)?;
        if boxes.classes_output.is_none() {
            classes = outputs[index].shape.last().copied().flatten();
        }
    }
    check_labels(
        card,
        classes.map(|classes| classes.saturating_sub(usize::from(boxes.nothing.is_some()))),
    )
}

fn check_labels(card: &Card, classes: Option<usize>) -> Result<(), Error> {
    match classes {
        Some(classes) if !card.labels.is_empty() && card.labels.len() != classes => Err(misfit(
            card,
            "labels",
            format!(
                "has {} names, and the model {classes} classes",
                card.labels.len()
            ),
        )),
        _ => Ok(()),
    }
}
