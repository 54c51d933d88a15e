//! A stand-in for the agent: answers each connection with the next of the given answers, and keeps
//! what was asked.

use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use weft_cni::client::encode;
use weft_cni::wire::{Request, Response};

/// What one connection brought.
pub(crate) type Asked = (Request, Option<OwnedFd>);

/// Listens below a folder and answers as many connections as there are answers; `None` closes the
/// connection without an answer.
pub(crate) fn answer(folder: &Path, answers: Vec<Option<Response>>) -> JoinHandle<Vec<Asked>> {
    let listener = UnixListener::bind(folder.join("cni.sock")).unwrap();
    std::thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| serve(&listener, answer))
            .collect()
    })
}

fn serve(listener: &UnixListener, answer: Option<Response>) -> Asked {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut bytes, descriptor) = first(&stream);
    while bytes.len() < 4 || bytes.len() < 4 + length(&bytes) {
        let mut more = [0; 4096];
        let count = stream.read(&mut more).unwrap();
        assert_ne!(count, 0, "the request ended early");
        bytes.extend_from_slice(&more[..count]);
    }
    let request = serde_json::from_slice(&bytes[4..]).unwrap();
    if let Some(answer) = answer {
        stream.write_all(&encode(&answer).unwrap()).unwrap();
    }
    (request, descriptor)
}

fn length(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
}

#[expect(unsafe_code, reason = "recvmsg gives descriptors as numbers")]
fn first(stream: &UnixStream) -> (Vec<u8>, Option<OwnedFd>) {
    let mut buffer = [0; 4096];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let descriptor = message.cmsgs().unwrap().find_map(|control| match control {
        // SAFETY: the kernel has just installed this number for this message alone.
        ControlMessageOwned::ScmRights(numbers) => {
            Some(unsafe { OwnedFd::from_raw_fd(numbers[0]) })
        }
        _ => None,
    });
    let count = message.bytes;
    (buffer[..count].to_vec(), descriptor)
}
