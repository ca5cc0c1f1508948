//! A self-signed certificate for a router that is tested over TLS.

use std::fs;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

/// Writes certificate and key to `folder`: the lines of the router's config that name them.
///
/// # Errors
/// Returns an error if a file can't be written.
pub(crate) fn write(folder: &Path) -> anyhow::Result<String> {
    let key = PKey::from_ec_key(EcKey::generate(
        EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref(),
    )?)?;
    let (cert_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert_path, sign(&key)?.to_pem()?)?;
    fs::write(&key_path, key.private_key_to_pem_pkcs8()?)?;
    Ok(format!(
        "  tls:\n    cert: {}\n    key: {}\n",
        cert_path.display(),
        key_path.display()
    ))
}

fn sign(key: &PKey<Private>) -> Result<X509, openssl::error::ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "localhost")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(2)?.as_ref())?;
    let names = SubjectAlternativeName::new()
        .dns("localhost")
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_key_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let lines = write(folder.path()).unwrap();
        let cert = X509::from_pem(&fs::read(folder.path().join("cert.pem")).unwrap()).unwrap();
        let key = fs::read(folder.path().join("key.pem")).unwrap();
        let key = PKey::private_key_from_pem(&key).unwrap();
        assert!(cert.public_key().unwrap().public_eq(&key) && cert.verify(&key).unwrap());
        assert!(lines.contains("cert.pem") && lines.contains("key.pem"));
    }
}
