//! What can go wrong where the operator touches the world.

/// An error of the shells; users' mistakes are [`crate::problem::Problem`]s instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What every program starts with.
    #[error(transparent)]
    Start(#[from] weft_daemon::error::Error),
    /// A request that the API server refused or did not answer.
    #[error("failed to {verb} {kind} {name}")]
    Request {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A value that does not become JSON.
    #[error("failed to write {kind} {name} as JSON")]
    Json {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A background task ended.
    #[error("failed to go on: {task} ended")]
    TaskEnded {
        /// Which.
        task: &'static str,
    },
}

impl Error {
    /// A refused request.
    #[must_use]
    pub fn request(
        verb: &'static str,
        kind: &'static str,
        name: &str,
        source: kube::Error,
    ) -> Self {
        Self::Request {
            verb,
            kind,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    /// The HTTP status of a refused request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}
