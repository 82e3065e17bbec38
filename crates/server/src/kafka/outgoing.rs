//! The answers of a connection that are still to be written, and what goes into the next write. It
//! knows no requests and no socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use ::kafka::Piece;
use bytes::{Buf as _, Bytes};
use tokio::sync::OwnedSemaphorePermit;

use super::stored::StoredFile;
use super::{Answer, limits};

/// Answers in the order in which they leave.
#[derive(Default)]
pub(super) struct Outgoing {
    answers: VecDeque<Leaving>,
}

/// An answer, as far as it is not written.
struct Leaving {
    parts: VecDeque<Part>,
    _memory: Option<OwnedSemaphorePermit>,
}

enum Part {
    Bytes(Bytes),
    File(StoredFile),
}

/// What the next write takes.
pub(super) enum Next<'a> {
    /// So many slices; whether something follows that cannot be among them.
    Slices(usize, bool),
    /// Of this file.
    File(&'a StoredFile),
}

impl Outgoing {
    /// Behind all others.
    pub fn push(&mut self, answer: Answer) {
        let mut files = answer.files.into_iter();
        let parts = answer.frame.pieces.into_iter().map(|piece| match piece {
            Piece::Bytes(bytes) => Part::Bytes(bytes),
            Piece::Apart(size_bytes) => {
                let file = files.next();
                let file = file.filter(|file| file.size_bytes() == size_bytes);
                Part::File(file.expect("a file for each place that was left"))
            }
        });
        self.answers.push_back(Leaving {
            parts: parts.collect(),
            _memory: answer.memory,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Bytes that are not written.
    pub fn size_bytes(&self) -> usize {
        self.parts().map(Part::size_bytes).sum()
    }

    /// What is to be written next; slices are put into `slices`.
    pub fn next<'a>(&'a self, slices: &mut [IoSlice<'a>; limits::WRITE_SLICES]) -> Next<'a> {
        let mut count = 0;
        for part in self.parts() {
            match part {
                Part::File(file) if count == 0 => return Next::File(file),
                Part::Bytes(bytes) if count < slices.len() => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                Part::File(_) | Part::Bytes(_) => return Next::Slices(count, true),
            }
        }
        Next::Slices(count, false)
    }

    /// Forgets what was written.
    pub fn written(&mut self, mut size: usize) {
        while let Some(answer) = self.answers.front_mut() {
            while let Some(part) = answer.parts.front_mut() {
                let part_bytes = part.size_bytes();
                if size < part_bytes {
                    part.advance(size);
                    return;
                }
                size -= part_bytes;
                answer.parts.pop_front();
            }
            self.answers.pop_front();
        }
        self.answers.shrink_to(limits::KEPT_ANSWERS);
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.answers.iter().flat_map(|answer| &answer.parts)
    }
}

impl Part {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(file) => file.size_bytes(),
        }
    }

    fn advance(&mut self, size: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(size),
            Self::File(file) => file.sent(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use ::kafka::Frame;
    use commitlog::StoredRange;

    use super::*;

    /// An answer of bytes, a file and bytes, and what it is on the wire.
    fn answer(number: u8) -> (Answer, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[9; 5]).unwrap();
        file.write_all(&[number; 10]).unwrap();
        let range = StoredRange {
            file: Arc::new(file),
            position: 5,
            size_bytes: 10,
            next_offset: 0,
        };
        let answer = Answer {
            frame: Frame {
                pieces: vec![
                    Piece::Bytes(Bytes::from(vec![number + 1; 7])),
                    Piece::Bytes(Bytes::from(vec![number + 2; 3])),
                    Piece::Apart(10),
                    Piece::Bytes(Bytes::from(vec![number + 3; 2])),
                ],
            },
            files: vec![StoredFile::new(range).unwrap()],
            memory: None,
        };
        let wire = [
            vec![number + 1; 7],
            vec![number + 2; 3],
            vec![number; 10],
            vec![number + 3; 2],
        ];
        (answer, wire.concat())
    }

    /// Writes all in steps of at most `step` bytes.
    fn written(outgoing: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES];
            let mut size = wire.len();
            match outgoing.next(&mut slices) {
                Next::Slices(count, more) => {
                    let bytes: Vec<u8> =
                        slices[..count].iter().flat_map(|it| it.to_vec()).collect();
                    assert_eq!(more, bytes.len() < outgoing.size_bytes());
                    wire.extend(bytes.into_iter().take(step));
                }
                Next::File(file) => {
                    use std::os::fd::AsFd as _;
                    let (socket, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
                    file.send(socket.as_fd(), step).unwrap();
                    drop(socket);
                    std::io::Read::read_to_end(&mut peer, &mut wire).unwrap();
                }
            }
            size = wire.len() - size;
            outgoing.written(size);
        }
        wire
    }

    #[test]
    fn answers_leave_in_order_whatever_the_network_takes_at_once() {
        for step in 1..50 {
            let mut outgoing = Outgoing::default();
            let mut wire = Vec::new();
            for number in [10, 20, 30] {
                let (answer, bytes) = answer(number);
                outgoing.push(answer);
                wire.extend(bytes);
            }
            assert_eq!(outgoing.size_bytes(), wire.len());
            assert_eq!(written(&mut outgoing, step), wire, "{step} bytes at once");
        }
    }
}
