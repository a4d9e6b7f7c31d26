//! A load generator: thousands of clients of one daemon in one process, made to be cheap.
//!
//! It shares its machine with the server that it measures, so what it burns, the server lacks. A waiter
//! is a task with a raw socket and its next request; it owns no buffer while it is parked, reads its
//! answer in one system call into memory that belongs to the thread, and is timed by nobody: whoever
//! started a [`Crowd`] watches the clock for all of it. A joiner lets the kernel throw the body away
//! instead of copying it.
//!
//! Promises: every wait has a deadline; an answer that is not understood is a failure with its reason,
//! never a silent zero; what is counted as heard was read from the answers, not assumed. It knows the
//! daemon by its wire contract only and never links the server's side; `benches/delivery` drives other
//! servers with it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`Target`], [`Connection`] | where the server is; one keep-alive connection, its requests and answers |
//! | [`KeptConnection`] | the same for requests between which much time may pass |
//! | [`LongPoll`], [`CrumbdPoll`] | what a waiter asks, and how it reads what it hears |
//! | [`Board`] | what all of them have heard: counts, latencies, who missed what |
//! | [`EventStream`], [`CrumbdStream`] | what a reader of a stream asks, and how it reads what it hears |
//! | [`Crowd`] | the waiters, or the readers |
//! | [`Writer`], [`Publisher`] | those who write |
//! | [`Joiner`] | one who fetches the whole state |
//! | [`Mirrors`] | copies of the state that check every digest |
//! | [`Process`] | the CPU and memory of a server on this machine |

mod answer;
mod board;
mod connection;
mod crowd;
mod error;
mod events;
mod http2_waiters;
mod joiner;
mod kept;
mod latency;
mod limits;
mod mirrors;
mod poll;
mod process;
mod readers;
mod status;
mod stream;
mod target;
mod writer;

pub use answer::Answer;
pub use board::{Board, Clock, Counts, Heard};
pub use connection::{Connection, Download};
pub use crowd::Crowd;
pub use error::LoadError;
pub use joiner::{Joined, Joiner};
pub use kept::KeptConnection;
pub use latency::{Latencies, Percentiles};
pub use limits::need_open_files;
pub use mirrors::{Mirrored, Mirrors};
pub use poll::{CrumbdPoll, LongPoll, numbers_in};
pub use process::{Cpu, Process, own_cpu_time};
pub use readers::{CrumbdStream, EventStream};
pub use status::Status;
pub use target::Target;
pub use writer::{Publisher, Writer, Written};
