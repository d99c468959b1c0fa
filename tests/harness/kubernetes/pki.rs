//! Certificates of one API server: its authority, its own, and those of its users.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use serde_json::json;

/// An authority that lives in a folder.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key.
pub struct Identity {
    /// PEM files.
    pub files: (PathBuf, PathBuf),
}

impl Pki {
    /// A new authority.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name("pointsman stories", None);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pki = Pki {
            authority,
            folder: folder.to_owned(),
        };
        fs::write(pki.authority_file(), pki.authority.pem())?;
        Ok(pki)
    }

    /// The authority's certificate, a PEM file.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The server's certificate, for this machine.
    pub fn server(&self) -> Result<Identity> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let here = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        params.subject_alt_names.push(here);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = name("server", None);
        self.issue(params, "server")
    }

    /// A user's certificate; `group` is what Kubernetes takes the organisation for.
    pub fn user(&self, user: &str, group: Option<&str>, file: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = name(user, group);
        self.issue(params, file)
    }

    /// A kubeconfig of this server and this user, a file.
    pub fn kubeconfig(&self, server: &str, user: &Identity, file: &str) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "story",
            "clusters": [{"name": "story", "cluster": {
                "server": server, "certificate-authority": self.authority_file(),
            }}],
            "users": [{"name": "story", "user": {
                "client-certificate": user.files.0, "client-key": user.files.1,
            }}],
            "contexts": [{"name": "story", "context": {"cluster": "story", "user": "story"}}],
        });
        let file = self.folder.join(file);
        fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        Ok(file)
    }

    fn issue(&self, params: CertificateParams, file: &str) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        let files = (
            self.folder.join(format!("{file}.pem")),
            self.folder.join(format!("{file}.key")),
        );
        fs::write(&files.0, certificate.pem())?;
        fs::write(&files.1, key.serialize_pem())?;
        Ok(Identity { files })
    }
}

fn name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}
