//! A client that asks by URL.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use testkit::programs::Server;

/// A server, by its address.
pub(crate) struct Web {
    address: String,
    client: Client,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Answer {
    /// A header; empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of a problem with this status, well formed.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        let code = problem["code"].as_str().unwrap();
        assert_eq!(
            problem["type"],
            format!("urn:bucket-streamer:problem:{code}")
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        code.to_owned()
    }
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Web {
    pub(crate) fn of(server: &Server) -> Self {
        Self::at(server.address())
    }

    /// What listens at `HOST:PORT`.
    pub(crate) fn at(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            client: Client::new(),
        }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://{}{path}", self.address);
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// The JSON of an answer that must go well.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Sends a path as it is: clients tidy `..` away.
    pub(crate) async fn raw(&self, path: &str) -> Answer {
        let (address, path) = (self.address.clone(), path.to_owned());
        let exchange = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(&address).unwrap();
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let all = exchange.await.unwrap();
        let text = String::from_utf8_lossy(&all).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|l| l.split_once(": ")) {
            let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        Answer {
            status: status.parse().unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }
}

/// As `encodeURIComponent` does.
pub(crate) fn encoded(name: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'!')
        .remove(b'~')
        .remove(b'*')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')');
    utf8_percent_encode(name, KEPT).to_string()
}
