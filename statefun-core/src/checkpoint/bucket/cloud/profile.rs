//! Amazon's files of profiles, which its command line writes: keys and regions of a person at a computer. The client knows
//! variables and roles only.

use std::path::{Path, PathBuf};

use crate::checkpoint::bucket::options::Environment;

/// What a profile says, of what can be used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    /// Each with the name of the variable that says the same.
    pub(super) values: Vec<(&'static str, String)>,
}

/// Names in the files, and variables.
const KNOWN: [(&str, &str); 4] = [
    ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
    ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("aws_session_token", "AWS_SESSION_TOKEN"),
    ("region", "AWS_REGION"),
];

/// With any of these, keys come from elsewhere.
const ELSEWHERE: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

impl Profile {
    /// The one that the environment names. Without files there is nothing in it.
    pub(super) fn read(environment: &Environment) -> Result<Self, String> {
        let name = environment.get("AWS_PROFILE").unwrap_or("default");
        let file = |variable, beside| {
            let named = environment.get(variable).map(PathBuf::from);
            let home = || Some(Path::new(environment.get("HOME")?).join(beside));
            named.or_else(home)
        };
        let mut values = Vec::new();
        let mut found = false;
        for (file, header) in [
            (
                file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
                name.to_owned(),
            ),
            (
                file("AWS_CONFIG_FILE", ".aws/config"),
                match name {
                    "default" => name.to_owned(),
                    other => format!("profile {other}"),
                },
            ),
        ] {
            let text = file.and_then(|file| std::fs::read_to_string(file).ok());
            let Some(section) = text.as_deref().and_then(|text| section(text, &header)) else {
                continue;
            };
            found = true;
            for (known, variable) in KNOWN {
                let value = section.iter().find(|(name, _)| *name == known);
                let missing = !values.iter().any(|(other, _)| *other == variable);
                if let (Some((_, value)), true) = (value, missing) {
                    values.push((variable, (*value).to_owned()));
                }
            }
        }
        if let (false, Some(name)) = (found, environment.get("AWS_PROFILE")) {
            return Err(format!(
                "AWS_PROFILE names the profile `{name}`, which is neither in ~/.aws/credentials nor in ~/.aws/config"
            ));
        }
        let elsewhere = ELSEWHERE.iter().any(|name| environment.get(name).is_some());
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        let has_region = region.iter().any(|name| environment.get(name).is_some());
        values.retain(|(name, _)| match *name {
            "AWS_REGION" => !has_region,
            _ => !elsewhere,
        });
        Ok(Self { values })
    }
}

/// The lines below a header, split at `=`.
fn section<'a>(text: &'a str, header: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let inside = line.strip_prefix('[').and_then(|line| line.split_once(']'));
        inside.is_some_and(|(inside, _)| inside.split_whitespace().eq(header.split(' ')))
    })?;
    let lines = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    Some(
        pairs
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &[(&str, &str)]) -> Result<Vec<(&'static str, String)>, String> {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).unwrap();
        let credentials = "[default]\naws_access_key_id = a\naws_secret_access_key=b==\n\n# [work]\n[ work ]\n\
                           aws_access_key_id=c\naws_secret_access_key = d\naws_session_token = e\n";
        std::fs::write(folder.join("credentials"), credentials).unwrap();
        let config =
            "[default]\nregion = eu-west-1\noutput=json\n[profile work]\nregion=us-west-2\n";
        std::fs::write(folder.join("config"), config).unwrap();
        let mut variables = vec![("HOME", home.path().to_str().unwrap())];
        variables.extend(extra);
        Ok(Profile::read(&Environment::of(variables))?.values)
    }

    fn values(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn profiles_say_what_the_environment_does_not() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b==")];
        let region = [("AWS_REGION", "eu-west-1")];
        assert_eq!(read(&[]), Ok(values(&[keys.as_slice(), &region].concat())));
        assert_eq!(
            read(&[("AWS_PROFILE", "work")]),
            Ok(values(&[
                ("AWS_ACCESS_KEY_ID", "c"),
                ("AWS_SECRET_ACCESS_KEY", "d"),
                ("AWS_SESSION_TOKEN", "e"),
                ("AWS_REGION", "us-west-2"),
            ]))
        );
        assert_eq!(read(&[("AWS_DEFAULT_REGION", "x")]), Ok(values(&keys)));
        assert_eq!(read(&[("AWS_ACCESS_KEY_ID", "x")]), Ok(values(&region)));
        let nowhere = [("HOME", "/none")];
        assert_eq!(read(&nowhere), Ok(Vec::new()));
    }

    #[test]
    fn a_profile_that_is_not_there_is_told() {
        let error = read(&[("AWS_PROFILE", "wrok")]).unwrap_err();
        assert!(error.contains("`wrok`"), "{error}");
    }
}
