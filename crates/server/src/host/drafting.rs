//! A model's guesses at the tokens after its slices: looked up in the text, or asked of a smaller model.

use std::sync::Arc;

use troika_base::TokenId;
use troika_engine::{Error, STEP_MAX, Sequence};
use troika_scheduler::Slice;

use super::drafter::Ask;
use super::resident::Resident;

/// Tokens of texts that a smaller model reads before it guesses, in a step: it may have more to catch up with where the
/// other model found a prompt in its cache, and nobody is to wait long for it.
const CATCH_UP_MAX: usize = 64;

/// Sequences of a step at most for which a smaller model reads what this one reads: of more, none will have room for guesses.
const READ_ALONG_MAX: usize = STEP_MAX / 2;

impl Resident {
    /// Guesses at the tokens after these slices, for each of them: as many as a step has room for, and none where pages are
    /// short.
    ///
    /// # Errors
    /// If a smaller model guesses, and the device fails.
    pub(super) fn guess(&mut self, slices: &[Slice]) -> Result<Vec<Vec<TokenId>>, Error> {
        match self.drafter.is_some() {
            true => self.draft(slices),
            false => Ok(self.look_up(slices)),
        }
    }

    /// Those that find nothing to guess leave their share to the others.
    fn look_up(&self, slices: &[Slice]) -> Vec<Vec<TokenId>> {
        let mut room = room(slices);
        let mut guesses = Vec::with_capacity(slices.len());
        for (at, slice) in slices.iter().enumerate() {
            let most = room / (slices.len() - at);
            let seat = self.seats.get(&slice.seq.job).filter(|_| most > 0);
            let end = self.end(slice);
            let guess = seat.map(|seat| seat.request.guess(slice.seq.choice, end, most));
            let guess = guess.unwrap_or_default();
            room -= guess.len();
            guesses.push(guess);
        }
        match self.has_pages(slices, guesses.iter().map(Vec::len)) {
            true => guesses,
            false => vec![Vec::new(); slices.len()],
        }
    }

    /// Those that want no guess leave their share to the others.
    fn draft(&mut self, slices: &[Slice]) -> Result<Vec<Vec<TokenId>>, Error> {
        let mut room = room(slices);
        let mut wanted = Vec::with_capacity(slices.len());
        for (at, slice) in slices.iter().enumerate() {
            let most = room / (slices.len() - at);
            let seat = self.seats.get(&slice.seq.job).filter(|_| most > 0);
            let end = self.end(slice);
            let most = seat.map_or(0, |seat| seat.request.reach(slice.seq.choice, end, most));
            room -= most;
            wanted.push(most);
        }
        let mut guesses = vec![Vec::new(); slices.len()];
        if !self.has_pages(slices, wanted.iter().copied()) {
            return Ok(guesses);
        }
        let asked = slices.iter().zip(&wanted);
        let asked = asked.filter(|(_, most)| **most > 0);
        let asks = asked.map(|(slice, &most)| (slice, most)).collect();
        let mut drafted = self.ask(asks, CATCH_UP_MAX)?.into_iter();
        for (guess, _) in guesses.iter_mut().zip(wanted).filter(|(_, most)| *most > 0) {
            *guess = drafted.next().unwrap_or_default();
        }
        Ok(guesses)
    }

    /// A smaller model reads what these slices read, and what it lacks of the text before, no more than they do.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn read_along(&mut self, slices: &[Slice]) -> Result<(), Error> {
        if self.drafter.is_none() || slices.len() > READ_ALONG_MAX {
            return Ok(());
        }
        let n_tok: u32 = slices.iter().map(|slice| slice.n_tok).sum();
        let asks = slices.iter().map(|slice| (slice, 0)).collect();
        self.ask(asks, (n_tok as usize).max(CATCH_UP_MAX))?;
        Ok(())
    }

    /// Asks the smaller model for so many tokens after each of these slices, which write text. Returns what it says, nothing
    /// where it lacks time or room.
    fn ask(
        &mut self,
        slices: Vec<(&Slice, usize)>,
        n_tok: usize,
    ) -> Result<Vec<Vec<TokenId>>, Error> {
        let asks = slices.into_iter();
        let mut asks: Vec<_> = asks
            .filter_map(|(slice, most)| self.asked(slice, most))
            .collect();
        let Some(drafter) = &mut self.drafter else {
            return Ok(vec![Vec::new(); asks.len()]);
        };
        let drafted = drafter.draft(&mut asks, n_tok);
        let mut guesses = Vec::with_capacity(asks.len());
        for Ask {
            seq, held, guess, ..
        } in asks
        {
            if let Some(seat) = self.seats.get_mut(&seq.job) {
                seat.drafted.insert(seq.choice, held);
            }
            guesses.push(guess);
        }
        drafted.map(|()| guesses)
    }

    /// What is asked for a slice's sequence, whose text ends with the slice; `None` if no text is written.
    fn asked(&mut self, slice: &Slice, most: usize) -> Option<Ask> {
        let end = self.end(slice);
        let seat = self.seats.get_mut(&slice.seq.job)?;
        if seat.request.is_embedding() {
            return None;
        }
        let mut text = seat.request.known(slice.seq.choice);
        text.truncate(end);
        // An answer begins where the prompt ends, which the first one has read.
        let own = seat.drafted.remove(&slice.seq.choice);
        let held = own.or_else(|| seat.drafted.get(&0).cloned());
        Some(Ask {
            seq: slice.seq,
            request: Arc::clone(&seat.request),
            text,
            most,
            held: held.unwrap_or_default(),
            guess: Vec::new(),
        })
    }

    /// How many tokens of a slice's sequence are known when the slice is computed.
    fn end(&self, slice: &Slice) -> usize {
        let held = self.held(slice).map_or(0, |held| held.tokens().len());
        held + slice.n_tok as usize
    }

    fn held(&self, slice: &Slice) -> Option<&Sequence> {
        let seat = self.seats.get(&slice.seq.job)?;
        seat.held.get(&slice.seq.choice)
    }

    /// Whether there are pages for these slices with so many guesses behind each that nobody needs.
    fn has_pages(&self, slices: &[Slice], guesses: impl Iterator<Item = usize>) -> bool {
        let nothing = Sequence::default();
        let growth = slices.iter().zip(guesses).map(|(slice, n)| {
            let held = self.held(slice).unwrap_or(&nothing);
            (held, slice.n_tok as usize + n)
        });
        self.model.pages_wanted(growth) <= self.free_pages() as usize
    }
}

/// Tokens that a step has room for beyond those of its slices.
fn room(slices: &[Slice]) -> usize {
    let n_tok: u32 = slices.iter().map(|slice| slice.n_tok).sum();
    STEP_MAX.saturating_sub(n_tok as usize)
}
