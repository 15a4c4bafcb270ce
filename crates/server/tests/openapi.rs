//! The served OpenAPI document drives the server that serves it: whatever it says may be asked is
//! asked, with what fits and with what does not, and every answer must be one that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
mod web;

use common::{Backend, Place};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tokio::runtime::Runtime;
use web::{Answer, Web, encoded};

const BACKEND: Backend = Backend::Folder;

/// An operation of the document.
#[derive(Clone, Debug)]
struct Operation {
    path: String,
    parameters: Vec<Value>,
    responses: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().map(|(path, methods)| {
        let operation = &methods["get"];
        Operation {
            path: path.clone(),
            parameters: operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
            responses: operation["responses"].clone(),
        }
    });
    each.collect()
}

/// What a schema allows, and some that it does not.
fn values(schema: &Value) -> BoxedStrategy<String> {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|w| w.as_str().unwrap().into()).collect();
        return prop_oneof![9 => proptest::sample::select(words), 1 => "[a-z]{0,6}"].boxed();
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is = |name: &str| kinds.iter().any(|k| k == name);
    let bound = |name: &str, other: i64| schema[name].as_f64().map_or(other, |v| v as i64);
    let (least, most) = (bound("minimum", 0), bound("maximum", 200));
    if is("integer") {
        let inside = (least..=most.min(least + 300)).prop_map(|v| v.to_string());
        let edges = proptest::sample::select(vec![least, least - 1, most, most.saturating_add(1)]);
        let edges = edges.prop_map(|v| v.to_string());
        return prop_oneof![8 => inside, 1 => edges, 1 => "[-0-9a-z.]{0,8}"].boxed();
    }
    if is("number") {
        let inside = (least as f64..=(most as f64).min(10.0)).prop_map(|v| v.to_string());
        let odd = proptest::sample::select(vec!["-1", "1e300", "NaN", "inf", "", "x"]);
        return prop_oneof![8 => inside, 2 => odd.prop_map(str::to_owned)].boxed();
    }
    "\\PC{0,12}".boxed()
}

/// A path with its parameters filled in, as often as not of a video that is there.
fn request(operation: &Operation, version: &str) -> BoxedStrategy<String> {
    let mut parts: Vec<BoxedStrategy<Option<(String, String, bool)>>> = Vec::new();
    for parameter in &operation.parameters {
        let name = parameter["name"].as_str().unwrap().to_owned();
        let in_path = parameter["in"] == "path";
        let value = match name.as_str() {
            "path" => prop_oneof![
                8 => Just("default_gop.h265".to_owned()),
                1 => Just("broken.mp4".to_owned()),
                1 => "\\PC{1,12}",
            ]
            .boxed(),
            "v" => prop_oneof![Just(version.to_owned()), "[0-9a-f]{0,16}"].boxed(),
            _ => values(&parameter["schema"]),
        };
        // Of the names of a frame one at a time is right.
        let share = match name.as_str() {
            "frame" => 0.8,
            "time" | "offset" => 0.1,
            _ => 0.3,
        };
        let value = value.prop_map(move |value| (name.clone(), value, in_path));
        parts.push(match in_path {
            true => value.prop_map(Some).boxed(),
            false => proptest::option::weighted(share, value).boxed(),
        });
    }
    let path = operation.path.clone();
    parts
        .prop_map(move |parts| {
            let mut path = path.clone();
            let mut query = Vec::new();
            for (name, value, in_path) in parts.into_iter().flatten() {
                let value = encoded(&value);
                if in_path {
                    path = path.replace(&format!("{{{name}}}"), &value);
                } else {
                    query.push(format!("{name}={value}"));
                }
            }
            format!("{path}?{}", query.join("&"))
        })
        .boxed()
}

/// What the document says of a status.
fn documented(operation: &Operation, status: u16) -> Option<&Value> {
    let responses = operation.responses.as_object()?;
    let class = format!("{}XX", status / 100);
    responses
        .get(&status.to_string())
        .or_else(|| responses.get(&class))
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

/// A JSON value against its schema: types, what must be there, and all that is inside.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolved(document, schema);
    let wrong = || Err(format!("{value} is not {schema}"));
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[key].as_array() {
            let any = choices.iter().any(|s| fits(document, s, value).is_ok());
            return if any { Ok(()) } else { wrong() };
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) {
            Ok(())
        } else {
            wrong()
        };
    }
    let kinds = match &schema["type"] {
        Value::Null => return Ok(()),
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let own = kinds
        .iter()
        .filter_map(Value::as_str)
        .find(|kind| match *kind {
            "null" => value.is_null(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        });
    if own.is_none() {
        return wrong();
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item)?;
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                return Err(format!("{name} is missing in {value}"));
            }
        }
        for (name, value) in object {
            let property = &schema["properties"][name];
            if property.is_null() {
                return Err(format!("{name} is not described"));
            }
            fits(document, property, value)?;
        }
    }
    Ok(())
}

fn check(document: &Value, operation: &Operation, answer: &Answer) -> Result<(), String> {
    let status = answer.status.as_u16();
    let said = documented(operation, status).ok_or(format!("{status} is not described"))?;
    if status == 304 {
        return Ok(());
    }
    if status >= 500 && status != 503 {
        return Err(format!("{status}: {}", answer.text()));
    }
    let kind = answer.header("content-type");
    let kind = kind.split(';').next().unwrap();
    let content = said["content"]
        .as_object()
        .ok_or("no content is described")?;
    let described = content
        .get(kind)
        .ok_or(format!("{kind} is not described"))?;
    if kind.ends_with("json") {
        let value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        fits(document, &described["schema"], &value)?;
    }
    Ok(())
}

#[test]
fn every_answer_is_one_that_the_document_names() {
    let runtime = Runtime::new().unwrap();
    let (place, web) = runtime.block_on(async {
        let place = Place::with(&["default_gop"]).await;
        std::fs::write(place.root().join("broken.mp4"), b"no video at all").unwrap();
        let web = Web::of(&place.server);
        (place, web)
    });
    let document = runtime.block_on(web.json("/v1/openapi.json"));
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let info = runtime.block_on(web.json("/v1/videos/default_gop.h265"));
    let version = info["version"].as_str().unwrap();
    let operations = operations(&document);
    let paths: Vec<&str> = operations.iter().map(|o| o.path.as_str()).collect();
    // Chance makes good requests too seldom to be counted on.
    for (path, good) in [
        ("/v1/videos", ""),
        ("/v1/videos/{path}", ""),
        ("/v1/videos/{path}/index", ""),
        ("/v1/videos/{path}/frame.{format}", "?frame=7"),
        ("/v1/videos/{path}/storyboard.{form}", "?columns=2&rows=2"),
        ("/v1/videos/{path}/clip", "?from=0&to=0.2"),
        ("/v1/videos/{path}/gop", "?frame=7"),
    ] {
        let operation = operations.iter().find(|o| o.path == path);
        let operation = operation.unwrap_or_else(|| panic!("{path} in {paths:?}"));
        let url = path
            .replace("{path}", "default_gop.h265")
            .replace("{format}", "png")
            .replace("{form}", "json");
        let answer = runtime.block_on(web.get(&format!("{url}{good}")));
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        check(&document, operation, &answer).unwrap();
    }
    for operation in &operations {
        // Clips play as long as they last: fewer of them.
        let cases = if operation.path.ends_with("clip") {
            8
        } else {
            32
        };
        let config = Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let ran = runner.run(&request(operation, version), |path| {
            let path = if operation.path.ends_with("clip") {
                // A late one of an overlong frame time would only be waited for.
                format!("{path}&to=0.2").replace("fps=0.", "fps=9")
            } else {
                path
            };
            let answer = runtime.block_on(web.get(&path));
            check(&document, operation, &answer)
                .map_err(|why| TestCaseError::fail(format!("{path}: {why}")))
        });
        ran.unwrap();
    }
    drop(place);
}
