//! What one rendering may use, and the accounts of it: steps, live heap, recursion.
//!
//! Nothing here knows the language. Every operation whose cost depends on data spends steps in proportion and
//! pays for the memory it keeps, before it allocates; so a hostile template meets a [`Fault::Limit`], never the
//! allocator's abort or the stack's end.

use std::cell::Cell;
use std::rc::Rc;

use super::error::{Fault, Limit};

/// Bytes of text that cost as much as one step: what looking at each character costs beside walking one node.
const BYTES_PER_STEP: usize = 8;

/// The bounds of parsing and of one rendering.
#[derive(Clone, Copy, Debug)]
pub(in crate::chat) struct Limits {
    /// Of the template's text. The longest in the field has about 40 KiB.
    pub(in crate::chat) source_bytes: usize,
    /// How deep statements and parentheses may nest in the source.
    pub(in crate::chat) nesting: usize,
    /// How deep containers may nest in a value.
    pub(in crate::chat) value_depth: usize,
    /// How deep evaluation may recurse, macros included.
    pub(in crate::chat) recursion: usize,
    /// Nodes walked, plus data touched.
    pub(in crate::chat) steps: u64,
    /// Memory that the template's own values may hold at once.
    pub(in crate::chat) heap_bytes: usize,
    /// Of text written and not yet returned.
    pub(in crate::chat) output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes: 256 << 10,
            nesting: 100,
            value_depth: 128,
            recursion: 1000,
            // The field's costliest template looks through all messages for each one: 3000 messages take 80 million.
            // A hostile one is stopped after 1 to 4 seconds.
            steps: 100_000_000,
            heap_bytes: 64 << 20,
            output_bytes: 32 << 20,
        }
    }
}

/// The accounts of one rendering.
pub(super) struct Budget {
    pub(super) limits: Limits,
    steps_left: Cell<u64>,
    depth: Cell<usize>,
    heap: Rc<Heap>,
}

struct Heap {
    live: Cell<usize>,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        let heap = Heap {
            live: Cell::new(0),
            limit: limits.heap_bytes,
        };
        Self {
            limits,
            steps_left: Cell::new(limits.steps),
            depth: Cell::new(0),
            heap: Rc::new(heap),
        }
    }

    /// Spends `count` steps.
    pub(super) fn spend(&self, count: usize) -> Result<(), Fault> {
        match self.steps_left.get().checked_sub(count as u64) {
            Some(left) => {
                self.steps_left.set(left);
                Ok(())
            }
            None => {
                self.steps_left.set(0);
                Err(Fault::Limit(Limit::Steps))
            }
        }
    }

    /// Spends the steps that reading or writing `bytes` of text costs.
    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<(), Fault> {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    /// Pays for `bytes` that stay allocated until the charge is dropped, and for writing them.
    pub(super) fn charge(&self, bytes: usize) -> Result<Charge, Fault> {
        let mut charge = self.no_charge();
        self.grow(&mut charge, bytes)?;
        Ok(charge)
    }

    /// Adds `bytes` of text to a charge, and pays for writing them.
    pub(super) fn grow(&self, charge: &mut Charge, bytes: usize) -> Result<(), Fault> {
        self.spend_bytes(bytes)?;
        self.hold(charge, bytes)
    }

    /// Adds a value's place in a container to a charge.
    pub(super) fn hold(&self, charge: &mut Charge, bytes: usize) -> Result<(), Fault> {
        self.spend(1)?;
        let live = self
            .heap
            .live
            .get()
            .checked_add(bytes)
            .filter(|&live| live <= self.heap.limit)
            .ok_or(Fault::Limit(Limit::Heap))?;
        self.heap.live.set(live);
        charge.bytes += bytes;
        Ok(())
    }

    /// The charge of what the caller owns: the conversation.
    pub(super) fn no_charge(&self) -> Charge {
        Charge {
            bytes: 0,
            heap: Rc::clone(&self.heap),
        }
    }

    /// One level of recursion deeper, until the guard is dropped.
    pub(super) fn descend(&self) -> Result<Descent<'_>, Fault> {
        self.spend(1)?;
        if self.depth.get() >= self.limits.recursion {
            return Err(Fault::Limit(Limit::Recursion));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Descent(&self.depth))
    }
}

/// Bytes on the account, given back when dropped.
pub(super) struct Charge {
    bytes: usize,
    heap: Rc<Heap>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.heap.live.set(self.heap.live.get() - self.bytes);
    }
}

/// One level of recursion.
pub(super) struct Descent<'b>(&'b Cell<usize>);

impl Drop for Descent<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_is_given_back_and_steps_are_not() {
        let budget = Budget::new(Limits {
            heap_bytes: 1000,
            steps: 1000,
            ..Limits::default()
        });
        for _ in 0..5 {
            let charge = budget.charge(900).expect("fits when the last was dropped");
            assert!(matches!(budget.charge(101), Err(Fault::Limit(Limit::Heap))));
            drop(charge);
        }
        assert!(matches!(
            budget.spend(1000),
            Err(Fault::Limit(Limit::Steps))
        ));
        assert!(
            matches!(budget.spend(1), Err(Fault::Limit(Limit::Steps))),
            "spent is spent"
        );
    }
}
