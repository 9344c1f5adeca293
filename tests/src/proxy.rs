//! A proxy before the emulator at which things go wrong, as a seed has it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The service has too much to do, and says so.
    Throttle,
    /// The service has a defect, and says so.
    InternalError,
    /// The connection breaks before the service knows of the request.
    LoseRequest,
    /// The connection breaks in the midst of the request.
    TearRequest,
    /// The service does it, but its answer is lost.
    LoseAnswer,
    /// The answer breaks off half way.
    TearAnswer,
    /// The answer comes late, in time.
    Delay,
    /// No answer comes.
    Hang,
}

impl Fault {
    /// All that end by themselves.
    pub const PASSING: [Self; 7] = [
        Self::Throttle,
        Self::InternalError,
        Self::LoseRequest,
        Self::TearRequest,
        Self::LoseAnswer,
        Self::TearAnswer,
        Self::Delay,
    ];
}

#[derive(Debug)]
struct Plan {
    rng: ChaCha8Rng,
    faults: Vec<Fault>,
    rate: f64,
    num_met: BTreeMap<Fault, usize>,
}

/// The proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before `upstream`. Each request meets one of `faults` with the probability `rate`.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn start(upstream: SocketAddr, faults: &[Fault], rate: f64, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let plan = Plan { rng, faults: faults.to_vec(), rate, num_met: BTreeMap::new() };
        let plan = Arc::new(Mutex::new(plan));
        let shared = plan.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = shared.clone();
                // That a connection breaks is what it is for.
                tokio::spawn(async move { serve(client, upstream, &plan).await.ok() });
            }
        });
        Self { address, plan, task }
    }

    /// What `AWS_ENDPOINT_URL` would be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on each request meets one of `faults` with the probability `rate`.
    pub fn set(&self, faults: &[Fault], rate: f64) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        (plan.faults, plan.rate) = (faults.to_vec(), rate);
    }

    /// How many requests met each fault.
    #[must_use]
    pub fn num_met(&self) -> BTreeMap<Fault, usize> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).num_met.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    fn next(&mut self) -> Option<Fault> {
        if !self.rng.random_bool(self.rate) {
            return None;
        }
        let fault = self.faults[self.rng.random_range(0..self.faults.len())];
        *self.num_met.entry(fault).or_default() += 1;
        Some(fault)
    }
}

/// Handles one request; the connection ends with its answer.
async fn serve(mut client: TcpStream, upstream: SocketAddr, plan: &Mutex<Plan>) -> io::Result<()> {
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    let fault = plan.lock().unwrap_or_else(PoisonError::into_inner).next();
    match fault {
        Some(Fault::LoseRequest) => return Ok(()),
        Some(Fault::Throttle) if request.is_dynamodb => {
            return client.write_all(&dynamodb_refusal(400, "ProvisionedThroughputExceededException")).await;
        }
        Some(Fault::Throttle) => return client.write_all(&s3_refusal(503, "SlowDown")).await,
        Some(Fault::InternalError) if request.is_dynamodb => {
            return client.write_all(&dynamodb_refusal(500, "InternalServerError")).await;
        }
        Some(Fault::InternalError) => return client.write_all(&s3_refusal(500, "InternalError")).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Delay) => tokio::time::sleep(Duration::from_millis(100)).await,
        Some(Fault::TearRequest | Fault::LoseAnswer | Fault::TearAnswer) | None => {}
    }
    let mut service = TcpStream::connect(upstream).await?;
    service.write_all(&request.head).await?;
    if fault == Some(Fault::TearRequest) {
        return service.write_all(&request.body[..request.body.len() / 2]).await;
    }
    service.write_all(&request.body).await?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await?;
    // In the midst of the body, or of the head where there is none.
    let whole = end_of_head(&answer).filter(|head| *head < answer.len()).unwrap_or_default();
    match fault {
        Some(Fault::LoseAnswer) => Ok(()),
        Some(Fault::TearAnswer) => client.write_all(&answer[..whole + (answer.len() - whole) / 2]).await,
        _ => client.write_all(&answer).await,
    }
}

fn s3_refusal(status: u16, code: &str) -> Vec<u8> {
    answer(status, "application/xml", &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

fn dynamodb_refusal(status: u16, code: &str) -> Vec<u8> {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"no"}}"#);
    answer(status, "application/x-amz-json-1.0", &body)
}

fn answer(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
    is_dynamodb: bool,
}

impl Request {
    /// Reads a request; `None` where the client closed a connection that it did not need.
    async fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = end_of_head(&bytes) {
                break end;
            }
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let mut body = bytes.split_off(head);
        let text = String::from_utf8_lossy(&bytes);
        let (mut length, mut is_dynamodb) = (0, false);
        // The service ends the connection with its answer, and so does the client.
        let mut lines = vec![text.lines().next().unwrap_or_default(), "connection: close"];
        for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                "transfer-encoding" => return Err(io::Error::other("a request of unknown length")),
                "x-amz-target" => is_dynamodb = value.contains("DynamoDB"),
                "connection" => continue,
                "expect" => {
                    client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                    continue;
                }
                _ => {}
            }
            lines.push(line);
        }
        let head = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        let come = body.len();
        body.resize(length, 0);
        client.read_exact(&mut body[come..]).await?;
        Ok(Some(Self { head, body, is_dynamodb }))
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}
