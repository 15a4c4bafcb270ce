//! Dockerfile and docker-compose.yml say nothing that the build does not know: every path,
//! package, program, option and version in them is compared with where it comes from.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use saphyr::{LoadableYamlNode as _, Yaml};
use testkit::directories::workspace;
use testkit::garage::Garage;
use testkit::programs;

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// One stage of the Dockerfile: what it is from, and its instructions with their words.
#[derive(Default, Debug)]
struct Stage {
    from: String,
    instructions: Vec<(String, String)>,
}

impl Stage {
    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.instructions.iter().filter(move |(n, _)| n == name);
        named.map(|(_, words)| words.as_str())
    }

    fn one(&self, name: &str) -> &str {
        let mut all = self.all(name);
        let one = all.next().unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(all.next(), None, "a second {name}");
        one
    }

    /// The words of an instruction in JSON form.
    fn list(&self, name: &str) -> Vec<String> {
        let text = self.one(name);
        let start = text.find('[').unwrap();
        serde_json::from_str(&text[start..]).unwrap()
    }

    /// Debian packages that it installs.
    fn packages(&self) -> BTreeSet<String> {
        let runs = self.all("RUN").flat_map(|run| run.split("&&"));
        let installs = runs.filter_map(|c| c.trim().strip_prefix("apt-get install "));
        let words = installs.flat_map(str::split_whitespace);
        words
            .filter(|w| !w.starts_with('-'))
            .map(str::to_owned)
            .collect()
    }
}

/// Stages of the Dockerfile by name, and their names in order.
fn stages() -> (BTreeMap<String, Stage>, Vec<String>) {
    let mut stages: BTreeMap<String, Stage> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let text = read("Dockerfile");
    let code: Vec<&str> = text
        .lines()
        .filter(|l| !l.trim().starts_with('#'))
        .collect();
    for line in code.join("\n").replace("\\\n", " ").lines() {
        let Some((name, words)) = line.trim().split_once(' ') else {
            continue;
        };
        if name == "FROM" {
            let (from, stage) = words.split_once(" AS ").unwrap();
            order.push(stage.to_owned());
            let from = from.to_owned();
            stages.entry(stage.to_owned()).or_default().from = from;
        } else {
            let stage = stages.get_mut(order.last().unwrap()).unwrap();
            let instruction = (name.to_owned(), words.trim().to_owned());
            stage.instructions.push(instruction);
        }
    }
    (stages, order)
}

/// What `bucket-streamer --help` says.
fn help() -> String {
    let mut command = programs::command("bucket-streamer").unwrap();
    let output = command.arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_copied_path_is_there_and_sent_to_the_engine() {
    let (stages, _) = stages();
    let ignored = read(".dockerignore");
    let built = stages["build"].all("RUN").collect::<String>();
    for (name, stage) in &stages {
        for copy in stage.all("COPY") {
            let mut words: Vec<&str> = copy.split_whitespace().collect();
            let to = words.pop().unwrap();
            assert!(words.len() == 1 || to.ends_with('/'), "{name}: {copy}");
            if let Some(from) = words[0].strip_prefix("--from=") {
                assert_eq!(from, "build", "{copy}");
                for path in &words[1..] {
                    let program = path.strip_prefix("/out/").unwrap();
                    assert!(
                        built.contains(&format!("target/release/{program}")),
                        "{copy}"
                    );
                }
                continue;
            }
            for path in words {
                assert!(workspace().join(path).exists(), "{name}: {path}");
                let hidden = ignored
                    .lines()
                    .any(|line| Path::new(path).starts_with(line));
                assert!(!hidden, "{name}: {path} is in .dockerignore");
            }
        }
    }
    // What the sources need is not hidden either, and what is large is.
    for path in ["Cargo.toml", "Cargo.lock", "crates", "docker", "scripts"] {
        assert!(!ignored.lines().any(|line| line == path), "{path}");
    }
    for path in ["target", "data", ".git"] {
        assert!(ignored.lines().any(|line| line == path), "{path}");
    }
}

#[test]
fn the_programs_that_are_built_are_those_of_the_workspace() {
    let (stages, _) = stages();
    let build = &stages["build"];
    assert_eq!(build.from, "development");
    let run = build.one("RUN");
    let words: Vec<&str> = run.split_whitespace().collect();
    let packages: BTreeSet<&str> = words
        .windows(2)
        .filter(|pair| pair[0] == "-p")
        .map(|pair| pair[1])
        .collect();
    let installed: BTreeSet<&str> = words
        .iter()
        .filter_map(|w| w.strip_prefix("target/release/"))
        .collect();
    assert_eq!(packages, installed, "{run}");
    for package in packages {
        let folder = if package == "bucket-streamer" {
            "server"
        } else {
            package
        };
        let manifest = read(&format!("crates/{folder}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{package}\"")));
        let source = workspace().join(format!("crates/{folder}/src"));
        let program = ["main.rs".to_owned(), format!("bin/{package}.rs")];
        assert!(program.iter().any(|file| source.join(file).is_file()));
    }
}

#[test]
fn all_images_are_of_one_release_and_the_compiler_is_new_enough() {
    let (stages, order) = stages();
    assert_eq!(order, ["development", "build", "tools", "production"]);
    let (rust, release) = stages["development"].from.split_once('-').unwrap();
    for name in ["tools", "production"] {
        assert_eq!(stages[name].from, format!("debian:{release}-slim"));
    }
    let number =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let manifest = read("Cargo.toml");
    let (_, least) = manifest.split_once("rust-version = \"").unwrap();
    let (least, _) = least.split_once('"').unwrap();
    let rust = rust.strip_prefix("rust:").unwrap();
    assert!(number(rust) >= number(least), "{rust} and {least}");
    // The lints of `make lint`, and what `make deps` installs by its own list.
    let runs: Vec<&str> = stages["development"].all("RUN").collect();
    assert!(runs[0].contains("rustfmt") && runs[0].contains("clippy"));
    assert!(runs[1].contains("scripts/install-deps.sh"));
    let copied = stages["development"].one("COPY");
    assert!(copied.contains("scripts/install-deps.sh"), "{copied}");
    assert!(copied.contains("scripts/common.sh"), "{copied}");
}

/// Shared libraries that a program names itself.
fn libraries(program: &str) -> BTreeSet<String> {
    let path = programs::program(program).unwrap();
    let output = Command::new("objdump")
        .arg("-p")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|l| l.trim().strip_prefix("NEEDED"));
    lines.map(|l| l.trim().to_owned()).collect()
}

#[test]
fn images_hold_the_libraries_that_their_programs_are_linked_against() {
    let (stages, _) = stages();
    let release = stages["production"]
        .from
        .replace("debian:", "")
        .replace("-slim", "");
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !system.contains(&format!("VERSION_CODENAME={release}")) {
        eprintln!("note: this is not Debian {release}: its libraries have other versions");
        return;
    }
    // libc6 and libgcc-s1 are in every image of Debian.
    let own = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux"];
    for (name, programs) in [
        ("production", &["bucket-streamer"][..]),
        ("tools", &["repo-cli", "streaming-cli"]),
    ] {
        let packages = stages[name].packages();
        let mut needed = BTreeSet::from(["ca-certificates".to_owned()]);
        for program in programs {
            for library in libraries(program) {
                if own.iter().any(|own| library.starts_with(own)) {
                    continue;
                }
                // Debian's name for libX.so.N is libXN.
                needed.insert(library.replace(".so.", ""));
            }
        }
        if name == "tools" {
            needed.extend(["curl", "ffmpeg"].map(str::to_owned));
        }
        assert_eq!(packages, needed, "{name}: installed, and needed");
    }
}

#[test]
fn the_scripts_of_the_images_find_their_programs() {
    let (stages, _) = stages();
    let tools = &stages["tools"];
    let copied = tools.all("COPY").collect::<Vec<_>>().join(" ");
    let scripts = ["docker/put-sample.sh", "scripts/make-demo-video.sh"];
    let text: String = scripts.iter().map(|s| read(s)).collect();
    let words: BTreeSet<&str> = text.split_whitespace().collect();
    for package in ["curl", "ffmpeg"] {
        assert!(words.contains(package), "{package} is of no use");
    }
    for program in ["streaming-cli", "make-demo-video.sh"] {
        assert!(words.contains(program) && copied.contains(program));
    }
    assert!(text.contains("repo-cli") && copied.contains("/out/repo-cli"));
    for script in scripts {
        assert!(copied.contains(script), "{script}");
        use std::os::unix::fs::PermissionsExt as _;
        let mode = workspace()
            .join(script)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} can be run");
    }
    let command = tools.list("CMD");
    assert_eq!(command, ["put-sample.sh"]);
}

#[test]
fn the_production_image_runs_without_rights() {
    let (stages, order) = stages();
    assert_eq!(
        order.last().unwrap(),
        "production",
        "what `docker build .` makes"
    );
    let stage = &stages["production"];
    let (user, _) = stage.one("USER").split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0);
    let program = stage.list("ENTRYPOINT");
    assert_eq!(program, ["bucket-streamer"]);
    let help = help();
    let health = stage.list("HEALTHCHECK");
    assert_eq!(health[0], program[0]);
    assert!(help.contains(&format!("{} ", health[1])) || help.contains(&health[1]));
    let port = stage.one("EXPOSE");
    assert!(help.contains(&format!("0.0.0.0:{port}")), "{port}");
    for variable in stage.all("ENV") {
        let (name, _) = variable.split_once('=').unwrap();
        assert!(help.contains(&format!("[env: {name}=")), "{name}");
    }
}

fn compose() -> (String, Yaml<'static>) {
    let text: &'static str = Box::leak(read("docker-compose.yml").into_boxed_str());
    let mut all = Yaml::load_from_str(text).unwrap();
    assert_eq!(all.len(), 1);
    (text.to_owned(), all.remove(0))
}

/// A service's environment, with what it takes from another mapping (`<<`).
fn environment(service: &Yaml<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(variables) = service.as_mapping_get("environment") else {
        return found;
    };
    for (name, value) in variables.as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        if name == "<<" {
            for (name, value) in value.as_mapping().unwrap() {
                found.insert(
                    name.as_str().unwrap().into(),
                    value.as_str().unwrap().into(),
                );
            }
        } else {
            found.insert(name.into(), value.as_str().unwrap().into());
        }
    }
    found
}

#[test]
fn services_are_built_and_told_what_there_is() {
    let (stages, _) = stages();
    let (_, compose) = compose();
    let services = compose["services"].as_mapping().unwrap();
    let names: BTreeSet<&str> = services.keys().map(|k| k.as_str().unwrap()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["dev", "grafana", "prometheus", "sample", "server", "store"])
    );
    let volumes = compose["volumes"].as_mapping().unwrap();
    for (name, service) in services {
        let name = name.as_str().unwrap();
        if let Some(build) = service.as_mapping_get("build") {
            let target = build["target"].as_str().unwrap();
            assert!(stages.contains_key(target), "{name}: {target}");
            assert_eq!(build["context"].as_str(), Some("."));
        }
        if let Some(before) = service.as_mapping_get("depends_on") {
            for (other, condition) in before.as_mapping().unwrap() {
                let other = other.as_str().unwrap();
                assert!(names.contains(other), "{name}: {other}");
                assert_eq!(condition["condition"].as_str(), Some("service_healthy"));
                let own = services.iter().find(|(n, _)| n.as_str() == Some(other));
                let (_, own) = own.unwrap();
                let checked = own.as_mapping_get("healthcheck").is_some()
                    || own["build"]["target"].as_str() == Some("production");
                assert!(checked, "{other} has no health check");
            }
        }
        if let Some(mounts) = service.as_mapping_get("volumes") {
            for mount in mounts.as_sequence().unwrap() {
                let (from, _) = mount.as_str().unwrap().split_once(':').unwrap();
                let is_there = match from.starts_with('.') {
                    true => workspace().join(from).exists(),
                    false => volumes.keys().any(|v| v.as_str() == Some(from)),
                };
                assert!(is_there, "{name}: {from}");
            }
        }
    }
    let server = &compose["services"]["server"];
    let help = help();
    for variable in environment(server).keys() {
        // Values of secrets are not shown.
        let shown = [format!("[env: {variable}="), format!("[env: {variable}]")];
        assert!(shown.iter().any(|s| help.contains(s)), "{variable}");
    }
    assert_eq!(server["read_only"].as_bool(), Some(true));
    let ports = server["ports"][0].as_str().unwrap();
    let exposed = stages["production"].one("EXPOSE");
    assert!(ports.ends_with(&format!(":{exposed}")), "{ports}");
    // `repo-cli devshell` runs the service `dev`, which `up` does not start.
    let dev = &compose["services"]["dev"];
    // Prometheus and Grafana only come where they are asked for, and look where the server is.
    let scraped = read("deploy/prometheus/prometheus.yml");
    assert!(scraped.contains(&format!("targets: [\"server:{exposed}\"]")));
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    let port = compose["services"]["prometheus"]["ports"][0]
        .as_str()
        .unwrap();
    let (_, port) = port.rsplit_once(':').unwrap();
    assert!(source.contains(&format!("url: http://prometheus:{port}\n")));
    let folder = read("deploy/grafana/provisioning/dashboards/bucket-streamer.yml");
    let mounts = compose["services"]["grafana"]["volumes"]
        .as_sequence()
        .unwrap();
    let (_, path) = folder.split_once("path: ").unwrap();
    let shown = |m: &Yaml<'_>| m.as_str().unwrap().contains(&format!(":{}/", path.trim()));
    assert!(mounts.iter().any(shown));
    for name in ["prometheus", "grafana"] {
        let service = &compose["services"][name];
        assert_eq!(service["profiles"][0].as_str(), Some("watch"));
        let ports = service["ports"][0].as_str().unwrap();
        assert!(ports.starts_with("127.0.0.1:"), "{ports}");
    }
    assert_eq!(dev["build"]["target"].as_str(), Some("development"));
    assert_eq!(dev["profiles"][0].as_str(), Some("dev"));
    assert_eq!(
        dev["working_dir"].as_str(),
        Some(stages["development"].one("WORKDIR"))
    );
}

#[test]
fn the_store_is_the_one_of_the_tests() {
    let (_, compose) = compose();
    let store = &compose["services"]["store"];
    let tools = read("scripts/install-tools.sh");
    let (_, version) = tools.split_once("garage) echo ").unwrap();
    let (version, _) = version.split_once(' ').unwrap();
    let image = format!("dxflrs/garage:v{version}");
    assert_eq!(store["image"].as_str(), Some(image.as_str()));

    // The same keys on both sides, and the settings that Garage::start uses.
    let made = environment(store);
    for name in ["server", "sample"] {
        let told = environment(&compose["services"][name]);
        assert_eq!(told["S3_BUCKET"], made["GARAGE_DEFAULT_BUCKET"]);
        assert_eq!(told["S3_ACCESS_KEY"], made["GARAGE_DEFAULT_ACCESS_KEY"]);
        assert_eq!(told["S3_SECRET_KEY"], made["GARAGE_DEFAULT_SECRET_KEY"]);
        let settings = read("docker/garage.toml");
        assert!(settings.contains(&format!("s3_region = \"{}\"", told["S3_REGION"])));
        let (_, port) = told["S3_ENDPOINT"].rsplit_once(':').unwrap();
        assert!(settings.contains(&format!("api_bind_addr = \"0.0.0.0:{port}\"")));
        assert!(told["S3_ENDPOINT"].starts_with("http://store:"));
    }
    assert_eq!(made["GARAGE_DEFAULT_BUCKET"], Garage::BUCKET);
    let script = read("docker/put-sample.sh");
    let told = environment(&compose["services"]["sample"]);
    for variable in told.keys() {
        assert!(script.contains(&format!("${variable}")), "{variable}");
    }
    let settings = read("docker/garage.toml");
    let data = "/var/lib/garage";
    let mounts = store["volumes"].as_sequence().unwrap();
    let mounted = |what: &str| {
        let all = mounts.iter().filter_map(Yaml::as_str);
        all.filter(|m| m.contains(what)).count()
    };
    assert_eq!(mounted(&format!(":{data}")), 1);
    assert_eq!(mounted(":/etc/garage.toml:ro"), 1);
    assert!(settings.contains(&format!("metadata_dir = \"{data}/meta\"")));

    // It is started as in the tests, and its health check answers there.
    let words = |list: &Yaml<'_>| -> Vec<String> {
        let list = list.as_sequence().unwrap().iter();
        list.map(|w| w.as_str().unwrap().to_owned()).collect()
    };
    let command = words(&store["command"]);
    assert_eq!(
        command,
        ["/garage", "server", "--single-node", "--default-bucket"]
    );
    let check = words(&store["healthcheck"]["test"]);
    assert_eq!(check[..2], ["CMD", "/garage"]);
    let garage = Garage::start().unwrap();
    let output = garage.command().args(&check[2..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut wrong = check[2..].to_vec();
    *wrong.last_mut().unwrap() = "absent".into();
    let output = garage.command().args(wrong).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
}
