//! TLS of the daemon's own port: all of its settings together, or none.

use super::Settings;
use crate::cli::Failure;
use crate::http::tls::TlsFiles;

impl Settings {
    /// Where certificates are, if TLS is to be spoken.
    pub(in crate::cli) fn tls(&self) -> Result<Option<TlsFiles>, Failure> {
        // Of whom to let in: what was said first, and whether it says anything.
        let named = [("tls-client-cn", &self.tls_client_cn), ("tls-client-uri", &self.tls_client_uri)];
        let named = named.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        if let Some((name, _)) = named.clone().find(|(_, value)| value.is_empty()) {
            return Err(format!("{name} is empty: name whom to let in, or leave it out").into());
        }
        let named = named.map(|(name, _)| name).next();
        let (certificate, key) = match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => {
                let wants_tls = self.tls_client_ca.as_ref().map(|_| "tls-client-ca").or(named);
                return match wants_tls {
                    None => Ok(None),
                    Some(name) => {
                        Err(format!("{name} is for TLS only: give tls-cert and tls-key too").into())
                    }
                };
            }
            (None, Some(_)) => {
                return Err("tls-key needs tls-cert: the certificate that it belongs to".into());
            }
            (Some(_), None) => return Err("tls-cert needs tls-key: the certificate's private key".into()),
        };
        if let (None, Some(name)) = (&self.tls_client_ca, named) {
            return Err(format!("{name} needs tls-client-ca: without it clients show no certificate").into());
        }
        Ok(Some(TlsFiles {
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
            client_common_name: self.tls_client_cn.clone(),
            client_uri: self.tls_client_uri.clone(),
        }))
    }
}
