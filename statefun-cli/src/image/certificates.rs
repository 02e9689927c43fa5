//! Certificates of the authorities that the system trusts.

use std::path::{Path, PathBuf};

use crate::status::Failure;

/// Where an image has them: the first place that programs look at.
pub(crate) const PLACE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where distributions have them.
const KNOWN: [&str; 5] = [
    PLACE,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads the file that is given, or the one of this machine. None when it has none.
pub(crate) fn read(given: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    let path = match given {
        Some(given) => given.to_path_buf(),
        None => match KNOWN.iter().map(PathBuf::from).find(|path| path.is_file()) {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", path.display())))?;
    if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----") {
        return Err(
            Failure::usage(format_args!("{} has no certificate in it", path.display()))
                .help("give `--ca-certificates` a PEM file"),
        );
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pem_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, pem).unwrap();
        assert_eq!(read(Some(&file)).unwrap(), Some(pem.as_bytes().to_vec()));
        std::fs::write(&file, "x").unwrap();
        assert!(
            read(Some(&file))
                .unwrap_err()
                .message
                .contains("no certificate")
        );
        assert!(read(Some(&directory.path().join("none"))).is_err());
    }
}
