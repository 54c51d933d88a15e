//! Turns descriptor numbers into owned descriptors: those that a parent left open at exec, and
//! those that arrive over a unix socket (SCM_RIGHTS).
//!
//! The one file of the asynchronous side in which ownership of a descriptor is claimed by number.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};

/// The most descriptors that one message may carry.
const MOST: usize = 8;

/// Takes a descriptor that the parent left open for this process, and closes it at the next exec.
///
/// # Errors
/// Where no descriptor of that number is open.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only used for the call of fcntl that follows, which refuses a number that is not open.
    #[expect(unsafe_code, reason = "a number is all that survives exec")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (checked above), and the supervisor passes each number to this process
    // alone and once, so nobody else in it owns the descriptor.
    #[expect(unsafe_code, reason = "a number is all that survives exec")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Says whether a descriptor stays open in programs that this process executes.
///
/// # Errors
/// What fcntl answers.
pub fn keep_at_exec(descriptor: BorrowedFd<'_>, keep: bool) -> io::Result<()> {
    let flags = if keep {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Sends bytes and descriptors in one message.
///
/// # Errors
/// What sendmsg answers.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    Ok(sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?)
}

/// Receives bytes, and the descriptors that came with them. 0 bytes: the peer has closed.
///
/// # Errors
/// What recvmsg answers.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just installed this number for this message alone.
                #[expect(unsafe_code, reason = "recvmsg gives numbers")]
                descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, descriptors))
}

/// The user who opened the other end of a unix socket (SO_PEERCRED).
///
/// # Errors
/// What getsockopt answers.
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(getsockopt(&socket, sockopt::PeerCredentials)?.uid())
}

/// Connects from a thread that has taken another user's identity: the kernel notes the user of the
/// thread that calls connect, and the system call, unlike the C library's function, changes one
/// thread alone.
#[cfg(test)]
pub(crate) fn connect_as(user: u32, path: &std::path::Path) -> std::os::unix::net::UnixStream {
    use std::os::unix::fs::PermissionsExt;
    for file in path.ancestors().take(2) {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let path = path.to_owned();
    let connecting = std::thread::spawn(move || {
        // SAFETY: changes the credentials of this thread, which ends here.
        #[expect(unsafe_code, reason = "nix changes the user of the whole process")]
        let result = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
        assert_eq!(result, 0, "this test needs root");
        std::os::unix::net::UnixStream::connect(path).unwrap()
    });
    connecting.join().unwrap()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut kept, given) = UnixStream::pair().unwrap();
        assert_eq!(send(left.as_fd(), b"here", &[given.as_fd()]).unwrap(), 4);
        drop(given);
        let mut buffer = [0; 16];
        let (count, descriptors) = receive(right.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..count], descriptors.len()), (&b"here"[..], 1));
        let mut arrived = UnixStream::from(descriptors.into_iter().next().unwrap());
        kept.write_all(b"x").unwrap();
        let mut byte = [0];
        arrived.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn a_message_without_descriptors_brings_none() {
        let (left, right) = UnixStream::pair().unwrap();
        send(left.as_fd(), b"x", &[]).unwrap();
        let (count, descriptors) = receive(right.as_fd(), &mut [0; 4]).unwrap();
        assert_eq!((count, descriptors.len()), (1, 0));
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert!(inherit(1_000_000).is_err());
    }

    #[test]
    fn the_peer_of_a_pair_is_this_user() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(
            peer_uid(left.as_fd()).unwrap(),
            nix::unistd::geteuid().as_raw()
        );
    }
}
