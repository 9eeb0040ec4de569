//! Tests for the px module: gRPC calls pass with their trailers, and blocked ones get a plain 403.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use px_sandbox::Behaviour;
use support::decisions::{BOT, Site};
use support::http2::{Http2, head, in_time, response_of, runtime};
use support::{BROWSER, Nginx, nginx, wait_until};

/// A gRPC service of two methods: `Unary` answers a message, `Chat` each of many. `Refuse` says why not.
struct Service {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<Request<()>>>>,
    /// Streams that their client gave up.
    given_up: Arc<Mutex<usize>>,
}

impl Service {
    fn start() -> Self {
        let listener = nginx::listener();
        let addr = listener.local_addr().expect("an address");
        let (heads, given_up) = (Arc::default(), Arc::default());
        let service = Self { addr, heads: Arc::clone(&heads), given_up: Arc::clone(&given_up) };
        thread::spawn(move || {
            runtime().block_on(async {
                listener.set_nonblocking(true).expect("a socket option");
                let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
                while let Ok((socket, _)) = listener.accept().await {
                    let (heads, given_up) = (Arc::clone(&heads), Arc::clone(&given_up));
                    tokio::spawn(async move {
                        let Ok(mut connection) = h2::server::handshake(socket).await else {
                            return;
                        };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            let (head, body) = request.into_parts();
                            let path = head.uri.path().to_owned();
                            heads.lock().expect("not poisoned").push(Request::from_parts(head, ()));
                            let given_up = Arc::clone(&given_up);
                            tokio::spawn(async move {
                                if serve(&path, body, respond).await.is_err() {
                                    *given_up.lock().expect("not poisoned") += 1;
                                }
                            });
                        }
                    });
                }
            });
        });
        service
    }

    fn calls(&self) -> usize {
        self.heads.lock().expect("not poisoned").len()
    }
}

async fn serve(
    path: &str,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let answer = Response::builder().header("content-type", "application/grpc");
    if path.ends_with("/Refuse") {
        let refusal = answer.header("grpc-status", "9").header("grpc-message", "not now");
        respond.send_response(refusal.body(()).expect("a good answer"), true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(answer.body(()).expect("a good answer"), false)?;
    let mut received = BytesMut::new();
    let mut count = 0;
    loop {
        while let Some(message) = take_message(&mut received) {
            count += 1;
            stream.send_data(message_of(&message), false)?;
        }
        let Some(data) = body.data().await else { break };
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    trailers.insert("x-count", count.into());
    stream.send_trailers(trailers)
}

/// A message of the wire format: not compressed, with its length before it.
fn message_of(text: &[u8]) -> Bytes {
    let len = u32::try_from(text.len()).expect("a short message");
    [&[0][..], &len.to_be_bytes(), text].concat().into()
}

fn take_message(received: &mut BytesMut) -> Option<Bytes> {
    let len = u32::from_be_bytes(received.get(1..5)?.try_into().ok()?) as usize;
    if received.len() < 5 + len {
        return None;
    }
    let mut message = received.split_to(5 + len).freeze();
    Some(message.split_off(5))
}

fn start() -> (Site, Service) {
    let service = Service::start();
    let (addr, down) = (service.addr, nginx::free_addr());
    let site = Site::start_as(|server| {
        Nginx::builder().listen("http2").server(&format!(
            "{server} location /echo.Echo/ {{ grpc_pass grpc://{addr}; }}
             location /down.Echo/ {{ px_backend_url http://{down}; grpc_pass grpc://{addr}; }}"
        ))
    });
    (site, service)
}

/// A call under way.
struct Call {
    sending: SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
}

/// What came of a call.
struct Ended {
    head: support::Response,
    messages: Vec<Bytes>,
    trailers: HeaderMap,
}

fn call(visitor: &Http2, path: &str, headers: &[(&str, &str)]) -> Call {
    let own = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "10S"),
        ("x-metadata-bin", "AAEC"),
    ];
    let request = head("http", "POST", path, &[&own, headers].concat());
    let client = visitor.client.clone();
    visitor.runtime.block_on(in_time(path, async move {
        let mut client = client.ready().await.expect("the connection is good");
        let (answer, sending) = client.send_request(request, false).expect("it is good");
        Call { sending, answer }
    }))
}

/// Sends the messages one by one, each when the answer to the one before has come, and ends the call.
fn talk(visitor: &Http2, call: Call, messages: &[Bytes]) -> Ended {
    visitor.runtime.block_on(in_time("the end of a call", async move {
        let Call { mut sending, answer } = call;
        let mut left = messages.iter();
        if let Some(first) = left.next() {
            sending.send_data(message_of(first), messages.len() == 1).expect("it is open");
        }
        let (head, mut body) = answer.await.expect("an answer").into_parts();
        let head = response_of(&Response::from_parts(head, ()));
        let (mut received, mut came) = (BytesMut::new(), Vec::new());
        while let Some(data) = body.data().await {
            let data = data.expect("the whole answer");
            body.flow_control().release_capacity(data.len()).expect("as much as came");
            received.extend_from_slice(&data);
            while let Some(message) = take_message(&mut received) {
                came.push(message);
                if let Some(next) = left.next() {
                    sending.send_data(message_of(next), left.len() == 0).expect("it is open");
                }
            }
        }
        let trailers = body.trailers().await.expect("the whole answer").unwrap_or_default();
        if head.header("content-type") != Some("application/grpc") {
            came = vec![received.freeze()];
        }
        Ended { head, messages: came, trailers }
    }))
}

fn messages(count: usize, len: usize) -> Vec<Bytes> {
    (0..count).map(|n| vec![n as u8; len].into()).collect()
}

#[test]
fn calls_pass_whole_with_their_trailers() {
    let (site, service) = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(20)));
    let cookie = site.sandbox.mint(BROWSER).cookie();
    let visitor = Http2::open(site.nginx.addr());
    let mut logged = 0;
    for (package, headers, verdict, asked) in [
        ("echo", vec![("cookie", cookie.as_str())], "verdict=pass pass=cookie ", 0),
        ("echo", vec![], "verdict=pass pass=s2s ", 1),
        ("down", vec![], "verdict=pass pass=s2s_error ", 0),
    ] {
        let headers = [&headers[..], &[("user-agent", BROWSER)]].concat();
        for (method, sent) in [
            ("Unary", messages(1, 10)),
            ("Unary", messages(1, 200_000)),
            ("Chat", messages(50, 100)),
        ] {
            site.sandbox.clear();
            let path = format!("/{package}.Echo/{method}");
            let ended = talk(&visitor, call(&visitor, &path, &headers), &sent);
            assert_eq!(ended.head.status, 200, "{path}");
            assert!(ended.messages == sent, "{path}");
            assert_eq!(ended.trailers["grpc-status"], "0", "{path}");
            assert_eq!(ended.trailers["x-count"], sent.len().to_string(), "{path}");
            logged += 1;
            let log = site.nginx.wait_for_access_log(logged);
            assert_eq!(log.len(), logged);
            assert!(log[logged - 1].contains(verdict), "{path}: {}", log[logged - 1]);
            let calls = site.sandbox.risk_calls();
            assert_eq!(calls.len(), asked, "{path}");
            for call in calls {
                let call = call.json();
                assert_eq!(call["request"]["url"], format!("http://site.test{path}"));
                assert_eq!(call["additional"]["http_version"], "2");
                let told = call["request"]["headers"].to_string();
                assert!(told.contains("application/grpc") && told.contains("AAEC"), "{told}");
            }
            let heads = service.heads.lock().expect("not poisoned");
            let head = heads.last().expect("a call");
            assert_eq!((head.method().as_str(), head.uri().path()), ("POST", path.as_str()));
            for (name, value) in [
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-timeout", "10S"),
                ("x-metadata-bin", "AAEC"),
            ] {
                assert_eq!(head.headers()[name], value, "{path}");
            }
        }
    }
    site.sandbox.assert_no_complaints();
}

#[test]
fn an_answer_of_trailers_alone_is_passed_on() {
    let (site, _service) = start();
    let visitor = Http2::open(site.nginx.addr());
    let path = "/echo.Echo/Refuse";
    let ended = talk(&visitor, call(&visitor, path, &[("user-agent", BROWSER)]), &messages(1, 5));
    assert_eq!(ended.head.status, 200);
    assert_eq!(ended.head.header("grpc-status"), Some("9"));
    assert_eq!(ended.head.header("grpc-message"), Some("not now"));
    assert!(ended.messages.is_empty() && ended.trailers.is_empty());
    assert!(site.nginx.wait_for_access_log(1)[0].contains("verdict=pass pass=s2s "));
}

/// gRPC's own rules make PERMISSION_DENIED of a 403 that is no gRPC.
#[test]
fn a_blocked_call_gets_403_and_the_connection_goes_on() {
    let (site, service) = start();
    let bad = site.sandbox.mint(BROWSER).score(100).cookie();
    let visitor = Http2::open(site.nginx.addr());
    for (headers, content_type, part) in [
        (vec![("user-agent", BOT)], "text/html", "px-captcha"),
        (vec![("user-agent", BROWSER), ("cookie", &bad)], "text/html", "px-captcha"),
        (
            vec![("user-agent", BOT), ("accept", "application/json")],
            "application/json",
            "\"blockScript\":",
        ),
    ] {
        // Of the second only the first message has come when the verdict is there.
        for sent in [messages(1, 10), messages(2, 10)] {
            let ended = talk(&visitor, call(&visitor, "/echo.Echo/Chat", &headers), &sent);
            assert_eq!(ended.head.status, 403);
            assert_eq!(ended.head.header("content-type"), Some(content_type));
            assert_eq!(ended.head.header("grpc-status"), None);
            let page = String::from_utf8_lossy(&ended.messages[0]).into_owned();
            assert!(page.contains(part), "{page}");
        }
    }
    assert_eq!(service.calls(), 0);
    let path = "/echo.Echo/Unary";
    let ended = talk(&visitor, call(&visitor, path, &[("user-agent", BROWSER)]), &messages(1, 10));
    assert_eq!(ended.trailers["grpc-status"], "0");
    let log = site.nginx.wait_for_access_log(7);
    assert_eq!(log.len(), 7);
    assert_eq!(log.iter().filter(|line| line.contains("verdict=block")).count(), 6, "{log:?}");
}

/// A client that cancels while the Risk API is asked, and one that does in the middle of a chat.
#[test]
fn a_call_that_is_given_up_ends_at_the_service_too() {
    let (site, service) = start();
    let mut visitor = Http2::open(site.nginx.addr());
    let headers = [("user-agent", BROWSER)];
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(200)));
    let mut early = call(&visitor, "/echo.Echo/Chat", &headers);
    early.sending.send_data(message_of(b"one"), false).expect("it is open");
    let pause = |visitor: &Http2| {
        visitor.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    };
    wait_until("the Risk API to be asked", || {
        pause(&visitor);
        !site.sandbox.risk_calls().is_empty()
    });
    early.sending.send_reset(h2::Reason::CANCEL);
    drop(early);

    let mut late = call(&visitor, "/echo.Echo/Chat", &headers);
    late.sending.send_data(message_of(b"one"), false).expect("it is open");
    let Call { mut sending, answer } = late;
    let body = visitor.runtime.block_on(in_time("an answer", async {
        let mut body = answer.await.expect("an answer").into_body();
        body.data().await.expect("a message").expect("whole");
        body
    }));
    sending.send_reset(h2::Reason::CANCEL);
    drop(body);
    wait_until("the service to be told", || {
        pause(&visitor);
        *service.given_up.lock().expect("not poisoned") != 0
    });
    site.sandbox.behave_well();
    visitor = Http2::open(site.nginx.addr());
    let path = "/echo.Echo/Unary";
    let ended = talk(&visitor, call(&visitor, path, &headers), &messages(1, 10));
    assert_eq!(ended.trailers["grpc-status"], "0");
    // The first never reached the service.
    assert_eq!(service.calls(), 2);
    assert_eq!(site.nginx.wait_for_access_log(3).len(), 3);
}
