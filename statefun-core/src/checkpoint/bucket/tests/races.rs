//! Writers that race over a store that fails by chance: what each was told must add up.

use super::*;
use crate::rand::Random;

/// A counter, and who made it so: each writer's content is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counter {
    /// How many increments of each writer are in it.
    of: [u64; 2],
    /// The writer of this content.
    by: usize,
}

impl Counter {
    fn encode(&self) -> Bytes {
        Bytes::from(format!("{} {} {}", self.of[0], self.of[1], self.by))
    }

    fn decode(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let numbers: Vec<u64> = text.split(' ').map(|it| it.parse().unwrap()).collect();
        Self {
            of: [numbers[0], numbers[1]],
            by: numbers[2] as usize,
        }
    }
}

/// What a writer was told.
#[derive(Debug, Default)]
struct Told {
    done: u64,
    /// Overtaken, or given up in doubt: the counter tells whether it was done.
    settled_later: u64,
}

async fn writer(bucket: Bucket, me: usize, rounds: u64, mut random: Random) -> Told {
    let mut told = Told::default();
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(random.below(3000))).await;
        let Ok(read) = bucket.read_versioned("counter").await else {
            continue;
        };
        let (mut counter, version) = match &read {
            Some((bytes, version)) => (Counter::decode(bytes), Some(version)),
            None => (Counter { of: [0, 0], by: me }, None),
        };
        let before = counter.of[me];
        // Nobody else counts for us.
        assert!(before >= told.done && before <= told.done + told.settled_later);
        counter.of[me] += 1;
        counter.by = me;
        match bucket.replace("counter", counter.encode(), version).await {
            Ok(Replaced::Done(_)) => told.done += 1,
            Ok(Replaced::Conflict) => {}
            Ok(Replaced::Overtaken) => told.settled_later += 1,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                told.settled_later += u64::from(error.is_in_doubt());
            }
        }
    }
    told
}

async fn race(seed: u64, per_mille: u64) -> [Told; 2] {
    let memory = Bucket::in_memory();
    let faults = Faults::seeded(seed, per_mille);
    let mut random = Random::seeded(!seed);
    let run = |me| {
        let random = Random::seeded(random.next_u64());
        writer(memory.with_faults(&faults), me, 40, random)
    };
    let [first, second] = [0, 1].map(run);
    let (one, other) = tokio::join!(first, second);
    faults.land_all().await;
    let told = [one, other];
    let (last, _) = memory.read_versioned("counter").await.unwrap().unwrap();
    let last = Counter::decode(&last);
    for (me, told) in told.iter().enumerate() {
        let possible = told.done..=told.done + told.settled_later;
        assert!(
            possible.contains(&last.of[me]),
            "seed {seed}, writer {me}: {last:?}, told {told:?}"
        );
    }
    told
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_be_done_is_what_was_done() {
    for (seeds, per_mille) in [(0..200, 200), (200..400, 20)] {
        let (mut done, mut certain, mut doubtful) = (0, 0, 0);
        for seed in seeds {
            let told = race(seed, per_mille).await;
            let settled_later = told.iter().map(|told| told.settled_later).sum::<u64>();
            done += told.iter().map(|told| told.done).sum::<u64>();
            certain += u64::from(settled_later == 0);
            doubtful += settled_later;
        }
        // Some races had everything: else nothing was tried.
        assert!(done > 5000, "{done}");
        assert!(certain > 0 && doubtful > 0, "{certain} {doubtful}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_faults_the_count_is_exact() {
    for seed in 1000..1050 {
        let told = race(seed, 0).await;
        assert_eq!(told[0].settled_later + told[1].settled_later, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_many_creates_it_whatever_fails() {
    for seed in 0..200 {
        let memory = Bucket::in_memory();
        let faults = Faults::seeded(seed, 300);
        let mut tasks = tokio::task::JoinSet::new();
        for racer in 0..8 {
            let bucket = memory.with_faults(&faults);
            tasks.spawn(async move {
                let created = bucket
                    .create("once", bytes(&format!("racer {racer}")))
                    .await;
                (racer, created)
            });
        }
        let mut winners = Vec::new();
        let mut in_doubt = Vec::new();
        for (racer, created) in tasks.join_all().await {
            match created {
                Ok(Created::Done) => winners.push(racer),
                Ok(Created::Exists) => {}
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    in_doubt.push(racer);
                }
            }
        }
        faults.land_all().await;
        let there = memory.get("once").await.unwrap().unwrap();
        let is = |racer: &i32| there == bytes(&format!("racer {racer}"));
        assert!(winners.len() <= 1 && winners.iter().all(is), "seed {seed}");
        assert!(winners.len() == 1 || in_doubt.iter().any(is), "seed {seed}");
    }
}
