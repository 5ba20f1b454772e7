//! Places in a schema, spelt out only when there is something to say about them: a name may be as long as a schema may be,
//! and each place inside would repeat it.

/// Where a schema stands.
#[derive(Clone, Copy)]
pub(super) enum Place<'s> {
    /// Where a reference leads, or `#`.
    Target(&'s str),
    /// Inside another one.
    Inside {
        parent: usize,
        keyword: &'s str,
        name: Name<'s>,
    },
}

/// Which of the schemas that a keyword holds.
#[derive(Clone, Copy)]
pub(super) enum Name<'s> {
    Only,
    Index(usize),
    Key(&'s str),
}

/// The places that were seen.
#[derive(Default)]
pub(super) struct Places<'s> {
    places: Vec<Place<'s>>,
}

/// Bytes of a place in a message.
const POINTER_BYTES_MAX: usize = 200;

impl<'s> Places<'s> {
    pub(super) fn add(&mut self, place: Place<'s>) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    /// A place as JSON pointer in a fragment, such as `#/properties/name`; a long one without its beginning.
    pub(super) fn pointer(&self, mut at: usize) -> String {
        let mut steps = Vec::new();
        let mut bytes = 0;
        while bytes <= POINTER_BYTES_MAX {
            match self.places[at] {
                Place::Target(target) => {
                    steps.push(target.to_owned());
                    break;
                }
                Place::Inside {
                    parent,
                    keyword,
                    name,
                } => {
                    let step = match name {
                        Name::Only => keyword.to_owned(),
                        Name::Index(index) => format!("{keyword}/{index}"),
                        Name::Key(key) => format!("{keyword}/{}", escaped(key)),
                    };
                    bytes += step.len();
                    steps.push(step);
                    at = parent;
                }
            }
        }
        steps.reverse();
        let pointer = steps.join("/");
        if pointer.len() <= POINTER_BYTES_MAX {
            return pointer;
        }
        let cut = pointer.ceil_char_boundary(pointer.len() - POINTER_BYTES_MAX);
        format!("…{}", &pointer[cut..])
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
