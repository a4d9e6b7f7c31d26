//! The check of a client's identity by its certificate.
//!
//! The rule is Typha's: a common name and a URI may be required, and a client needs one of them. So a fleet can migrate
//! from one kind of name to the other.
//!
//! rustls verifies the certificate during the handshake. Its names are checked here, after the handshake, so that the
//! client gets an answer that says what is wrong instead of a TLS alert. No other part of the daemon has seen the
//! connection by then.

use crate::http::tls::certificate::CertificateInfo;

/// The required names of clients; without any, every certificate of the authority is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AllowedClients {
    pub(super) common_name: Option<String>,
    pub(super) uri: Option<String>,
}

/// A client without the required name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the client certificate has {has}; this daemon requires {required}")]
pub(super) struct UnknownClient {
    has: String,
    required: String,
}

impl AllowedClients {
    /// Checks the names of a client's certificate (DER).
    ///
    /// # Errors
    /// [`UnknownClient`].
    pub(super) fn check(&self, certificate: Option<&[u8]>) -> Result<(), UnknownClient> {
        if *self == Self::default() {
            return Ok(());
        }
        let info = certificate.and_then(CertificateInfo::of).unwrap_or_default();
        // With two common names it is unclear which one other software would use.
        let common_name = match &info.common_names[..] {
            [one] => Some(one.as_str()),
            _ => None,
        };
        let has_name = self.common_name.as_deref().is_some_and(|required| common_name == Some(required));
        let has_uri = self.uri.as_ref().is_some_and(|required| info.uris.contains(required));
        if has_name || has_uri { Ok(()) } else { Err(self.refuse(&info)) }
    }

    fn refuse(&self, info: &CertificateInfo) -> UnknownClient {
        let required = [("common name", &self.common_name), ("URI", &self.uri)];
        let required =
            required.iter().filter_map(|(what, name)| Some(format!("the {what} {:?}", name.as_ref()?)));
        let required = required.collect::<Vec<_>>().join(" or ");
        let list = |what: &str, names: &[String]| match names {
            [] => format!("no {what}"),
            names => {
                names.iter().map(|name| format!("the {what} {name:?}")).collect::<Vec<_>>().join(" and ")
            }
        };
        let has = format!("{} and {}", list("common name", &info.common_names), list("URI", &info.uris));
        UnknownClient { has, required }
    }
}
