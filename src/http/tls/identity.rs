//! Which of the clients that the authority vouches for are let in.
//!
//! The rule is Typha's: a common name and a URI may be wanted, and who has one of them is let in. So a
//! fleet can move from one kind of name to the other without a day on which nobody is let in.
//!
//! That a certificate is signed by the authority is rustls' to say, during the handshake. Who it names is
//! decided here, after it: then the client can be told in an answer what was wrong, where of a handshake that
//! fails it hears one word. Nothing else of the daemon has seen the connection by then.

use crate::http::tls::certificate::Facts;

/// Whom a client has to be, beside having a certificate of the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) common_name: Option<String>,
    pub(super) uri: Option<String>,
}

/// A client whom nobody waits for; as a sentence for it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the client certificate has {has}; let in is who has {wanted}")]
pub(super) struct Stranger {
    has: String,
    wanted: String,
}

impl Wanted {
    /// Whether this client may come in.
    ///
    /// # Errors
    /// [`Stranger`].
    pub(super) fn check(&self, certificate: Option<&[u8]>) -> Result<(), Stranger> {
        if *self == Self::default() {
            return Ok(());
        }
        let facts = certificate.and_then(Facts::of).unwrap_or_default();
        // Of two names one could be for us and the other for whoever else reads it.
        let common_name = match &facts.common_names[..] {
            [one] => Some(one.as_str()),
            _ => None,
        };
        let is_named = self.common_name.as_deref().is_some_and(|wanted| common_name == Some(wanted));
        let has_uri = self.uri.as_ref().is_some_and(|wanted| facts.uris.contains(wanted));
        if is_named || has_uri { Ok(()) } else { Err(self.refuse(&facts)) }
    }

    fn refuse(&self, facts: &Facts) -> Stranger {
        let wanted = [("common name", &self.common_name), ("URI", &self.uri)];
        let wanted =
            wanted.iter().filter_map(|(what, name)| Some(format!("the {what} {:?}", name.as_ref()?)));
        let wanted = wanted.collect::<Vec<_>>().join(" or ");
        let list = |what: &str, names: &[String]| match names {
            [] => format!("no {what}"),
            names => {
                names.iter().map(|name| format!("the {what} {name:?}")).collect::<Vec<_>>().join(" and ")
            }
        };
        let has = format!("{} and {}", list("common name", &facts.common_names), list("URI", &facts.uris));
        Stranger { has, wanted }
    }
}
