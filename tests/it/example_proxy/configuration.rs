//! Options in a file: what it may say, what is wrong with it, and what outweighs what.

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::{TempFile, TempFolder};
use crate::support::raw::{Client, Origin};
use crate::support::tls::Authority;

const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 5\r\n\r\nfinal";

/// What `check-config` says of a file, and whether it can be used.
fn check(file: &TempFile) -> (bool, String) {
    let output = run(&["check-config", file.name()]);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn options_of_a_file_hold_unless_the_command_line_has_them() {
    let origin = Origin::new();
    let file = TempFile::new("toml", "server-timing = 100\nprofile = \"rfc9111\"\nmax-fields = 3\n");
    for (arguments, status, is_timed) in [
        (&[][..], "HTTP/1.1 431 Request Header Fields Too Large", false),
        (&["--max-fields", "100"], "HTTP/1.1 200 OK", true),
        (&["--max-fields", "100", "--server-timing", "0"], "HTTP/1.1 200 OK", false),
    ] {
        let proxy = origin.proxy(&[&["--config", file.name()], arguments].concat());
        let mut client = Client::of(&proxy);
        client.send("GET /x HTTP/1.1\r\nhost: a.example\r\na: 1\r\nb: 1\r\nc: 1\r\n\r\n");
        if status.ends_with("OK") {
            origin.asked("/x").answer(STORED);
        }
        let head = client.try_head().unwrap();
        assert!(head.starts_with(status), "{arguments:?}: {head}");
        assert_eq!(head.contains("\r\nserver-timing: "), is_timed, "{arguments:?}: {head}");
    }
}

#[test]
fn the_command_lines_upstreams_replace_those_of_the_file() {
    let (of_file, of_flag) = (Origin::new(), Origin::new());
    let file =
        TempFile::new("toml", format!("upstream = [{:?}, \"http://127.0.0.1:1\"]\n", of_file.upstream()));
    let proxy = of_flag.proxy(&["--config", file.name()]);
    let mut client = Client::of(&proxy);
    for path in ["/1", "/2"] {
        client.get(path);
        of_flag.asked(path).answer(STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn check_config_finds_an_access_log_that_can_not_be_written_and_makes_no_file() {
    let folder = TempFolder::new();
    let file = |log: &std::path::Path| {
        TempFile::new(
            "toml",
            format!("upstream = 'http://a.example'\naccess-log = {:?}\n", log.display().to_string()),
        )
    };
    let log = folder.path().join("access.log");
    let (can_be_used, said) = check(&file(&log));
    assert!(can_be_used, "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    for log in [folder.path().join("nowhere").join("access.log"), folder.path().to_path_buf()] {
        let (can_be_used, said) = check(&file(&log));
        assert!(!can_be_used && said.contains(&format!("{}: can't be written to", log.display())), "{said}");
    }
}

#[test]
fn check_config_prints_what_it_understood_of_a_file_and_of_those_that_it_names() {
    let policy = TempFile::new("toml", "[default]\ndefault_lifetime = \"5m\"\n");
    let name = policy.path().file_name().unwrap().to_str().unwrap();
    // A path is relative to the folder of the file that has it.
    let file = TempFile::new(
        "toml",
        format!(
            "upstream = ['http://a.example', 'http://b.example:81']\ntimeout = 2.5\nmax-fields = 1_000\n\
             viewer-headers = true\npolicy = {name:?}\n"
        ),
    );
    let (is_good, text) = check(&file);
    assert!(is_good, "{text}");
    for line in [
        "max-fields = \"1000\"",
        "timeout = \"2.5\"",
        "upstream = \"http://a.example\"",
        "upstream = \"http://b.example:81\"",
        "viewer-headers = true",
        "profile default",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    assert!(text.contains("default_lifetime"), "{text}");
    let off = TempFile::new("toml", "upstream = 'http://a.example'\nviewer-headers = false\n");
    assert!(!check(&off).1.contains("viewer-headers"));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let broken_policy = TempFile::new("toml", "[default]\njiter = 5\n");
    let upstream = "upstream = 'http://a.example'\n";
    for (content, line, reason) in [
        ("upstream = ".to_owned(), Some(1), ""),
        (format!("{upstream}\ntimout = 5\n"), Some(3), "unknown option 'timout'; did you mean 'timeout'?"),
        (format!("{upstream}config = 'x'\n"), Some(2), "unknown option 'config'"),
        (format!("{upstream}timeout = -1\n"), Some(2), "'-1' is not a time limit"),
        (format!("{upstream}timeout = 'soon'\n"), Some(2), "'soon' is not a time limit"),
        (format!("{upstream}timeout = [1, 2]\n"), Some(2), "'timeout' has one value, not a list"),
        (format!("{upstream}memory = true\n"), Some(2), "'memory' needs a text or a number"),
        (format!("{upstream}viewer-headers = 1\n"), Some(2), "'viewer-headers' is true or false"),
        (format!("{upstream}[limits]\nhead = 5\n"), Some(2), "unknown option 'limits'"),
        (
            "upstream = [\n  'http://a.example',\n  'b.example',\n]\n".to_owned(),
            Some(3),
            "'b.example' is not an upstream URL",
        ),
        (format!("{upstream}health-path = 'health'\n"), Some(2), "'health' is not a path to check"),
        // What no line says.
        ("timeout = 5\n".to_owned(), None, "the proxy needs --upstream"),
        (format!("{upstream}health-interval = 5\n"), None, "--health-interval goes with --health-path"),
        (format!("{upstream}tls-cert = 'x.pem'\n"), None, "--tls-cert and --tls-key go together"),
        // Files that it names.
        (format!("{upstream}policy = {:?}\n", broken_policy.name()), None, "did you mean 'jitter'?"),
        (format!("{upstream}policy = 'no-such.toml'\n"), None, "no-such.toml: can't be read"),
    ] {
        let file = TempFile::new("toml", &content);
        let (is_good, text) = check(&file);
        assert!(!is_good && text.lines().count() == 1, "{content}: {text}");
        assert!(text.contains(reason), "{content}: {text}");
        if let Some(line) = line {
            assert!(text.starts_with(&format!("{}:{line}: ", file.name())), "{content}: {text}");
        }
        let output = run(&["proxy", "--listen", "127.0.0.1:0", "--config", file.name()]);
        assert_eq!(output.status.code(), Some(2), "{content}");
        assert!(
            String::from_utf8(output.stderr).unwrap().ends_with(&text),
            "{content}: the proxy says the same"
        );
    }
    let (is_good, text) = check(&TempFile::new("toml", upstream));
    assert!(is_good, "{text}");
}

#[test]
fn every_option_may_be_in_a_file() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let of_proxy = help.lines().skip_while(|line| !line.starts_with("origin_proxy proxy "));
    let of_proxy = of_proxy.take_while(|line| !line.starts_with("origin_proxy check-"));
    let names: Vec<_> = of_proxy.filter_map(|line| line.strip_prefix("    --")?.split(' ').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "config") {
        // No option takes a date, and each says so by its own name.
        let (is_good, text) = check(&TempFile::new("toml", format!("{name} = 2000-01-01\n")));
        assert!(!is_good && text.contains(&format!(":1: '{name}' ")), "{name}: {text}");
    }
}

#[test]
fn the_files_in_the_guides_can_be_used() {
    let folder = TempFolder::new();
    let (policy, secret) = ("[default]\njitter = 5\n", "a-secret-of-the-owner");
    let issued = Authority::new().issue(&["a.example"]);
    let read = |file: &TempFile| std::fs::read(file.path()).unwrap();
    for (name, content) in [
        ("policy.toml", policy.as_bytes().to_vec()),
        ("peers.txt", secret.as_bytes().to_vec()),
        ("store-secret", secret.as_bytes().to_vec()),
        ("tls/fullchain.pem", read(&issued.certificate)),
        ("tls/key.pem", read(&issued.key)),
    ] {
        folder.write(name, content);
    }
    for guide in ["FLEET.md", "RUNNING.md", "SHIELDING.md"] {
        let text = std::fs::read_to_string(format!("{}/docs/{guide}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let blocks: Vec<_> =
            text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(blocks.len(), 1, "{guide}");
        for block in blocks {
            let file = folder.write("larder.toml", block);
            let output = run(&["check-config", file.to_str().unwrap()]);
            assert!(output.status.success(), "{guide}: {}", String::from_utf8_lossy(&output.stderr));
        }
        // Each option that a guide names is one.
        let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        for option in words.filter(|word| word.starts_with("--") && word.len() > 3) {
            let is_of_others = [
                "--bench",
                "--features",
                "--file",
                "--tag",
                "--publish",
                "--volume",
                "--read-only",
                "--time",
                "--signal",
                "--what",
            ]
            .into_iter()
            .chain(["--help", "--now", "--release", "--features", "--example", "--deploy-hook"])
            .any(|other| other == option);
            assert!(is_of_others || help.contains(option), "{guide}: {option}");
        }
    }
}

#[test]
fn a_proxy_may_have_all_of_its_options_in_a_file() {
    let origin = Origin::new();
    let file = TempFile::new("toml", format!("listen = '127.0.0.1:0'\nupstream = {:?}\n", origin.upstream()));
    let proxy = Proxy::by_config(&file);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").answer(STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
}
