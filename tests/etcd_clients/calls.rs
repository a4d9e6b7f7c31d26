//! Every kind of call that the clients have, with etcd itself and with crumbd.

use crate::programs::Program;
use crate::replicas::Replicas;
use crate::support::etcd::Etcd;

/// The program checks each answer. It is run with etcd first, which says whether it expects what etcd does. A client that takes
/// several endpoints sends its calls to both replicas.
async fn calls(program: Program, takes_several: bool) {
    let etcd = Etcd::start().await;
    let replicas = Replicas::start(&etcd).await;
    let both = replicas.endpoints();
    let ours = if takes_several { both.as_str() } else { both.split(',').next().unwrap() };
    for endpoints in [&etcd.endpoint(), ours] {
        let mut command = program.calls(endpoints, "called/");
        let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let [out, err] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clientv3_makes_every_call() {
    calls(Program::Go, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3_of_npm_makes_every_call() {
    calls(Program::Node, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3_of_pypi_makes_every_call() {
    calls(Program::PythonGrpc, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd3gw_makes_every_call() {
    calls(Program::PythonGateway, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_client_of_rust_makes_every_call() {
    calls(Program::Rust, true).await;
}
