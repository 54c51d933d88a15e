//! The CNI socket against clients that behave and clients that do not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use weft_cni::wire::Attachment;

use super::*;

/// A server in a thread; inputs come out of the receiver.
struct Running {
    directory: tempfile::TempDir,
    inputs: Receiver<Input>,
    metrics: Arc<Metrics>,
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (sender, inputs) = channel();
        let metrics = Arc::new(Metrics::default());
        let ready_file = directory.path().join("ready");
        let counted = metrics.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                Server {
                    listener,
                    inputs: sender,
                    ready_file,
                    metrics: counted,
                }
                .run()
                .await;
            });
        });
        Self {
            directory,
            inputs,
            metrics,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn connect(&self) -> StdStream {
        let stream = StdStream::connect(self.path().join("s")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

fn add() -> Request {
    Request::Add(Attachment {
        container_id: "c".to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/x".to_owned(),
        pod_namespace: "n".to_owned(),
        pod_name: "p".to_owned(),
        pod_uid: "u".to_owned(),
        port_mappings: Vec::new(),
    })
}

/// `None` where the connection closed without an answer.
fn read(stream: &mut StdStream) -> Option<Response> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_request_reaches_the_engine_with_its_descriptor_and_is_answered() {
    let running = Running::start();
    let (sent, mut kept) = StdStream::pair().unwrap();
    let mut stream = running.connect();
    let message = frame(&serde_json::to_vec(&add()).unwrap());
    descriptors::send(stream.as_fd(), &message, &[sent.as_fd()]).unwrap();
    drop(sent);
    let Input::Cni {
        request,
        pod_netlink,
        reply,
    } = running.inputs.recv().unwrap()
    else {
        panic!("not CNI")
    };
    assert_eq!(request, add());
    StdStream::from(pod_netlink.unwrap())
        .write_all(b"x")
        .unwrap();
    let mut byte = [0];
    kept.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    reply.send(Response::Done).unwrap();
    assert_eq!(read(&mut stream), Some(Response::Done));
    assert!(
        running
            .metrics
            .render()
            .contains("duration_seconds_count{verb=\"ADD\"} 1")
    );
}

#[test]
fn a_request_in_many_pieces_is_one_request() {
    let running = Running::start();
    let mut stream = running.connect();
    for byte in frame(&serde_json::to_vec(&add()).unwrap()) {
        stream.write_all(&[byte]).unwrap();
    }
    let Input::Cni { request, reply, .. } = running.inputs.recv().unwrap() else {
        panic!("not CNI")
    };
    assert_eq!(request, add());
    drop(reply);
    assert_eq!(
        read(&mut stream),
        None,
        "a worker that stops leaves the answer to its successor"
    );
}

#[test]
fn garbage_and_oversize_get_an_error_and_nothing_reaches_the_engine() {
    let running = Running::start();
    for bytes in [
        frame(b"{not json"),
        frame(br#"{"verb":"NO"}"#),
        vec![0xff; 4],
        frame(b""),
    ] {
        let mut stream = running.connect();
        stream.write_all(&bytes).unwrap();
        let Some(Response::Failed { code, .. }) = read(&mut stream) else {
            panic!("no error for {bytes:?}")
        };
        assert_eq!(code, 6);
    }
    let mut cut_off = running.connect();
    cut_off.write_all(&[0, 0, 1]).unwrap();
    drop(cut_off);
    assert!(running.inputs.try_recv().is_err());
}

#[test]
fn a_slow_client_keeps_nobody_waiting() {
    let running = Running::start();
    let mut slow = running.connect();
    slow.write_all(&[0, 0, 0, 200, b'{']).unwrap();
    let mut quick = running.connect();
    quick
        .write_all(&frame(&serde_json::to_vec(&Request::Status).unwrap()))
        .unwrap();
    let Input::Cni { reply, .. } = running.inputs.recv().unwrap() else {
        panic!("not CNI")
    };
    reply.send(Response::Done).unwrap();
    assert_eq!(read(&mut quick), Some(Response::Done));
    assert_eq!(read(&mut slow), None, "it is disconnected in the end");
}

#[test]
fn status_fails_only_on_a_node_that_was_never_ready() {
    let running = Running::start();
    let refusal = || Response::Failed {
        code: 50,
        msg: "not ready".to_owned(),
        details: String::new(),
    };
    let ask = || {
        let mut stream = running.connect();
        stream
            .write_all(&frame(&serde_json::to_vec(&Request::Status).unwrap()))
            .unwrap();
        let Input::Cni { reply, .. } = running.inputs.recv().unwrap() else {
            panic!("not CNI")
        };
        reply.send(refusal()).unwrap();
        read(&mut stream)
    };
    assert_eq!(ask(), Some(refusal()));
    std::fs::write(running.path().join("ready"), "").unwrap();
    assert_eq!(ask(), Some(Response::Done));
}

#[test]
fn an_engine_that_does_not_answer_status_in_time_is_answered_for() {
    let running = Running::start();
    let mut stream = running.connect();
    stream
        .write_all(&frame(&serde_json::to_vec(&Request::Status).unwrap()))
        .unwrap();
    let kept = running.inputs.recv().unwrap();
    let Some(Response::Failed { code, .. }) = read(&mut stream) else {
        panic!("no error")
    };
    assert_eq!(code, 11);
    drop(kept);
}

#[test]
fn nobody_but_root_is_served() {
    let running = Running::start();
    let path = running.path().join("s");
    let status = frame(&serde_json::to_vec(&Request::Status).unwrap());
    let mut stream = descriptors::connect_as(65534, &path);
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let _ = stream.write_all(&status);
    assert_eq!(read(&mut stream), None);
    assert!(running.inputs.try_recv().is_err());
    // The same by root is heard.
    let mut stream = descriptors::connect_as(0, &path);
    stream.write_all(&status).unwrap();
    assert!(running.inputs.recv().is_ok());
}
