//! Every word of the protocol that names a cause or a mode, next to its variant.
//!
//! Source: flow.md § 6.1, risk-api.md §§ 4 and 6.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

macro_rules! wire_words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident => $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant,)* }

        impl $name {
            /// All of them; each stands at the place that `as usize` gives.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as it stands on the wire, in variables and in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

wire_words! {
    /// Whether a block verdict blocks or is only reported.
    ModuleMode { Monitor => "monitor", ActiveBlocking => "active_blocking", }
}

wire_words! {
    /// How much the module says about requests (`px_logger_severity`): nothing; what goes wrong; every
    /// verdict, at a level that a release nginx shows.
    LoggerSeverity { None => "none", Error => "error", Debug => "debug", }
}

wire_words! {
    /// Why a request passed.
    PassReason {
        Cookie => "cookie",
        S2s => "s2s",
        S2sError => "s2s_error",
        S2sTimeout => "s2s_timeout",
    }
}

wire_words! {
    /// Why a request was blocked, or would have been.
    BlockReason {
        CookieHighScore => "cookie_high_score",
        S2sHighScore => "s2s_high_score",
        HscRoute => "hsc_route",
        // Ours: nobody documents words for these two.
        PreEnforceHandler => "pre_enforce_handler",
        HeadersSizeExceeded => "headers_size_exceeded",
    }
}

wire_words! {
    /// What went wrong with the Risk API call.
    S2sErrorReason {
        UnableToSendRequest => "unable_to_send_request",
        BadRequest => "bad_request",
        ServerError => "server_error",
        InvalidResponse => "invalid_response",
        RequestFailedOnServer => "request_failed_on_server",
        UnknownError => "unknown_error",
    }
}

wire_words! {
    /// Where the risk token came from: a browser's cookie or a mobile SDK's header.
    CookieOrigin { Cookie => "cookie", Header => "header", }
}

wire_words! {
    /// Where the visitor id came from.
    VidSource { VidCookie => "vid_cookie", RiskCookie => "risk_cookie", }
}

wire_words! {
    /// Which filter let a request pass unexamined (logs and variables only).
    FilterReason {
        Extension => "extension",
        Route => "route",
        HttpMethod => "http_method",
        UserAgent => "user_agent",
        Ip => "ip",
        Custom => "custom",
        Domain => "domain",
        Header => "header",
    }
}

/// Why the Risk API is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallReason<'r> {
    NoCookie,
    NoCookieWithVid,
    CookieExpired,
    CookieDecryptionFailed,
    CookieValidationFailed,
    SensitiveRoute,
    /// The mobile SDK's error number, decimal digits as received.
    MobileError(&'r str),
    HscRoute,
}

impl CallReason<'_> {
    /// The word as it stands on the wire, in variables and in logs.
    pub fn as_str(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::NoCookie => "no_cookie",
            Self::NoCookieWithVid => "no_cookie_w_vid",
            Self::CookieExpired => "cookie_expired",
            Self::CookieDecryptionFailed => "cookie_decryption_failed",
            Self::CookieValidationFailed => "cookie_validation_failed",
            Self::SensitiveRoute => "sensitive_route",
            Self::MobileError(number) => return Cow::Owned(format!("mobile_error_{number}")),
            Self::HscRoute => "hsc_route",
        })
    }
}

impl Serialize for CallReason<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_str())
    }
}
