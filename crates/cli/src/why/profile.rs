//! Where to ask and as whom: the command line, then the environment, then the profile in `~/.aws/config` and
//! `~/.aws/credentials`, as the `aws` CLI decides it.
//!
//! Keys are taken as they stand in the files. A profile whose keys would have to be fetched is refused by the setting
//! that says so: other keys of the same profile would ask as somebody else.

use super::args::ServerArgs;
use super::ini::{Ini, Section};
use crate::exit::Failure;
use base::Secret;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4577";
/// The name of the server's own service in a `[services …]` section.
const SERVICE: &str = "strongroom";
/// Settings that say that keys are fetched from somewhere, before those in the files are looked at.
const FETCHED_FIRST: [&str; 8] = [
    "role_arn",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "sso_role_name",
    "login_session",
    "source_profile",
];

/// What requests are signed with.
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret: Secret<String>,
    pub(super) token: Option<String>,
}

/// Where to ask and as whom.
pub(super) struct Caller {
    pub(super) region: String,
    pub(super) endpoint_url: String,
    pub(super) credentials: Credentials,
}

struct File {
    path: PathBuf,
    /// Empty when there is no such file.
    text: Secret<String>,
}

/// Decides where to ask and as whom. Files are read only for what the command line and environment leave open.
///
/// # Errors
/// What is missing or cannot be used, with the file and setting.
pub(super) fn caller(server: &ServerArgs) -> Result<Caller, Failure> {
    let region = server.region.clone().or_else(|| server.default_region.clone());
    let given = given_credentials(server);
    if let (Some(region), Some(endpoint_url)) = (&region, &server.endpoint_url)
        && let Some(credentials) = given
    {
        let (region, endpoint_url) = (region.clone(), endpoint_url.clone());
        return Ok(Caller { region, endpoint_url, credentials });
    }
    let config = File::read(server, server.config_file.as_deref(), "config")?;
    let shared = File::read(server, server.credentials_file.as_deref(), "credentials")?;
    let (config_ini, shared_ini) = (config.parse()?, shared.parse()?);
    let profile = server.profile.as_str();
    let in_config = of_config(&config_ini, profile);
    let in_shared = shared_ini.section(&[profile]);
    if profile != "default" && in_config.is_none() && in_shared.is_none() {
        return Err(Failure::failed(format!(
            "there is no profile {profile} in {} and {}",
            config.path.display(),
            shared.path.display()
        )));
    }
    let setting = |name: &str| in_config.and_then(|section| section.value(name));
    let region = region.or_else(|| setting("region").map(str::to_owned)).ok_or_else(|| {
        Failure::failed(format!(
            "no region: say --region, set AWS_REGION or AWS_DEFAULT_REGION, or write it into {} for the \
             profile {profile} (aws configure)",
            config.path.display()
        ))
    })?;
    let of_service = || {
        let services = config_ini.section(&["services", setting("services")?])?;
        services.value_below(SERVICE, "endpoint_url")
    };
    let configured = || of_service().or_else(|| setting("endpoint_url")).map(str::to_owned);
    let endpoint_url = server.endpoint_url.clone().or_else(configured);
    let credentials = match given_credentials(server) {
        Some(given) => given,
        None => of_profile(profile, (&shared.path, in_shared), (&config.path, in_config))?,
    };
    let endpoint_url = endpoint_url.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    Ok(Caller { region, endpoint_url, credentials })
}

/// What the profile sets in the configuration. A profile that is not there sets nothing.
///
/// # Errors
/// A configuration that cannot be read.
pub(super) fn setting(server: &ServerArgs, name: &str) -> Result<Option<String>, Failure> {
    let config = File::read(server, server.config_file.as_deref(), "config")?;
    let ini = config.parse()?;
    let section = of_config(&ini, &server.profile);
    Ok(section.and_then(|section| section.value(name)).map(str::to_owned))
}

/// The section of a profile in the configuration.
fn of_config<'a>(config: &'a Ini<'a>, profile: &str) -> Option<&'a Section<'a>> {
    let default = || config.section(&["default"]).filter(|_| profile == "default");
    config.section(&["profile", profile]).or_else(default)
}

/// The credentials of the environment.
fn given_credentials(server: &ServerArgs) -> Option<Credentials> {
    Some(Credentials {
        access_key_id: server.access_key_id.clone()?,
        secret: Secret::new(server.secret_access_key.clone()?),
        token: server.session_token.clone(),
    })
}

impl File {
    fn read(server: &ServerArgs, path: Option<&Path>, name: &str) -> Result<Self, Failure> {
        let home = || server.home.as_ref().map(|home| home.join(".aws").join(name));
        let path = match path.map(Path::to_owned).or_else(home) {
            Some(path) => path,
            None => {
                let (path, text) = (Path::new("~/.aws").join(name), Secret::new(String::new()));
                return Ok(Self { path, text });
            }
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text: Secret::new(text) }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Self { path, text: Secret::new(String::new()) })
            }
            Err(error) => Err(Failure::failed(format!("{}: {error}", path.display()))),
        }
    }

    fn parse(&self) -> Result<Ini<'_>, Failure> {
        Ini::parse(self.text.expose())
            .map_err(|error| Failure::failed(format!("{}: {error}", self.path.display())))
    }
}

type Place<'a> = (&'a Path, Option<&'a Section<'a>>);

/// The keys of a profile: of the credentials file, then of the configuration.
fn of_profile(profile: &str, shared: Place<'_>, config: Place<'_>) -> Result<Credentials, Failure> {
    let refuse = |(path, section): Place<'_>, names: &[&str]| {
        let set = names.iter().find(|name| section.is_some_and(|of| of.value(name).is_some()));
        set.map_or(Ok(()), |name| {
            Err(Failure::failed(format!(
                "the profile {profile} in {} sets {name}, which is not followed here: let the aws CLI \
                 fetch the keys, with eval \"$(aws configure export-credentials --profile {profile} \
                 --format env)\"",
                path.display()
            )))
        })
    };
    refuse(shared, &FETCHED_FIRST)?;
    refuse(config, &FETCHED_FIRST)?;
    if let Some(found) = keys(profile, shared)? {
        return Ok(found);
    }
    // The aws CLI runs it before it looks for keys in the configuration.
    refuse(shared, &["credential_process"])?;
    refuse(config, &["credential_process"])?;
    keys(profile, config)?.ok_or_else(|| {
        Failure::failed(format!(
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write keys for the \
             profile {profile} into {} (aws configure)",
            shared.0.display()
        ))
    })
}

fn keys(profile: &str, (path, section): Place<'_>) -> Result<Option<Credentials>, Failure> {
    let value = |name: &str| section.and_then(|section| section.value(name)).map(str::to_owned);
    let missing = |name: &str| {
        let file = path.display();
        Failure::failed(format!("the profile {profile} in {file} has no {name}"))
    };
    let token = || value("aws_session_token").or_else(|| value("aws_security_token"));
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret)) => {
            Ok(Some(Credentials { access_key_id, secret: Secret::new(secret), token: token() }))
        }
        (Some(_), None) => Err(missing("aws_secret_access_key")),
        (None, Some(_)) => Err(missing("aws_access_key_id")),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with these files, and nothing in the environment.
    fn at_home(config: &str, credentials: &str, profile: &str) -> (tempfile::TempDir, ServerArgs) {
        let home = tempfile::tempdir().expect("a directory");
        let aws = home.path().join(".aws");
        std::fs::create_dir(&aws).expect("made");
        std::fs::write(aws.join("config"), config).expect("written");
        std::fs::write(aws.join("credentials"), credentials).expect("written");
        let server = ServerArgs {
            endpoint_url: None,
            region: None,
            profile: profile.to_owned(),
            credentials_file: None,
            config_file: None,
            ca: None,
            allow_insecure_http: false,
            output: crate::args::Output::Text,
            default_region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            home: Some(home.path().to_owned()),
        };
        (home, server)
    }

    const KEYS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[other]\n\
                        aws_access_key_id=C\naws_secret_access_key = D=E\naws_session_token = F\n";

    #[test]
    fn a_profile_is_read_as_aws_configure_writes_it() {
        let config = "[default]\nregion = eu-west-1\noutput = json\n[profile other]\n\
                      region = us-east-1\nendpoint_url = http://o:1\n";
        let (_home, server) = at_home(config, KEYS, "default");
        let found = caller(&server).expect("complete");
        assert_eq!(
            (found.region.as_str(), found.endpoint_url.as_str()),
            ("eu-west-1", DEFAULT_ENDPOINT)
        );
        assert_eq!(found.credentials.access_key_id, "A");
        assert_eq!(found.credentials.token, None);
        let (_home, mut server) = at_home(config, KEYS, "other");
        let found = caller(&server).expect("complete");
        assert_eq!(
            (found.region.as_str(), found.endpoint_url.as_str()),
            ("us-east-1", "http://o:1")
        );
        let keys = found.credentials;
        assert_eq!((keys.access_key_id.as_str(), keys.secret.expose().as_str()), ("C", "D=E"));
        assert_eq!(keys.token.as_deref(), Some("F"));
        // The command line and the environment win.
        server.default_region = Some("r".to_owned());
        server.endpoint_url = Some("http://e:2".to_owned());
        server.access_key_id = Some("G".to_owned());
        server.secret_access_key = Some("H".to_owned());
        let found = caller(&server).expect("complete");
        assert_eq!((found.region.as_str(), found.endpoint_url.as_str()), ("r", "http://e:2"));
        assert_eq!(found.credentials.access_key_id, "G");
        assert_eq!(found.credentials.token, None);
    }

    #[test]
    fn files_are_found_where_the_environment_says_and_keys_in_either() {
        let config = "[default]\nregion = a\n[profile x]\nregion = b\nservices = local\n\
                      endpoint_url = http://general:1\naws_access_key_id = I\n\
                      aws_secret_access_key = J\n[services local]\nec2 =\n  endpoint_url = http://ec2:1\n\
                      strongroom =\n  endpoint_url = http://own:1\n";
        let (home, mut server) = at_home("", "", "x");
        let elsewhere = home.path().join("elsewhere");
        std::fs::write(&elsewhere, config).expect("written");
        server.config_file = Some(elsewhere);
        server.credentials_file = Some(home.path().join("absent"));
        let found = caller(&server).expect("complete");
        assert_eq!((found.region.as_str(), found.endpoint_url.as_str()), ("b", "http://own:1"));
        assert_eq!(found.credentials.access_key_id, "I");
    }

    #[test]
    fn what_is_missing_or_would_be_fetched_is_named() {
        let role = "[profile x]\nregion = a\nrole_arn = arn\nsource_profile = default\n";
        let sso = "[profile x]\nregion = a\nsso_session = s\n";
        let process = "[profile x]\nregion = a\ncredential_process = /bin/keys\n\
                       aws_access_key_id = I\naws_secret_access_key = J\n";
        for (config, credentials, expected) in [
            (role, "[x]\naws_access_key_id = A\naws_secret_access_key = B\n", "sets role_arn"),
            (sso, KEYS, "sets sso_session"),
            (process, KEYS, "sets credential_process"),
            ("", KEYS, "no profile x"),
            ("[profile x]\n", KEYS, "no region"),
            ("[profile x]\nregion = a\n", KEYS, "no credentials"),
            (
                "[profile x]\nregion = a\n",
                "[x]\naws_access_key_id = A\n",
                "no aws_secret_access_key",
            ),
            ("[profile x]\nregion\n", KEYS, "line 2"),
        ] {
            let (_home, server) = at_home(config, credentials, "x");
            let error = caller(&server).err().expect("refused").to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.contains("export-credentials --profile x"), error.contains(" sets "));
        }
        // Keys of the credentials file come before a program that would make some.
        let (_home, server) =
            at_home(process, "[x]\naws_access_key_id = A\naws_secret_access_key = B\n", "x");
        assert_eq!(caller(&server).expect("complete").credentials.access_key_id, "A");
    }
}
