//! TLS of the daemon's own port: all of its settings together, or none.

use super::fault::Fault;
use super::reader::Reader;
use crate::http::tls::TlsFiles;

/// Where certificates are, if TLS is to be spoken.
pub(super) fn files(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let (certificate, key) = (reader.path("tls-cert"), reader.path("tls-key"));
    let client_ca = reader.path("tls-client-ca");
    let (client_common_name, client_uri) = (reader.text("tls-client-cn"), reader.text("tls-client-uri"));
    check(reader);
    Some(TlsFiles { certificate: certificate?, key: key?, client_ca, client_common_name, client_uri })
}

/// What needs what. A daemon that speaks plain HTTP, or lets everybody in, although somebody has asked for more is never
/// what was meant.
fn check(reader: &mut Reader<'_>) {
    let given = |name: &str| reader.given.place(name);
    let (cert, key, ca) = (given("tls-cert"), given("tls-key"), given("tls-client-ca"));
    let named = given("tls-client-cn").or_else(|| given("tls-client-uri"));
    let needs = |place, needs, why| Fault::Needs { place, needs, why };
    let fault = match (cert, key) {
        (Some(_), Some(_)) => named
            .filter(|_| ca.is_none())
            .map(|place| needs(place, "tls-client-ca", "without it clients show no certificate")),
        (Some(place), None) => Some(needs(place, "tls-key", "the certificate's private key")),
        (None, Some(place)) => Some(needs(place, "tls-cert", "the certificate that it belongs to")),
        (None, None) => ca.or(named).map(|place| {
            let why = "is for TLS only: give --tls-cert and --tls-key too";
            Fault::Senseless { place, why }
        }),
    };
    reader.faults.extend(fault);
}
