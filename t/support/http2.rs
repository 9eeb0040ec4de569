//! Both ends of well-behaved HTTP/2 over cleartext: a client, and what a server for it needs. For what
//! no such end does there is [`super::h2`].

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::Response;
use super::decisions::Visitor;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A runtime in the thread that waits.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A connection.
pub struct Http2 {
    pub runtime: Runtime,
    pub client: SendRequest<Bytes>,
}

impl Http2 {
    pub fn open(addr: SocketAddr) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let socket = TcpStream::connect(addr).await.expect("nginx accepts connections");
            let (client, connection) =
                h2::client::handshake(socket).await.expect("nginx speaks HTTP/2");
            tokio::spawn(async {
                // How a connection ends is told by what becomes of its streams.
                let _ = connection.await;
            });
            client
        });
        Self { runtime, client }
    }
}

/// The head of a request to the site, which `:authority` names.
pub fn head(scheme: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request =
        Request::builder().method(method).uri(format!("{scheme}://site.test{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a good request")
}

/// What is known of an answer before its body.
pub fn response_of<B>(response: &http::Response<B>) -> Response {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Response {
        status: response.status().as_u16(),
        headers: response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: Vec::new(),
    }
}

impl Visitor for Http2 {
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let request = head("http", method, target, headers);
        let client = self.client.clone();
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(in_time(target, async move {
            let mut client = client.ready().await.expect("the connection is good");
            let (response, mut sending) =
                client.send_request(request, body.is_empty()).expect("the connection is good");
            if !body.is_empty() {
                // Without a length.
                sending.send_data(body, true).expect("the stream is open");
            }
            let (head, mut body) = response.await.expect("an answer").into_parts();
            let mut answer = response_of(&http::Response::from_parts(head, ()));
            while let Some(data) = body.data().await {
                let data = data.expect("the whole answer");
                answer.body.extend_from_slice(&data);
                body.flow_control().release_capacity(data.len()).expect("as much as came");
            }
            answer
        }))
    }
}
