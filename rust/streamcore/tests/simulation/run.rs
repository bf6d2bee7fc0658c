//! One run: one seed, some workers, some faults, then quiet, then the question whether everything is right.
//!
//! Invariant: two runs of the same seed and settings are the same, event by event.

use crate::faults::{Fault, Weather};
use crate::requests::{Layout, Process, Time};
use crate::worker::Worker;
use crate::world::{Event, World};
use streamcore::checkpoint::machine::Settings;
use streamcore::checkpoint::machine::trace::Call as Traced;

/// How long things go wrong.
const FAULTS_MS: Time = 10_000;
/// So many epochs are committed before the input ends, or so much time has passed.
const EPOCHS: u64 = 200;
const BUSY_MS: Time = 300_000;
/// How long it may take until all is quiet and right.
const QUIET_MS: Time = 40_000;

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub wrong: Option<String>,
    pub epochs: u64,
    pub faults: u64,
    /// Windows of all lanes that were read.
    pub windows: u64,
    /// Calls of the first worker's first machine, when asked for.
    pub trace: Vec<Traced>,
}

struct Run {
    world: World,
    workers: Vec<Worker>,
    settings: Settings,
    knows_generations: bool,
    faults: Vec<(Time, Fault)>,
    done: u64,
    quiet_since: Time,
    /// The last check found nothing missing.
    settled: bool,
    first_trace: Option<Vec<Traced>>,
    outcome: Option<Outcome>,
}

/// The machine's budgets at the speed of a simulated second.
pub fn settings() -> Settings {
    Settings {
        call_timeout_ms: 900,
        commit_budget_ms: 1_800,
        slow_commit_ms: 200,
        producer_timeout_ms: 1_000,
        read_timeout_ms: 300,
        backoff_min_ms: 20,
        backoff_max_ms: 200,
        rereads_max: 30,
        failures_max: 100,
        ..Settings::default()
    }
}

pub fn run(seed: u64, settings: &Settings, is_verbose: bool, is_traced: bool) -> Outcome {
    let mut draw_world = crate::random::Random::new(seed ^ 0x5EED);
    let weather = Weather::of(seed);
    let lanes = draw_world.between(weather.lanes_min, 4) as usize;
    let layout = Layout { lanes, outputs: draw_world.between(1, 3) as usize, meets: weather.meets };
    let workers = draw_world.between(weather.workers_min, weather.workers_max) as usize;
    let faults = weather.draw(&mut draw_world, FAULTS_MS, workers, layout.lanes);
    let world = World::new(seed, layout, workers, weather, is_verbose);
    let knows_generations = draw_world.chance(500);
    let start = |worker| Worker::new(Process { worker, life: 0 }, settings.clone(), knows_generations, layout);
    let workers = (0..workers).map(start).collect();
    let mut run = Run {
        world,
        workers,
        settings: settings.clone(),
        knows_generations,
        faults,
        done: 0,
        quiet_since: 0,
        settled: false,
        first_trace: None,
        outcome: None,
    };
    if is_traced {
        run.workers[0].trace = Some(Vec::new());
    }
    run.begin();
    while let Some(event) = run.world.next() {
        run.happen(event);
        if run.world.oracle.wrong.is_some() {
            run.end();
        }
        if let Some(outcome) = run.outcome.take() {
            return outcome;
        }
    }
    Outcome { wrong: Some("nothing happens any more".to_owned()), ..Outcome::default() }
}

impl Run {
    fn begin(&mut self) {
        for worker in &mut self.workers {
            worker.start(&mut self.world);
        }
        for (number, (at, _)) in self.faults.iter().enumerate() {
            self.world.schedule(*at, Event::Fault(number));
        }
        self.world.schedule(0, Event::Input);
        self.world.schedule(100, Event::Scan);
        self.world.schedule(100, Event::Read);
        self.world.schedule(FAULTS_MS, Event::Check);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request { from, id, request } => self.world.at_broker(from, id, request),
            Event::Reply { to, id, reply } => {
                if let Some(worker) = self.awake(to, || Event::Reply { to, id, reply: reply.clone() }) {
                    self.workers[worker].reply(id, reply, &mut self.world);
                }
            }
            Event::Wake { process, wake } => self.wake(process, wake),
            Event::Mark(marker) => self.world.mark(marker),
            Event::Scan => self.world.scan(),
            Event::Input => self.input(),
            Event::Read => {
                self.world.oracle.read(&self.world.broker);
                self.world.schedule(100, Event::Read);
            }
            Event::Fault(number) => self.fault(number),
            Event::Resume { worker, life } => self.resume(worker, life),
            Event::Restart { worker } => self.restart(worker),
            Event::Check => self.check(),
        }
    }

    /// The worker that an event is for, if it lives; while it is paused the event waits.
    fn awake(&mut self, process: Process, event: impl Fn() -> Event) -> Option<usize> {
        let worker = &mut self.workers[process.worker];
        if worker.process != process || !worker.is_alive {
            return None;
        }
        if self.world.now < worker.paused_until {
            worker.inbox.push(event());
            return None;
        }
        Some(process.worker)
    }

    fn wake(&mut self, process: Process, wake: crate::world::Wake) {
        let worker = &mut self.workers[process.worker];
        if worker.process != process || !worker.is_alive {
            return;
        }
        if self.world.now < worker.paused_until {
            worker.inbox.push(Event::Wake { process, wake });
        } else {
            worker.woken(wake, &mut self.world);
        }
    }

    fn input(&mut self) {
        if self.world.is_quiet {
            return;
        }
        for lane in 0..self.world.layout.lanes {
            if self.world.random.chance(self.world.weather.inputs) {
                let key = self.world.random.next() as usize % crate::engine::KEYS;
                let value = self.world.random.between(1, 1_000) as i64;
                self.world.oracle.input(lane, key, value);
            }
        }
        self.world.schedule(20, Event::Input);
    }

    fn fault(&mut self, number: usize) {
        let (_, fault) = self.faults[number];
        self.world.note("fault", format!("{fault:?}"));
        self.done += 1;
        let now = self.world.now;
        match fault {
            Fault::Kill { worker, away_ms } => {
                self.workers[worker].is_alive = false;
                self.world.schedule(away_ms, Event::Restart { worker });
            }
            Fault::Pause { worker, away_ms } => {
                let paused = &mut self.workers[worker];
                if now >= paused.paused_until {
                    paused.paused_until = now + away_ms;
                    let life = paused.process.life;
                    self.world.schedule(away_ms, Event::Resume { worker, life });
                }
            }
            Fault::Cut { worker, away_ms } => self.world.links[worker].cut_until = now + away_ms,
            Fault::Slow { worker, away_ms, lost, late } => {
                let link = &mut self.world.links[worker];
                (link.slow_until, link.lost, link.late) = (now + away_ms, lost, late);
            }
            Fault::Broker { away_ms } => {
                self.world.broker.down_until = now + away_ms;
                self.world.broker.group.restart(now + away_ms);
            }
            Fault::Stop { worker } => {
                let stopped = &mut self.workers[worker];
                if stopped.is_alive && now >= stopped.paused_until {
                    stopped.stop(&mut self.world);
                }
            }
            Fault::Reset { lane, back } => self.world.broker.group.reset(lane as i32, back),
        }
    }

    fn resume(&mut self, worker: usize, life: u32) {
        let resumed = &mut self.workers[worker];
        if resumed.process.life == life {
            // What waited comes in the order it arrived.
            for event in std::mem::take(&mut resumed.inbox) {
                self.happen(event);
            }
        }
    }

    fn restart(&mut self, worker: usize) {
        let old = &self.workers[worker];
        if !old.is_alive {
            let life = old.process.life + 1;
            let (settings, layout) = (self.settings.clone(), self.world.layout);
            let mut new = Worker::new(Process { worker, life }, settings, self.knows_generations, layout);
            if let Some(trace) = self.workers[worker].trace.take() {
                self.first_trace = Some(trace);
            }
            new.start(&mut self.world);
            self.workers[worker] = new;
        }
    }

    /// After the faults: is everything right? Asked again until it is, or for too long.
    fn check(&mut self) {
        let epochs = self.world.oracle.epochs(&self.world.broker);
        if !self.world.is_quiet {
            if epochs < EPOCHS && self.world.now < BUSY_MS {
                return self.world.schedule(500, Event::Check);
            }
            self.world.is_quiet = true;
            self.quiet_since = self.world.now;
        }
        let missing = self.world.oracle.missing(&self.world.broker);
        let is_over = self.world.now > self.quiet_since + QUIET_MS;
        match missing {
            None if self.settled => self.end(),
            Some(missing) if is_over => {
                self.world.oracle.fail(missing);
                self.end();
            }
            missing => {
                self.settled = missing.is_none();
                self.world.schedule(500, Event::Check);
            }
        }
    }

    fn end(&mut self) {
        self.world.oracle.read(&self.world.broker);
        let epochs = self.world.oracle.epochs(&self.world.broker);
        if self.world.oracle.wrong.is_none() {
            self.world.oracle.check_end(&self.world.broker, &self.world.disk.published);
        }
        let trace = self.first_trace.take().or_else(|| self.workers[0].trace.take()).unwrap_or_default();
        let wrong = self.world.oracle.wrong.take();
        let windows = self.world.oracle.windows_seen() as u64;
        self.outcome = Some(Outcome { wrong, epochs, faults: self.done, windows, trace });
    }
}
