//! TLS of the daemon's own port: its settings are given together, or not at all.

use super::error::SettingError;
use super::reader::Reader;
use crate::http::tls::TlsFiles;

/// The files of the certificates, if the daemon serves TLS.
pub(super) fn files(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let (certificate, key) = (reader.path("tls-cert"), reader.path("tls-key"));
    let client_ca = reader.path("tls-client-ca");
    let (client_common_name, client_uri) = (reader.text("tls-client-cn"), reader.text("tls-client-uri"));
    check(reader);
    Some(TlsFiles { certificate: certificate?, key: key?, client_ca, client_common_name, client_uri })
}

/// Checks that settings which need each other are given together. Otherwise a daemon could serve plain HTTP or accept
/// every client, although its settings ask for more.
fn check(reader: &mut Reader<'_>) {
    let given = |name: &str| reader.given.origin(name);
    let (cert, key, ca) = (given("tls-cert"), given("tls-key"), given("tls-client-ca"));
    let named = given("tls-client-cn").or_else(|| given("tls-client-uri"));
    let needs = |origin, needs, why| SettingError::Needs { origin, needs, why };
    let error = match (cert, key) {
        (Some(_), Some(_)) => named
            .filter(|_| ca.is_none())
            .map(|origin| needs(origin, "tls-client-ca", "without it clients show no certificate")),
        (Some(origin), None) => Some(needs(origin, "tls-key", "the certificate's private key")),
        (None, Some(origin)) => Some(needs(origin, "tls-cert", "the certificate that it belongs to")),
        (None, None) => ca.or(named).map(|origin| {
            let why = "is for TLS only: give --tls-cert and --tls-key too";
            SettingError::Conflict { origin, why }
        }),
    };
    reader.errors.extend(error);
}
