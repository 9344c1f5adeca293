//! Runs a platform whose jobs sleep, until it is killed. The crash test kills it and looks at what becomes of the jobs.

use std::collections::BTreeMap;

use moola_core::ports::{JobRequest, Jobs};
use moola_core::{Error, Result};
use moola_local::{CommandTemplate, Local, LocalConfig};

#[tokio::main]
async fn main() -> Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| Error::invalid("arguments", "", "a directory"))?;
    // A child of its own, which outlives it unless somebody sees to that.
    let script = "echo $$; sleep 300 & echo $!; wait";
    let args = ["-c", script].map(str::to_owned).to_vec();
    let definitions = BTreeMap::from([("sleeper".to_owned(), CommandTemplate { program: "sh".into(), args })]);
    let local = Local::open(LocalConfig { definitions, ..LocalConfig::new(dir) }).await?;
    local.start().await?;
    let request = |attempts: u32, array_size: Option<u32>| JobRequest {
        name: "sleeper".into(),
        definition: "sleeper".into(),
        queue: "cpu".into(),
        args: Vec::new(),
        environment: BTreeMap::new(),
        array_size,
        attempts,
        timeout_secs: None,
        tags: BTreeMap::new(),
    };
    println!("{}", local.jobs.submit(request(1, None)).await?);
    println!("{}", local.jobs.submit(request(1, Some(3))).await?);
    std::future::pending().await
}
