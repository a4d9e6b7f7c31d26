//! One exchange with both daemons at once, and its comparison.

use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::answer::Heard;
use crate::support::daemon::Daemon;
use crate::support::{A_WHILE, DEADLINE};
use crate::twins::Twins;

/// Between two writes, so that they mostly arrive one by one. However they arrive, the answers are the same:
/// nothing relies on it.
const BETWEEN: Duration = Duration::from_micros(300);

/// The framework itself answers some bytes in more than one way. Whether it goes on after a body that nobody
/// has read depends on how much of it had come, and a faulty head that came in pieces is looked at again only
/// where it might end, so that it is answered 408 in the end and not 400 at once. Such a case is sent again,
/// every other time to the framework in one piece; it is a difference when nothing that the one ever answered
/// is what the other ever did (or, with a body, what it did before it closed).
const TRIES: usize = 8;

/// What a client sends.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub writes: Vec<Vec<u8>>,
    /// The client says that it will send no more. A server may take that for "gone" at any moment and then
    /// need not answer what it has not answered yet, so here one side's answers begin the other's.
    pub half_closed: bool,
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Seen {
    pub cases: usize,
    pub answers: usize,
    pub closed: usize,
    pub tried_again: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.cases += more.cases;
        self.answers += more.answers;
        self.closed += more.closed;
        self.tried_again += more.tried_again;
    }
}

/// What came back so far.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Came {
    pub heard: Heard,
    pub closed: bool,
}

impl Came {
    /// Whether this is the beginning of what came elsewhere, and then the connection was closed.
    fn is_cut_short_of(&self, more: &Came) -> bool {
        let (few, many) = (&self.heard.answers, &more.heard.answers);
        let begins = few.len() <= many.len() && few.iter().zip(many).all(|(one, two)| one.says(two));
        self.closed && self.heard.rest.is_empty() && begins
    }
}

/// A connection whose answers are gathered as they come.
pub struct Line {
    came: Arc<Mutex<(Vec<u8>, bool)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    pub async fn send(daemon: &Daemon, case: &Case) -> Line {
        let stream = daemon.connect().await;
        let (came, case) = (Arc::new(Mutex::new((Vec::new(), false))), case.clone());
        let gathered = Arc::clone(&came);
        let task = tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let writing = async {
                for (n, bytes) in case.writes.iter().enumerate() {
                    if n > 0 {
                        tokio::time::sleep(BETWEEN).await;
                    }
                    // The answer may come, and the connection close, before all of it is written.
                    if write.write_all(bytes).await.is_err() {
                        break;
                    }
                }
                if case.half_closed {
                    _ = write.shutdown().await;
                }
                std::future::pending::<()>().await;
            };
            let reading = async {
                let mut chunk = [0; 16 << 10];
                while let Ok(length @ 1..) = read.read(&mut chunk).await {
                    gathered.lock().unwrap().0.extend_from_slice(&chunk[..length]);
                }
                gathered.lock().unwrap().1 = true;
            };
            tokio::select! { () = writing => {}, () = reading => {} }
        });
        Line { came, task }
    }

    pub fn came(&self) -> Came {
        let came = self.came.lock().unwrap();
        Came { heard: Heard::parse(&came.0), closed: came.1 }
    }

    fn progress(&self) -> (usize, bool) {
        let came = self.came.lock().unwrap();
        (came.0.len(), came.1)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends the case to both; says how they disagree.
pub async fn compare(twins: &Twins, case: Case) -> Result<Seen, String> {
    if let Some(same) = agreement(twins, &case).await {
        return Ok(same);
    }
    let case = smallest(twins, case).await;
    let [lean, framework] = both(twins, &case, 0).await;
    let sent: Vec<_> = case.writes.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    Err(format!(
        "{}{}\nsent: {sent:#?}\nlean, closed {}:\n{:?}framework, closed {}:\n{:?}",
        case.name,
        if case.half_closed { " (half closed)" } else { "" },
        lean.closed,
        lean.heard,
        framework.closed,
        framework.heard,
    ))
}

/// Tries until both have given the same answers.
async fn agreement(twins: &Twins, case: &Case) -> Option<Seen> {
    let (mut leans, mut frameworks) = (Vec::new(), Vec::new());
    for tried_again in 0..TRIES {
        let [lean, framework] = both(twins, case, tried_again).await;
        let (answers, closed) = (lean.heard.answers.len(), usize::from(lean.closed));
        let known = frameworks.iter().chain([&framework]).any(|framework| agree(case, &lean, framework))
            || leans.iter().any(|lean| agree(case, lean, &framework));
        if known {
            return Some(Seen { cases: 1, answers, closed, tried_again });
        }
        leans.push(lean);
        frameworks.push(framework);
    }
    let cut_short = has_body(case) && {
        let longest = frameworks.iter().max_by_key(|came| came.heard.answers.len())?;
        leans.iter().all(|lean| lean.is_cut_short_of(longest))
    };
    cut_short.then_some(Seen { cases: 1, tried_again: TRIES, ..Seen::default() })
}

fn has_body(case: &Case) -> bool {
    let text = String::from_utf8_lossy(&case.writes.concat()).to_ascii_lowercase();
    ["content-length", "transfer-encoding"].iter().any(|name| text.contains(name))
}

fn agree(case: &Case, lean: &Came, framework: &Came) -> bool {
    let (one, two) = (&lean.heard, &framework.heard);
    match case.half_closed {
        false => lean == framework,
        true => {
            let mut pairs = one.answers.iter().zip(&two.answers);
            pairs.all(|(one, two)| one.says_until_noticed(two)) && one.rest == two.rest
        }
    }
}

/// Whatever can be left out of a case that differs.
async fn smallest(twins: &Twins, mut case: Case) -> Case {
    let mut at = 0;
    while at < case.writes.len() && case.writes.len() > 1 {
        let mut shorter = case.clone();
        shorter.writes.remove(at);
        match agreement(twins, &shorter).await {
            None => case = shorter,
            Some(_) => at += 1,
        }
    }
    case
}

/// What came back from both, once it is all.
async fn both(twins: &Twins, case: &Case, again: usize) -> [Came; 2] {
    let in_one_piece = Case { writes: vec![case.writes.concat()], ..case.clone() };
    let other = if again % 2 == 1 { &in_one_piece } else { case };
    let lines = [Line::send(&twins.lean, case).await, Line::send(&twins.framework, other).await];
    settled(case, &lines).await
}

/// Waits until both are closed, or until they agree and nothing has come for a while, or for the deadline.
pub async fn settled(case: &Case, lines: &[Line; 2]) -> [Came; 2] {
    let end = Instant::now() + DEADLINE;
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let now = [lines[0].progress(), lines[1].progress()];
        if last != Some(now) {
            (last, since) = (Some(now), Instant::now());
        }
        let closed = now.iter().all(|(_, closed)| *closed);
        let came = || [lines[0].came(), lines[1].came()];
        let quiet = since.elapsed() > A_WHILE * 2 && {
            let [lean, framework] = came();
            // A difference that time may mend gets some.
            agree(case, &lean, &framework) || since.elapsed() > DEADLINE / 8
        };
        if closed || quiet || Instant::now() > end {
            return came();
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
