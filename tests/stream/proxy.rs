//! Streams through a proxy that was not told of them (nginx, which holds back what it gets unless it is asked
//! not to), and through the one of `deploy/`.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::support::etcd::free_port;
use super::*;

/// As far as it must be configured to do anything at all.
const PLAIN: &str =
    "server { listen ${LISTEN}; location / { proxy_http_version 1.1; proxy_pass http://${REPLICA_1}; } }";

const DEPLOYED: &str = include_str!("../../deploy/nginx.conf.template");

const MAIN: &str = "
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    include crumbd.conf;
}
";

/// nginx in front of a daemon. Dropping it ends it.
struct Proxy {
    nginx: Child,
    url: String,
    _dir: TempDir,
}

impl Proxy {
    async fn start(daemon: &Daemon, template: &str) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("temp")).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let behind = daemon.url().strip_prefix("http://").unwrap();
        let text = template.replace("${LISTEN}", &listen);
        let text = text.replace("${REPLICA_1}", behind).replace("${REPLICA_2}", behind);
        std::fs::write(dir.path().join("crumbd.conf"), text).unwrap();
        std::fs::write(dir.path().join("nginx.conf"), MAIN).unwrap();
        // Debian keeps nginx where only root's PATH leads.
        let path = format!("{}:/usr/local/sbin:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut nginx = Command::new("nginx");
        nginx.env("PATH", path).args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(dir.path());
        let nginx = nginx.stdin(Stdio::null()).spawn();
        let nginx = nginx.unwrap_or_else(|error| {
            panic!(
                "nginx cannot be started: {error}; this test needs it (Debian: apt-get install nginx-light)"
            )
        });
        eventually("nginx to listen", || async { TcpStream::connect(&listen).ok() }).await;
        Proxy { nginx, url: format!("http://{listen}"), _dir: dir }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Without a master there is one process, and nothing that it would have to put in order.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_a_change_is_one_event_at_once_and_a_cut_or_a_stop_loses_nothing() {
    for template in [PLAIN, DEPLOYED] {
        // So seldom that no heartbeat pushes anything through.
        let mut daemon = Daemon::push(&["--heartbeat", "1h", "--drain", "5s"]);
        let proxy = Proxy::start(&daemon, template).await;
        let http = daemon.http();
        let (mut work, mut state) = (Workload::new(4, "", 50), State::new());
        let (mut last, _) = write(&http, &mut work, &mut state, 10).await.pop().unwrap();
        let mut readers = Vec::new();
        for speech in BOTH {
            let mut copy = Copy::whole();
            let mut reader = Reader::open_at(&proxy.url, speech, "", &[]).await;
            let item = reader.news().await;
            let Item::Snapshot(body) = &item else { panic!("{item:?}") };
            assert_eq!((&body.header.cursor, &body.end.as_ref().unwrap().cursor), (&last, &last));
            copy.take(&item);
            readers.push((speech, reader, copy));
        }
        for round in 0..20 {
            // Of one POST, so one revision: told as one, before anything else is written.
            let value = format!("\"{round}\"");
            let many: Vec<String> =
                (0..1 + round * 5).map(|i| put(&format!("many/{i:03}"), &value)).collect();
            last = http.post(&many).await;
            for i in 0..many.len() {
                state.insert(format!("many/{i:03}").into(), value.as_bytes().into());
            }
            for (_, reader, copy) in &mut readers {
                let item = reader.news().await;
                let Item::Updates(body) = &item else { panic!("{item:?}") };
                let end = body.end.as_ref().unwrap();
                assert_eq!(
                    (body.records.len(), &body.header.cursor, &end.cursor),
                    (many.len(), &last, &last)
                );
                copy.take(&item);
            }
        }
        for (speech, reader, copy) in &mut readers {
            let id = reader.cursor.clone().unwrap();
            // The proxy notices that its client is gone, and another one goes on for it.
            (last, _) = write(&http, &mut work, &mut state, 5).await.pop().unwrap();
            *reader = Reader::open_at(&proxy.url, *speech, "", &[("last-event-id", &id)]).await;
            copy.follow_to(reader, &last).await;
            assert_same("after a cut", &copy.state, &state);
            assert_eq!((copy.snapshots, copy.resets), (1, 0));
        }
        // Both readers first come to the newest, so that the end is all that is still to come.
        for (_, reader, copy) in &mut readers {
            copy.follow_to(reader, &last).await;
        }
        daemon.terminate();
        for (_, reader, _) in &mut readers {
            in_time("the end", async { while reader.try_next().await.is_some() {} }).await;
            assert!(reader.ended, "cut off instead of ended");
            assert_eq!(reader.cursor.as_ref(), Some(&last));
        }
        assert!(daemon.wait_exit().success());
    }
}
