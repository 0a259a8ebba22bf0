//! The one error type: what was being done, to what, how the caller may react, and what the operator can do.

use std::borrow::Cow;
use std::fmt;

/// How the caller may react to an [`Error`]. The command line turns it into an exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The world may mend itself: wait with backoff and try the same thing again (connection lost, deadlock, server restarting).
    Retry,
    /// Trying again cannot help; a person has to change something first. Exit status 1.
    Fatal,
    /// Somebody else owns the migration now (epoch raised, session lock held). Exit status 3.
    Fenced,
    /// The configuration or the command line is wrong; nothing was touched. Exit status 2.
    Config,
}

impl Class {
    /// The label of `switchyard_errors_total{class}`.
    pub fn label(self) -> &'static str {
        match self {
            Class::Retry => "retry",
            Class::Fatal => "fatal",
            Class::Fenced => "fenced",
            Class::Config => "config",
        }
    }
}

/// An error with context and, where there is one, a hint that says what to do.
///
/// `message` names what was being done and to what. It never holds a password or a row's value; an adapter that
/// passes on a server's own message strips its DETAIL (which may quote values) first.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    class: Class,
    message: String,
    hint: Option<Cow<'static, str>>,
    /// The engine's own code (SQLSTATE, MySQL error number), so that callers can tell a unique violation from others.
    code: Option<String>,
    /// Another session got in the way: the same work may succeed at once.
    conflict: bool,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the given class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { inner: Box::new(Inner { class, message: message.into(), hint: None, code: None, conflict: false }) }
    }
    /// See [`Class::Retry`].
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Class::Retry, message)
    }
    /// See [`Class::Fatal`].
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Class::Fatal, message)
    }
    /// See [`Class::Fenced`].
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(Class::Fenced, message)
    }
    /// See [`Class::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Class::Config, message)
    }
    /// Says what the operator can do. The innermost hint wins, because it knows most.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        if self.inner.hint.is_none() {
            self.inner.hint = Some(hint.into());
        }
        self
    }
    /// Says that the work lost against another session (a deadlock, a serialization failure): it may succeed at once.
    pub fn conflicting(mut self) -> Self {
        self.inner.conflict = true;
        self
    }
    /// Whether the work lost against another session and the same may succeed at once.
    pub fn is_conflict(&self) -> bool {
        self.inner.conflict
    }
    /// Attaches the engine's own error code.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.inner.code = Some(code.into());
        self
    }
    /// Prepends what was being done: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.inner.message = format!("{context}: {}", self.inner.message);
        self
    }
    /// The same error with another class.
    pub fn with_class(mut self, class: Class) -> Self {
        self.inner.class = class;
        self
    }
    /// How the caller may react.
    pub fn class(&self) -> Class {
        self.inner.class
    }
    /// Whether waiting and trying again may help.
    pub fn is_retry(&self) -> bool {
        self.inner.class == Class::Retry
    }
    /// What happened, without the hint.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
    /// What the operator can do, if anything is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
    /// The engine's own code, for example `23505`.
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }
    /// The documented exit status of a command that ends with this error.
    pub fn exit_status(&self) -> u8 {
        match self.inner.class {
            Class::Retry | Class::Fatal => 1,
            Class::Config => 2,
            Class::Fenced => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    /// I/O on a connection: the other side may come back.
    fn from(e: std::io::Error) -> Self {
        Error::retry(e.to_string())
    }
}

/// Adds context to a result on its way up.
pub trait ResultExt<T> {
    /// See [`Error::context`].
    fn context(self, context: impl fmt::Display) -> Result<T>;
    /// Like [`ResultExt::context`], made only when there is an error.
    fn with_context<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().context(context))
    }
    fn with_context<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().context(context()))
    }
}
