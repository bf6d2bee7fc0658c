//! One lane: the state of one input partition, and the steps in their order.
//!
//! `decode` comes before; `combine` and `pipeline` after. A lane sees its records in offset order,
//! alone, so it needs no locks. Invariant: its ledger balances after every call.

mod flow;
mod handed;
mod moved;
mod telling;

pub use handed::Handed;
pub use telling::{PartialsTopic, Telling};

use crate::batch::{Batch, Column};
use crate::codec::Write;
use crate::error::Result;
use crate::flow::{Held, LeftRow};
use crate::group::Interner;
use crate::join::{JoinRoom, Side};
use crate::metrics::Ledger;
use crate::plan::Plan;
use crate::raw::{LANES_PER_INPUT, RawBatch};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::stage::{Fired, StageOutput, Stages};
use crate::watermark::{Clock, Now};
use crate::window::rows::ResultRows;

/// What one push brought out of a lane.
#[derive(Debug, Default)]
pub struct LaneOutput {
    /// Rows of windows that fired here.
    pub windows: Option<ResultRows>,
    /// Columns of the rows that reached the end (`Output::Rows`), batch by batch.
    pub rows: Vec<Vec<Column>>,
    /// Raw rows that reached the end (`Output::Records`).
    pub records: Vec<u32>,
    /// Records that left before.
    pub left: Vec<LeftRow>,
    /// What came of the windows' rows in the stages behind.
    pub stages: StageOutput,
    /// Rows for the join, batch by batch.
    pub handed: Vec<Handed>,
    /// Rows of windows that are over are still to leave.
    pub more: bool,
}

/// The state of one input partition.
#[derive(Debug)]
pub struct Lane {
    /// The partition's number, among those of all inputs.
    pub id: i32,
    /// The partition's number in its input.
    partition: i32,
    /// Event-time clock.
    pub clock: Clock,
    /// Where its records went.
    pub ledger: Ledger,
    /// State of the steps up to the first window.
    pub held: Held,
    /// Keys of rows that go to a join.
    interner: Interner,
    /// Rows that the join may hold of the lane, where others are shed.
    room: Option<JoinRoom>,
    /// The stages behind, where the lane's windows are its own.
    stages: Stages,
    /// What it tells where it hands its windows over through a topic.
    telling: Option<Telling>,
    /// Clock and ledger at the last commit.
    committed: (Clock, Ledger),
}

impl Lane {
    /// A lane that has seen nothing.
    #[must_use]
    pub fn new(id: i32, plan: &Plan) -> Self {
        let input = plan.input(id);
        let clock = Clock::new(input.clock.out_of_orderness_ms);
        let held = Held::new(&input.steps, plan.combine);
        let held = if plan.hands_over() { held.handing_over() } else { held };
        let telling = plan.hands_over().then(Telling::default);
        let stages = Stages::new(plan.lane_stages(), id);
        let committed = (clock.clone(), Ledger::default());
        let partition = if plan.inputs.len() == 1 { id } else { id % LANES_PER_INPUT };
        let (ledger, interner, room) = (Ledger::default(), Interner::default(), room_of(id, plan));
        Self { id, partition, clock, ledger, held, interner, room, stages, telling, committed }
    }

    /// Runs decoded records through the steps, and fires the lane's own windows.
    pub fn apply(&mut self, plan: &Plan, raw: &RawBatch, batches: Vec<Batch>, now: Now) -> Result<LaneOutput> {
        let mut output = LaneOutput::default();
        self.clock.arrived(now.steady_ms);
        self.telling.iter_mut().for_each(Telling::goes_on);
        for batch in batches {
            flow::run(self, plan, raw, &batch, now.wall_ms, &mut output)?;
        }
        // In the order they came, whichever step they left at.
        output.left.sort_by_key(|row| row.raw_row);
        self.advance(plan, &mut output)?;
        Ok(output)
    }

    /// Fires and forgets what is over at the clock. Where `output` says that there is more, it is to be called again before
    /// records arrive.
    pub fn advance(&mut self, plan: &Plan, output: &mut LaneOutput) -> Result<()> {
        let watermark_ms = self.clock.watermark_ms();
        if self.stages.is_empty() {
            if output.windows.is_none() {
                output.windows = plan.result_rows().filter(|_| !plan.combine);
            }
            output.more |= !self.held.advance(watermark_ms, output.windows.as_mut())?;
            return Ok(());
        }
        let Some(mut rows) = plan.result_rows() else { return Ok(()) };
        let has_left = self.held.advance(watermark_ms, Some(&mut rows))?;
        let fired = Fired::Windows { rows: Box::new(rows), ends: self.held.ends() };
        // The stages are told the clock when all rows up to there have come.
        let told_ms = if has_left { watermark_ms } else { i64::MIN };
        output.more |= !self.stages.advance(&plan.stages, fired, told_ms, &mut output.stages)? || !has_left;
        Ok(())
    }

    /// Appends the rows of the lane's own open windows at the end of the input, or what comes of them in the
    /// stages behind. False when there is more: then it is to be called again.
    pub fn end(&mut self, plan: &Plan, rows: &mut ResultRows, output: &mut StageOutput) -> Result<bool> {
        if self.stages.is_empty() {
            return self.held.end(rows);
        }
        let Some(mut rows) = plan.result_rows() else { return Ok(true) };
        let held = &mut self.held;
        let fire = || {
            let (ends, have_left) = (held.ends(), held.end(&mut rows)?);
            Ok((vec![Fired::Windows { rows: Box::new(rows), ends }], have_left))
        };
        self.stages.end(&plan.stages, fire, output)
    }

    /// Ends the epoch: own windows' changed rows leave, ledgers are checked. Gives the digest.
    pub fn seal(&mut self, plan: &Plan, rows: Option<&mut ResultRows>, output: &mut StageOutput) -> Result<u64> {
        self.ledger.check(self.id)?;
        let held = self.held.seal(rows)?;
        let mut plain = Vec::new();
        self.clock.encode(&mut plain);
        self.ledger.encode(&mut plain);
        self.room.iter().for_each(|room| room.save(&mut plain));
        self.telling.iter().for_each(|telling| telling.encode(&mut plain));
        let own = held ^ xxhash_rust::xxh3::xxh3_64(&plain);
        Ok(own.wrapping_add(self.stages.seal(&plan.stages, output)?))
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed = (self.clock.clone(), self.ledger);
        self.held.commit();
        self.room.iter_mut().for_each(JoinRoom::commit);
        self.telling.iter_mut().for_each(Telling::commit);
        self.stages.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        (self.clock, self.ledger) = self.committed.clone();
        self.held.rollback();
        self.room.iter_mut().for_each(JoinRoom::rollback);
        self.telling.iter_mut().for_each(Telling::rollback);
        self.stages.rollback();
    }

    /// Appends the sealed state.
    pub fn save(&self, saving: &mut Saving) {
        self.clock.encode(&mut saving.out);
        self.ledger.encode(&mut saving.out);
        self.held.save(saving);
        self.stages.save(saving);
        saving.out.put_u8(u8::from(self.room.is_some()));
        self.room.iter().for_each(|room| room.save(&mut saving.out));
        self.telling.iter().for_each(|telling| telling.encode(&mut saving.out));
    }

    /// Reads what `save` wrote, into a new lane of the same plan.
    pub fn load(&mut self, plan: &Plan, saved: &mut Loading<'_>) -> Result<()> {
        let out_of_orderness_ms = plan.input(self.id).clock.out_of_orderness_ms;
        (self.clock, self.ledger) =
            saved.newest(|saved| Ok((Clock::decode(out_of_orderness_ms, saved)?, Ledger::decode(saved)?)))?;
        self.held.load(saved)?;
        self.stages.load(saved)?;
        // A run that shed nothing did not count them.
        let room = &mut self.room;
        saved.newest(|saved| match (saved.u8()? != 0, &mut *room) {
            (false, _) => Ok(()),
            (true, Some(room)) => room.load(saved),
            (true, None) => JoinRoom::skip(saved),
        })?;
        if self.telling.is_some() {
            self.telling = Some(saved.newest(Telling::decode)?);
        }
        self.committed = (self.clock.clone(), self.ledger);
        Ok(())
    }

    /// The partition in its input.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The stages behind the lane's own windows.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Windows that have rows here and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.held.open_windows() + self.stages.open_windows()
    }

    /// What each step of the lane holds, those of the stages behind included.
    pub fn usages(&mut self) -> Vec<Usage> {
        let mut usages = self.held.usages();
        usages.extend(self.stages.usages());
        usages
    }
}

/// The room that rows of lane `id` have in the join, if there is one.
fn room_of(id: i32, plan: &Plan) -> Option<JoinRoom> {
    let (step, input) = (plan.join.as_ref()?, plan.input_of(id));
    JoinRoom::new(&step.plan, if input == 0 { Side::Left } else { Side::Right }, step.rooms[input]?)
}
