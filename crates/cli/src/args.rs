//! What can be typed.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// An MLOps platform for market models: from price bars to a monitored endpoint, on one machine.
#[derive(Debug, Parser)]
#[command(name = "moola", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where everything is kept [default: $XDG_DATA_HOME/moola or ~/.local/share/moola]
    #[arg(long, global = true, env = "MOOLA_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Settings [default: moola.toml in the data directory, if there is one]
    #[arg(long, global = true, env = "MOOLA_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Prints JSON, as the API answers it; errors stay text on standard error
    #[arg(long, global = true, env = "MOOLA_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Prints nothing but the result
    #[arg(long, short, global = true, env = "MOOLA_QUIET", value_parser = FalseyValueParser::new(), conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Logs what happens; twice for more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Shows no progress bars
    #[arg(long, global = true, env = "MOOLA_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    pub(crate) no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole loop once on a simulated market or your bars, and shows it
    Demo(DemoArgs),
    /// Runs the platform: API, jobs, events, schedules
    Up(UpArgs),
    /// Datasets of price bars
    #[command(subcommand)]
    Data(DataCommand),
    /// Features of bars
    #[command(subcommand)]
    Features(FeaturesCommand),
    /// Trains a model on a dataset
    Train(Box<TrainArgs>),
    /// Runs of training
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Models, their versions and what serves
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Predicts with a model
    Predict(PredictArgs),
    /// Compiles an ONNX file to a WebAssembly module, without a platform
    Compile(CompileArgs),
    /// Drift of live data against training
    #[command(subcommand)]
    Drift(DriftCommand),
    /// Jobs that run in the background
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Shows what happened, the newest first
    Events {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// The training container
    #[command(hide = true)]
    Trainer {
        /// URL of spec.json
        spec_url: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Port; 0 for any free one
    #[arg(long, env = "MOOLA_PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Address to listen on
    #[arg(long, env = "MOOLA_HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Listens beyond this machine although nobody is asked who they are
    #[arg(long, env = "MOOLA_INSECURE_NO_AUTH", value_parser = FalseyValueParser::new())]
    pub(crate) insecure_no_auth: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Bars of your own (CSV or JSON) in place of the simulated market
    #[arg(long, env = "MOOLA_DEMO_DATA", value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// Where the page is written
    #[arg(long, env = "MOOLA_DEMO_OUT", value_name = "DIR", default_value = "moola-demo")]
    pub(crate) out: PathBuf,
    /// Keeps the data directory of the demo
    #[arg(long, env = "MOOLA_DEMO_KEEP", value_parser = FalseyValueParser::new())]
    pub(crate) keep: bool,
    /// Seed of the simulation and of the training
    #[arg(long, env = "MOOLA_SEED", default_value_t = 1337)]
    pub(crate) seed: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Imports a file of bars as a new version of a dataset
    Import(ImportArgs),
    /// Checks a file of bars and stores nothing
    Validate {
        /// The file; `-` for standard input
        file: PathBuf,
        /// Length of a bar, such as `1h`; the commonest step by default
        #[arg(long)]
        interval: Option<String>,
        /// `csv`, `json` or `parquet`; told by the content by default
        #[arg(long)]
        format: Option<String>,
    },
    /// Lists datasets
    List,
    /// Shows a dataset: its versions and the quality of the newest
    Show {
        /// `name` or `name@version`
        dataset: String,
        /// Shows the rows that were rejected
        #[arg(long)]
        rejected: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` for standard input
    pub(crate) file: PathBuf,
    /// Name of the dataset
    #[arg(long, env = "MOOLA_DATASET")]
    pub(crate) name: String,
    /// Instrument, such as `EURUSD`
    #[arg(long, env = "MOOLA_SYMBOL")]
    pub(crate) symbol: String,
    /// Length of a bar, such as `1h`; the commonest step by default
    #[arg(long)]
    pub(crate) interval: Option<String>,
    /// What is done with rows that break a rule
    #[arg(long, value_enum, default_value_t = Mode::Strict)]
    pub(crate) mode: Mode,
    /// Adds the bars to those of the latest version
    #[arg(long)]
    pub(crate) append: bool,
    /// `csv`, `json` or `parquet`; told by the content by default
    #[arg(long)]
    pub(crate) format: Option<String>,
}

/// What is done with rows that break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Refuses the file
    Strict,
    /// Keeps the good rows and stores the bad ones beside them
    Quarantine,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Lists features and sets of them
    List {
        /// Only the features of this set
        #[arg(long)]
        set: Option<String>,
    },
    /// Computes a feature set over a dataset, as CSV
    Compute {
        /// `name` or `name@version`
        dataset: String,
        /// The set
        #[arg(long, default_value = "core")]
        set: String,
        /// Where it is written; standard output by default
        #[arg(long, short)]
        out: Option<PathBuf>,
    },
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Label {
    /// Whether the range that follows is wide or narrow
    Expansion,
    /// Which barrier the price touches first
    TripleBarrier,
    /// The return that follows: a regression
    ForwardReturn,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// A whole request as JSON (`-` for standard input); every other flag changes it
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// Dataset: `name` or `name@version`
    #[arg(long, env = "MOOLA_DATASET", required_unless_present = "spec")]
    pub(crate) dataset: Option<String>,
    /// Registered model that the result becomes a version of
    #[arg(long, env = "MOOLA_MODEL", required_unless_present = "spec")]
    pub(crate) model: Option<String>,
    /// What is predicted
    #[arg(long, value_enum)]
    pub(crate) label: Option<Label>,
    /// Bars that the label looks ahead
    #[arg(long)]
    pub(crate) horizon: Option<usize>,
    /// Width of the label's barrier or range, in units of the recent volatility
    #[arg(long)]
    pub(crate) multiple: Option<f64>,
    /// Feature set of the second input; empty for none
    #[arg(long)]
    pub(crate) features: Option<String>,
    /// Bars of a window
    #[arg(long)]
    pub(crate) window: Option<usize>,
    /// A window every so many bars
    #[arg(long)]
    pub(crate) stride: Option<usize>,
    /// At most so many windows, the latest ones; 0 for all
    #[arg(long)]
    pub(crate) max_windows: Option<usize>,
    /// `simple_lstm`, or `naive` for the baseline alone
    #[arg(long)]
    pub(crate) architecture: Option<String>,
    /// Units of the encoder per direction
    #[arg(long)]
    pub(crate) hidden_size: Option<usize>,
    /// Layers of the encoder
    #[arg(long)]
    pub(crate) layers: Option<usize>,
    /// Heads of the attention
    #[arg(long)]
    pub(crate) heads: Option<usize>,
    /// Share of activations dropped while training
    #[arg(long)]
    pub(crate) dropout: Option<f64>,
    /// Most passes over the training samples
    #[arg(long)]
    pub(crate) epochs: Option<usize>,
    /// Samples per step
    #[arg(long)]
    pub(crate) batch_size: Option<usize>,
    /// Step size
    #[arg(long)]
    pub(crate) learning_rate: Option<f64>,
    /// Stops after so many epochs without a better validation loss; 0 for never
    #[arg(long)]
    pub(crate) patience: Option<usize>,
    /// Seed of every random choice
    #[arg(long, env = "MOOLA_SEED")]
    pub(crate) seed: Option<u64>,
    /// Promotes the version to production if it passes the gates
    #[arg(long)]
    pub(crate) promote: bool,
    /// Returns at once; needs a running `moola up`
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Lists runs, the newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Shows a run: spec, metrics against the baselines, epochs
    Show {
        /// Its id
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Lists models
    List,
    /// Shows a model, or one version: `name` or `name/version`
    Show {
        /// `name` or `name/version`
        model: String,
    },
    /// Registers an ONNX file from elsewhere
    Register {
        /// The ONNX file
        file: PathBuf,
        /// Name of the model
        #[arg(long, env = "MOOLA_MODEL")]
        model: String,
        /// What it is: JSON with `task`, `inputs`, `classes`, `window_bars`, `feature_set`, `evaluation`
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Judges a version by the gates, against what serves now
    Gates {
        /// `name/version`
        model: String,
        /// Only shows the latest report
        #[arg(long)]
        show: bool,
    },
    /// Builds a version for serving, and chooses its engine: compiled, or native
    Build {
        /// `name/version`
        model: String,
        /// `auto` lets a benchmark choose
        #[arg(long, default_value = "auto", value_parser = ["auto", "wasm", "native"])]
        engine: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Moves a version to production, if it passed the gates
    Promote {
        /// `name/version`
        model: String,
        /// To staging instead
        #[arg(long)]
        staging: bool,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Takes back the version in production and serves the one before it
    Rollback {
        /// Name of the model
        model: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Archives a version
    Archive {
        /// `name/version`
        model: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Takes a version out of the archive, to staging
    Restore {
        /// `name/version`
        model: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Shows where a version came from
    Lineage {
        /// `name/version`
        model: String,
    },
    /// Points an alias at a version
    Alias {
        /// `name/version`
        model: String,
        /// The alias, such as `champion`
        alias: String,
        /// Removes it
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Name of the model; a version, an alias or a stage after a slash
    #[arg(value_name = "NAME[/VERSION]")]
    pub(crate) model: String,
    /// Bars (CSV or JSON), of which the last window counts; `-` or nothing for standard input
    #[arg(group = "source")]
    pub(crate) file: Option<PathBuf>,
    /// Takes the latest bars of this instrument that were imported
    #[arg(long, group = "source")]
    pub(crate) symbol: Option<String>,
}

/// Instructions that a compiled module uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Instructions {
    /// The same bits on every machine
    Simd128,
    /// Fused multiply-add where the machine has it
    RelaxedSimd,
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The ONNX file; `-` for standard input
    pub(crate) file: PathBuf,
    /// Where the module is written [default: beside the file, as `.wasm`]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Instructions of the module
    #[arg(long, value_enum, default_value_t = Instructions::Simd128)]
    pub(crate) variant: Instructions,
    /// Most rows of a call, where the model leaves the batch open
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_rows: u32,
    /// Stores weights of matrix products and recurrent layers in 8 bits
    #[arg(long)]
    pub(crate) int8: bool,
    /// Makes machine code for these machines as well: `x86_64-avx2`, `aarch64`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) target: Vec<String>,
    /// Wraps the module for hosts of the component model as well
    #[arg(long)]
    pub(crate) component: bool,
    /// Writes the graph after every pass to this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
    /// Sizes of an input that the file leaves open, the batch included: `name=1,105,4`
    #[arg(long, value_name = "NAME=SIZES")]
    pub(crate) input: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DriftCommand {
    /// Compares the logged predictions with the training
    Check {
        /// Name of the model; a version after a slash
        #[arg(env = "MOOLA_MODEL")]
        model: String,
        /// Shows every column, not only those that drifted
        #[arg(long)]
        all: bool,
    },
    /// Lists checks, the newest first
    List {
        /// Name of the model
        #[arg(env = "MOOLA_MODEL")]
        model: String,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Lists jobs, the newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Shows what a job (or the job of a run) printed
    Logs {
        /// Its id
        job: String,
        /// Last lines
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Cancels a job, or the run of that id with its job
    Cancel {
        /// Its id
        job: String,
    },
}
