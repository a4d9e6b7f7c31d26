//! Plays scenes, several at a time, and says what came of each.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::rule::Rule;
use super::scene::{Scene, Transport};
use super::scenes::ALL;
use super::stage::{Broken, Stage, Tls};
use super::{daemon, program};

/// The longest time of a scene; reached only by one that hangs.
const LONGEST_SCENE: Duration = Duration::from_secs(300);

/// All scenes, in the order of the page for clients.
pub(crate) fn scenes() -> impl Iterator<Item = &'static Scene> {
    ALL.iter().copied().flatten()
}

/// What is to be played, and for which program.
pub(crate) struct Suite {
    pub(crate) command: Vec<OsString>,
    pub(crate) transports: Vec<Transport>,
    pub(crate) tls: bool,
    /// Names of scenes; none for all.
    pub(crate) scenes: Vec<String>,
    /// The scenes that are played at the same time.
    pub(crate) jobs: usize,
}

/// What came of a scene.
pub(crate) struct Outcome {
    pub(crate) scene: &'static Scene,
    pub(crate) transport: Transport,
    pub(crate) broken: Option<Broken>,
    pub(crate) took: Duration,
    /// The last requests.
    pub(crate) requests: Vec<String>,
    /// The last lines of the program's output.
    pub(crate) output: Vec<String>,
    /// The last lines of its standard error.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    fn new(scene: &'static Scene, transport: Transport) -> Self {
        Self {
            scene,
            transport,
            broken: None,
            took: Duration::ZERO,
            requests: Vec::new(),
            output: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// The rule that is broken, if one is.
    pub(crate) fn broken_rule(&self) -> Option<Rule> {
        self.broken.as_ref().map(|broken| broken.rule.unwrap_or(self.scene.rule))
    }
}

/// A suite that cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SuiteError {
    /// A name that no scene has.
    #[error("there is no scene {0:?}; --list shows the names")]
    UnknownScene(String),
    /// A named scene is not for the chosen transport.
    #[error("the scene {scene} is not played for {transport}; --list shows for which transports each is")]
    NotForTransport {
        /// The scene.
        scene: String,
        /// The chosen transport.
        transport: Transport,
    },
    /// The program cannot be started.
    #[error("the program {name:?} cannot be started: {source}")]
    Program {
        /// The program.
        name: OsString,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file with the authority for the client cannot be written.
    #[error("the certificate authority for the client cannot be written to {}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificate of the scripted daemon cannot be used.
    #[error("the certificate of the scripted daemon cannot be used: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
}

/// A file that is removed at the end.
struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        // It is in the directory for such files, so somebody else removes it otherwise.
        _ = std::fs::remove_file(&self.0);
    }
}

impl Suite {
    /// Plays the scenes, and tells what came of each as soon as it is over.
    ///
    /// # Errors
    /// [`SuiteError`], before anything is played.
    pub(crate) async fn play(self, mut tell: impl FnMut(&Outcome)) -> Result<Vec<Outcome>, SuiteError> {
        if let Some(name) = self.scenes.iter().find(|name| !scenes().any(|scene| scene.name == **name)) {
            return Err(SuiteError::UnknownScene(name.clone()));
        }
        let is_played = |name: &String, transport: &Transport| {
            scenes().any(|scene| scene.name == *name && scene.transports.contains(transport))
        };
        // With both transports, each scene is for one of them.
        if let [transport] = self.transports[..]
            && let Some(name) = self.scenes.iter().find(|name| !is_played(name, &transport))
        {
            return Err(SuiteError::NotForTransport { scene: name.clone(), transport });
        }
        let name = self.command.first().cloned().unwrap_or_default();
        program::find(&name).map_err(|source| SuiteError::Program { name, source })?;
        let is_wanted =
            |scene: &&Scene| self.scenes.is_empty() || self.scenes.iter().any(|n| n == scene.name);
        let wanted = scenes().filter(is_wanted).flat_map(|scene| {
            let transports = self.transports.iter().filter(|t| scene.transports.contains(t));
            transports.map(move |transport| (scene, *transport))
        });
        let wanted: Vec<_> = wanted.collect();
        let (tls, _authority) = match self.tls {
            true => {
                let (tls, file) = prepare_tls()?;
                (Some(tls), Some(file))
            }
            false => (None, None),
        };
        let command: Arc<[OsString]> = self.command.into();
        let places = Arc::new(Semaphore::new(self.jobs.max(1)));
        let (sender, mut receiver) = mpsc::channel(wanted.len());
        let mut tasks = JoinSet::new();
        for (scene, transport) in wanted {
            let (places, tls, command) = (Arc::clone(&places), tls.clone(), Arc::clone(&command));
            let sender = sender.clone();
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire_owned().await;
                // A thread of its own: work of one scene does not make the answers of another one late.
                let played = tokio::task::spawn_blocking(move || play(scene, transport, tls, command));
                let outcome = played.await.unwrap_or_else(|error| {
                    let broken = Broken::new("a scene that is played to its end", error.to_string());
                    Outcome { broken: Some(broken), ..Outcome::new(scene, transport) }
                });
                // The receiver waits for all of them, so there is room.
                _ = sender.send(outcome).await;
            });
        }
        drop(sender);
        let mut outcomes = Vec::new();
        while let Some(outcome) = receiver.recv().await {
            tell(&outcome);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

fn play(scene: &'static Scene, transport: Transport, tls: Option<Tls>, command: Arc<[OsString]>) -> Outcome {
    let mut outcome = Outcome::new(scene, transport);
    let begin = Instant::now();
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(play_into(&mut outcome, tls, command)),
        Err(error) => outcome.broken = Some(error.into()),
    }
    outcome.took = begin.elapsed();
    outcome
}

async fn play_into(outcome: &mut Outcome, tls: Option<Tls>, command: Arc<[OsString]>) {
    let mut stage = match Stage::new(outcome.transport, tls, command).await {
        Ok(stage) => stage,
        Err(broken) => {
            outcome.broken = Some(broken);
            return;
        }
    };
    let played = match tokio::time::timeout(LONGEST_SCENE, (outcome.scene.play)(&mut stage)).await {
        Ok(played) => played,
        Err(_) => Err(Broken::new("the end of the scene", format!("no end in {LONGEST_SCENE:?}"))),
    };
    let ended = stage.finish().await;
    outcome.broken = played.and(ended).err();
    outcome.requests = stage.request_lines();
    outcome.output = stage.output_lines();
    outcome.complaints = stage.complaints();
}

fn prepare_tls() -> Result<(Tls, OwnFile), SuiteError> {
    let acceptor = daemon::acceptor().map_err(SuiteError::Certificate)?;
    let path = std::env::temp_dir().join(format!("crumbd-conform-{}.pem", std::process::id()));
    let written = std::fs::write(&path, daemon::AUTHORITY);
    written.map_err(|source| SuiteError::Authority { path: path.clone(), source })?;
    Ok((Tls { acceptor, authority: path.clone() }, OwnFile(path)))
}
