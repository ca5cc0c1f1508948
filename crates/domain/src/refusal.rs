//! Outcomes of requests as operators count them: who is at fault where a client didn't get what it asked
//! for. It must not know how an error looks on the wire.

/// The part of the router that refused a request before any deployment was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedBy {
    /// There is no key, or it is unknown, revoked or expired.
    Key,
    /// The key may not use the model or the path.
    Permission,
    /// A limit of requests, tokens or concurrency.
    Limit,
    /// A budget.
    Budget,
    /// A routing rule that blocks.
    Rule,
    /// The request itself: not readable, too large, too slow, or of a model or path that doesn't exist.
    #[default]
    Request,
    /// The router: it is stopping, or can't count or account for requests.
    Router,
}

impl RefusedBy {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::Key,
        Self::Permission,
        Self::Limit,
        Self::Budget,
        Self::Rule,
        Self::Request,
        Self::Router,
    ];

    /// Returns its name in the API, in logs and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Permission => "permission",
            Self::Limit => "limit",
            Self::Budget => "budget",
            Self::Rule => "rule",
            Self::Request => "request",
            Self::Router => "router",
        }
    }

    /// Returns the one with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Returns the outcome that the refusal is.
    #[must_use]
    pub const fn outcome(self) -> RequestOutcome {
        match self {
            Self::Key | Self::Permission | Self::Limit | Self::Budget | Self::Rule => {
                RequestOutcome::Refused
            }
            Self::Request => RequestOutcome::ClientError,
            Self::Router => RequestOutcome::Failed,
        }
    }
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The client has its answer.
    Answered,
    /// The router refused it by a key, a limit, a budget or a rule.
    Refused,
    /// The request was at fault, by the router's word or the provider's.
    ClientError,
    /// A deployment or the router failed.
    Failed,
    /// The client left before its answer was complete.
    Cancelled,
}

impl RequestOutcome {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::Answered,
        Self::Refused,
        Self::ClientError,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::ClientError => "client_error",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the outcome of an answer of a provider's that was passed on with this status. Statuses
    /// that speak of the provider or of our account there are failures.
    #[must_use]
    pub const fn from_provider(status: u16) -> Self {
        match status {
            401 | 402 | 407 | 408 | 409 | 425 | 429 => Self::Failed,
            400..=498 => Self::ClientError,
            499 => Self::Cancelled,
            500.. => Self::Failed,
            _ => Self::Answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for one in RefusedBy::ALL {
            assert_eq!(RefusedBy::from_name(one.name()), Some(one));
        }
        assert_eq!(RefusedBy::from_name("keys"), None);
    }

    #[test]
    fn a_providers_status_tells_whose_fault_it_is() {
        for (status, outcome) in [
            (200, RequestOutcome::Answered),
            (400, RequestOutcome::ClientError),
            (403, RequestOutcome::ClientError),
            (404, RequestOutcome::ClientError),
            (413, RequestOutcome::ClientError),
            (422, RequestOutcome::ClientError),
            (401, RequestOutcome::Failed),
            (408, RequestOutcome::Failed),
            (429, RequestOutcome::Failed),
            (499, RequestOutcome::Cancelled),
            (500, RequestOutcome::Failed),
            (529, RequestOutcome::Failed),
        ] {
            assert_eq!(RequestOutcome::from_provider(status), outcome, "{status}");
        }
    }
}
