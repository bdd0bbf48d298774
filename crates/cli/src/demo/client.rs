//! A small client of our own, for the demonstration: what the `aws` CLI would send, signed and
//! over the same socket, on a machine that does not have it.

use crate::exit::Failure;
use base::{Clock, Secret, SystemClock};
use iam::sigv4::{Parts, Signer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An account's credentials at an endpoint.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Secret<String>,
}

/// A reply that says no.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A reply: XML or JSON text.
pub(crate) struct Reply {
    status: u16,
    body: String,
}

impl Client {
    /// Calls an EC2 operation.
    pub(crate) fn ec2(
        &self,
        region: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Result<Reply, Refusal>, Failure> {
        let mut body = format!("Action={action}&Version=2016-11-15");
        for (name, value) in parameters {
            let value =
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            body.push_str(&format!("&{name}={value}"));
        }
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let reply = self.send("ec2", region, &headers, body.as_bytes())?;
        Ok(if reply.status < 300 { Ok(reply) } else { Err(reply.xml_refusal()) })
    }

    /// Calls a KMS operation.
    pub(crate) fn kms(
        &self,
        region: &str,
        operation: &str,
        input: &serde_json::Value,
    ) -> Result<Result<serde_json::Value, Refusal>, Failure> {
        let target = format!("TrentService.{operation}");
        let headers =
            [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let reply = self.send("kms", region, &headers, input.to_string().as_bytes())?;
        let body: serde_json::Value = match reply.body.as_str() {
            "" => serde_json::Value::Null,
            text => serde_json::from_str(text).map_err(Failure::failed)?,
        };
        if reply.status < 300 {
            return Ok(Ok(body));
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refusal { code: text("__type"), message: text("message") }))
    }

    fn send(
        &self,
        service: &str,
        region: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, Failure> {
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.push(("host".to_owned(), self.address.to_string()));
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret_access_key,
            token: None,
            region,
            service,
        };
        let parts = Parts { method: "POST", path: "/", query: "", headers: &all, body };
        let signature = signer.headers(&parts, SystemClock.now());
        all.extend(signature);
        let mut head = String::from("POST / HTTP/1.1\r\n");
        for (name, value) in &all {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        read_reply(stream)
    }
}

fn read_reply(stream: TcpStream) -> Result<Reply, Failure> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| Failure::failed(format!("no HTTP reply but {line:?}")))?;
    // The rest of the head ends with an empty line; the body ends with the connection.
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
    }
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok(Reply { status, body })
}

impl Reply {
    /// The text of the first element of this name.
    pub(crate) fn xml(&self, element: &str) -> Option<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let from = self.body.find(&open)? + open.len();
        let to = from + self.body[from..].find(&close)?;
        Some(self.body[from..to].to_owned())
    }

    fn xml_refusal(&self) -> Refusal {
        let text = |element: &str| self.xml(element).unwrap_or_default();
        Refusal { code: text("Code"), message: text("Message") }
    }
}
