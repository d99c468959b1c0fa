//! SDS: whom a cluster trusts.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use pointsman_filter::config::ClusterConfig;

use crate::trust::{self, Trust};

/// The authorities of a cluster, under the name by which it asks for them: the path of the file,
/// which others may name too. `None`: it names none, or the file could not be used yet.
pub fn of<'a>(config: &'a ClusterConfig, trust: &Trust) -> Option<(&'a str, tls::Secret)> {
    let path = trust::path(config.tls.as_ref())?;
    let pem = trust.file(path)?.pem.as_ref()?;
    let authorities = core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(pem.to_vec())),
        ..Default::default()
    };
    let context = tls::CertificateValidationContext {
        trusted_ca: Some(authorities),
        ..Default::default()
    };
    let secret = tls::Secret {
        name: path.to_owned(),
        r#type: Some(tls::secret::Type::ValidationContext(context)),
    };
    Some((path, secret))
}
