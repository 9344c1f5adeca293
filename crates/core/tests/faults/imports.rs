//! Datasets.

use moola_core::dataset::Datasets;
use moola_core::testkit::Faults;

use crate::platform::{Platform, at_every_call, bars, insist};

#[tokio::test]
async fn an_import_is_absent_or_whole_and_can_be_repeated() {
    for append in [false, true] {
        let request = move || moola_core::dataset::ImportRequest { append, ..bars(500) };
        let expected = Platform::empty().await.app.datasets.import(request()).await.unwrap().manifest;
        let num_points = at_every_call(async |call, fault| {
            let context = format!("{fault:?} at {call}, append {append}");
            let mut platform = Platform::empty().await;
            let before = platform.app.datasets.get("d", None).await.unwrap();
            platform.faults.plan(call, fault);
            let imported = platform.app.datasets.import(request()).await;
            let has_hit = platform.recover().await;
            // Absent or whole.
            let app = platform.memory_app();
            let latest = app.datasets.get("d", None).await.unwrap();
            assert!(latest.version == before.version || latest.version == expected.version, "{context}");
            assert_eq!(app.datasets.load_bars("d", None).await.unwrap().len() as u64, latest.num_rows, "{context}");
            if imported.is_ok() {
                assert_eq!(latest.version, expected.version, "{context}");
            }
            // Repeated, it is the same version, once.
            let again = insist(|| app.datasets.import(request())).await.unwrap().manifest;
            assert_eq!(again.version, expected.version, "{context}");
            assert_eq!(again.num_rows, expected.num_rows, "{context}");
            let versions: Vec<String> =
                app.datasets.versions("d", 10).await.unwrap().into_iter().map(|version| version.version).collect();
            assert_eq!(versions, [expected.version.clone(), before.version], "{context}");
            assert_eq!(app.datasets.load_bars("d", None).await.unwrap().len() as u64, expected.num_rows, "{context}");
            app.datasets.report("d", None).await.unwrap();
            app.datasets.rejected("d", None).await.unwrap();
            has_hit
        })
        .await;
        println!("import, append {append}: {num_points} fault points");
        assert!(num_points >= 28, "{num_points}");
    }
}

/// Several functions import the same file at once: one version.
#[tokio::test]
async fn concurrent_imports_of_one_file_make_one_version() {
    for seed in 0..20 {
        let platform = Platform::empty().await;
        let (faults, ports) = Faults::wrap(&platform.memory);
        faults.interleave(seed);
        faults.at_random(seed, 0.02);
        let datasets = Datasets::new(ports);
        let imports = (0..4).map(|_| insist(|| datasets.import(bars(500))));
        for outcome in futures::future::join_all(imports).await {
            outcome.unwrap();
        }
        let app = platform.memory_app();
        assert_eq!(app.datasets.versions("d", 10).await.unwrap().len(), 2, "seed {seed}");
        assert_eq!(app.datasets.load_bars("d", None).await.unwrap().len(), 500, "seed {seed}");
    }
}
