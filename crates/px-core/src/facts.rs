//! What is known of one request before anybody is asked about it.

use crate::extracted::Extracted;
use crate::policy::Policy;
use crate::reason::{BlockReason, CallReason, CookieOrigin, ModuleMode};
use crate::request::Request;
use crate::url::RequestUrl;
use crate::user_identifiers::UserIdentifiers;
use crate::visitor::{TokenState, Visitor};

/// Facts of a request that is enforced.
pub(crate) struct Facts<'r> {
    pub(crate) request: Request<'r>,
    pub(crate) url: RequestUrl<'r>,
    pub(crate) client_ip: &'r str,
    /// Start of processing, ms since the epoch.
    pub(crate) started: u64,
    pub(crate) mode: ModuleMode,
    pub(crate) is_sensitive: bool,
    pub(crate) has_telemetry_command: bool,
    pub(crate) visitor: Visitor<'r>,
    pub(crate) user_identifiers: Option<Box<UserIdentifiers>>,
}

/// What the token alone says (risk-token.md § 10).
pub(crate) enum TokenDecision<'r> {
    Pass,
    Block(BlockReason),
    AskRisk(CallReason<'r>),
}

impl<'r> Facts<'r> {
    /// Decides from the token as far as it goes. A block is one, monitored or not.
    pub(crate) fn decide(&self, policy: &Policy) -> TokenDecision<'r> {
        use TokenDecision::{AskRisk, Block, Pass};
        if self.request.hooks.is_blocked {
            return Block(BlockReason::PreEnforceHandler);
        }
        if self.is_hype_sale() && !self.is_challenge_approved() {
            return Block(BlockReason::HscRoute);
        }
        match &self.visitor.token {
            TokenState::Successful(token)
                if self.is_hype_sale()
                    && (token.is_expired(self.started)
                        || !token.is_high_score(policy.options().blocking_score)) =>
            {
                AskRisk(CallReason::HscRoute)
            }
            TokenState::None if !self.is_mobile() && self.visitor.pxhd.is_some() => {
                AskRisk(CallReason::NoCookieWithVid)
            }
            TokenState::None => AskRisk(CallReason::NoCookie),
            TokenState::MobileError(number) => AskRisk(CallReason::MobileError(number)),
            TokenState::DecryptionFailed(_) => AskRisk(CallReason::CookieDecryptionFailed),
            TokenState::ValidationFailed(_) => AskRisk(CallReason::CookieValidationFailed),
            TokenState::Successful(token) if token.is_expired(self.started) => {
                AskRisk(CallReason::CookieExpired)
            }
            TokenState::Successful(token)
                if token.is_high_score(policy.options().blocking_score) =>
            {
                Block(BlockReason::CookieHighScore)
            }
            TokenState::Successful(_) if self.is_sensitive || self.has_credentials() => {
                AskRisk(CallReason::SensitiveRoute)
            }
            TokenState::Successful(_) => Pass,
        }
    }

    /// Whether the request comes from a mobile SDK (risk-token.md § 3).
    pub(crate) fn is_mobile(&self) -> bool {
        self.visitor.origin == CookieOrigin::Header
    }

    /// Whether the operator marked the request (hype-sale.md).
    pub(crate) fn is_hype_sale(&self) -> bool {
        self.request.hooks.is_hype_sale == Some(true)
    }

    /// Whether the token says that the hype sale challenge was passed; its age does not matter.
    pub(crate) fn is_challenge_approved(&self) -> bool {
        matches!(&self.visitor.token, TokenState::Successful(token) if token.cpa)
    }

    pub(crate) fn extracted(&self) -> Option<&'r Extracted> {
        self.request.extracted
    }

    /// Whether the visitor logs in, which the Risk API is asked about (credential-intelligence.md § 4).
    pub(crate) fn has_credentials(&self) -> bool {
        self.extracted().is_some_and(Extracted::has_credentials)
    }

    pub(crate) fn vid(&self) -> Option<&str> {
        self.visitor.vid.as_ref().map(|vid| &*vid.text)
    }
}
