//! What was really committed, and what everybody was told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use danmaku_log::{Entry, EntryBody, Page};
use danmaku_wire::{Epoch, Event, Seq};

use crate::viewer::{Span, Viewer};

/// Collects while the world runs; judges at its end.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    truth: BTreeMap<Epoch, Truth>,
    /// Position and body of what was acknowledged.
    acked: Vec<(Epoch, Seq, EntryBody)>,
    pages: Vec<(Epoch, Page)>,
}

/// What was committed in one epoch.
#[derive(Debug, Default)]
struct Truth {
    entries: BTreeMap<Seq, EntryBody>,
    retracted: BTreeSet<Seq>,
}

impl Ledger {
    pub(crate) fn ack(&mut self, epoch: Epoch, seqs: &[Seq], bodies: &[EntryBody]) {
        assert_eq!(seqs.len(), bodies.len());
        assert!(seqs.is_sorted_by(|a, b| a < b));
        for (seq, body) in seqs.iter().zip(bodies) {
            self.acked.push((epoch, *seq, body.clone()));
        }
    }

    pub(crate) fn acked(&self) -> &[(Epoch, Seq, EntryBody)] {
        &self.acked
    }

    pub(crate) fn page(&mut self, epoch: Epoch, page: Page) {
        self.pages.push((epoch, page));
    }

    /// Notes all that was committed in an epoch, at its end.
    pub(crate) fn close(&mut self, epoch: Epoch, committed: Vec<Entry>) {
        assert!(committed.is_sorted_by(|a, b| a.seq < b.seq && a.at_ms <= b.at_ms));
        let entries = committed.into_iter().map(|entry| (entry.seq, entry.body));
        let truth = Truth::new(entries.collect());
        assert!(self.truth.insert(epoch, truth).is_none());
    }

    /// The same without a store: what was acknowledged is what there is.
    pub(crate) fn close_with_acked(&mut self) {
        let Some(&(epoch, ..)) = self.acked.first() else {
            return;
        };
        let entries: BTreeMap<_, _> = self
            .acked
            .iter()
            .map(|(_, seq, body)| (*seq, body.clone()))
            .collect();
        assert_eq!(entries.len(), self.acked.len(), "numbered twice");
        self.truth.insert(epoch, Truth::new(entries));
    }

    /// The last position of the last epoch.
    pub(crate) fn head(&self) -> Option<Seq> {
        let (_, truth) = self.truth.last_key_value()?;
        truth.entries.last_key_value().map(|(seq, _)| *seq)
    }

    /// Everything that was acknowledged is committed under the position that was told, and nothing twice.
    pub(crate) fn check_acks(&self) {
        let mut told = BTreeSet::new();
        for (epoch, seq, body) in &self.acked {
            let truth = &self.truth[epoch];
            assert_eq!(truth.entries.get(seq), Some(body), "{epoch}:{seq}");
            assert!(told.insert((epoch, seq)), "{epoch}:{seq} was told twice");
        }
        for (epoch, truth) in &self.truth {
            let mut texts = BTreeSet::new();
            for body in truth.entries.values() {
                if let EntryBody::Comment { fragment, .. } = body {
                    let text = fragment.as_bytes();
                    assert!(texts.insert(text), "{epoch}: {fragment:?} is there twice");
                }
            }
        }
    }

    pub(crate) fn check_pages(&self) {
        for (epoch, page) in &self.pages {
            let truth = &self.truth[epoch];
            let comments = page.entries.iter().map(|entry| (entry.seq, &entry.body));
            truth.check_whole(page.after, page.seq, comments);
        }
    }

    /// Everything that a viewer was to be told is in what it was told, once.
    pub(crate) fn check_viewer(&self, viewer: &Viewer) -> u64 {
        let Some(truth) = self.truth.get(&viewer.epoch()) else {
            assert_eq!(
                viewer.start(),
                viewer.position(),
                "nothing was ever committed"
            );
            return 0;
        };
        let mut at = viewer.start();
        let mut never_shown = 0;
        for span in viewer.spans() {
            assert_eq!(span.after(), at);
            at = span.seq();
            if let Span::Batch {
                after,
                seq,
                shed,
                bodies,
            } = span
            {
                let told = bodies.iter().map(|(seq, body)| (*seq, body));
                never_shown += truth.check_span((*after, *seq), *shed, told);
            }
        }
        assert_eq!(at, viewer.position());
        never_shown
    }
}

impl Truth {
    fn new(entries: BTreeMap<Seq, EntryBody>) -> Self {
        let mut retracted = BTreeSet::new();
        for (seq, body) in &entries {
            if let EntryBody::Event(Event::Retract { ids }) = body {
                retracted.extend(ids.iter().filter(|id| *id < seq));
            }
        }
        Self { entries, retracted }
    }

    /// Everything in (`after`, `seq`] is told, but for what was retracted.
    fn check_whole<'a>(
        &self,
        after: Seq,
        seq: Seq,
        told: impl Iterator<Item = (Seq, &'a EntryBody)>,
    ) {
        self.check_span((after, seq), 0, told);
    }

    /// Everything in a span is told, was retracted, or was shed. Answers how many were retracted before they were
    /// told, at least.
    fn check_span<'a>(
        &self,
        (after, seq): (Seq, Seq),
        shed: u32,
        told: impl Iterator<Item = (Seq, &'a EntryBody)>,
    ) -> u64 {
        let mut missing: BTreeMap<_, _> = self
            .entries
            .range((Excluded(after), Included(seq)))
            .collect();
        for (seq, body) in told {
            assert_eq!(
                missing.remove(&seq),
                Some(body),
                "{seq} in ({after}, {seq}]"
            );
        }
        let all = missing.len();
        missing.retain(|seq, body| {
            assert!(
                matches!(body, EntryBody::Comment { .. }),
                "the event {seq} is not told"
            );
            !self.retracted.contains(seq)
        });
        let shed = usize::try_from(shed).unwrap();
        assert!(
            missing.len() <= shed,
            "({after}, {seq}]: lost {missing:?}, shed {shed}"
        );
        assert!(
            shed <= all,
            "({after}, {seq}]: {shed} shed of {all} that are missing"
        );
        (all - shed) as u64
    }
}
