//! MiniStack, an emulator of AWS, as a child process.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;

const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs the emulator until nobody holds the other end of its standard input any more, however this process ends; then
/// ends it with all that it started, which is its process group, and removes its folder.
const KEEPER: &str = r#"trap : TERM
"$1" </dev/null >"$2/emulator.log" 2>&1 &
cat >/dev/null
kill -TERM 0
wait
rm -rf "$2"
kill -KILL 0"#;

/// The emulator of this test process.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    dir: PathBuf,
    /// Its end is the emulator's.
    _life: ChildStdin,
}

impl Emulator {
    /// The emulator, started at the first call; `None`, said aloud, where it is not installed.
    ///
    /// # Panics
    /// Where it does not get ready, or is not installed and `MOOLA_REQUIRE_EMULATOR` is set.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Emulator>> = OnceLock::new();
        SHARED.get_or_init(|| installed("ministack", "ministack==1.5.33 cryptography").map(Self::start)).as_ref()
    }

    #[expect(clippy::zombie_processes, reason = "it lives as long as this process, whose end it waits for")]
    fn start(program: PathBuf) -> Self {
        let address = free_address();
        let dir = env::temp_dir().join(format!("moola-emulator-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder for the emulator");
        let mut command = Command::new("sh");
        // Settings of the one who runs the tests are not meant for it.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["AWS_", "MINISTACK_", "LAMBDA_", "MOOLA_", "S3_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        let mut keeper = command
            .process_group(0)
            .args(["-c", KEEPER, "emulator"])
            .arg(program)
            .arg(&dir)
            .env("GATEWAY_PORT", address.port().to_string())
            .env("BIND_HOST", address.ip().to_string())
            // It would listen on every interface.
            .env("IOT_MTLS_ENABLED", "0")
            .env("TMPDIR", &dir)
            .env("S3_DATA_DIR", dir.join("s3"))
            .env("STATE_DIR", dir.join("state"))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("LOG_LEVEL", "WARNING")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let life = keeper.stdin.take().expect("the input of sh");
        let emulator = Self { address, dir, _life: life };
        let started = Instant::now();
        while !emulator.is_healthy() {
            assert!(
                started.elapsed() < START_LIMIT,
                "the emulator was not ready within {} s; its log:\n{}",
                START_LIMIT.as_secs(),
                emulator.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        emulator
    }

    fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `AWS_ENDPOINT_URL` would be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("emulator.log")).unwrap_or_default()
    }

    /// The configuration of clients of it.
    pub async fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint()).await
    }
}

/// The configuration of clients of the emulator, or of what stands before it, at `endpoint`.
pub async fn sdk_config(endpoint: &str) -> SdkConfig {
    moola_aws::config_loader()
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await
}

/// A name that nothing else in this test process has: `<prefix>-<number>`.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A program that comes with the emulator, from `MOOLA_EMULATORS`, its default place or the path; `None`, said aloud,
/// where it is not installed. `package` is what pip installs it by.
///
/// # Panics
/// Where it is not installed and `MOOLA_REQUIRE_EMULATOR` is set.
#[must_use]
pub fn installed(program: &str, package: &str) -> Option<PathBuf> {
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/moola/emulators"));
    let dir = env::var_os("MOOLA_EMULATORS").map(PathBuf::from).or(home).map(|dir| dir.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = dir.into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(program)).find(|it| it.is_file());
    if found.is_none() {
        let message = format!("`{program}` is not installed (pip install {package})");
        assert!(env::var_os("MOOLA_REQUIRE_EMULATOR").is_none(), "{message}, but MOOLA_REQUIRE_EMULATOR is set");
        eprintln!("SKIPPED: {message}");
    }
    found
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}
