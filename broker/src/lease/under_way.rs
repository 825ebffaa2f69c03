//! The issuances that this process has under way.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// All of them, by number in order of their beginning.
#[derive(Debug)]
pub(super) struct UnderWay(watch::Sender<Issuances>);

#[derive(Debug, Default)]
struct Issuances {
    begun: u64,
    open: BTreeSet<u64>,
}

/// One of them; it is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Issuing<'a> {
    number: u64,
    under_way: &'a UnderWay,
}

impl UnderWay {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// To be called before the intent, and held until the lease is durable or the credential is somebody else's.
    pub(super) fn begin(&self) -> Issuing<'_> {
        let mut number = 0;
        self.0.send_modify(|issuances| {
            number = issuances.begun;
            issuances.begun += 1;
            issuances.open.insert(number);
        });
        Issuing { number, under_way: self }
    }

    /// Waits until every issuance that is under way now has ended. New ones do not prolong it.
    pub(super) async fn ended(&self) {
        let mut seen = self.0.subscribe();
        let begun = seen.borrow().begun;
        let older = |issuances: &Issuances| issuances.open.first().is_none_or(|first| *first >= begun);
        // The sender lives in `self`, so waiting cannot fail.
        drop(seen.wait_for(older).await);
    }
}

impl Drop for Issuing<'_> {
    fn drop(&mut self) {
        self.under_way.0.send_modify(|issuances| {
            issuances.open.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::UnderWay;

    #[test]
    fn only_older_issuances_are_waited_for() {
        let under_way = UnderWay::new();
        let (first, second) = (under_way.begin(), under_way.begin());
        let mut ended = pin!(under_way.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        let _third = under_way.begin();
        drop(first);
        assert!(ended.as_mut().now_or_never().is_none());
        drop(second);
        assert!(ended.as_mut().now_or_never().is_some());
    }

    #[test]
    fn without_issuances_nothing_is_waited_for() {
        let under_way = UnderWay::new();
        drop(under_way.begin());
        assert!(under_way.ended().now_or_never().is_some());
    }
}
