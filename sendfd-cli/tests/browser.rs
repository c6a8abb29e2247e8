//! The status page in a real browser: Chromium, without a window, driven by its own protocol.
//!
//! That protocol is JSON with a zero byte behind each message, on descriptors 3 and 4:
//! <https://chromedevtools.github.io/devtools-protocol/>.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::pool::{ANY, Pool, ask, kill, worker};
use rustix::process::{Pid, Signal, kill_process_group};
use sendfd_tests::has;
use serde_json::{Value, json};

/// How long the browser may take for anything, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
struct Browser {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
    session: Value,
    number: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Nothing where there is no Chromium.
    fn open(url: &str) -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok());
        has("chromium", program.is_some()).then_some(())?;
        let profile = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh"])
            .arg(program?)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                // It sees our own page alone, and root cannot have one.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let (sender, messages) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                let _ = sender.send(message);
            }
        });
        let mut browser = Browser {
            stdin: child.stdin.take().expect("piped"),
            child,
            messages,
            session: Value::Null,
            number: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let session = browser.call(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        );
        browser.session = session["sessionId"].clone();
        browser.call("Page.navigate", json!({ "url": url }));
        browser.wait_for("document.readyState === 'complete'");
        Some(browser)
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        write!(self.stdin, "{message}\0").expect("it lives");
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let mut message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    /// The value of an expression in the page, as soon as it is there.
    #[track_caller]
    fn wait_for(&mut self, expression: &str) -> Value {
        let look = format!(
            "new Promise((found) => {{ const look = () => {{ let value; try {{ value = {expression}; }} catch {{}} \
             if (value) found(value); else setTimeout(look, 20); }}; look(); }})"
        );
        let words = json!({ "expression": look, "awaitPromise": true, "returnByValue": true });
        self.call("Runtime.evaluate", words)["result"]["value"].take()
    }

    #[track_caller]
    fn say(&mut self, expression: &str) -> Value {
        let words = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", words)["result"]["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// What the page shows of a worker: a label's value, or `state`.
fn shown(worker: &str, what: &str) -> String {
    let article = format!("document.querySelector('[data-worker=\"{worker}\"]')");
    match what {
        "state" => format!("{article}.querySelector('header span:last-child').textContent"),
        _ => format!(
            "[...{article}.querySelectorAll('dt')].find((dt) => dt.textContent === '{what}').nextSibling.textContent"
        ),
    }
}

#[test]
fn the_status_page_in_a_browser() {
    // The second one dies as often as it is started: it is seen to be down, and stays so for a while.
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("once");
    let script = format!(
        "victim=sh -c 'if mkdir {} 2>/dev/null; then exec {}; else exit 7; fi'",
        gate.display(),
        worker("")
    );
    let words = ["--listen", ANY, "--status", ANY, "--worker"];
    let own = format!("good={}", worker(""));
    let words = [&words[..], &[&own, "--worker", &script]].concat();
    let mut pool = Pool::start(&words);
    let address = pool.address(0);
    pool.ready(2);
    let url = format!("http://{}/", pool.status_address());
    let Some(mut browser) = Browser::open(&url) else {
        return;
    };

    // It shows what there is, and then what happens, by itself.
    browser.wait_for(&format!("{} === 'ready'", shown("victim", "state")));
    assert_eq!(browser.say(&shown("good", "handed over")), "0");
    for _ in 0..4 {
        ask(&address);
    }
    browser.wait_for(&format!("{} === '2'", shown("good", "handed over")));
    browser.wait_for(&format!("{} === '2'", shown("victim", "handed over")));
    browser.wait_for("document.getElementById('connection').textContent === 'live'");
    browser.wait_for("document.querySelectorAll('article polyline').length === 2");

    let pid = browser.say(&shown("victim", "pid"));
    let pid = pid.as_str().and_then(|pid| pid.parse().ok());
    kill(pid.expect("a pid"), Signal::KILL);
    browser.wait_for(&format!("{} === 'down'", shown("victim", "state")));
    browser.wait_for(&format!("Number({}) > 0", shown("victim", "restarts")));
    assert_eq!(browser.say(&shown("good", "state")), "ready");

    // On a telephone nothing sticks out.
    for width in [320, 390, 1280] {
        let metrics =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800 });
        browser.call("Emulation.setDeviceMetricsOverride", metrics);
        browser.wait_for(&format!("innerWidth === {width}"));
        assert_eq!(browser.say("document.documentElement.scrollWidth"), width);
    }

    // Text and background are far enough apart in both colour schemes.
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
        for selector in [
            "h1",
            "#about",
            "article dt",
            "article dd",
            ".ready",
            ".down",
        ] {
            let contrast = browser.wait_for(&format!("({CONTRAST})('{selector}')"));
            let contrast = contrast.as_f64().unwrap_or_default();
            assert!(contrast >= 4.5, "{scheme}, {selector}: {contrast}");
        }
    }

    // And it says when there is nothing any more to be shown.
    pool.end();
    browser.wait_for("document.getElementById('connection').className === 'gone'");
}

/// The contrast of an element's text, as WCAG defines it: 4.5 is what ordinary text needs.
const CONTRAST: &str = "(selector) => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const bright = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector);
  let behind = element;
  while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const one = bright(parse(getComputedStyle(element).color));
  const other = bright(parse(getComputedStyle(behind ?? document.body).backgroundColor));
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}";
