//! The software bill of materials: the crates in the program, as CycloneDX 1.5.

use serde::Serialize;

use super::crates::{Crate, Crates, Origin};
use super::package::Digest;
use crate::status::Failure;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Serialize)]
struct Metadata {
    component: Component,
    properties: Vec<Property>,
}

#[derive(Debug, Clone, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(rename = "externalReferences", skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<External>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Debug, Clone, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Debug, Clone, Serialize)]
struct License {
    expression: String,
}

#[derive(Debug, Clone, Serialize)]
struct External {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
}

#[derive(Debug, Clone, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: Vec<String>,
}

/// The document. It states no time, and its serial number follows from what is in it.
pub(crate) fn sbom(crates: &Crates, triple: &str) -> Result<Vec<u8>, Failure> {
    let Some(application) = crates.0.first() else {
        return Err(Failure::usage("the application consists of no crate"));
    };
    let mut components: Vec<Component> = crates.0[1..]
        .iter()
        .map(|found| component(found, "library"))
        .collect();
    components.sort_by(|a, b| a.reference.cmp(&b.reference));
    let mut dependencies: Vec<Dependency> = crates
        .0
        .iter()
        .map(|found| {
            let uses = found.uses.iter().filter_map(|index| crates.0.get(*index));
            let mut depends_on: Vec<String> = uses.map(reference).collect();
            depends_on.sort();
            Dependency {
                reference: reference(found),
                depends_on,
            }
        })
        .collect();
    dependencies.sort_by(|a, b| a.reference.cmp(&b.reference));
    let mut bom = Bom {
        bom_format: "CycloneDX",
        spec_version: "1.5",
        serial_number: None,
        version: 1,
        metadata: Metadata {
            component: component(application, "application"),
            properties: vec![Property {
                name: "cargo:target",
                value: triple.to_owned(),
            }],
        },
        components,
        dependencies,
    };
    bom.serial_number = Some(serial(&Digest::of(&json(&bom)?)));
    json(&bom)
}

fn json(bom: &Bom) -> Result<Vec<u8>, Failure> {
    let text = serde_json::to_string_pretty(bom).map(|text| text + "\n");
    text.map(String::into_bytes)
        .map_err(|error| Failure::usage(format_args!("the SBOM cannot be written: {error}")))
}

/// A UUID of the version that is for what an application derives itself (8).
fn serial(digest: &Digest) -> String {
    let hex = digest.hex();
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

fn component(found: &Crate, kind: &'static str) -> Component {
    let properties = if found.features.is_empty() {
        Vec::new()
    } else {
        vec![Property {
            name: "cargo:features",
            value: found.features.join(","),
        }]
    };
    Component {
        kind,
        reference: reference(found),
        name: found.name.clone(),
        version: found.version.clone(),
        hashes: found
            .checksum
            .iter()
            .map(|checksum| Hash {
                alg: "SHA-256",
                content: checksum.clone(),
            })
            .collect(),
        licenses: found
            .license
            .iter()
            .map(|license| License {
                // Cargo's former way to write a choice.
                expression: license.replace('/', " OR "),
            })
            .collect(),
        purl: purl(found),
        external_references: found
            .repository
            .iter()
            .map(|url| External {
                kind: "vcs",
                url: url.clone(),
            })
            .collect(),
        properties,
    }
}

/// The name of a crate in the document. Where a directory is says nothing elsewhere.
fn reference(found: &Crate) -> String {
    match &found.origin {
        Origin::Path(_) => format!("path+{}@{}", found.name, found.version),
        Origin::CratesIo => format!("{}@{}", found.name, found.version),
        Origin::Other(place) => format!("{place}#{}@{}", found.name, found.version),
    }
}

fn purl(found: &Crate) -> Option<String> {
    let plain = format!(
        "pkg:cargo/{}@{}",
        found.name,
        found.version.replace('+', "%2B")
    );
    match &found.origin {
        Origin::CratesIo => Some(plain),
        Origin::Other(place) if place.contains("://") => {
            let escaped = |text: &str| {
                let mut escaped = String::new();
                for c in text.chars() {
                    match c {
                        '?' | '#' | '&' | '=' | '%' | '+' | ' ' | '@' => {
                            escaped.push_str(&format!("%{:02X}", u32::from(c)));
                        }
                        c => escaped.push(c),
                    }
                }
                escaped
            };
            let (url, commit) = place.rsplit_once('#').unwrap_or((place, ""));
            let url = url.split('?').next().unwrap_or(url);
            let at = if commit.is_empty() { "" } else { "%40" };
            Some(format!(
                "{plain}?vcs_url=git%2B{}{at}{commit}",
                escaped(url)
            ))
        }
        Origin::Path(_) | Origin::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(bytes: &[u8]) -> serde_json::Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn found(name: &str, origin: Origin, uses: &[usize]) -> Crate {
        Crate {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            origin,
            features: vec!["std".to_owned()],
            license: Some("MIT/Apache-2.0".to_owned()),
            repository: None,
            checksum: Some("ab".repeat(32)),
            uses: uses.iter().copied().collect::<BTreeSet<_>>(),
        }
    }

    #[test]
    fn it_says_what_is_in_the_program() {
        let git = Origin::Other("https://example.com/own?branch=x#abcdef".to_owned());
        let mut shop = found("shop", Origin::Path("/home/ada/shop".into()), &[1, 2]);
        shop.checksum = None;
        let crates = Crates(vec![
            shop,
            found("serde", Origin::CratesIo, &[]),
            found("own", git, &[1]),
        ]);
        let bytes = sbom(&crates, "x86_64-unknown-linux-musl").unwrap();
        assert_eq!(bytes, sbom(&crates, "x86_64-unknown-linux-musl").unwrap());
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains("/home/ada"), "{text}");
        let bom = read(&bytes);
        assert_eq!(bom["metadata"]["component"]["name"], "shop");
        assert_eq!(bom["components"][1]["purl"], "pkg:cargo/serde@1.0.0");
        assert_eq!(
            bom["components"][1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(
            bom["components"][0]["purl"],
            "pkg:cargo/own@1.0.0?vcs_url=git%2Bhttps://example.com/own%40abcdef"
        );
        assert_eq!(bom["dependencies"].as_array().map(Vec::len), Some(3));
        let serial = bom["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36, "{serial}");
        let other = sbom(&crates, "x86_64-unknown-linux-gnu").unwrap();
        assert_ne!(read(&other)["serialNumber"], bom["serialNumber"]);
    }
}
