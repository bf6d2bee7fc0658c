//! The epoch commit of one worker: events in, actions out.
//!
//! Before it: the executor (`python/streamcore`), which polls, pushes and knows the clients. After it: the same, which
//! carries out the [`Action`]s. Nothing here knows Kafka's client or the engine; time is an argument.
//!
//! Invariant: the machine is a function of the events it was given. The same events give the same actions, so a recorded
//! trace can be replayed ([`trace`]), and what the simulator ran is what runs against a broker.

pub mod action;
pub mod event;
pub mod settings;

pub use action::{
    Action, ExitCode, GroupMetadata, LaneEpoch, LaneOffsets, Level, Part, ReadEnd, RestoreLane, Start,
};
pub use event::{ErrorClass, Event, GroupOffsets, Lane, RestoredLane, Manifest, SealedLane, StateFound};
pub use settings::{Bug, Settings};
