//! The messages that wait on a worker, in the batches in which they came.
//!
//! They are handled where they stand: a message that is moved on just after it was written has to wait until the processor has
//! completed the write, which costs more than all else that is done with it.

use std::collections::VecDeque;

use crate::engine::envelope::Envelope;

/// Messages of a batch.
pub(super) const BATCH: usize = 128;
/// A batch of so few joins the one before it.
const FEW: usize = 16;
/// How many emptied batches are kept for use.
const SPARE: usize = 64;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    batches: VecDeque<Vec<Envelope>>,
    /// Messages of the first batch that have been handled.
    handled: usize,
    len: usize,
    spare: Vec<Vec<Envelope>>,
}

/// The first batch, while messages of it are handled.
pub(super) struct Front {
    batch: Vec<Envelope>,
    handled: usize,
}

impl Front {
    /// The next messages, up to so many.
    pub(super) fn next(&mut self, at_most: usize) -> &mut [Envelope] {
        let from = self.handled;
        self.handled = self.batch.len().min(from + at_most);
        self.batch.get_mut(from..self.handled).unwrap_or_default()
    }
}

impl Mailbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All that wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.range(0, self.len)
    }

    /// Those between two places.
    pub(super) fn range(&self, from: usize, to: usize) -> impl Iterator<Item = &Envelope> {
        self.batches
            .iter()
            .flatten()
            .skip(self.handled + from)
            .take(to.saturating_sub(from))
    }

    /// Puts a message behind the others.
    #[inline]
    pub(super) fn push(&mut self, envelope: Envelope) {
        self.len += 1;
        match self.batches.back_mut() {
            Some(last) if last.len() < last.capacity() => last.push(envelope),
            _ => {
                let mut batch = self.empty_batch();
                batch.push(envelope);
                self.batches.push_back(batch);
            }
        }
    }

    /// Puts a batch behind the others.
    pub(super) fn add(&mut self, mut batch: Vec<Envelope>) {
        self.len += batch.len();
        match self.batches.back_mut() {
            Some(last) if batch.len() <= FEW && last.capacity() - last.len() >= batch.len() => {
                last.append(&mut batch);
                self.keep(batch);
            }
            _ => self.batches.push_back(batch),
        }
    }

    /// Takes the first batch out, to handle messages of it; it must be put back.
    pub(super) fn take_front(&mut self) -> Option<Front> {
        let batch = self.batches.pop_front()?;
        Some(Front {
            batch,
            handled: std::mem::take(&mut self.handled),
        })
    }

    /// Puts the first batch back; what was handled of it is gone. `count` is how many that were since it was taken.
    pub(super) fn put_back(&mut self, front: Front, count: usize) {
        self.len -= count;
        if front.handled < front.batch.len() {
            self.handled = front.handled;
            self.batches.push_front(front.batch);
        } else {
            self.keep(front.batch);
        }
    }

    /// Takes the message out that stands there.
    pub(super) fn remove(&mut self, place: usize) -> Option<Envelope> {
        let mut place = self.handled + place;
        for batch in &mut self.batches {
            if place < batch.len() {
                self.len -= 1;
                return Some(batch.remove(place));
            }
            place -= batch.len();
        }
        None
    }

    /// The memory of a batch, for messages that are sent.
    pub(super) fn empty_batch(&mut self) -> Vec<Envelope> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BATCH))
    }

    fn keep(&mut self, mut batch: Vec<Envelope>) {
        batch.clear();
        if self.spare.len() < SPARE && (BATCH..=4 * BATCH).contains(&batch.capacity()) {
            self.spare.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Address, LazyTypeName};

    static NAME: LazyTypeName = LazyTypeName::new("test/mailbox");

    fn message(number: u32) -> Envelope {
        Envelope {
            to: Address::new(NAME.get(), number.to_string()),
            from: None,
            body: Box::new(number.to_string()),
        }
    }

    fn number(envelope: &Envelope) -> u32 {
        envelope.to.id().parse().unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Add(usize),
        /// So many are handled, each of which sends so many to its own worker.
        Handle(usize, usize),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => (0..2 * FEW).prop_map(Step::Add),
            1 => (BATCH - 2..BATCH + 2).prop_map(Step::Add),
            4 => (1usize..40, 0usize..2).prop_map(|(count, sends)| Step::Handle(count, sends)),
            1 => (0usize..200).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Whatever comes and goes, it is a queue.
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec(step(), 0..60)) {
            let (mut mailbox, mut model) = (Mailbox::default(), VecDeque::new());
            let mut numbers = 0..;
            for step in steps {
                match step {
                    Step::Push => {
                        let new = numbers.next().unwrap();
                        mailbox.push(message(new));
                        model.push_back(new);
                    }
                    Step::Add(count) => {
                        let new: Vec<u32> = numbers.by_ref().take(count).collect();
                        let mut batch = mailbox.empty_batch();
                        batch.extend(new.iter().map(|new| message(*new)));
                        mailbox.add(batch);
                        model.extend(new);
                    }
                    Step::Handle(mut count, sends) => {
                        count = count.min(mailbox.len());
                        while count > 0 {
                            let mut front = mailbox.take_front().unwrap();
                            let messages = front.next(count);
                            let handled = messages.len();
                            for envelope in messages {
                                prop_assert_eq!(Some(number(envelope)), model.pop_front());
                                for new in numbers.by_ref().take(sends) {
                                    mailbox.push(message(new));
                                    model.push_back(new);
                                }
                            }
                            mailbox.put_back(front, handled);
                            count -= handled;
                        }
                    }
                    Step::Remove(place) => {
                        let removed = mailbox.remove(place).map(|envelope| number(&envelope));
                        prop_assert_eq!(removed, model.remove(place));
                    }
                }
                prop_assert_eq!(mailbox.len(), model.len());
                prop_assert_eq!(mailbox.is_empty(), model.is_empty());
                prop_assert!(mailbox.iter().map(number).eq(model.iter().copied()));
                let (from, to) = (model.len() / 3, model.len() / 2);
                prop_assert!(mailbox.range(from, to).map(number).eq(model.range(from..to).copied()));
            }
        }
    }
}
