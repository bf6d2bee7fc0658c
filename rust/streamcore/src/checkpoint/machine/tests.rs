//! What the machine decides, one situation a test; how the decisions add up is the simulator's (`tests/simulation`).

use super::*;

fn manifest(epoch: u64, complete: bool) -> Manifest {
    Manifest {
        owner_epoch: 0,
        epoch,
        offsets: vec![10 * epoch as i64],
        clock_ms: 0,
        digest: epoch,
        seal: epoch,
        complete,
    }
}

fn sealed(epoch: u64, outputs: u64) -> Event {
    let Manifest { offsets, clock_ms, digest, seal, .. } = manifest(epoch, true);
    Event::Sealed { lanes: vec![SealedLane { lane: 0, offsets, clock_ms, digest, outputs, seal }] }
}

fn failed(error: ErrorClass) -> Event {
    Event::Failed { error, message: "so".to_owned() }
}

/// The names of the actions, reports left out.
fn names(actions: &[Action]) -> Vec<&'static str> {
    actions.iter().map(failure::name).filter(|name| *name != "report").collect()
}

/// Gives events at one time each and returns the last step.
fn last(machine: &mut Machine, now_ms: u64, events: Vec<Event>) -> Action {
    let steps = events.into_iter().map(|event| machine.handle(event, now_ms).pop());
    steps.last().flatten().expect("every event has a step")
}

/// A machine up to the answer about the state of its one lane, when the group is at `group`.
fn reading(settings: Settings, group: i64) -> Machine {
    let mut machine = Machine::new(settings);
    let assigned = Event::Assigned { lanes: vec![0], member: "m".to_owned(), continuous: false };
    let fetched = Event::CommittedFetched { lanes: vec![GroupOffsets { lane: 0, offsets: vec![Some(group)] }] };
    let step = last(&mut machine, 0, vec![Event::Start, Event::ProducerReady, assigned, Event::Tick, fetched]);
    assert_eq!(failure::name(&step), "read_state");
    machine
}

fn read(manifests: Vec<Manifest>) -> Event {
    Event::StateRead { lanes: vec![StateFound { lane: 0, reached: true, manifests }] }
}

/// A machine whose one lane is live at epoch 3.
fn live() -> Machine {
    let mut machine = reading(Settings::default(), 30);
    let restored = Event::Restored { lanes: vec![RestoredLane { lane: 0, clock_ms: 0, digest: 3 }] };
    let sought = Event::Sought { lanes: vec![LaneOffsets { lane: 0, offsets: vec![30] }] };
    let step = last(&mut machine, 0, vec![read(vec![manifest(3, true)]), restored, Event::Done, sought]);
    assert_eq!(step, Action::Rest { feed: vec![0], tick_ms: None });
    machine
}

/// The same, with epoch 4 sealed, produced, its offsets sent, and all of it flushed.
fn committing() -> Machine {
    let mut machine = live();
    let mut events = vec![Event::Due, sealed(4, 1), Event::Began];
    events.extend([Event::Produced, Event::Produced, Event::Produced, Event::OffsetsSent, Event::Flushed]);
    assert_eq!(failure::name(&last(&mut machine, 10, events)), "commit");
    machine
}

#[test]
fn an_epoch_with_nothing_in_it_sends_nothing() {
    let mut machine = live();
    assert_eq!(names(&machine.handle(Event::Due, 5)), ["seal"]);
    assert_eq!(names(&machine.handle(sealed(3, 0), 5)), ["rest"]);
}

#[test]
fn rows_without_input_send_offsets_all_the_same() {
    let mut machine = live();
    let events = vec![Event::Due, sealed(3, 1), Event::Began, Event::Produced, Event::Produced, Event::Produced];
    let step = last(&mut machine, 5, events);
    let lanes = vec![LaneOffsets { lane: 0, offsets: vec![30] }];
    let group = GroupMetadata::Assigned;
    assert_eq!(step, Action::SendOffsets { lanes, member: "m".to_owned(), group, timeout_ms: 5_000 });
}

#[test]
fn a_quick_commit_keeps_and_a_slow_or_disconnected_one_asks_a_new_producer_first() {
    let quick = Event::TransactionCommitted { disconnected: false };
    assert_eq!(names(&committing().handle(quick.clone(), 500)), ["keep"]);
    for (event, now_ms) in [(quick, 5_000), (Event::TransactionCommitted { disconnected: true }, 20)] {
        let mut machine = committing();
        let rest = machine.handle(event, now_ms).pop();
        assert_eq!(rest, Some(Action::Rest { feed: vec![], tick_ms: Some(0) }));
        assert_eq!(names(&machine.handle(Event::Tick, now_ms)), ["new_producer"]);
    }
}

#[test]
fn what_the_manifest_says_after_a_timeout_is_what_happened() {
    for (newest, expected) in [(4, "keep"), (3, "rollback"), (7, "restore")] {
        let mut machine = committing();
        machine.handle(failed(ErrorClass::Indeterminate), 20);
        let fetched = Event::CommittedFetched { lanes: vec![GroupOffsets { lane: 0, offsets: vec![Some(30)] }] };
        last(&mut machine, 1_000, vec![Event::Tick, Event::ProducerReady, Event::Tick, fetched]);
        assert_eq!(names(&machine.handle(read(vec![manifest(newest, true)]), 1_000)), [expected]);
    }
}

/// A machine with two lanes at epoch 3, of which both are in epoch 4, whose outcome is unknown; their state is to be read.
fn doubting() -> Machine {
    let both = [0, 1];
    let assigned = Event::Assigned { lanes: both.to_vec(), member: "m".to_owned(), continuous: false };
    let offsets = |lane| GroupOffsets { lane, offsets: vec![Some(30)] };
    let fetched = || Event::CommittedFetched { lanes: both.map(offsets).to_vec() };
    let found = |lane| StateFound { lane, reached: true, manifests: vec![manifest(3, true)] };
    let restored = |lane| RestoredLane { lane, clock_ms: 0, digest: 3 };
    let sought = |lane| LaneOffsets { lane, offsets: vec![30] };
    let Manifest { offsets, clock_ms, digest, seal, .. } = manifest(4, true);
    let sealed = |lane| SealedLane { lane, offsets: offsets.clone(), clock_ms, digest, outputs: 1, seal };
    let mut machine = Machine::new(Settings::default());
    let mut events = vec![Event::Start, Event::ProducerReady, assigned, Event::Tick, fetched()];
    events.extend([
        Event::StateRead { lanes: both.map(found).to_vec() },
        Event::Restored { lanes: both.map(restored).to_vec() },
    ]);
    events.extend([Event::Done, Event::Sought { lanes: both.map(sought).to_vec() }, Event::Due]);
    events.extend([Event::Sealed { lanes: both.map(sealed).to_vec() }, Event::Began]);
    events.extend([Event::Produced, Event::Produced, Event::Produced, Event::OffsetsSent, Event::Flushed]);
    assert_eq!(failure::name(&last(&mut machine, 0, events)), "commit");
    machine.handle(failed(ErrorClass::Indeterminate), 20);
    let step = last(&mut machine, 1_000, vec![Event::Tick, Event::ProducerReady, Event::Tick, fetched()]);
    assert_eq!(failure::name(&step), "read_state");
    machine
}

fn read_of_both(found: [Option<u64>; 2]) -> Event {
    let lanes = found.iter().enumerate().map(|(lane, epoch)| StateFound {
        lane: lane as Lane,
        reached: epoch.is_some(),
        manifests: epoch.iter().map(|epoch| manifest(*epoch, true)).collect(),
    });
    Event::StateRead { lanes: lanes.collect() }
}

#[test]
fn where_lanes_meet_none_is_fed_before_all_are_live() {
    let (meeting, lanes) = (-1, [-1, 0, 1]);
    for slow in lanes {
        let found = |lane| StateFound { lane, reached: lane != slow, manifests: vec![] };
        let restored = |lane| RestoredLane { lane, clock_ms: 0, digest: 0 };
        let offsets = |lane| if lane == meeting { vec![] } else { vec![0] };
        let sought = |lane| LaneOffsets { lane, offsets: offsets(lane) };
        let group = |lane| GroupOffsets { lane, offsets: vec![None; offsets(lane).len()] };
        let assigned = Event::Assigned { lanes: lanes.to_vec(), member: "m".to_owned(), continuous: false };
        let first: Vec<Lane> = lanes.into_iter().filter(|lane| *lane != slow).collect();
        let mut machine = Machine::new(Settings::default());
        let mut events = vec![Event::Start, Event::ProducerReady, assigned, Event::Tick];
        events.push(Event::CommittedFetched { lanes: lanes.map(group).to_vec() });
        events.push(Event::StateRead { lanes: lanes.map(found).to_vec() });
        events.push(Event::Restored { lanes: first.iter().copied().map(restored).collect() });
        events.push(Event::Sought { lanes: first.iter().copied().map(sought).collect() });
        let nothing = Action::Rest { feed: vec![], tick_ms: Some(0) };
        assert_eq!(last(&mut machine, 0, events), nothing, "without lane {slow}");
        assert_eq!(last(&mut machine, 0, vec![Event::Due]), nothing, "and there is no epoch to end");
        let found = StateFound { lane: slow, reached: true, manifests: vec![] };
        let mut events = vec![Event::Tick, Event::StateRead { lanes: vec![found] }];
        events.push(Event::Restored { lanes: vec![restored(slow)] });
        events.push(Event::Sought { lanes: vec![sought(slow)] });
        assert_eq!(last(&mut machine, 0, events), Action::Rest { feed: lanes.to_vec(), tick_ms: None });
        assert_eq!(last(&mut machine, 0, vec![Event::Due]), Action::Seal);
    }
}

#[test]
fn an_epoch_in_doubt_is_decided_of_all_its_lanes_at_once() {
    for (epoch, expected) in [(4, "keep"), (3, "rollback")] {
        let mut machine = doubting();
        assert_eq!(names(&machine.handle(read_of_both([Some(epoch), None]), 1_000)), ["rest"]);
        assert_eq!(names(&machine.handle(Event::Tick, 1_100)), ["read_state"]);
        let step = machine.handle(read_of_both([Some(epoch), Some(epoch)]), 1_100).pop().unwrap();
        assert_eq!(failure::name(&step), expected);
        let lanes: Vec<Lane> = match step {
            Action::Keep { lanes } => lanes.iter().map(|of| of.lane).collect(),
            Action::Rollback { lanes } => lanes,
            other => panic!("{other:?}"),
        };
        assert_eq!(lanes, [0, 1]);
    }
}

#[test]
fn an_epoch_that_is_committed_in_one_lane_alone_ends_the_run() {
    let Some(Action::Exit { code, message }) = doubting().handle(read_of_both([Some(4), Some(3)]), 1_000).pop() else {
        panic!("it goes on")
    };
    assert_eq!(code, ExitCode::State);
    assert!(message.contains("epoch 4 of lane 0 was committed, and that of lanes [1] was not"), "{message}");
}

#[test]
fn an_epoch_of_the_same_state_that_somebody_else_sealed_is_not_ones_own() {
    let mut machine = committing();
    machine.handle(failed(ErrorClass::Indeterminate), 20);
    let fetched = Event::CommittedFetched { lanes: vec![GroupOffsets { lane: 0, offsets: vec![Some(40)] }] };
    last(&mut machine, 1_000, vec![Event::Tick, Event::ProducerReady, Event::Tick, fetched]);
    let others = Manifest { seal: 99, ..manifest(4, true) };
    assert_eq!(names(&machine.handle(read(vec![others]), 1_000)), ["restore"]);
}

#[test]
fn a_retriable_commit_is_called_again_within_its_budget_then_doubted() {
    let mut machine = committing();
    assert_eq!(names(&machine.handle(failed(ErrorClass::Retriable), 20)), ["wait"]);
    assert_eq!(names(&machine.handle(Event::Done, 70)), ["commit"]);
    assert_eq!(names(&machine.handle(failed(ErrorClass::Retriable), 10_070)), ["rest"]);
    assert_eq!(names(&machine.handle(Event::Tick, 11_000)), ["new_producer"]);
}

#[test]
fn a_fenced_producer_ends_the_run_with_seven() {
    let Some(Action::Exit { code, .. }) = committing().handle(failed(ErrorClass::Fenced), 20).pop() else {
        panic!("it goes on")
    };
    assert_eq!(u8::from(code), 7);
}

#[test]
fn an_abort_goes_back_seeks_and_waits() {
    let mut machine = committing();
    assert_eq!(names(&machine.handle(failed(ErrorClass::Abortable), 20)), ["abort"]);
    assert_eq!(names(&machine.handle(Event::Aborted { disconnected: false }, 20)), ["rollback"]);
    let seek = Action::Seek { lanes: vec![Start { lane: 0, offsets: vec![Some(30)] }] };
    assert_eq!(machine.handle(Event::Done, 20).pop(), Some(seek));
    let sought = Event::Sought { lanes: vec![LaneOffsets { lane: 0, offsets: vec![30] }] };
    let rest = Action::Rest { feed: vec![], tick_ms: Some(100) };
    assert_eq!(machine.handle(sought, 20).pop(), Some(rest));
}

#[test]
fn a_revoked_lane_is_committed_where_the_membership_is_continuous_and_taken_back_where_it_may_not_be() {
    let revoked = |continuous| Event::Revoked { lanes: vec![0], within_ms: 1_000, continuous };
    assert_eq!(names(&live().handle(revoked(true), 5)), ["seal"]);
    let mut machine = live();
    assert_eq!(names(&machine.handle(revoked(false), 5)), ["rollback"]);
    assert_eq!(machine.handle(Event::Done, 5).pop(), Some(Action::Drop { lanes: vec![0], keep_cache: true }));
}

#[test]
fn a_revocation_that_takes_too_long_lets_the_lane_go_uncommitted() {
    let mut machine = live();
    machine.handle(Event::Revoked { lanes: vec![0], within_ms: 1_000, continuous: true }, 0);
    let step = machine.handle(sealed(4, 1), 1_000).pop();
    assert_eq!(step, Some(Action::Drop { lanes: vec![0], keep_cache: false }));
    assert_eq!(names(&machine.handle(Event::Done, 1_000)), ["rest"]);
}

#[test]
fn a_lost_lane_is_never_committed() {
    let mut machine = live();
    last(&mut machine, 5, vec![Event::OutputReady, Event::Began, Event::Produced]);
    let step = machine.handle(Event::Lost { lanes: vec![0] }, 5).pop();
    assert_eq!(step, Some(Action::Drop { lanes: vec![0], keep_cache: false }));
    assert_eq!(names(&machine.handle(Event::Done, 5)), ["abort"]);
    assert_eq!(names(&machine.handle(Event::Aborted { disconnected: false }, 5)), ["rest"]);
    assert_eq!(names(&machine.handle(Event::Tick, 5)), ["new_producer"]);
}

#[test]
fn a_torn_epoch_stops_unless_it_is_repaired_under_another_owner_epoch() {
    let torn = || read(vec![manifest(3, true), manifest(4, false)]);
    let Some(Action::Exit { code, message }) = reading(Settings::default(), 40).handle(torn(), 0).pop() else {
        panic!("it goes on")
    };
    assert_eq!(code, ExitCode::State);
    assert!(message.contains("epoch 4") && message.contains("state repair"), "{message}");

    let mut machine = reading(Settings { repair: true, ..Settings::default() }, 40);
    assert_eq!(names(&machine.handle(torn(), 0)), ["restore"]);
    let restored = Event::Restored { lanes: vec![RestoredLane { lane: 0, clock_ms: 0, digest: 3 }] };
    let sought = Event::Sought { lanes: vec![LaneOffsets { lane: 0, offsets: vec![30] }] };
    last(&mut machine, 0, vec![restored, Event::Done, sought, Event::Due, sealed(4, 1), Event::Began]);
    let lanes = vec![LaneEpoch { lane: 0, owner_epoch: 1, epoch: 4 }];
    assert_eq!(last(&mut machine, 0, vec![Event::Produced]), Action::Produce { part: Part::State, lanes });
}

#[test]
fn a_group_ahead_is_read_again_then_stops_with_the_evidence() {
    let mut machine = reading(Settings { rereads_max: 2, ..Settings::default() }, 40);
    for round in 1..=2 {
        assert_eq!(names(&machine.handle(read(vec![manifest(3, true)]), 200 * round)), ["rest"]);
        assert_eq!(names(&machine.handle(Event::Tick, 200 * round + 100)), ["read_state"]);
    }
    let Some(Action::Exit { code, message }) = machine.handle(read(vec![manifest(3, true)]), 900).pop() else {
        panic!("it goes on")
    };
    assert_eq!(code, ExitCode::State);
    assert!(message.contains("at 40, past") && message.contains("epoch: 3"), "{message}");
}

#[test]
fn another_digest_than_the_manifests_stops() {
    let mut machine = reading(Settings::default(), 30);
    machine.handle(read(vec![manifest(3, true)]), 0);
    let restored = Event::Restored { lanes: vec![RestoredLane { lane: 0, clock_ms: 0, digest: 4 }] };
    assert!(matches!(machine.handle(restored, 0).pop(), Some(Action::Exit { code: ExitCode::State, .. })));
}

#[test]
fn a_lane_without_a_manifest_begins_only_where_the_group_is_nowhere() {
    let Some(Action::Exit { code, message }) = reading(Settings::default(), 40).handle(read(vec![]), 0).pop() else {
        panic!("it begins with empty state")
    };
    assert_eq!(code, ExitCode::State);
    assert!(message.contains("group is at 40, and the state has no manifest"), "{message}");
    let mut machine = reading(Settings::default(), 0);
    assert_eq!(names(&machine.handle(read(vec![]), 0)), ["restore"]);
    let restored = Event::Restored { lanes: vec![RestoredLane { lane: 0, clock_ms: 0, digest: 0 }] };
    let seek = Action::Seek { lanes: vec![Start { lane: 0, offsets: vec![Some(0)] }] };
    assert_eq!(last(&mut machine, 0, vec![restored]), seek);
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_run() {
    let Some(Action::Exit { code, message }) = live().handle(Event::Flushed, 0).pop() else { panic!("it goes on") };
    assert_eq!(code, ExitCode::Failed);
    assert!(message.contains("misused"), "{message}");
}

#[test]
fn events_and_actions_are_tagged_json() {
    let event = r#"{"event":"assigned","lanes":[0],"member":"m"}"#;
    let read: Event = serde_json::from_str(event).unwrap();
    assert_eq!(read, Event::Assigned { lanes: vec![0], member: "m".to_owned(), continuous: false });
    assert!(serde_json::from_str::<Event>(r#"{"event":"assigned","lanes":[0],"member":"m","x":1}"#).is_err());
    let exit = Action::Exit { code: ExitCode::Fenced, message: "so".to_owned() };
    assert_eq!(serde_json::to_string(&exit).unwrap(), r#"{"action":"exit","code":7,"message":"so"}"#);
    assert_eq!(serde_json::from_str::<Action>(r#"{"action":"exit","code":7,"message":"so"}"#).unwrap(), exit);
}

#[test]
fn a_recovery_that_takes_long_says_what_it_waits_for_and_ends_when_its_time_is_over() {
    let mut machine = reading(Settings::default(), 30);
    let mut told = Vec::new();
    let not_yet = || Event::StateRead { lanes: vec![StateFound { lane: 0, reached: false, manifests: Vec::new() }] };
    for now_ms in (0..=300_500).step_by(500) {
        for action in machine.handle(not_yet(), now_ms).into_iter().chain(machine.handle(Event::Tick, now_ms)) {
            match action {
                Action::Report { message, .. } => told.push((now_ms, message)),
                Action::Exit { code, message } => {
                    assert_eq!((now_ms, code), (300_500, ExitCode::Unreachable));
                    assert!(message.contains("a transaction in its topic stays open"), "{message}");
                }
                _ => {}
            }
        }
    }
    assert_eq!(told.len(), 10, "{told:?}");
    assert_eq!(told[0].0, 30_000);
    assert!(told[0].1.starts_with("lane 0 was not recovered within 30000 ms: its state is not read"), "{told:?}");
}

#[test]
fn a_lane_that_is_being_read_is_asked_of_anew_after_a_generation_that_was_missed() {
    let mut machine = reading(Settings::default(), 30);
    machine.handle(Event::StateRead { lanes: vec![StateFound { lane: 0, reached: false, manifests: Vec::new() }] }, 10);
    let missed = Event::Assigned { lanes: Vec::new(), member: "m".to_owned(), continuous: false };
    machine.handle(missed, 20);
    assert_eq!(names(&machine.handle(Event::Tick, 20)), ["fetch_committed"]);
    let mut machine = reading(Settings::default(), 30);
    machine.handle(Event::StateRead { lanes: vec![StateFound { lane: 0, reached: false, manifests: Vec::new() }] }, 10);
    let next = Event::Assigned { lanes: Vec::new(), member: "m".to_owned(), continuous: true };
    machine.handle(next, 20);
    assert_eq!(names(&machine.handle(Event::Tick, 20)), ["read_state"]);
}

#[test]
fn an_epoch_that_cannot_be_sealed_comes_again_in_a_revoke_too() {
    for news in [Event::Due, Event::Revoked { lanes: vec![0], within_ms: 1_000, continuous: true }] {
        let mut machine = live();
        assert_eq!(names(&machine.handle(news, 5)), ["seal"]);
        assert_eq!(names(&machine.handle(failed(ErrorClass::Abortable), 5)), ["rollback"]);
        assert_ne!(names(&machine.handle(Event::Done, 5)), ["exit"]);
    }
}

#[test]
fn records_are_not_sent_again_in_the_same_transaction() {
    let mut machine = live();
    last(&mut machine, 5, vec![Event::Due, sealed(4, 1), Event::Began]);
    assert_eq!(names(&machine.handle(failed(ErrorClass::Retriable), 5)), ["abort"]);
}

#[test]
fn a_stop_is_not_well_where_files_have_no_names_yet() {
    let mut machine = live();
    let mut events = vec![Event::Stop { within_ms: 1_000 }, sealed(4, 1), Event::Began];
    events.extend([Event::Produced, Event::Produced, Event::Produced, Event::OffsetsSent, Event::Flushed]);
    events.extend([Event::TransactionCommitted { disconnected: false }, Event::Done, Event::Done]);
    assert_eq!(failure::name(&last(&mut machine, 10, events)), "publish");
    let Some(Action::Exit { code, message }) = machine.handle(failed(ErrorClass::Retriable), 10).pop() else {
        panic!("a stop ends");
    };
    assert_eq!((code, message.contains("names")), (ExitCode::Failed, true));
}
