//! What an error means: again, back, a new producer, or the end.
//!
//! Before it: a step that did not succeed. After it: `recovery`, where rule 7 ends, or the next epoch.
//!
//! Rule 7: once it is unknown whether something happened, the producer is destroyed, a new one takes its
//! `transactional.id` (which ends whatever the old one had open, and fences what is still on its way), and the manifests
//! are read again; what they say is what happened.
//!
//! Invariant: memory never moves on from an epoch that is not known to be committed, and the same producer is never used
//! on after a call whose request may still arrive.

use super::Machine;
use super::action::{Action, ExitCode, Level, Start};
use super::event::{ErrorClass, Lane};
use super::lanes::{Stage, in_stage};
use super::settings::Bug;

/// Between two calls of the same kind.
const REPEAT_AFTER_MS: u64 = 50;

impl Machine {
    /// A step did not succeed.
    pub(super) fn failed(&mut self, step: Action, error: ErrorClass, message: &str) {
        match step {
            Action::NewProducer { .. } => self.no_producer(error, message),
            Action::FetchCommitted { .. } | Action::ReadState { .. } | Action::Restore { .. } | Action::Seek { .. } => {
                self.not_recovered(&step, error, message);
            }
            Action::WriteCache { .. } => {
                self.report(
                    Level::Warning,
                    format!("the local cache was not written, the next restore is slower: {message}"),
                );
            }
            Action::Publish { lanes } => {
                self.report(Level::Warning, format!("files were not published, it is tried again: {message}"));
                self.unpublished.extend(lanes.iter().map(|lane| lane.lane));
                self.publish_at_ms = self.now_ms + self.settings.backoff_max_ms;
            }
            Action::Wait { .. } => {}
            // The epoch does not fit, say; it comes again in shorter ones.
            Action::Seal if error == ErrorClass::Abortable => self.abort(&format!("it cannot be sealed: {message}")),
            Action::Begin
            | Action::Produce { .. }
            | Action::Flush { .. }
            | Action::SendOffsets { .. }
            | Action::Commit { .. }
            | Action::Abort { .. } => self.transaction_failed(step, error, message),
            local => self.exit(ExitCode::Failed, format!("{} failed: {message}", name(&local))),
        }
    }

    /// A step of a transaction did not succeed.
    fn transaction_failed(&mut self, step: Action, error: ErrorClass, message: &str) {
        let what = format!("{} failed ({error:?}): {message}", name(&step));
        let is_abort = matches!(step, Action::Abort { .. });
        match error {
            ErrorClass::Fenced | ErrorClass::Fatal => self.exit(ExitCode::Fenced, format!("{what}; start again")),
            // Of its records some may be on their way: again they would be there twice.
            ErrorClass::Retriable if matches!(step, Action::Produce { .. }) => self.abort(&what),
            ErrorClass::Retriable if self.may_repeat() => {
                self.repeats = true;
                self.queue.push_front(step);
                self.queue.push_front(Action::Wait { wait_ms: REPEAT_AFTER_MS });
            }
            ErrorClass::Abortable if !is_abort => self.abort(&what),
            _ if matches!(step, Action::Commit { .. }) && self.settings.has(Bug::SuccessOnTimeout) => {
                self.assume_committed();
            }
            _ if !is_abort && self.settings.has(Bug::ReuseProducerAfterTimeout) => self.abort(&what),
            _ => self.doubt(&what),
        }
    }

    /// Whether a retriable error of the step that was out leaves time for another attempt.
    fn may_repeat(&self) -> bool {
        let spent_ms = self.now_ms - self.call_started_ms;
        spent_ms < self.settings.commit_budget_ms && self.deadline_ms.is_none_or(|deadline| self.now_ms < deadline)
    }

    /// The epoch is taken back and fed again.
    pub(super) fn abort(&mut self, why: &str) {
        self.report(Level::Warning, format!("the epoch is aborted and read again: {why}"));
        self.queue.clear();
        self.take_back();
        self.give_up_stopping();
        self.back_off(why);
    }

    /// Queues the way back to the last committed epoch of every lane that is fed.
    pub(super) fn take_back(&mut self) {
        let live = in_stage(&self.lanes, Stage::Live);
        if self.begun {
            self.queue.push_back(Action::Abort { timeout_ms: 0 });
        }
        if self.settings.has(Bug::NoRollbackOnAbort) {
            self.rolled_back(&live);
        } else {
            self.queue.push_back(Action::Rollback { lanes: live.clone() });
        }
        let lanes: Vec<Start> = live.iter().filter_map(|lane| self.start_at_kept(*lane)).collect();
        if !lanes.is_empty() && !self.settings.has(Bug::NoSeekAfterAbort) {
            self.queue.push_back(Action::Seek { lanes });
        }
    }

    /// `abort_transaction` has returned without an error; a late twin of it may exist, as of a commit.
    pub(super) fn aborted(&mut self, disconnected: bool) {
        self.begun = false;
        if self.may_have_twin(disconnected) && !self.settings.has(Bug::ReuseProducerAfterTimeout) {
            self.report(Level::Info, "an abort took long or lost its connection: new producer");
            self.renew();
        }
    }

    /// Whether the client may have sent the call twice, and one of the two is still on its way.
    pub(super) fn may_have_twin(&self, disconnected: bool) -> bool {
        let took_ms = self.now_ms - self.call_started_ms;
        (disconnected || took_ms > self.settings.slow_commit_ms)
            && !self.settings.has(Bug::ReuseProducerAfterSlowCommit)
    }

    /// The state of these lanes is that of their last committed epoch.
    pub(super) fn rolled_back(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            if let Some(owned) = self.lanes.get_mut(lane) {
                owned.sealed = None;
            }
        }
    }

    /// Where a lane that stays is fed from after a rollback.
    fn start_at_kept(&self, lane: Lane) -> Option<Start> {
        let kept = self.lanes.get(&lane)?.kept.as_ref().filter(|_| !self.leaving.contains(&lane))?;
        Some(Start { lane, offsets: kept.offsets.iter().copied().map(Some).collect() })
    }

    /// It is not known what became of the epoch: rule 7.
    pub(super) fn doubt(&mut self, why: &str) {
        self.report(Level::Warning, format!("the outcome is unknown, a new producer will tell: {why}"));
        self.renew();
        self.give_up_stopping();
        self.back_off(why);
    }

    /// Rule 7 without blame.
    pub(super) fn renew(&mut self) {
        self.queue.clear();
        self.begun = false;
        self.producer_needed_ms = Some(self.now_ms);
        self.recover_at_ms = self.now_ms;
        let now_ms = self.now_ms;
        for owned in self.lanes.values_mut().filter(|owned| matches!(owned.stage, Stage::Live | Stage::Restoring)) {
            owned.recover(now_ms);
        }
    }

    /// A stop that cannot commit is an end with another code.
    fn give_up_stopping(&mut self) {
        if self.stopping.is_some() {
            self.stopping = Some(ExitCode::Failed);
        }
    }

    /// Waits before the next epoch, longer each time; gives up in the end.
    fn back_off(&mut self, why: &str) {
        self.failures += 1;
        let doubled = self.settings.backoff_min_ms << (self.failures - 1).min(16);
        self.backoff_until_ms = self.now_ms + doubled.min(self.settings.backoff_max_ms);
        if self.failures > self.settings.failures_max {
            self.exit(
                ExitCode::Failed,
                format!("{} epochs in a row failed, the last one because {why}", self.failures),
            );
        }
    }

    /// `init_transactions` did not succeed.
    fn no_producer(&mut self, error: ErrorClass, message: &str) {
        let since_ms = *self.producer_needed_ms.get_or_insert(self.now_ms);
        if matches!(error, ErrorClass::Fenced | ErrorClass::Fatal) {
            self.exit(ExitCode::Fenced, format!("no producer ({error:?}): {message}"));
        } else if self.now_ms - since_ms > self.settings.producer_budget_ms {
            let spent_ms = self.now_ms - since_ms;
            self.exit(ExitCode::Unreachable, format!("no producer after {spent_ms} ms: {message}"));
        } else {
            self.backoff_until_ms = self.now_ms + self.settings.backoff_min_ms;
        }
    }

    /// Whether the deadline of a callback has passed before what is to be done in it is.
    pub(super) fn is_late(&self) -> bool {
        let is_over = self.deadline_ms.is_some_and(|deadline| self.now_ms >= deadline);
        let needs_time = |step: &Action| {
            matches!(step, Action::Begin | Action::Produce { .. } | Action::Flush { .. } | Action::SendOffsets { .. })
                || matches!(step, Action::Commit { .. } | Action::Abort { .. } | Action::Seal)
        };
        is_over && self.queue.front().is_some_and(needs_time)
    }

    /// Fills the bound of a step in.
    pub(super) fn bounded(&self, mut step: Action) -> Action {
        let left_ms = self.deadline_ms.map_or(u64::MAX, |deadline| deadline.saturating_sub(self.now_ms).max(1));
        let settings = &self.settings;
        match &mut step {
            Action::NewProducer { timeout_ms } => *timeout_ms = settings.producer_timeout_ms,
            Action::FetchCommitted { timeout_ms, .. } | Action::ReadState { timeout_ms, .. } => {
                *timeout_ms = settings.read_timeout_ms;
            }
            Action::Flush { timeout_ms }
            | Action::SendOffsets { timeout_ms, .. }
            | Action::Commit { timeout_ms }
            | Action::Abort { timeout_ms } => *timeout_ms = settings.call_timeout_ms.min(left_ms),
            _ => {}
        }
        step
    }
}

/// An action's name, as in JSON.
pub(super) fn name(action: &Action) -> &'static str {
    match action {
        Action::NewProducer { .. } => "new_producer",
        Action::FetchCommitted { .. } => "fetch_committed",
        Action::ReadState { .. } => "read_state",
        Action::Restore { .. } => "restore",
        Action::Seek { .. } => "seek",
        Action::Begin => "begin",
        Action::Seal => "seal",
        Action::Produce { .. } => "produce",
        Action::Flush { .. } => "flush",
        Action::SendOffsets { .. } => "send_offsets",
        Action::Commit { .. } => "commit",
        Action::Abort { .. } => "abort",
        Action::Rollback { .. } => "rollback",
        Action::Keep { .. } => "keep",
        Action::WriteCache { .. } => "write_cache",
        Action::Publish { .. } => "publish",
        Action::Drop { .. } => "drop",
        Action::Wait { .. } => "wait",
        Action::Report { .. } => "report",
        Action::Rest { .. } => "rest",
        Action::Exit { .. } => "exit",
    }
}
