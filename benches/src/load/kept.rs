//! A keep-alive connection that may rest between two requests for as long as one likes.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Connection, LoadError, Target};

/// An idle timeout is not shorter than this. A server that hangs up on a connection that was busy just now has no
/// reason to, and that is to be seen.
const RESTED: Duration = Duration::from_millis(50);

/// A connection that is made anew when the server has closed it for having rested.
#[derive(Debug)]
pub struct KeptConnection {
    target: Target,
    connection: Connection,
    used: Instant,
}

impl KeptConnection {
    /// Connects.
    ///
    /// # Errors
    /// Those of [`Target::connect`].
    pub async fn connect(target: &Target) -> Result<Self, LoadError> {
        let connection = target.connect(0).await?;
        Ok(Self { target: target.clone(), connection, used: Instant::now() })
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and reads the answer. The request is sent twice, over another connection, only when the first
    /// one had rested and ended without a byte of an answer: it met the server's idle timeout on its way, or the
    /// server is gone, which the second attempt finds.
    ///
    /// # Errors
    /// Those of [`Connection::answer`] and [`Target::connect`].
    pub async fn exchange<T>(
        &mut self,
        request: &[u8],
        read: impl Fn(&Answer<'_>) -> T,
    ) -> Result<T, LoadError> {
        let rested = self.used.elapsed() >= RESTED;
        if self.connection.is_closing() || (rested && !self.connection.is_open()) {
            self.connection = self.target.connect(0).await?;
        }
        let mut done = self.connection.exchange(request, &read).await;
        let ended = matches!(done, Err(LoadError::Closed | LoadError::Broken(_)));
        if rested && ended && !self.connection.has_begun_to_answer() {
            self.connection = self.target.connect(0).await?;
            done = self.connection.exchange(request, &read).await;
        }
        self.used = Instant::now();
        done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// A server that answers the first request of each connection, and what it does then.
    async fn server(then: impl Fn(std::net::TcpStream) + Send + 'static) -> KeptConnection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                _ = stream.read(&mut [0; 100]).unwrap();
                stream.write_all(ANSWER).unwrap();
                then(stream);
            }
        });
        KeptConnection::connect(&Target::local(port)).await.unwrap()
    }

    async fn ask(connection: &mut KeptConnection) -> Result<u16, LoadError> {
        connection.exchange(b"GET / HTTP/1.1\r\n\r\n", |answer| answer.status).await
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_it_rested_is_made_again() {
        let mut kept = server(drop).await;
        for _ in 0..3 {
            assert_eq!(ask(&mut kept).await.unwrap(), 200);
            tokio::time::sleep(2 * RESTED).await;
        }
    }

    #[tokio::test]
    async fn so_is_one_that_is_closed_when_the_next_request_comes() {
        // The request is read, and not answered: as when it was on its way when the idle timeout ended.
        let mut kept = server(|mut stream| _ = stream.read(&mut [0; 100])).await;
        for _ in 0..3 {
            assert_eq!(ask(&mut kept).await.unwrap(), 200);
            tokio::time::sleep(2 * RESTED).await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_has_begun_is_not_asked_for_again() {
        let mut kept = server(|mut stream| {
            _ = stream.read(&mut [0; 100]);
            _ = stream.write_all(&ANSWER[..20]);
        })
        .await;
        assert_eq!(ask(&mut kept).await.unwrap(), 200);
        tokio::time::sleep(2 * RESTED).await;
        assert!(matches!(ask(&mut kept).await, Err(LoadError::Closed)));
    }
}
