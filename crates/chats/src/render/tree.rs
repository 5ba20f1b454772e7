//! From a piece of Markdown to nodes.
//!
//! The events of the parser are put together without recursion, and no deeper than [`DEPTH_MAX`]: what would be deeper loses
//! its elements and keeps its text.

use std::collections::BTreeMap;

use pulldown_cmark::{
    Alignment, BrokenLink, CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag as Mark,
};

use super::cut::language;
use super::href;
use crate::node::{Align, Element, Node, Tag};

/// Elements in each other at most. Whoever reads the nodes may recurse, and lists in lists in lists are read by nobody.
pub(super) const DEPTH_MAX: usize = 24;

/// Elements that a table takes at most above what is in its cells.
const TABLE_DEPTH: usize = 4;

/// Labels without a definition that are remembered of each piece.
const MISSING_MAX: usize = 64;

/// Brackets in each other at most. The parser takes time by the square of them, and no text has that many.
const BRACKETS_MAX: usize = 200;

/// What a link's definition may take, and what all that are used in one piece may take together: a short label can stand for
/// a long address many times.
const LABEL_BYTES_MAX: usize = 200;
const ADDRESSES_BYTES_MAX: usize = 64 << 10;

/// What is read beyond CommonMark.
const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS);

/// Addresses by the label that stands for them.
pub(super) type Definitions = BTreeMap<String, String>;

/// What a piece became.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<Node>,
    /// The definitions in it.
    pub(super) defined: Vec<(String, String)>,
    /// Labels in it that stand for nothing as yet.
    pub(super) missing: Vec<String>,
    /// Nodes in all.
    pub(super) nodes: usize,
}

/// Whether a piece is made to be slow to read; it is shown as it was written.
pub(super) fn is_hostile(text: &str) -> bool {
    let mut depth = 0usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > BRACKETS_MAX
    })
}

/// Whether a piece ends in a code block between fences that is in nothing else.
pub(super) fn ends_in_code(text: &str) -> bool {
    let mut depth = 0;
    let mut is_code = false;
    for event in Parser::new_ext(text, OPTIONS) {
        match event {
            Event::Start(mark) => {
                if depth == 0 {
                    is_code = matches!(mark, Mark::CodeBlock(CodeBlockKind::Fenced(_)));
                }
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }
    is_code
}

/// Reads a piece. `known` are the definitions of other pieces.
pub(super) fn parse(text: &str, known: &Definitions) -> Parsed {
    let mut missing = Vec::new();
    let mut left = ADDRESSES_BYTES_MAX;
    let resolve = |link: BrokenLink<'_>| {
        let label = label(&link.reference)?;
        match known.get(&label) {
            Some(address) => {
                left = left.checked_sub(address.len())?;
                Some((CowStr::from(address.clone()), CowStr::from("")))
            }
            None => {
                if missing.len() < MISSING_MAX {
                    missing.push(label);
                }
                None
            }
        }
    };
    let mut parser = Parser::new_with_broken_link_callback(text, OPTIONS, Some(resolve));
    let mut tree = Tree::default();
    for event in parser.by_ref() {
        tree.tell(event);
    }
    let definitions = parser.reference_definitions().iter();
    let defined = definitions.filter_map(|(name, link)| {
        let address = href::allowed(&link.dest)?;
        Some((label(name)?, address))
    });
    let mut defined: Vec<_> = defined.collect();
    drop(parser);
    // The parser keeps them in no order.
    defined.sort_unstable();
    Parsed {
        blocks: tree.blocks,
        defined,
        missing,
        nodes: tree.nodes,
    }
}

/// A label as it is compared: small letters, one blank where there are several.
fn label(text: &str) -> Option<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let label = words.join(" ").to_lowercase();
    (!label.is_empty() && label.len() <= LABEL_BYTES_MAX).then_some(label)
}

/// What began and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// So many elements.
    Elements(usize),
    /// None, since it may not be or would be too deep.
    Nothing {
        /// Its text stands apart from what follows.
        is_block: bool,
    },
    /// A picture, which becomes a link.
    Picture,
}

#[derive(Debug, Default)]
struct Tree {
    /// Complete.
    blocks: Vec<Node>,
    /// The elements around what comes next.
    open: Vec<Element>,
    begun: Vec<Begun>,
    /// The picture whose words are read, and how many are in it.
    picture: Option<Picture>,
    /// The table that is read.
    table: Option<Table>,
    /// Links around what comes next: none is in another.
    links: usize,
    nodes: usize,
}

#[derive(Debug)]
struct Picture {
    address: String,
    words: String,
    depth: usize,
}

#[derive(Debug)]
struct Table {
    columns: Vec<Option<Align>>,
    column: usize,
    is_head: bool,
    has_body: bool,
}

impl Tree {
    fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Start(mark) => self.start(mark),
            Event::End(_) => self.end(),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::Code(code) => match self.is_full() || self.picture.is_some() {
                true => self.text(&code),
                false => self.add(Tag::Code.with(vec![code.as_ref().into()])),
            },
            Event::SoftBreak => self.text("\n"),
            Event::HardBreak => match self.is_full() || self.picture.is_some() {
                true => self.text("\n"),
                false => self.add(Tag::Br.with(Vec::new())),
            },
            Event::Rule => match self.is_full() {
                true => self.text("\n"),
                false => self.add(Tag::Hr.with(Vec::new())),
            },
            Event::TaskListMarker(is_done) => {
                let mut around = self.open.iter_mut().rev();
                let item = around.find_map(|element| match &mut element.tag {
                    Tag::Li { task } => Some(task),
                    _ => None,
                });
                if let Some(task) = item {
                    *task = Some(is_done);
                }
            }
            // Not asked for by the options.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.text(&text);
            }
        }
    }

    fn start(&mut self, mark: Mark<'_>) {
        if let Some(picture) = &mut self.picture {
            picture.depth += 1;
            return;
        }
        let begun = match mark {
            Mark::Paragraph | Mark::HtmlBlock => self.open(Tag::P, true),
            Mark::Heading { level, .. } => self.open(Tag::Heading(level as u8), true),
            Mark::BlockQuote(_) => self.open(Tag::Blockquote, true),
            Mark::CodeBlock(kind) => {
                let lang = match kind {
                    CodeBlockKind::Fenced(info) => language(&info),
                    CodeBlockKind::Indented => None,
                };
                self.open(Tag::Pre { lang }, true)
            }
            Mark::List(None) => self.open(Tag::Ul, true),
            Mark::List(Some(start)) => self.open(Tag::Ol { start }, true),
            Mark::Item => self.open(Tag::Li { task: None }, true),
            Mark::Table(columns) => self.open_table(&columns),
            Mark::TableHead => self.open_row(true),
            Mark::TableRow => self.open_row(false),
            Mark::TableCell => self.open_cell(),
            Mark::Emphasis => self.open(Tag::Em, false),
            Mark::Strong => self.open(Tag::Strong, false),
            Mark::Strikethrough => self.open(Tag::Del, false),
            Mark::Link {
                link_type,
                dest_url,
                ..
            } => self.open_link(link_type, &dest_url),
            Mark::Image { dest_url, .. } => {
                self.picture = Some(Picture {
                    address: dest_url.into_string(),
                    words: String::new(),
                    depth: 0,
                });
                Begun::Picture
            }
            // Not asked for by the options.
            Mark::FootnoteDefinition(_)
            | Mark::DefinitionList
            | Mark::DefinitionListTitle
            | Mark::DefinitionListDefinition
            | Mark::Superscript
            | Mark::Subscript
            | Mark::MetadataBlock(_) => Begun::Nothing { is_block: true },
        };
        self.begun.push(begun);
    }

    fn open(&mut self, tag: Tag, is_block: bool) -> Begun {
        if self.is_full() {
            return Begun::Nothing { is_block };
        }
        self.push(tag);
        Begun::Elements(1)
    }

    fn push(&mut self, tag: Tag) {
        let children = Vec::new();
        self.open.push(Element { tag, children });
    }

    fn open_link(&mut self, kind: LinkType, address: &str) -> Begun {
        let href = match kind {
            LinkType::Email => href::allowed(&format!("mailto:{address}")),
            _ => href::allowed(address),
        };
        match href {
            Some(href) if self.links == 0 && !self.is_full() => {
                self.links += 1;
                self.open(Tag::A { href }, false)
            }
            _ => Begun::Nothing { is_block: false },
        }
    }

    fn open_table(&mut self, columns: &[Alignment]) -> Begun {
        if self.open.len() + TABLE_DEPTH > DEPTH_MAX {
            return Begun::Nothing { is_block: true };
        }
        let align = |column: &Alignment| match column {
            Alignment::None => None,
            Alignment::Left => Some(Align::Left),
            Alignment::Center => Some(Align::Center),
            Alignment::Right => Some(Align::Right),
        };
        self.table = Some(Table {
            columns: columns.iter().map(align).collect(),
            column: 0,
            is_head: false,
            has_body: false,
        });
        self.push(Tag::Table);
        Begun::Elements(1)
    }

    fn open_row(&mut self, is_head: bool) -> Begun {
        let Some(table) = &mut self.table else {
            return Begun::Nothing { is_block: true };
        };
        table.column = 0;
        table.is_head = is_head;
        let begins_body = !is_head && !table.has_body;
        table.has_body |= begins_body;
        if is_head {
            self.push(Tag::Thead);
        } else if begins_body {
            // It is closed with the table.
            self.push(Tag::Tbody);
        }
        self.push(Tag::Tr);
        Begun::Elements(1 + usize::from(is_head))
    }

    fn open_cell(&mut self) -> Begun {
        let Some(table) = &mut self.table else {
            return Begun::Nothing { is_block: true };
        };
        let align = table.columns.get(table.column).copied().flatten();
        table.column += 1;
        let tag = match table.is_head {
            true => Tag::Th(align),
            false => Tag::Td(align),
        };
        self.push(tag);
        Begun::Elements(1)
    }

    fn end(&mut self) {
        if let Some(picture) = &mut self.picture
            && picture.depth > 0
        {
            picture.depth -= 1;
            return;
        }
        match self.begun.pop() {
            Some(Begun::Elements(count)) => {
                for _ in 0..count {
                    self.close();
                }
            }
            Some(Begun::Nothing { is_block: true }) => self.text("\n"),
            Some(Begun::Nothing { is_block: false }) | None => {}
            Some(Begun::Picture) => self.end_picture(),
        }
    }

    /// A picture is a link to itself: nothing is loaded that nobody asked for.
    fn end_picture(&mut self) {
        let Some(Picture { address, words, .. }) = self.picture.take() else {
            return;
        };
        let href = (self.links == 0 && !self.is_full()).then(|| href::allowed(&address));
        match href.flatten() {
            Some(href) => {
                let words = match words.trim().is_empty() {
                    true => href.clone(),
                    false => words,
                };
                self.add(Tag::A { href }.with(vec![Node::Text(words)]));
            }
            None => self.text(&words),
        }
    }

    fn close(&mut self) {
        let Some(mut element) = self.open.pop() else {
            return;
        };
        match &element.tag {
            Tag::A { .. } => self.links -= 1,
            Tag::Pre { .. } => one_text(&mut element.children),
            Tag::Table => {
                self.table = None;
            }
            // A row is filled up to the head's length by the parser; a short one shall not cost as much as a long one.
            Tag::Tr => {
                let is_empty =
                    |node: &Node| matches!(node, Node::Element(cell) if cell.children.is_empty());
                while element.children.last().is_some_and(is_empty) {
                    element.children.pop();
                }
            }
            Tag::Tbody => {
                // It is around its rows, and its table is closed right after it.
                let tag = element.tag;
                self.add(tag.with(element.children));
                return self.close();
            }
            _ if self.links == 0 => href::link(&mut element.children),
            _ => {}
        }
        self.add(Node::Element(element));
    }

    fn text(&mut self, text: &str) {
        if let Some(picture) = &mut self.picture {
            picture.words.push_str(text);
            return;
        }
        let children = match self.open.last_mut() {
            Some(element) => &mut element.children,
            None => &mut self.blocks,
        };
        if let Some(Node::Text(last)) = children.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            self.add(text.into());
        }
    }

    fn add(&mut self, node: Node) {
        self.nodes += 1;
        match self.open.last_mut() {
            Some(element) => element.children.push(node),
            None => self.blocks.push(node),
        }
    }

    fn is_full(&self) -> bool {
        self.open.len() >= DEPTH_MAX
    }
}

/// Code is one text, without the end of its last line.
fn one_text(children: &mut Vec<Node>) {
    let mut code = String::new();
    for node in children.drain(..) {
        if let Node::Text(text) = node {
            code.push_str(&text);
        }
    }
    if code.ends_with('\n') {
        code.pop();
    }
    children.push(Node::Text(code));
}
