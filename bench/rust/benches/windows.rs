//! Windows and deduplication as they grow: keys, hops, sessions, ids, and the bytes they take.
//!
//! `make bench-windows` runs it; see `bench/README.md`. Contestants of one figure have their turn one after the other,
//! round after round. Invariant: no time is taken of a job whose rows were not those of an independent count.

use serde_json::{Value, json};
use std::env;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::slice;
use std::time::Duration;
use streamcore_bench::clicks::Clicks;
use streamcore_bench::dedupe_step::DedupeStep;
use streamcore_bench::rounds::{Rounds, say};
use streamcore_bench::run::{Epoch, OUT_OF_ORDERNESS_MS};
use streamcore_bench::window_jobs::{Cut, Dedupe, Job};

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// One window of an hour.
const HOUR: Cut = Cut::Hopping { size: HOUR_MS, slide: HOUR_MS };

/// Environment: the job whose memory a process of its own measures.
const MEMORY: &str = "STREAMCORE_BENCH_MEMORY";

/// Environment: the figure, and the number of its job, that a process of its own takes the time of.
const TURN: &str = "STREAMCORE_BENCH_TURN";

/// The turn that measures nothing, and the memory it touches, bytes: more than any other turn needs.
const TOUCH: &str = "touch";
const TOUCHED: usize = 1 << 30;
const PAGE: usize = 4096;

/// How long ids are remembered, ms: at 10,000 events a second between 10.0 and 11.25 million of them.
const DEDUPE_WITHIN_MS: i64 = 1_000_000;

/// Events until the horizon is full, and until the figures of a full one are taken.
const DEDUPE_FILL: u64 = 11_500_000;
const DEDUPE_EVENTS: u64 = 14_000_000;

/// Share of new ids that filters may take for copies.
const FALSE_DROP_RATE: f64 = 0.001;

/// What a way of `dedupe` adds to an event while its horizon fills and once it is full, ns; bytes of state an id.
type Added = [f64; 3];

fn main() {
    if let Ok(name) = env::var(MEMORY) {
        return measure_memory(&name);
    }
    if let Ok(turn) = env::var(TURN) {
        return take_turn(&turn);
    }
    let rounds = Rounds::from_environment();
    let mut found = Vec::new();
    for (figure, jobs) in figures() {
        if rounds.wants(figure) {
            found.push(compare(&rounds, figure, &jobs));
        }
    }
    if rounds.wants("dedupe") {
        found.push(dedupe(&rounds));
    }
    if rounds.wants("memory") {
        let jobs = ["nothing", "windows", "ids", "filters"].map(memory_of);
        found.push(json!({"figure": "memory", "jobs": jobs}));
    }
    rounds.leave("windows", &found.into());
}

/// What is compared within one figure: jobs by name.
fn figures() -> [(&'static str, Vec<(&'static str, Job)>); 3] {
    [("keys", keys()), ("hopping", hopping()), ("sessions", sessions())]
}

/// Counts in one window of an hour, of a hundred to ten million keys, the last of which are met twice on average.
fn keys() -> Vec<(&'static str, Job)> {
    let job = |keys, events| {
        let clicks = Clicks { events, keys, per_second: events / 3_000, copies: false };
        Job { clicks, cut: HOUR, dedupe: None }
    };
    vec![
        ("100 keys", job(100, 3_000_000)),
        ("1,000 keys", job(1_000, 3_000_000)),
        ("10,000 keys", job(10_000, 3_000_000)),
        ("100,000 keys", job(100_000, 3_000_000)),
        ("1,000,000 keys", job(1_000_000, 3_000_000)),
        ("10,000,000 keys", job(10_000_000, 21_000_000)),
    ]
}

/// Three and a half hours at 1,000 events a second of 1,000 keys.
fn hopping() -> Vec<(&'static str, Job)> {
    let clicks = Clicks { events: 12_600_000, keys: 1_000, per_second: 1_000, copies: false };
    let job = |cut| Job { clicks, cut, dedupe: None };
    vec![("1 h", job(HOUR)), ("1 h by 1 min", job(Cut::Hopping { size: HOUR_MS, slide: MINUTE_MS }))]
}

/// 200 s at 20,000 events a second, so that each of 100,000 keys is met every 5 s.
fn sessions() -> Vec<(&'static str, Job)> {
    let clicks = Clicks { events: 4_000_000, keys: 100_000, per_second: 20_000, copies: false };
    let job = |cut| Job { clicks, cut, dedupe: None };
    vec![
        ("1 min", job(Cut::Hopping { size: MINUTE_MS, slide: MINUTE_MS })),
        ("sessions of a gap of 10 s", job(Cut::Session { gap: 10_000 })),
    ]
}

/// The jobs' times an event, and how much of each is spent on the rows at the end. A turn is a process of its own: what
/// memory costs one that has given gigabytes back is another matter, and grows with every turn.
fn compare(rounds: &Rounds, figure: &str, jobs: &[(&str, Job)]) -> Value {
    let checked: Vec<_> = jobs.iter().map(|(_, job)| job.check()).collect();
    let ending: Vec<f64> = jobs.iter().zip(&checked).map(|((_, job), run)| ns(run.ending, job.clicks.events)).collect();
    let numbered: Vec<_> = jobs.iter().enumerate().map(|(at, (name, job))| (*name, (at, job.clicks.events))).collect();
    let times = rounds.measure(figure, &numbered, |(at, events)| {
        let _ = last_line_of(TURN, TOUCH);
        let line = last_line_of(TURN, &format!("{figure}/{at}"));
        (*events, Duration::from_nanos(line.parse().expect("nanoseconds")))
    });
    let rows: Vec<u64> = checked.iter().map(|run| run.rows).collect();
    json!({"figure": figure, "ns": times, "ending_ns": ending, "rows": rows})
}

/// Runs job `turn`, a figure and a number, and says how many nanoseconds it took.
///
/// Or touches memory, so that the turn after it finds free pages which this machine has: a virtual one gives them back to its
/// host when they are free for seconds, and has to ask for each again, which takes longer than the rest of an event.
fn take_turn(turn: &str) {
    if turn == TOUCH {
        let mut memory = vec![0_u8; TOUCHED];
        memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        return say(&black_box(memory).len().to_string());
    }
    let (figure, at) = turn.split_once('/').expect("a figure and a number");
    let (_, jobs) = figures().into_iter().find(|(name, _)| *name == figure).expect("a figure");
    let run = jobs[at.parse::<usize>().expect("a number")].1.run(|_| ());
    say(&(run.counting + run.ending).as_nanos().to_string());
}

fn ns(time: Duration, events: u64) -> f64 {
    time.as_nanos() as f64 / events as f64
}

/// The same job without `dedupe`, with the exact one and with filters.
fn dedupe_jobs(events: u64) -> [Job; 3] {
    let clicks = Clicks { events, keys: 1_000, per_second: 10_000, copies: true };
    let cut = Cut::Hopping { size: MINUTE_MS, slide: MINUTE_MS };
    let dedupe = |false_drop_rate| Some(Dedupe { within_ms: DEDUPE_WITHIN_MS, false_drop_rate });
    [None, dedupe(None), dedupe(Some(FALSE_DROP_RATE))].map(|dedupe| Job { clicks, cut, dedupe })
}

/// What `dedupe` adds to an event while its horizon fills, and once it is full: the pipelines take every piece, one
/// after the other.
fn dedupe(rounds: &Rounds) -> Value {
    let [without, exact, bloom] = dedupe_jobs(DEDUPE_EVENTS);
    for job in [without, exact] {
        let _ = job.check();
    }
    let share = bloom.false_drops();
    assert!(share <= FALSE_DROP_RATE, "{share} of the new ids were dropped");
    say(&format!("dedupe with filters: {share:.6} of the new ids were dropped, {FALSE_DROP_RATE} may be"));
    let ways = ["exact", "bloom"];
    let mut found: [Vec<Added>; 2] = Default::default();
    let mut step = Vec::new();
    for round in 1..=rounds.count() {
        step.push(dedupe_step(&exact.clicks, round));
        for ((way, added), all) in ways.iter().zip(dedupe_round()).zip(&mut found) {
            let [filling_ns, full_ns, id_bytes] = added;
            say(&format!(
                "dedupe {way}, round {round}: {filling_ns:.1} ns an event filling, {full_ns:.1} full, {id_bytes:.2} bytes an id"
            ));
            all.push(added);
        }
    }
    let part = |all: &[Added], part: usize| all.iter().map(|added| added[part]).collect::<Vec<f64>>();
    let [exact, bloom] = &found;
    json!({
        "figure": "dedupe", "ns": [["filling", part(exact, 0)], ["full", part(exact, 1)]], "id_bytes": part(exact, 2),
        "bloom_ns": [["filling", part(bloom, 0)], ["full", part(bloom, 1)]], "bloom_id_bytes": part(bloom, 2),
        "bloom_false_drops": share,
        "step_ns": [["filling", part(&step, 0)], ["full", part(&step, 1)]], "step_id_bytes": part(&step, 2),
    })
}

/// What an event costs the exact step by itself, and bytes for each id.
fn dedupe_step(clicks: &Clicks, round: usize) -> Added {
    let mut step = DedupeStep::new(DEDUPE_WITHIN_MS);
    step.judge(clicks, DEDUPE_FILL);
    let at_fill = step.taken;
    step.judge(clicks, DEDUPE_EVENTS);
    let filling_ns = ns(at_fill, DEDUPE_FILL);
    let full_ns = (ns(step.taken, 1) - ns(at_fill, 1)) / (DEDUPE_EVENTS - DEDUPE_FILL) as f64;
    let id_bytes = step.id_bytes();
    say(&format!(
        "dedupe step, round {round}: {filling_ns:.1} ns an event filling, {full_ns:.1} full, {id_bytes:.2} bytes an id"
    ));
    [filling_ns, full_ns, id_bytes]
}

/// What each way adds to an event, and bytes of state for each id.
fn dedupe_round() -> [Added; 2] {
    let jobs = dedupe_jobs(DEDUPE_EVENTS);
    let mut pipelines = jobs.map(|job| (job.pipeline(), Epoch::default()));
    let (mut times, mut events, mut filled) = ([Duration::ZERO; 3], 0, None);
    for piece in jobs[0].clicks.pieces() {
        for ((pipeline, epoch), time) in pipelines.iter_mut().zip(&mut times) {
            *time += epoch.push(pipeline, slice::from_ref(&piece), drop);
        }
        events += piece.len() as u64;
        if filled.is_none() && events >= DEDUPE_FILL {
            filled = Some((times, events));
        }
    }
    let (at_fill, fill_events) = filled.expect("more events than fill the horizon");
    let ids = ids_at_end(&jobs[1].clicks) as f64;
    [1, 2].map(|way: usize| {
        let added = |times: [Duration; 3]| times[way].as_nanos() as f64 - times[0].as_nanos() as f64;
        let bytes = pipelines[way].0.state_bytes() as f64 - pipelines[0].0.state_bytes() as f64;
        let full_ns = (added(times) - added(at_fill)) / (events - fill_events) as f64;
        [added(at_fill) / fill_events as f64, full_ns, bytes / ids]
    })
}

/// How many ids are remembered behind the last event, by the rule of `docs/semantics.md`.
fn ids_at_end(clicks: &Clicks) -> u64 {
    let generation_ms = DEDUPE_WITHIN_MS / 8;
    let watermark_ms = clicks.clicks().map(|click| click.time_ms).max().unwrap_or_default() - OUT_OF_ORDERNESS_MS - 1;
    let kept = |time_ms: i64| (time_ms.div_euclid(generation_ms) + 1) * generation_ms + DEDUPE_WITHIN_MS > watermark_ms;
    clicks.clicks().filter(|click| !click.is_copy && kept(click.time_ms)).count() as u64
}

/// The job whose state is weighed, and how many entries that has. The window of ten million keys; ten million ids.
fn weighed(name: &str) -> (Job, u64) {
    match name {
        "windows" => (keys()[5].1, 10_000_000),
        "ids" | "filters" => {
            let job = dedupe_jobs(DEDUPE_EVENTS)[if name == "ids" { 1 } else { 2 }];
            (job, ids_at_end(&job.clicks))
        }
        _ => (keys()[0].1, 1),
    }
}

/// What a process of its own says of the job called `name`.
fn memory_of(name: &str) -> Value {
    let line = last_line_of(MEMORY, name);
    say(&format!("memory: {line}"));
    serde_json::from_str(&line).expect("JSON")
}

/// The last thing that this program says when it is run with `variable` set.
fn last_line_of(variable: &str, value: &str) -> String {
    let program = env::current_exe().expect("this program");
    let done = Command::new(program).env(variable, value).output().expect("a process");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    said.lines().last().expect("a line").to_owned()
}

/// Runs the job called `name` and says what its state takes behind its last event, before any of its windows leave.
fn measure_memory(name: &str) {
    let (job, entries) = weighed(name);
    let mut pipeline = job.pipeline();
    let mut epoch = Epoch::default();
    let before = resident("VmRSS");
    for piece in job.clicks.pieces() {
        epoch.push(&mut pipeline, slice::from_ref(&piece), drop);
    }
    pipeline.seal().expect("a seal");
    pipeline.committed();
    let (resident, peak) = (resident("VmRSS") - before, resident("VmHWM") - before);
    let found = json!({
        "job": name, "entries": entries, "state_bytes": pipeline.state_bytes(),
        "resident_bytes": resident, "peak_bytes": peak,
    });
    say(&found.to_string());
}

/// Bytes of memory that the process holds, or held at most.
fn resident(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
    let kilobytes: u64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number");
    kilobytes << 10
}
