//! JSON records to the values a pipeline wants: streamcore and the fastest parsers there are.
//!
//! `make bench-decode` runs it and prints the table; see `bench/README.md`.

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use streamcore_bench::contestants::{Streamcore, jiter, serde_json, simd_json, sonic_rs};
use streamcore_bench::corpora;

/// As in the binding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decode(criterion: &mut Criterion) {
    for corpus in corpora::all() {
        let own = Streamcore::new(&corpus);
        let expected = serde_json(&corpus);
        assert_eq!(own.read(), expected, "{}: streamcore", corpus.name);
        assert_eq!(sonic_rs(&corpus), expected, "{}: sonic-rs", corpus.name);
        assert_eq!(simd_json(&corpus), expected, "{}: simd-json", corpus.name);
        assert_eq!(jiter(&corpus), expected, "{}: jiter", corpus.name);
        let mut group = criterion.benchmark_group(corpus.name);
        group.sampling_mode(SamplingMode::Flat).sample_size(20);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
        group.throughput(Throughput::ElementsAndBytes {
            elements: corpus.records.len() as u64,
            bytes: corpus.bytes() as u64,
        });
        group.bench_function("streamcore", |bencher| bencher.iter(|| own.read()));
        group.bench_function("sonic-rs", |bencher| bencher.iter(|| sonic_rs(&corpus)));
        group.bench_function("simd-json", |bencher| bencher.iter(|| simd_json(&corpus)));
        group.bench_function("jiter", |bencher| bencher.iter(|| jiter(&corpus)));
        group.bench_function("serde_json", |bencher| bencher.iter(|| serde_json(&corpus)));
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
