//! A real browser: Chromium without a screen, driven through its WebDriver. The tests need six commands of that
//! protocol, which are six requests of JSON.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Http;
use super::{DEADLINE, eventually};

/// The member that names an element, in every answer (WebDriver, 12.3).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. Dropping it ends the browser, and the driver by its id.
pub struct Browser {
    driver: Child,
    http: Http,
    /// The driver's.
    address: String,
    /// The path of its window.
    session: String,
    _profile: TempDir,
}

impl Browser {
    pub async fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is needed: .ci/setup installs it (Debian: chromium, chromium-driver)");
        let mut said = BufReader::new(driver.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "chromedriver has ended before it said its port");
            if let Some((_, port)) =
                line.trim_end().trim_end_matches('.').rsplit_once(" successfully on port ")
            {
                break port.to_owned();
            }
        };
        // What it says must not fill the pipe.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        let profile = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{port}");
        let http = Http::new(&format!("http://{address}"));
        let mut browser =
            Browser { driver, http, address, session: "/session".to_owned(), _profile: profile };
        let arguments = arguments(&browser._profile);
        // Authorities of tests are nobody's.
        let wanted = json!({ "goog:chromeOptions": { "args": arguments }, "acceptInsecureCerts": true });
        let wanted = json!({ "alwaysMatch": wanted });
        let made = browser.tell("", json!({ "capabilities": wanted })).await;
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    /// A command, and what comes of it.
    async fn tell(&self, command: &str, what: Value) -> Value {
        let path = format!("{}{command}", self.session);
        let got = self.http.send("POST", &path, &[], Some(what.to_string().into())).await;
        let mut said = got.json();
        assert_eq!(got.status, 200, "{command:?} failed (is chromium installed? .ci/setup does it): {said}");
        said["value"].take()
    }

    async fn find(&self, selector: &str) -> String {
        let found = self.tell("/element", json!({ "using": "css selector", "value": selector })).await;
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    pub async fn open(&self, url: &str) {
        self.tell("/url", json!({ "url": url })).await;
    }

    /// What a script on the page returns.
    pub async fn run(&self, script: &str) -> Value {
        self.tell("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The text that a reader sees in the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?}).innerText");
        self.run(&script).await.as_str().unwrap().to_owned()
    }

    /// Waits until a reader sees such a text there.
    pub async fn sees(&self, selector: &str, wanted: &str) {
        let what = format!("{wanted:?} in {selector}");
        eventually(&what, || async { self.text(selector).await.contains(wanted).then_some(()) }).await;
    }

    /// The texts of a column of a table's body, counted from 1.
    pub async fn column(&self, table: &str, number: usize) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll('{table} tbody tr td:nth-child({number})')].map(cell => cell.textContent)"
        );
        serde_json::from_value(self.run(&script).await).unwrap()
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.tell(&format!("{element}/click"), json!({})).await;
    }

    /// Types into a field that was emptied before.
    pub async fn enter(&self, selector: &str, text: &str) {
        let field = self.find(selector).await;
        self.tell(&format!("{field}/clear"), json!({})).await;
        self.tell(&format!("{field}/value"), json!({ "text": text })).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that ends leaves its browser behind: the session has to be ended first.
        let request = format!(
            "DELETE {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.session, self.address
        );
        let ended = TcpStream::connect(&self.address).and_then(|mut driver| {
            driver.set_read_timeout(Some(DEADLINE))?;
            driver.write_all(request.as_bytes())?;
            driver.read_to_end(&mut Vec::new())
        });
        if let Err(error) = ended {
            eprintln!("the browser of chromedriver {} may be left: {error}", self.driver.id());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn arguments(profile: &TempDir) -> Vec<String> {
    let profile = format!("--user-data-dir={}", profile.path().display());
    let arguments = [
        "--headless",
        // It would need rights that a container does not give; it shows nothing but our own page.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1200,1400",
    ];
    arguments.map(str::to_owned).into_iter().chain([profile]).collect()
}
