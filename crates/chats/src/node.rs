//! What Markdown becomes: text, and elements of a short list.
//!
//! The types are the guarantee. There is no element for scripts, frames, styles or pictures, no attribute but those below, and
//! the one address that an element can have is checked where it is made (`render/href.rs`).

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// Text, or an element with what is in it. As JSON: a string, or `{"t": "p", "c": [...]}` with the attributes between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Text as it is shown.
    Text(String),
    /// An element.
    Element(Element),
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Which one, with its attributes.
    pub tag: Tag,
    /// What is in it.
    pub children: Vec<Node>,
}

/// The elements that there are. Their names in JSON are those of HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the elements of HTML")]
pub enum Tag {
    P,
    /// `h1` to `h6`.
    Heading(u8),
    Ul,
    Ol {
        /// The first item's number.
        start: u64,
    },
    Li {
        /// Whether it is done, where it is a task.
        task: Option<bool>,
    },
    Blockquote,
    /// Code; it holds one text.
    Pre {
        /// Letters, digits and `+#._-`.
        lang: Option<String>,
    },
    Code,
    Em,
    Strong,
    Del,
    A {
        /// `http://`, `https://` or `mailto:`.
        href: String,
    },
    Table,
    Thead,
    Tbody,
    Tr,
    Th(Option<Align>),
    Td(Option<Align>),
    Hr,
    Br,
}

/// Where the text of a table's column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the three sides")]
pub enum Align {
    Left,
    Center,
    Right,
}

impl Tag {
    /// The name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::P => "p",
            Self::Heading(1) => "h1",
            Self::Heading(2) => "h2",
            Self::Heading(3) => "h3",
            Self::Heading(4) => "h4",
            Self::Heading(5) => "h5",
            Self::Heading(_) => "h6",
            Self::Ul => "ul",
            Self::Ol { .. } => "ol",
            Self::Li { .. } => "li",
            Self::Blockquote => "blockquote",
            Self::Pre { .. } => "pre",
            Self::Code => "code",
            Self::Em => "em",
            Self::Strong => "strong",
            Self::Del => "del",
            Self::A { .. } => "a",
            Self::Table => "table",
            Self::Thead => "thead",
            Self::Tbody => "tbody",
            Self::Tr => "tr",
            Self::Th(_) => "th",
            Self::Td(_) => "td",
            Self::Hr => "hr",
            Self::Br => "br",
        }
    }

    /// The element with what is in it.
    pub(crate) fn with(self, children: Vec<Node>) -> Node {
        let tag = self;
        Node::Element(Element { tag, children })
    }
}

impl Align {
    fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Center => "center",
            Self::Right => "right",
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Element { tag, children } = match self {
            Self::Text(text) => return to.serialize_str(text),
            Self::Element(element) => element,
        };
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("t", tag.name())?;
        match tag {
            Tag::Ol { start } => map.serialize_entry("start", start)?,
            Tag::Li { task: Some(task) } => map.serialize_entry("task", task)?,
            Tag::Pre { lang: Some(lang) } => map.serialize_entry("lang", lang)?,
            Tag::A { href } => map.serialize_entry("href", href)?,
            Tag::Th(Some(align)) | Tag::Td(Some(align)) => {
                map.serialize_entry("align", align.name())?;
            }
            _ => {}
        }
        map.serialize_entry("c", children)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn nodes_are_strings_and_objects() {
        let item = Tag::Li { task: Some(true) }.with(vec!["a".into(), Tag::Br.with(Vec::new())]);
        let list = Tag::Ol { start: 3 }.with(vec![item]);
        let want = json!({"t": "ol", "start": 3, "c": [{"t": "li", "task": true, "c": ["a", {"t": "br", "c": []}]}]});
        assert_eq!(to_value(list).unwrap(), want);
        let cell = Tag::Td(Some(Align::Right)).with(Vec::new());
        let want = json!({"t": "td", "align": "right", "c": []});
        assert_eq!(to_value(cell).unwrap(), want);
    }
}
