//! Layers and edges of OpenVINO's intermediate representation, version 11.
//!
//! Shapes of ports are left out: a reader infers them. Source: OpenVINO's documentation, "Intermediate Representation
//! Format".

use std::fmt::Write;

/// An output of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    layer: usize,
    port: usize,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Net {
    layers: String,
    edges: String,
    count: usize,
}

/// A layer: an operation of an operation set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    pub(super) kind: &'a str,
    /// `opset1`.
    pub(super) opset: u32,
    /// Empty, and it is made of kind and number.
    pub(super) name: &'a str,
    /// `key="value"` and so on.
    pub(super) data: &'a str,
    /// Of the tensor that a parameter gives or a result takes.
    pub(super) tensor: Option<&'a str>,
}

impl Net {
    /// Appends a layer, and gives its output. A `Result` has none.
    pub(super) fn push(&mut self, layer: Layer<'_>, inputs: &[Port]) -> Port {
        let id = self.count;
        self.count += 1;
        let Layer {
            kind,
            opset,
            name,
            data,
            tensor,
        } = layer;
        let is_result = kind == "Result";
        let out = &mut self.layers;
        put(out, format_args!("<layer id=\"{id}\" name=\""));
        match name {
            "" => put(out, format_args!("{kind}_{id}")),
            name => put(out, format_args!("{}", escaped(name))),
        }
        put(
            out,
            format_args!("\" type=\"{kind}\" version=\"opset{opset}\""),
        );
        if let (Some(tensor), true) = (tensor, is_result) {
            put(out, format_args!(" output_names=\"{}\"", escaped(tensor)));
        }
        out.push('>');
        if !data.is_empty() {
            put(out, format_args!("<data {data}/>"));
        }
        if !inputs.is_empty() {
            out.push_str("<input>");
            for (port, from) in inputs.iter().enumerate() {
                // The type is asked for, and inferred all the same.
                put(
                    out,
                    format_args!("<port id=\"{port}\" precision=\"FP32\"/>"),
                );
                let Port {
                    layer,
                    port: source,
                } = *from;
                put(
                    &mut self.edges,
                    format_args!(
                        "<edge from-layer=\"{layer}\" from-port=\"{source}\" to-layer=\"{id}\" to-port=\"{port}\"/>\n"
                    ),
                );
            }
            out.push_str("</input>");
        }
        let port = inputs.len();
        if !is_result {
            put(
                out,
                format_args!("<output><port id=\"{port}\" precision=\"FP32\""),
            );
            if let Some(tensor) = tensor {
                put(out, format_args!(" names=\"{}\"", escaped(tensor)));
            }
            out.push_str("/></output>");
        }
        out.push_str("</layer>\n");
        Port { layer: id, port }
    }

    /// The document.
    pub(super) fn finish(self, name: &str) -> String {
        let Self { layers, edges, .. } = self;
        let name = escaped(name);
        format!(
            "<?xml version=\"1.0\"?>\n<net name=\"{name}\" version=\"11\">\n<layers>\n{layers}</layers>\n<edges>\n{edges}</edges>\n</net>\n"
        )
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("a string takes whatever is written to it");
}

/// As the value of an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
