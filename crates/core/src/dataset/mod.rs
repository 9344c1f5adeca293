//! Immutable versions of datasets of price bars.
//!
//! A version is named after its content, so importing the same file twice makes one version. Its files are
//!
//! ```text
//! datasets/<name>/<version>/bars.parquet       the accepted bars
//!                           quarantine.jsonl   every rejected row, with its line and reason
//!                           report.json        what validation found
//!                           manifest.json      what it is and where it came from; written last
//! ```
//!
//! The table orders versions by their import: one transaction adds the version and moves `latest`.

mod manifest;
mod merge;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use moola_market::read::{self, RawBars, ReadOptions};
use moola_market::validate::{CleanBars, Mode, RejectedRow, ValidationConfig, ValidationReport, clean};
use moola_market::{Bars, Interval};
use serde::{Deserialize, Serialize};

pub use self::manifest::{DatasetManifest, FileSource, Transformation};
use self::merge::merge;
use crate::columns::{from_parquet as decode, read_parquet, to_parquet as encode};
use crate::commit::{from_json_bytes, put, sha256_hex, to_json_bytes, unchanged};
use crate::contract::paths;
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_name;
use crate::ports::{Condition, Key, Ports, PutMode, Query};
use crate::recent;

/// The accepted bars.
pub const BARS: &str = "bars.parquet";
/// Every rejected row.
pub const QUARANTINE: &str = "quarantine.jsonl";
/// What validation found.
pub const REPORT: &str = "report.json";

const DATASETS: &str = "datasets";
/// Layout of the manifest.
const FORMAT_VERSION: u32 = 1;
/// Hex digits of a version: 64 bits, so that no two versions of a dataset share one.
const VERSION_DIGITS: usize = 16;
/// Attempts to add a version, and of an append to merge, while others add theirs.
const MAX_ATTEMPTS: usize = 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Found from the content: Parquet by its magic bytes, JSON by its first bracket, else CSV.
    #[default]
    Auto,
    /// Comma-separated values.
    Csv,
    /// JSON lines, or an array.
    Json,
    /// Parquet.
    Parquet,
}

impl Format {
    fn of(self, bytes: &[u8]) -> Self {
        match self {
            Self::Auto if bytes.starts_with(b"PAR1") => Self::Parquet,
            Self::Auto => match bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start() {
                [b'{' | b'[', ..] => Self::Json,
                _ => Self::Csv,
            },
            given => given,
        }
    }
}

/// A file to import.
#[derive(Clone)]
pub struct ImportRequest {
    /// Name of the dataset.
    pub name: String,
    /// Instrument.
    pub symbol: String,
    /// Length of a bar; found from the bars where absent.
    pub interval: Option<Interval>,
    /// Name of the file, for the record.
    pub file_name: String,
    /// How the file is written.
    pub format: Format,
    /// How the file is read.
    pub options: ReadOptions,
    /// What the bars are checked for; its interval is replaced by the one above.
    pub validation: ValidationConfig,
    /// What is done with rows that break a rule.
    pub mode: Mode,
    /// Whether the bars are added to those of the latest version.
    pub append: bool,
    /// The file.
    pub bytes: Bytes,
}

impl ImportRequest {
    /// A request with every setting at its default: strict, a version of its own.
    pub fn new(
        name: impl Into<String>,
        symbol: impl Into<String>,
        file_name: impl Into<String>,
        bytes: impl Into<Bytes>,
    ) -> Self {
        Self {
            name: name.into(),
            symbol: symbol.into(),
            interval: None,
            file_name: file_name.into(),
            format: Format::Auto,
            options: ReadOptions::default(),
            validation: ValidationConfig::default(),
            mode: Mode::Strict,
            append: false,
            bytes: bytes.into(),
        }
    }
}

impl fmt::Debug for ImportRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportRequest")
            .field("name", &self.name)
            .field("symbol", &self.symbol)
            .field("file_name", &self.file_name)
            .field("size_bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What an import did.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportOutcome {
    /// The version, new or known.
    pub manifest: DatasetManifest,
    /// Whether it is new.
    pub created: bool,
    /// What validation found in the file.
    pub report: ValidationReport,
    /// Every rejected row of the file.
    pub rejected: Vec<RejectedRow>,
}

/// What strict mode refused: the report and every row that broke a rule. `None` for an error of another cause.
#[must_use]
pub fn refusal(error: &Error) -> Option<(&ValidationReport, &[RejectedRow])> {
    match std::error::Error::source(error)?.downcast_ref()? {
        moola_market::Error::Rejected { report, rejected } => Some((report, rejected)),
        _ => None,
    }
}

/// Reads and validates a file in the request's mode, and stores nothing.
///
/// # Errors
/// `Invalid` for a file that cannot be read, or rows that break a rule in strict mode ([`refusal`] has the report).
pub fn validate(request: &ImportRequest) -> Result<CleanBars> {
    let config = ValidationConfig { interval: request.interval, ..request.validation.clone() };
    clean(read_file(request)?, &config, request.mode).map_err(|error| match error {
        moola_market::Error::Rejected { .. } => {
            Error::new(ErrorKind::Invalid, format!("`{}` was refused", request.file_name)).with_source(error)
        }
        error => error.into(),
    })
}

/// Latest version of a dataset.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    name: String,
    latest: String,
    num_versions: u64,
}

/// A version in the order of import.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    version: String,
}

/// What became of a version that was to be added.
enum Added {
    /// It is the latest.
    New,
    /// Another import added it meanwhile.
    Known,
    /// Another version was added after the one that it was appended to.
    Behind,
}

/// A dataset with its latest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// Name.
    pub name: String,
    /// Number of its versions.
    pub num_versions: u64,
    /// The version imported last.
    pub latest: DatasetManifest,
}

/// The datasets.
#[derive(Debug, Clone)]
pub struct Datasets {
    ports: Ports,
}

impl Datasets {
    /// Makes the service.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Imports a file as a version of a dataset; the same content makes no second version.
    ///
    /// # Errors
    /// `Invalid` for a bad name, a file that cannot be read, an interval that contradicts the bars, or rows that break a
    /// rule in strict mode ([`refusal`] has the report); `NotFound` where there is nothing to append to; `Conflict` where
    /// others import into the dataset all the time; those of the ports.
    pub async fn import(&self, request: ImportRequest) -> Result<ImportOutcome> {
        check_name("name", &request.name)?;
        check_symbol(&request.symbol)?;
        let mut parent = if request.append { Some(self.get(&request.name, None).await?) } else { None };
        if let Some(parent) = &parent {
            check_parent(parent, &request, request.interval)?;
        }
        let raw = read_file(&request)?;
        let config = ValidationConfig {
            interval: request.interval.or(parent.as_ref().map(|parent| parent.interval)),
            ..request.validation.clone()
        };
        let clean = clean(raw, &config, request.mode).map_err(|error| refused(&request, error))?;
        if clean.bars.is_empty() {
            let expected = "a file with at least one good bar";
            return Err(Error::invalid("file", &request.file_name, expected).with_source(
                moola_market::Error::Rejected { report: Box::new(clean.report), rejected: clean.rejected },
            ));
        }
        let interval = clean.report.interval.ok_or_else(|| {
            Error::invalid("interval", "absent", "an interval such as `1h`, which one bar alone does not show")
        })?;
        for _ in 0..MAX_ATTEMPTS {
            let (clean, transformation) = match &parent {
                Some(parent) => {
                    check_parent(parent, &request, Some(interval))?;
                    let before = self.load_bars(&parent.name, Some(&parent.version)).await?;
                    let merged =
                        merge(&before, clean.clone(), request.mode).map_err(|error| refused(&request, error))?;
                    (merged.clean, merged.transformation)
                }
                None => (clean.clone(), Transformation::Import),
            };
            if let Some(outcome) = self.store(&request, clean, interval, transformation, parent.as_ref()).await? {
                return Ok(outcome);
            }
            // Others appended meanwhile: theirs are bars to append to.
            parent = Some(self.get(&request.name, None).await?);
        }
        Err(busy(&request.name))
    }

    /// Stores a version and makes it the latest; `None` where `parent`, to which it was appended, is not that any more.
    async fn store(
        &self,
        request: &ImportRequest,
        clean: CleanBars,
        interval: Interval,
        transformation: Transformation,
        parent: Option<&DatasetManifest>,
    ) -> Result<Option<ImportOutcome>> {
        let rejected = clean.rejected;
        let parquet = encode(&clean.bars)?;
        let sha256 = sha256_hex(&parquet);
        let identity = format!("{sha256}\n{}\n{interval}\n", request.symbol);
        let version = sha256_hex(identity.as_bytes())[..VERSION_DIGITS].to_owned();
        let manifest = DatasetManifest {
            format_version: FORMAT_VERSION,
            name: request.name.clone(),
            version: version.clone(),
            symbol: request.symbol.clone(),
            interval,
            source: FileSource {
                file_name: request.file_name.clone(),
                sha256: sha256_hex(&request.bytes),
                size_bytes: request.bytes.len() as u64,
            },
            num_rows: clean.bars.len() as u64,
            start_ms: clean.bars.time_ms().first().copied().unwrap_or_default(),
            end_ms: clean.bars.time_ms().last().copied().unwrap_or_default(),
            columns: column_names(&clean.bars),
            has_volume: clean.bars.has_volume(),
            quality: ValidationReport { findings: Vec::new(), num_findings_left_out: 0, ..clean.report.clone() },
            num_quarantined: rejected.len() as u64,
            sha256,
            parent: parent.map(|parent| parent.version.clone()).filter(|parent| *parent != version),
            transformation,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_ms: self.ports.clock.now_ms(),
        };
        if let Some(known) = self.known(&request.name, &version).await? {
            return Ok(Some(ImportOutcome { manifest: known, created: false, report: clean.report, rejected }));
        }
        // Told early, so that nothing is written of a version that will not be.
        if let Some(parent) = parent
            && self.head(&request.name).await?.latest != parent.version
        {
            return Ok(None);
        }
        let mut lines = Vec::new();
        for row in &rejected {
            serde_json::to_writer(&mut lines, row)
                .map_err(|error| Error::internal("encoding a rejected row").with_source(error))?;
            lines.push(b'\n');
        }
        for (file, data) in [
            (BARS, parquet),
            (QUARANTINE, lines.into()),
            (REPORT, to_json_bytes(&clean.report)?),
            (paths::MANIFEST, to_json_bytes(&manifest)?),
        ] {
            // The bytes are those of the content that names the version, so an import that a crash cut short goes on.
            self.ports.blobs.put(&paths::dataset(&request.name, &version, file), data, PutMode::Overwrite).await?;
        }
        // Before the version is known, because an import of a known one ends early.
        recent::write(&self.ports, &request.symbol, &request.name, &version, &clean.bars).await?;
        let created = match self.add(&request.name, &version, parent.map(|parent| parent.version.as_str())).await? {
            Added::New => true,
            Added::Known => false,
            Added::Behind => return Ok(None),
        };
        Ok(Some(ImportOutcome { manifest, created, report: clean.report, rejected }))
    }

    /// The manifest of a version that was imported already.
    async fn known(&self, name: &str, version: &str) -> Result<Option<DatasetManifest>> {
        match self.ports.table.get(&version_key(name, version)).await? {
            Some(_) => self.manifest(name, version).await.map(Some),
            None => Ok(None),
        }
    }

    /// Adds a version and makes it the latest, where `parent` is that or absent.
    async fn add(&self, name: &str, version: &str, parent: Option<&str>) -> Result<Added> {
        let head_key = Key::new(DATASETS, name);
        for _ in 0..MAX_ATTEMPTS {
            let head = self.ports.read::<Head>(&head_key).await?;
            if self.ports.table.get(&version_key(name, version)).await?.is_some() {
                return Ok(Added::Known);
            }
            if parent.is_some() && parent != head.as_ref().map(|(head, _)| head.latest.as_str()) {
                return Ok(Added::Behind);
            }
            let (num_versions, revision) =
                head.map_or((0, None), |(head, revision)| (head.num_versions, Some(revision)));
            let number = num_versions + 1;
            let entry = Entry { version: version.to_owned() };
            let head = Head { name: name.to_owned(), latest: version.to_owned(), num_versions: number };
            let writes = vec![
                put(head_key.clone(), &head, unchanged(revision))?,
                put(version_key(name, version), &entry, Condition::Absent)?,
                put(Key::new(partition(name), format!("n/{number:012}")), &entry, Condition::Absent)?,
            ];
            match self.ports.table.write(writes).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Added::New),
            }
        }
        Err(busy(name))
    }

    /// All datasets with their latest versions, by name.
    ///
    /// # Errors
    /// Those of the ports; `Corrupt`.
    pub async fn list(&self) -> Result<Vec<DatasetSummary>> {
        let mut all = Vec::new();
        for head in self.ports.read_all::<Head>(Query::prefix(DATASETS, ""), usize::MAX).await? {
            let latest = self.manifest(&head.name, &head.latest).await?;
            all.push(DatasetSummary { name: head.name, num_versions: head.num_versions, latest });
        }
        Ok(all)
    }

    /// The versions of a dataset, the latest first, at most `max` of them.
    ///
    /// # Errors
    /// `NotFound` where there is no such dataset; those of the ports; `Corrupt`.
    pub async fn versions(&self, name: &str, max: usize) -> Result<Vec<DatasetManifest>> {
        self.head(name).await?;
        let query = Query { descending: true, ..Query::prefix(partition(name), "n/") };
        let mut all = Vec::new();
        for entry in self.ports.read_all::<Entry>(query, max).await? {
            all.push(self.manifest(name, &entry.version).await?);
        }
        Ok(all)
    }

    /// A version of a dataset; the latest where `version` is absent or `latest`.
    ///
    /// # Errors
    /// `NotFound` where there is no such dataset or version; those of the ports; `Corrupt`.
    pub async fn get(&self, name: &str, version: Option<&str>) -> Result<DatasetManifest> {
        match version {
            None | Some("latest") => {
                let head = self.head(name).await?;
                self.manifest(name, &head.latest).await
            }
            Some(version) => {
                check_name("name", name)?;
                let is_version =
                    version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_hexdigit());
                let known = if is_version { self.known(name, version).await? } else { None };
                known.ok_or_else(|| Error::not_found("dataset version", format!("{name}@{version}")))
            }
        }
    }

    /// The bars of a version, after their hash was compared.
    ///
    /// # Errors
    /// Those of [`Self::get`]; `Corrupt` where the bytes are not those that were written; `Refused` in a program that was
    /// built without the feature `parquet`.
    pub async fn load_bars(&self, name: &str, version: Option<&str>) -> Result<Bars> {
        let manifest = self.get(name, version).await?;
        let bytes = self.file(&manifest, BARS).await?;
        let found = sha256_hex(&bytes);
        if found != manifest.sha256 {
            return Err(Error::corrupt(format!(
                "bars of dataset `{}` have the hash `{found}`, the manifest says `{}`",
                manifest.reference(),
                manifest.sha256
            ))
            .with_hint("restore the blob from a backup, or import the file again"));
        }
        decode(bytes)
    }

    /// What validation found in the file of a version.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub async fn report(&self, name: &str, version: Option<&str>) -> Result<ValidationReport> {
        let manifest = self.get(name, version).await?;
        from_json_bytes(REPORT, &self.file(&manifest, REPORT).await?)
    }

    /// Every row of the file of a version that was rejected.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub async fn rejected(&self, name: &str, version: Option<&str>) -> Result<Vec<RejectedRow>> {
        let manifest = self.get(name, version).await?;
        let bytes = self.file(&manifest, QUARANTINE).await?;
        bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| from_json_bytes(QUARANTINE, line))
            .collect()
    }

    async fn file(&self, manifest: &DatasetManifest, file: &str) -> Result<Bytes> {
        let key = paths::dataset(&manifest.name, &manifest.version, file);
        self.ports.blobs.get(&key).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::corrupt(format!("dataset `{}` has lost its file `{file}`", manifest.reference()))
                    .with_source(error)
            }
            _ => error,
        })
    }

    async fn head(&self, name: &str) -> Result<Head> {
        check_name("name", name)?;
        let head = self.ports.read::<Head>(&Key::new(DATASETS, name)).await?;
        head.map(|(head, _)| head).ok_or_else(|| Error::not_found("dataset", name))
    }

    async fn manifest(&self, name: &str, version: &str) -> Result<DatasetManifest> {
        let key = paths::dataset(name, version, paths::MANIFEST);
        from_json_bytes(&key, &self.ports.blobs.get(&key).await?)
    }
}

fn partition(name: &str) -> String {
    format!("dataset/{name}")
}

fn version_key(name: &str, version: &str) -> Key {
    Key::new(partition(name), format!("v/{version}"))
}

fn busy(name: &str) -> Error {
    Error::conflict(format!("dataset `{name}` was imported into {MAX_ATTEMPTS} times meanwhile"))
}

fn refused(request: &ImportRequest, error: moola_market::Error) -> Error {
    match error {
        moola_market::Error::Rejected { .. } => {
            Error::new(ErrorKind::Invalid, format!("file `{}` was not imported", request.file_name))
                .with_hint("correct the rows, or import in quarantine mode, which keeps the good ones")
                .with_source(error)
        }
        other => other.into(),
    }
}

/// Refuses to append bars of another symbol or interval.
fn check_parent(parent: &DatasetManifest, request: &ImportRequest, interval: Option<Interval>) -> Result<()> {
    if parent.symbol != request.symbol {
        let expected = format!("`{}`, as in the dataset", parent.symbol);
        return Err(Error::invalid("symbol", &request.symbol, expected));
    }
    match interval {
        Some(interval) if interval != parent.interval => {
            Err(Error::invalid("interval", interval, format!("`{}`, as in the dataset", parent.interval)))
        }
        _ => Ok(()),
    }
}

fn check_symbol(symbol: &str) -> Result<()> {
    if !symbol.trim().is_empty() && symbol.len() <= 64 && !symbol.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = symbol.chars().take(80).collect();
    Err(Error::invalid("symbol", shown.escape_debug(), "1 to 64 bytes, such as `EURUSD`"))
}

fn column_names(bars: &Bars) -> Vec<String> {
    let common = ["timestamp", "open", "high", "low", "close", "volume"].map(str::to_owned);
    common.into_iter().chain(bars.extra().keys().cloned()).collect()
}

fn read_file(request: &ImportRequest) -> Result<RawBars> {
    Ok(match request.format.of(&request.bytes) {
        Format::Parquet => read_parquet(request.bytes.clone(), &request.options)?,
        Format::Json => read::read_json(&request.bytes, &request.options)?,
        Format::Csv | Format::Auto => read::read_csv(&request.bytes, &request.options)?,
    })
}
