//! One worker: the real machine over the model engine, in the loop that a runner has: poll, push, timers, commit.
//!
//! Invariant: it polls only while the machine rests, and does one thing an event, so that a fault may come between any two.

use crate::consumer::Consumer;
use crate::disk::Unnamed;
use crate::engine::Engine;
use crate::executor::Call;
use crate::flight::Flight;
use crate::meeting::Meeting;
use crate::producer::Producer;
use crate::requests::{Layout, Partition, Process, Reply, Request, Time};
use crate::view::View;
use crate::world::{Event, Wake, World};
use std::collections::BTreeMap;
use streamcore::checkpoint::machine::trace::Call as Traced;
use streamcore::checkpoint::machine::{Action, Event as News, ExitCode, Lane, Level, Machine, Settings};

/// Where the loop is.
#[derive(Clone, Copy)]
enum Turn {
    Poll,
    Feed,
    Timers,
    Commit,
}

pub struct Worker {
    pub process: Process,
    pub is_alive: bool,
    pub paused_until: Time,
    /// What arrived while paused.
    pub inbox: Vec<Event>,
    pub is_stopping: bool,
    machine: Machine,
    pub engine: Engine,
    pub producer: Producer,
    pub consumer: Consumer,
    pub call: Option<Call>,
    pub flight: Option<Flight>,
    pub views: BTreeMap<Lane, View>,
    pub positions: BTreeMap<Lane, i64>,
    /// Until when leaders of partitions do not answer.
    pub silent: BTreeMap<Partition, Time>,
    /// Generation and member at the first `begin`.
    pub first_metadata: Option<(i64, u64)>,
    /// The lanes that may be fed.
    pub feed: Vec<Lane>,
    /// Lanes of a sealed epoch that is neither kept nor taken back.
    pub undecided: Vec<Lane>,
    /// Files of the epoch that is being committed.
    pub written: Vec<Unnamed>,
    meeting: Meeting,
    tick_at: Option<Time>,
    due_at: Time,
    turn: Turn,
    /// Whether an action is out.
    is_busy: bool,
    /// Every call of the machine, when asked for.
    pub trace: Option<Vec<Traced>>,
}

impl Worker {
    pub fn new(process: Process, settings: Settings, knows_generations: bool, layout: Layout) -> Self {
        Self {
            process,
            is_alive: true,
            paused_until: 0,
            inbox: Vec::new(),
            is_stopping: false,
            machine: Machine::new(settings),
            engine: Engine::default(),
            producer: Producer::default(),
            consumer: Consumer::new(knows_generations, layout.meets),
            call: None,
            flight: None,
            views: BTreeMap::new(),
            positions: BTreeMap::new(),
            silent: BTreeMap::new(),
            first_metadata: None,
            feed: Vec::new(),
            undecided: Vec::new(),
            written: Vec::new(),
            meeting: Meeting::default(),
            tick_at: None,
            due_at: 0,
            turn: Turn::Poll,
            is_busy: false,
            trace: None,
        }
    }

    /// Its first moments.
    pub fn start(&mut self, world: &mut World) {
        self.tell(News::Start, world);
        world.schedule(1, self.wake(Wake::Step));
        world.schedule(1, self.wake(Wake::Heartbeat));
    }

    /// Gives an event to the machine and carries out what it wants, as far as that needs no waiting.
    pub fn tell(&mut self, mut news: News, world: &mut World) {
        loop {
            let traced = (world.is_verbose || self.trace.is_some()).then(|| news.clone());
            let actions = self.machine.handle(news, world.now);
            if let Some(event) = traced {
                world.note(
                    format!("w{}.{}", self.process.worker, self.process.life),
                    format!("{event:?} -> {actions:?}"),
                );
                if let Some(trace) = &mut self.trace {
                    trace.push(Traced { now_ms: world.now, event, actions: actions.clone() });
                }
            }
            self.is_busy = false;
            let Some(answer) = actions.into_iter().find_map(|action| self.take(action, world)) else { return };
            if world.random.chance(250) {
                self.is_busy = true;
                let pause = world.random.between(0, 2);
                return world.schedule(pause, self.wake(Wake::Answer(answer)));
            }
            news = answer;
        }
    }

    fn take(&mut self, action: Action, world: &mut World) -> Option<News> {
        match action {
            Action::Report { level: Level::Error, message } => world.oracle.fail(message),
            Action::Report { .. } => {}
            Action::Rest { .. } if self.meeting.is_taken => self.exit(ExitCode::Fenced, "others took lanes", world),
            Action::Rest { feed, tick_ms } => {
                self.feed = feed;
                self.tick_at = tick_ms.map(|tick_ms| world.now + tick_ms);
            }
            Action::Exit { code, message } => self.exit(code, &message, world),
            action => {
                self.is_busy = true;
                return self.perform(action, world);
            }
        }
        None
    }

    /// The process ends by itself; somebody starts it again.
    fn exit(&mut self, code: ExitCode, message: &str, world: &mut World) {
        let may = match code {
            ExitCode::Stopped | ExitCode::Fenced => true,
            ExitCode::Failed => self.is_stopping,
            ExitCode::State | ExitCode::Unreachable => false,
        };
        if !may {
            world.oracle.fail(format!("worker {} ended with {code:?}: {message}", self.process.worker));
        }
        if self.consumer.member != 0 {
            world.send(self.process, Request::Leave { member: self.consumer.member });
        }
        self.is_alive = false;
        let pause = world.random.between(100, 1_000);
        let pause = if self.meeting.is_taken { 3 * pause } else { pause };
        world.schedule(pause, Event::Restart { worker: self.process.worker });
    }

    pub fn woken(&mut self, wake: Wake, world: &mut World) {
        let answer = match wake {
            Wake::Step => return self.step(world),
            Wake::Heartbeat => {
                self.consumer.beat(self.process, world);
                return world.schedule(400, self.wake(Wake::Heartbeat));
            }
            Wake::Answer(news) => Some(news),
            Wake::Timeout(id) => self.timed_out(id, world),
            Wake::Resend => {
                if self.is_flying(0) {
                    self.resend(world);
                }
                None
            }
            Wake::Again => match self.call.take() {
                Some(call) => self.again(call, world),
                None => None,
            },
        };
        if let Some(news) = answer {
            self.tell(news, world);
        }
    }

    pub fn reply(&mut self, id: u64, reply: Reply, world: &mut World) {
        if self.consumer.reply(id, &reply, world.now) {
            return;
        }
        if let Some(news) = self.replied(id, reply, world) {
            self.tell(news, world);
        }
    }

    /// One turn of the loop.
    fn step(&mut self, world: &mut World) {
        let mut pause = 2;
        if !self.is_busy {
            self.turn = match self.turn {
                Turn::Poll => {
                    if let Some(news) = self.consumer.poll(self.process, world) {
                        let owned = self.consumer.owned.len();
                        let news = self.meeting.tell(news, owned, world.layout, world.now);
                        self.tell(news, world);
                    } else if self.consumer.is_refused {
                        self.exit(ExitCode::Fenced, "another member is alive", world);
                    } else if self.meeting.is_stuck(world.now) {
                        self.stop(world);
                    }
                    Turn::Feed
                }
                Turn::Feed => {
                    self.push(world);
                    Turn::Timers
                }
                Turn::Timers => {
                    self.fire_timers(world);
                    Turn::Commit
                }
                Turn::Commit => {
                    self.commit(world);
                    pause = world.random.between(5, 15);
                    Turn::Poll
                }
            };
        }
        world.schedule(pause, self.wake(Wake::Step));
    }

    /// Lanes that are fed and, as far as the consumer knows, ours.
    fn fed(&self) -> Vec<Lane> {
        self.feed.iter().copied().filter(|lane| self.consumer.owned.contains(lane)).collect()
    }

    fn push(&mut self, world: &mut World) {
        if !world.reaches(self.process.worker) {
            return;
        }
        for lane in self.fed() {
            let Some(position) = self.positions.get_mut(&lane) else { continue };
            let count = world.random.between(1, 6) as usize;
            for input in world.oracle.inputs[lane as usize].iter().skip(*position as usize).take(count) {
                self.engine.apply(lane, *position, input.key, input.value);
                *position += 1;
            }
        }
        if world.random.chance(60) {
            self.tell(News::OutputReady, world);
        }
    }

    fn fire_timers(&mut self, world: &mut World) {
        if world.layout.meets && !self.fed().is_empty() && (world.is_quiet || world.random.chance(300)) {
            self.engine.let_windows_leave();
        }
        if world.is_quiet {
            return;
        }
        for lane in self.fed() {
            if world.random.chance(world.weather.timers) {
                self.engine.fire_timer(lane);
            }
        }
    }

    fn commit(&mut self, world: &mut World) {
        if self.tick_at.is_some_and(|at| world.now >= at) {
            self.tick_at = None;
            self.tell(News::Tick, world);
        } else if world.now >= self.due_at {
            self.due_at = world.now + world.random.between(40, 120);
            self.tell(News::Due, world);
        }
    }

    /// SIGTERM: at the next moment the machine rests.
    pub fn stop(&mut self, world: &mut World) {
        if !self.is_busy {
            self.is_stopping = true;
            self.tell(News::Stop { within_ms: 1_500 }, world);
        }
    }
}
