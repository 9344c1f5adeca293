//! Writes numbers into a table and a directory until it is killed, and prints each when it was acknowledged. The crash
//! test kills it and looks whether what it printed is there.

use std::io::Write as _;

use moola_core::ports::{Blobs, Condition, Key, PutMode, Table, Write};
use moola_core::{Error, Result};
use moola_local::{DirectoryBlobs, RedbTable};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(round)) = (args.next(), args.next()) else {
        return Err(Error::invalid("arguments", "", "a directory and a round"));
    };
    let blobs = DirectoryBlobs::open(format!("{dir}/blobs"))?;
    let table = RedbTable::open(format!("{dir}/table.redb"))?;
    for number in 0_u64.. {
        let name = format!("{round}-{number:08}");
        // Two items that belong together.
        let put = |side: &str| Write::Put {
            key: Key::new(side, &name),
            value: json!({ "name": name, "padding": "x".repeat(500) }),
            condition: Condition::Absent,
        };
        table.write(vec![put("left"), put("right")]).await?;
        blobs.put(&format!("blobs/{name}"), name.repeat(1_000).into(), PutMode::Create).await?;
        blobs.put("latest", name.repeat(1_000).into(), PutMode::Overwrite).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{name}")
            .and_then(|()| out.flush())
            .map_err(|error| Error::unavailable("nobody listens").with_source(error))?;
    }
    Ok(())
}
