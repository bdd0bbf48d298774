//! One signed call to the `strongroom` service of a server.

use super::args::ServerArgs;
use crate::attach::Endpoint;
use crate::exit::{EXIT_NO_SERVER, Failure};
use crate::serve::runtime;
use base::{Clock, Secret, SystemClock};
use iam::sigv4::{Parts, Signer};
use serde_json::Value;

const TARGET: &str = "Strongroom_20261126";

struct Credentials {
    access_key_id: String,
    secret: Secret<String>,
    token: Option<String>,
}

/// Calls an operation and returns its reply.
pub(crate) fn call(server: &ServerArgs, operation: &str, input: &Value) -> Result<Value, Failure> {
    let credentials = credentials(server)?;
    let region = server.region.as_ref().or(server.default_region.as_ref()).ok_or_else(|| {
        Failure::failed("no region: say --region, or set AWS_REGION or AWS_DEFAULT_REGION")
    })?;
    let endpoint = Endpoint::new(&server.endpoint_url, server.ca.as_deref(), server.http_policy())?;
    let body = input.to_string();
    let mut headers = vec![
        ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ("host".to_owned(), endpoint.authority().to_owned()),
        ("x-amz-target".to_owned(), format!("{TARGET}.{operation}")),
    ];
    let signer = Signer {
        access_key_id: &credentials.access_key_id,
        secret: &credentials.secret,
        token: credentials.token.as_deref(),
        region,
        service: "strongroom",
    };
    let parts =
        Parts { method: "POST", path: "/", query: "", headers: &headers, body: body.as_bytes() };
    headers.extend(signer.headers(&parts, SystemClock.now()));
    let mut head = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    let reply =
        runtime()?.block_on(endpoint.exchange(&head, body.as_bytes())).map_err(|error| {
            let url = &server.endpoint_url;
            Failure::new(EXIT_NO_SERVER, format!("the server at {url} cannot be reached: {error}"))
        })?;
    let parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if (200..300).contains(&reply.status) {
        return Ok(parsed);
    }
    let text = |name: &str| parsed[name].as_str().unwrap_or_default().to_owned();
    Err(Failure::failed(format!("{}: {}", text("__type"), text("message"))))
}

fn credentials(server: &ServerArgs) -> Result<Credentials, Failure> {
    if let (Some(id), Some(secret)) = (&server.access_key_id, &server.secret_access_key) {
        let token = server.session_token.clone();
        return Ok(Credentials {
            access_key_id: id.clone(),
            secret: Secret::new(secret.clone()),
            token,
        });
    }
    let default = server.home.as_ref().map(|home| home.join(".aws/credentials"));
    let Some(path) = server.credentials_file.clone().or(default) else {
        return Err(Failure::failed(
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ));
    };
    let text = std::fs::read_to_string(&path).map(Secret::new).map_err(|error| {
        Failure::failed(format!("the credentials in {}: {error}", path.display()))
    })?;
    of_profile(text.expose(), &server.profile).ok_or_else(|| {
        let (file, profile) = (path.display(), &server.profile);
        Failure::failed(format!("{file} has no keys for the profile {profile}"))
    })
}

/// The keys of a profile in an INI text as the `aws` CLI writes it.
fn of_profile(text: &str, profile: &str) -> Option<Credentials> {
    let mut inside = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Secret::new(value)),
                "aws_session_token" => token = Some(value),
                _ => {}
            }
        }
    }
    Some(Credentials { access_key_id: id?, secret: secret?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_the_aws_cli_writes_it() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[other]\n\
                    aws_access_key_id=C\naws_secret_access_key = D=E\naws_session_token = F\n";
        let other = of_profile(text, "other").unwrap();
        assert_eq!((other.access_key_id.as_str(), other.secret.expose().as_str()), ("C", "D=E"));
        assert_eq!(other.token.as_deref(), Some("F"));
        assert_eq!(of_profile(text, "default").unwrap().access_key_id, "A");
        assert!(of_profile(text, "third").is_none());
    }
}
