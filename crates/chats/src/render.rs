//! Markdown to nodes, also while it is still being written.
//!
//! The text is cut into pieces (`render/cut.rs`) that can be read by themselves. A piece that is complete is read once; the
//! one that still grows is read again each time somebody asks, and is never long. A code block that grows is not read at all:
//! what is told of it is what was added. So a text costs the same whether it has ten thousand bytes or ten million before it,
//! and how it came in makes no difference to what it is in the end.
//!
//! A definition of a link (`[name]: https://...`) holds for all that stands after its piece at once. Where the name was used
//! before, the words stand as they were written until the text ends; then those blocks are told again, with their links.

mod cut;
mod href;
mod tree;

#[cfg(test)]
mod tests;

use cut::{Cutter, Fence, Piece};
use tree::Definitions;

use crate::node::{Node, Tag};

/// Nodes of one text at most; what follows is shown as it was written. A browser can hold them, and ten million bytes of
/// prose have a quarter as many.
const NODES_MAX: usize = 200_000;

/// Definitions of links that are remembered of one text.
const DEFINITIONS_MAX: usize = 1000;

/// The nodes of a text that is all there.
pub fn render(text: &str) -> Vec<Node> {
    let mut renderer = Renderer::default();
    renderer.push(text);
    let mut all = Vec::new();
    for update in renderer.finish() {
        update.apply(&mut all);
    }
    all
}

/// What has changed of what is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The blocks from this one on are replaced by these.
    Blocks {
        /// How many stay.
        from: usize,
        /// What comes after them.
        blocks: Vec<Node>,
    },
    /// This is added to the code block that comes last.
    Text(String),
}

impl Update {
    /// Makes of the blocks that are shown those that are to be shown.
    pub fn apply(self, shown: &mut Vec<Node>) {
        match self {
            Self::Blocks { from, blocks } => {
                shown.truncate(from);
                shown.extend(blocks);
            }
            Self::Text(more) => {
                if let Some(Node::Element(code)) = shown.last_mut()
                    && let Some(Node::Text(text)) = code.children.last_mut()
                {
                    text.push_str(&more);
                }
            }
        }
    }
}

/// A text that grows, and what was told of it.
#[derive(Debug, Default)]
pub struct Renderer {
    text: String,
    cutter: Cutter,
    pieces: Vec<Piece>,
    /// Those of the pieces that were told.
    told: Vec<Told>,
    /// Their blocks together.
    blocks: usize,
    /// Their nodes together.
    nodes: usize,
    /// What stands in the pieces that were told.
    definitions: Definitions,
    tail: Tail,
    /// The length of the text that was told.
    length: usize,
}

/// What is remembered of a piece that was told.
#[derive(Debug)]
struct Told {
    blocks: usize,
    /// Labels that stood for nothing.
    missing: Vec<String>,
    /// It is shown as it was written.
    is_plain: bool,
}

/// What was told of the piece that grows.
#[derive(Debug, Default)]
enum Tail {
    /// Nothing.
    #[default]
    None,
    /// So many blocks.
    Blocks(usize),
    /// A code block up to here.
    Code(Code),
}

impl Renderer {
    /// Adds to the text. Cheap: nothing is parsed.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.cutter.read(&self.text, false, &mut self.pieces);
    }

    /// The text as it is.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What has changed since the last update. Takes time by the length of what was added, and of one piece.
    pub fn update(&mut self) -> Vec<Update> {
        if self.length == self.text.len() {
            return Vec::new();
        }
        self.length = self.text.len();
        let mut updates = Vec::new();
        if self.go_on_with_code(&mut updates) {
            return updates;
        }
        let from = self.blocks;
        let had = match std::mem::take(&mut self.tail) {
            Tail::Blocks(count) => count,
            Tail::None | Tail::Code(_) => 0,
        };
        let mut blocks = self.complete();
        blocks.extend(self.grow());
        if had > 0 || !blocks.is_empty() {
            updates.push(Update::Blocks { from, blocks });
        }
        updates
    }

    /// The last changes: nothing is added any more.
    pub fn finish(&mut self) -> Vec<Update> {
        self.cutter.read(&self.text, true, &mut self.pieces);
        // A line may have been held back that is told now, though the text has not grown.
        self.length = usize::MAX;
        let mut updates = self.update();
        updates.extend(self.link_late());
        updates
    }

    /// Tells what was added to a code block that was told; `true` if there is nothing after it.
    fn go_on_with_code(&mut self, updates: &mut Vec<Update>) -> bool {
        let Tail::Code(code) = &mut self.tail else {
            return false;
        };
        let piece = self.pieces.get(self.told.len());
        let is_complete = piece.is_some();
        let more = match piece {
            Some(piece) => code.read(&self.text[..piece.range.end], true),
            None => code.read(&self.text, false),
        };
        if !more.is_empty() {
            updates.push(Update::Text(more));
        }
        if is_complete {
            self.tell(Told {
                blocks: 1,
                missing: Vec::new(),
                is_plain: false,
            });
            self.nodes += 2;
            self.tail = Tail::None;
        }
        !is_complete
    }

    /// The blocks of the pieces that became complete.
    fn complete(&mut self) -> Vec<Node> {
        let mut all = Vec::new();
        while let Some(piece) = self.pieces.get(self.told.len()) {
            let is_plain = self.nodes > NODES_MAX;
            let parsed = read(&self.text, piece, is_plain, &self.definitions);
            for (label, address) in parsed.defined {
                if self.definitions.len() < DEFINITIONS_MAX {
                    // The first one holds.
                    self.definitions.entry(label).or_insert(address);
                }
            }
            self.nodes += parsed.nodes;
            self.tell(Told {
                blocks: parsed.blocks.len(),
                missing: parsed.missing,
                is_plain,
            });
            all.extend(parsed.blocks);
        }
        all
    }

    fn tell(&mut self, told: Told) {
        self.blocks += told.blocks;
        self.told.push(told);
    }

    /// The blocks of the piece that grows.
    fn grow(&mut self) -> Vec<Node> {
        let start = self.cutter.start();
        if let Some(fence) = self.cutter.fence() {
            let mut code = Code::new(fence.clone(), start);
            let text = code.read(&self.text, false);
            let lang = fence.lang.clone();
            self.tail = Tail::Code(code);
            return vec![Tag::Pre { lang }.with(vec![Node::Text(text)])];
        }
        let piece = Piece {
            range: start..self.text.len(),
            fence: None,
        };
        let is_plain = self.nodes > NODES_MAX;
        let blocks = read(&self.text, &piece, is_plain, &self.definitions).blocks;
        self.tail = Tail::Blocks(blocks.len());
        blocks
    }

    /// Blocks with links whose definitions came after them.
    fn link_late(&self) -> Option<Update> {
        let is_late = |told: &Told| {
            let mut missing = told.missing.iter();
            missing.any(|label| self.definitions.contains_key(label))
        };
        let first = self.told.iter().position(is_late)?;
        let from = self.told[..first].iter().map(|told| told.blocks).sum();
        let pieces = self.pieces[first..].iter().zip(&self.told[first..]);
        let blocks = pieces.flat_map(|(piece, told)| {
            read(&self.text, piece, told.is_plain, &self.definitions).blocks
        });
        let blocks = blocks.collect();
        Some(Update::Blocks { from, blocks })
    }
}

/// What a piece becomes.
fn read(text: &str, piece: &Piece, is_plain: bool, definitions: &Definitions) -> tree::Parsed {
    let blocks = match &piece.fence {
        Some(fence) => {
            let code = Code::new(fence.clone(), piece.range.start);
            vec![code.whole(&text[..piece.range.end])]
        }
        None if !is_plain && !tree::is_hostile(&text[piece.range.clone()]) => {
            return tree::parse(&text[piece.range.clone()], definitions);
        }
        None => match text[piece.range.clone()].trim() {
            "" => Vec::new(),
            text => vec![Tag::P.with(vec![text.into()])],
        },
    };
    let nodes = 2 * blocks.len();
    tree::Parsed {
        blocks,
        nodes,
        ..tree::Parsed::default()
    }
}

/// What `columns` of indentation take of a line: bytes, and the blanks that are left of a tab.
fn unindented(line: &str, columns: usize) -> (usize, usize) {
    let mut column = 0;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if column >= columns => return (at, column - columns),
            b' ' => column += 1,
            b'\t' => column += 4 - column % 4,
            _ => return (at, 0),
        }
    }
    (line.len(), column.saturating_sub(columns))
}

/// A code block, read up to some place. Its lines are told without their indentation, and a line's end with the line after it,
/// so that what was told is only ever added to.
#[derive(Debug)]
struct Code {
    fence: Fence,
    /// What stands before was told.
    at: usize,
    /// A part of the line was told.
    is_in_line: bool,
    has_lines: bool,
}

impl Code {
    fn new(fence: Fence, at: usize) -> Self {
        Self {
            fence,
            at,
            is_in_line: false,
            has_lines: false,
        }
    }

    fn whole(mut self, text: &str) -> Node {
        let code = self.read(text, true);
        let lang = self.fence.lang;
        Tag::Pre { lang }.with(vec![Node::Text(code)])
    }

    /// What is told of the text from the place on. `is_all` if the code ends with it.
    fn read(&mut self, text: &str, is_all: bool) -> String {
        let mut told = String::new();
        while self.at < text.len() {
            let rest = &text[self.at..];
            let line = rest.find('\n').map(|end| &rest[..end]);
            if !self.is_in_line {
                if line.is_none() && !is_all && self.fence.may_be_closed_by(rest) {
                    break;
                }
                if self.has_lines {
                    told.push('\n');
                }
                self.has_lines = true;
                self.is_in_line = true;
                let (bytes, left) = unindented(rest, self.fence.indent);
                told.extend(std::iter::repeat_n(' ', left));
                self.at += bytes;
                continue;
            }
            match line {
                Some(line) => {
                    told.push_str(line.strip_suffix('\r').unwrap_or(line));
                    self.at += line.len() + 1;
                    self.is_in_line = false;
                }
                None => {
                    // It may be the first half of a line's end.
                    let held = !is_all && rest.ends_with('\r');
                    let rest = &rest[..rest.len() - usize::from(held)];
                    told.push_str(rest);
                    self.at += rest.len();
                    break;
                }
            }
        }
        told
    }
}
