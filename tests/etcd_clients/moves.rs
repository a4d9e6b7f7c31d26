//! A client moves between replicas while it watches: each write is told once, in order.

use crate::history::{Event, Writer};
use crate::programs::Program;
use crate::replicas::Replicas;
use crate::support::etcd::Etcd;

/// The replica that the client watches is ended and started again, several times, while writes go on.
async fn moves(program: Program) {
    let etcd = Etcd::start().await;
    let writer = Writer::start(&etcd);
    writer.has_written(60).await;
    let mut replicas = Replicas::start(&etcd).await;
    let from = writer.events()[20].revision;
    let mut client = program.watch(&replicas.endpoints(), from);
    for signal in ["TERM", "KILL", "TERM", "KILL"] {
        client.reaches(writer.next_revision().await).await;
        let watched = replicas.watched().await;
        watched.end(signal);
        // By the other one.
        client.reaches(writer.next_revision().await).await;
        watched.start_again().await;
    }
    let written = writer.end().await;
    let wanted: Vec<Event> = written.into_iter().filter(|event| event.revision >= from).collect();
    assert!(wanted.last().unwrap().is_the_end());
    let told = client.ends(wanted.last().unwrap().revision).await;
    for (told, wanted) in told.iter().zip(&wanted) {
        // The value before is left out of what was written before the daemon started.
        let previous = told.previous.as_ref().and(wanted.previous.clone());
        assert_eq!(told, &Event { previous, ..wanted.clone() }, "{program:?}, then what was written");
    }
    assert_eq!(told.len(), wanted.len(), "{program:?}");
    assert!(told.iter().any(|event| event.previous.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clientv3_is_told_each_write_once() {
    moves(Program::Go).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_is_told_each_write_once() {
    moves(Program::Etcdctl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3_of_npm_is_told_each_write_once() {
    moves(Program::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3_of_pypi_is_told_each_write_once() {
    moves(Program::PythonGrpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3gw_is_told_each_write_once() {
    moves(Program::PythonGateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_client_of_rust_is_told_each_write_once() {
    moves(Program::Rust).await;
}
