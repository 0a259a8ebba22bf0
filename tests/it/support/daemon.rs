//! The built program as a child: its configuration, its status by HTTP, its log, and the signals it gets.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchyard::position::Lsn;

use super::poll;

/// How long a test waits for something that should take seconds, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A configuration file in the making.
#[derive(Clone, Debug)]
pub struct Config {
    name: String,
    source: String,
    target: String,
    /// Further keys of the section `[source]`.
    of_source: String,
    /// Further keys of the section `[target]`.
    of_target: String,
    extra: String,
    env: Vec<(String, String)>,
}

impl Config {
    pub fn new(name: &str, source: &str, target: &str) -> Config {
        Config {
            name: name.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            of_source: String::new(),
            of_target: String::new(),
            extra: String::new(),
            env: Vec::new(),
        }
    }
    /// Another way to the source, for example through a proxy.
    pub fn source(mut self, url: &str) -> Config {
        self.source = url.to_owned();
        self
    }
    /// Another way to the target.
    pub fn target(mut self, url: &str) -> Config {
        self.target = url.to_owned();
        self
    }
    /// Another migration name.
    pub fn name(mut self, name: &str) -> Config {
        self.name = name.to_owned();
        self
    }
    /// Times lose what is finer than a millisecond.
    pub fn microseconds_cut(mut self) -> Config {
        self.of_target.push_str("microseconds = \"cut\"\n");
        self
    }
    /// The target's tables exist already, all of them.
    pub fn schema_exists(mut self) -> Config {
        self.of_target.push_str("create_schema = false\n");
        self
    }
    /// What is missing on the target is made, whatever was said before.
    pub fn schema_made(mut self) -> Config {
        self.of_target.clear();
        self
    }
    /// Dates that are none become NULL.
    pub fn zero_dates_as_null(mut self) -> Config {
        self.of_source.push_str("zero_dates = \"null\"\n");
        self
    }
    /// Follows MongoDB by its oplog, whatever the account may do.
    pub fn by_oplog(mut self) -> Config {
        self.of_source = "follow = \"oplog\"\n".into();
        self
    }
    /// Further sections, TOML.
    pub fn extra(mut self, toml: &str) -> Config {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }
    /// Selection and rules of a file in `config/`, from its line `[tables]` on. Servers are the test's own.
    pub fn shipped(self, file: &str) -> Config {
        let path = format!("{}/config/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let (head, rest) = text.split_once("\n[tables]\n").unwrap();
        let config = if head.contains("\ncreate_schema = false\n") { self.schema_exists() } else { self };
        config.extra(&format!("[tables]\n{rest}"))
    }
    /// The same with one text of what was added in place of another.
    pub fn edited(mut self, from: &str, to: &str) -> Config {
        assert!(self.extra.contains(from), "{from:?} is not in {}", self.extra);
        self.extra = self.extra.replace(from, to);
        self
    }
    /// The same without what [`Config::extra`] added.
    pub fn without_extra(mut self) -> Config {
        self.extra.clear();
        self
    }
    /// An environment variable of the daemon.
    pub fn env(mut self, name: &str, value: impl ToString) -> Config {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
    /// Dies as by SIGKILL at the `nth` time that the daemon passes a named point.
    pub fn crash_at(self, point: &str, nth: u64) -> Config {
        self.env("SWITCHYARD_CRASH_AT", format!("{point}:{nth}"))
    }

    /// Stands still, as by SIGSTOP, at the `nth` time that the daemon passes a named point.
    pub fn stop_at(self, point: &str, nth: u64) -> Config {
        self.env("SWITCHYARD_STOP_AT", format!("{point}:{nth}"))
    }

    fn write(&self, folder: &Path, port: u16) -> PathBuf {
        let text = format!(
            "name = \"{}\"\n[source]\nurl = \"{}\"\n{}[target]\nurl = \"{}\"\n{}[api]\nlisten = \"127.0.0.1:{port}\"\n{}",
            self.name, self.source, self.of_source, self.target, self.of_target, self.extra
        );
        let path = folder.join("switchyard.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn new_folder() -> PathBuf {
    let path = std::env::temp_dir().join(super::fresh_name("switchyard-it"));
    std::fs::create_dir(&path).unwrap();
    path
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    for name in ["SWITCHYARD_API", "SWITCHYARD_TOKEN", "SWITCHYARD_CRASH_AT", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// A running (or ended) `switchyard run`. Killed when dropped; its log is printed when the test panics.
pub struct Daemon {
    child: Child,
    port: u16,
    folder: PathBuf,
    ended: Option<std::process::ExitStatus>,
}

impl Daemon {
    /// Starts it on a free API port.
    pub fn spawn(config: &Config) -> Daemon {
        use std::os::unix::process::CommandExt;
        let folder = new_folder();
        let port = free_port();
        let file = config.write(&folder, port);
        let log = File::create(folder.join("log")).unwrap();
        let mut command = program();
        command.arg("run").arg("-c").arg(file).args(["--no-progress", "-v"]);
        command.envs(config.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // A stopped or forgotten daemon must not outlive a killed test run. The signal comes when the thread that
        // spawned it ends, which is the test's own thread.
        // SAFETY: prctl is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Daemon { child: command.spawn().unwrap(), port, folder, ended: None }
    }

    /// Runs another command of the program with this configuration to its end.
    pub fn command(config: &Config, args: &[&str]) -> Output {
        let folder = new_folder();
        let file = config.write(&folder, free_port());
        let output = program()
            .args(args)
            .arg("-c")
            .arg(file)
            .envs(config.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let _ = std::fs::remove_dir_all(folder);
        output
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The status document; `None` while nobody answers.
    pub fn status(&self) -> Option<Value> {
        let text = self.get("/api/v1/status")?;
        serde_json::from_str(&text).ok()
    }

    /// A sum over one metric's samples whose line holds `label` (empty: all); 0 if there are none.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let Some(text) = self.get("/metrics") else { return 0.0 };
        let samples = text.lines().filter(|l| l.starts_with(name) && l.contains(label));
        samples.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn get(&self, path: &str) -> Option<String> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None).build().into();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        agent.get(&url).call().ok()?.body_mut().read_to_string().ok()
    }

    /// One value of the status, by JSON pointer; null while nobody answers.
    pub fn says(&self, pointer: &str) -> Value {
        self.status().and_then(|s| s.pointer(pointer).cloned()).unwrap_or_default()
    }

    pub fn phase(&self) -> String {
        self.says("/phase").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `check` holds for the status document.
    pub fn wait_status(&mut self, what: &str, patience: Duration, check: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(patience, || {
            if let Some(status) = self.status() {
                last = status;
                return check(&last).then(|| last.clone());
            }
            if let Some(ended) = self.try_exit() {
                panic!("the daemon ended ({ended}) while the test waited until {what}");
            }
            None
        });
        found.unwrap_or_else(|| panic!("waited {} s in vain until {what}; status: {last:#}", patience.as_secs()))
    }

    pub fn wait_phase(&mut self, phase: &str) {
        self.wait_status(&format!("the phase is {phase}"), PATIENCE, |s| s["phase"] == phase);
    }

    /// Waits until the target is consistent and level.
    pub fn ready(&mut self) {
        self.wait_phase("ready");
    }

    /// Waits until the target has everything up to a place in the source's log.
    pub fn wait_applied(&mut self, lsn: Lsn) {
        self.wait_applied_within(lsn, PATIENCE);
    }

    pub fn wait_applied_within(&mut self, lsn: Lsn, patience: Duration) {
        self.wait_status(&format!("{lsn} is applied"), patience, |s| {
            let applied = s.pointer("/stream/applied_position").and_then(Value::as_str);
            applied.and_then(|p| p.parse::<Lsn>().ok()).is_some_and(|p| p >= lsn)
        });
    }

    /// Waits until everything that was written so far is on the target, and the target is ready.
    pub fn wait_level(&mut self, source_url: &str) {
        // A transaction of its own, so that nobody waits for the next idle checkpoint.
        let marker = "select pg_logical_emit_message(true, 'switchyard', '{\"marker\": \"level\"}')";
        let at = super::Sql::connect(source_url).one(marker).parse().unwrap();
        self.ready();
        self.wait_applied(at);
    }

    /// Waits until the status names a server that it waits for; the reason.
    pub fn wait_waiting(&mut self, side: &str) -> String {
        let s = self.wait_status(&format!("it says that it waits for the {side}"), PATIENCE, |s| {
            s.pointer("/waiting_for/side").is_some_and(|v| v == side)
        });
        s.pointer("/waiting_for/reason").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child was not waited for yet, so its pid is still its own.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Asks it to stop and waits for that; the exit status.
    pub fn sigterm(&mut self) -> i32 {
        self.signal(libc::SIGTERM);
        self.exit_status()
    }

    /// Kills it and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.try_exit().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    fn try_exit(&mut self) -> Option<std::process::ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    pub fn is_running(&mut self) -> bool {
        self.try_exit().is_none()
    }

    /// Waits for its end; the exit status, or minus the signal that killed it.
    pub fn exit_status(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let ended = poll(PATIENCE, || self.try_exit());
        let ended = ended.unwrap_or_else(|| panic!("waited {} s in vain for the daemon's end", PATIENCE.as_secs()));
        ended.code().unwrap_or_else(|| -ended.signal().unwrap_or(0))
    }

    /// Waits until it stands still at the point that [`Config::stop_at`] named.
    pub fn wait_stopped(&mut self) {
        let path = format!("/proc/{}/stat", self.pid());
        // The state follows the program's name, which is in parentheses.
        let state = || std::fs::read_to_string(&path).ok()?.rsplit_once(") ")?.1.chars().next();
        let stopped = poll(PATIENCE, || {
            assert!(self.is_running(), "the daemon ended before it came to the point where it should stand still");
            (state() == Some('T')).then_some(())
        });
        assert!(stopped.is_some(), "the daemon did not come to the point where it should stand still");
    }

    /// Waits until it died at the point that [`Config::crash_at`] named.
    pub fn wait_crash(&mut self) {
        assert_eq!(self.exit_status(), -libc::SIGKILL, "it should have died at the named point");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.try_exit().is_none() {
            self.signal(libc::SIGCONT);
        }
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the daemon ended as {:?}; its log ends with:\n{tail}\n---", self.ended);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
