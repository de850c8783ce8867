//! What the proxy is packaged in: its parts exist, and agree with each other and with the proxy.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::example_proxy::process::{Proxy, example, in_time, run};
use crate::support::file::{TempFile, TempFolder};
use crate::support::raw::{GUARD, Origin};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(packaging().join(name)).unwrap()
}

/// The values of one key of the unit.
fn of_unit<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_packaged_configuration_can_be_used_with_and_without_what_is_commented_out() {
    let file = packaging().join("larder.toml");
    let output = run(&["check-config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    // Each line that is commented out is an option.
    let suggested = text("larder.toml").replace("# health", "health").replace("# policy", "policy");
    let policy = TempFile::new("toml", "[default]\njitter = 5\n");
    let suggested = suggested.replace("policy.toml", policy.name());
    let output = run(&["check-config", TempFile::new("toml", suggested).name()]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("health-path = \"/health\"") && printed.contains("policy = "), "{printed}");
}

#[test]
fn the_unit_runs_commands_that_the_proxy_has() {
    let unit = text("larder.service");
    let configuration = packaging().join("larder.toml");
    let commands = [of_unit(&unit, "ExecStartPre"), of_unit(&unit, "ExecStart")].concat();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(words[0], "/usr/local/bin/larder-proxy");
        assert_eq!(words.last(), Some(&"/etc/larder/larder.toml"));
        match words[1] {
            "check-config" => {
                assert!(run(&["check-config", configuration.to_str().unwrap()]).status.success());
            }
            _ => assert_eq!(words[1..words.len() - 1], ["proxy", "--config"]),
        }
    }
    // It has the time to drain.
    let stop: u64 = of_unit(&unit, "TimeoutStopSec")[0].parse().unwrap();
    let configuration: toml::Table = text("larder.toml").parse().unwrap();
    assert!(stop > configuration["drain"].as_integer().unwrap() as u64);
}

#[test]
fn systemd_accepts_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return; // not installed
    }
    // It looks for the programs.
    let program = example().get_program().to_str().unwrap().to_owned();
    let unit = text("larder.service").replace("/usr/local/bin/larder-proxy", &program);
    let folder = TempFolder::new();
    let file = folder.write("larder.service", &unit);
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("larder")).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
    assert!(of_unit(&unit, "ExecReload")[0].ends_with(" -HUP $MAINPID"));
}

#[test]
fn systemd_learns_when_the_proxy_serves_and_when_it_drains() {
    let path = std::env::temp_dir().join(format!("larder-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    let next = || {
        let mut state = [0; 64];
        let length = socket.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    let origin = Origin::new();
    let proxy = Proxy::notifying(&path, &origin.upstream());
    assert_eq!(next(), "READY=1");
    assert!(std::net::TcpStream::connect(proxy.address).is_ok());
    proxy.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert!(proxy.ends_well());
    std::fs::remove_file(&path).unwrap();
    in_time("nothing else is said", || socket.set_nonblocking(true).ok());
    assert!(socket.recv(&mut [0; 64]).is_err());
}

/// The instructions of the container file, with lines that go on joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_container_file_names_what_there_is_and_runs_as_nobody() {
    let instructions = instructions(&text("Containerfile"));
    let of = |name: &str| -> Vec<&str> {
        instructions.iter().filter(|(other, _)| other == name).map(|(_, rest)| rest.as_str()).collect()
    };
    for (name, _) in &instructions {
        let known = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
        assert!(known.contains(&name.as_str()), "{name}");
    }
    assert_eq!(instructions[0].0, "FROM");
    let manifest = std::fs::read_to_string(packaging().join("../Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    // The images say where they are from and which they are.
    let images: Vec<_> = of("FROM").iter().map(|image| image.split(' ').next().unwrap()).collect();
    for image in &images {
        let (name, tag) = image.rsplit_once(':').expect("a tag");
        assert!(name.split('/').next().unwrap().contains('.') && tag != "latest", "{image}");
    }
    let version = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(images[0].contains(&format!("/rust:{version}-")), "{images:?}");
    // The build has the features that the example needs.
    let example = manifest["example"].as_array().unwrap();
    let example = example.iter().find(|example| example["name"].as_str() == Some("origin_proxy")).unwrap();
    let features: Vec<_> =
        example["required-features"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let build = of("RUN")[0];
    assert!(build.contains(&format!("--features {} ", features.join(","))), "{build}");
    assert!(build.ends_with("--example origin_proxy") && build.contains("--release"), "{build}");
    // What is copied is there: in the repository, or built at the place that cargo has for it.
    for copied in of("COPY") {
        let words: Vec<_> = copied.split(' ').collect();
        match words[..] {
            ["--from=build", built, _] => {
                assert_eq!(built, "/source/target/release/examples/origin_proxy");
                assert!(of("FROM")[0].ends_with(" AS build") && of("WORKDIR") == ["/source"]);
            }
            [source, _] => assert!(packaging().join("..").join(source).exists(), "{source}"),
            _ => panic!("{copied}"),
        }
    }
    // It listens where the packaged configuration says, as nobody who may do more, and is stopped as the proxy wants to be.
    let configuration: toml::Table = text("larder.toml").parse().unwrap();
    let listen = configuration["listen"].as_str().unwrap();
    assert_eq!(of("EXPOSE"), [listen.rsplit(':').next().unwrap()]);
    assert!(listen.starts_with("0.0.0.0:"), "others than the container itself reach it");
    assert_eq!((of("USER"), of("STOPSIGNAL")), (vec!["nonroot"], vec!["SIGTERM"]));
    for (name, expected) in [
        ("ENTRYPOINT", vec!["/usr/local/bin/larder-proxy"]),
        ("CMD", vec!["proxy", "--config", "/etc/larder/larder.toml"]),
    ] {
        let words: Vec<String> = serde_json::from_str(of(name)[0]).expect("the form without a shell");
        assert_eq!(words, expected);
    }
}
