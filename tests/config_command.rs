//! `crumbd config`, `crumbd completions` and `crumbd man`, and the example file.

#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use std::fs;
use std::process::Stdio;

use support::daemon;

/// What a command prints on standard output and standard error, and its exit code.
fn run(variables: &[(&str, &str)], args: &[&str]) -> (String, String, i32) {
    let output =
        daemon::command().envs(variables.iter().copied()).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// The line of a setting, without the spaces that align it.
fn line_of(shown: &str, name: &str) -> String {
    let is_wanted = |line: &&str| line.trim_start_matches("# ").split(' ').next() == Some(name);
    let line = shown.lines().find(is_wanted).unwrap_or_else(|| panic!("no line of {name}:\n{shown}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_setting_is_shown_with_its_value_and_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crumbd.toml");
    fs::write(
        &file,
        "listen = \"127.0.0.1:1\"\nmax-waiters = 7\ndrain = \"1s\"\nfeed = [\"push:\", \"a=stdin:\"]\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let variables = [("CRUMBD_DRAIN", "2s"), ("CRUMBD_KEEP_AGE", "20m"), ("CRUMBD_CONFIG", file)];
    let (shown, notes, code) = run(&variables, &["config", "show", "--keep-age", "30m"]);
    assert_eq!((notes.as_str(), code), ("", 0), "{shown}");
    let from_file =
        |setting: &str| format!("{setting} # config file {file}: {}", setting.split(' ').next().unwrap());
    for (name, line) in [
        ("listen", from_file("listen = \"127.0.0.1:1\"")),
        ("feed", from_file("feed = [\"push:\", \"a=stdin:\"]")),
        ("drain", "drain = \"2s\" # CRUMBD_DRAIN".to_owned()),
        ("keep-age", "keep-age = \"30m\" # --keep-age".to_owned()),
        ("keep-count", "# keep-count = \"16384\" # default".to_owned()),
        ("max-client-waiters", "# max-client-waiters # default: nine tenths of --max-waiters".to_owned()),
        ("state-dir", "# state-dir # not set".to_owned()),
    ] {
        assert_eq!(line_of(&shown, name), line, "{shown}");
    }

    // What it prints is a file with the same settings.
    let copy = dir.path().join("copy.toml");
    fs::write(&copy, &shown).unwrap();
    let (again, _, code) = run(&[], &["config", "show", "--config", copy.to_str().unwrap()]);
    assert_eq!(code, 0);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&shown));
}

#[test]
fn invalid_settings_are_reported_as_serve_reports_them() {
    let (shown, errors, code) =
        run(&[("CRUMBD_DRAIN", "soon")], &["config", "show", "--max-waiters", "many"]);
    assert_eq!((shown.as_str(), code), ("", 2), "{errors}");
    assert!(errors.contains("CRUMBD_DRAIN \"soon\" is no duration"), "{errors}");
    assert!(errors.contains("--max-waiters \"many\" is no whole number"), "{errors}");
    let serve = run(&[("CRUMBD_DRAIN", "soon")], &["serve", "--max-waiters", "many"]);
    assert_eq!((serve.1, serve.2), (errors, 2));
}

#[test]
fn the_example_is_a_valid_file_that_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crumbd.toml");
    let (example, _, code) = run(&[], &["config", "example"]);
    assert_eq!(code, 0);
    fs::write(&file, example).unwrap();
    let (with, _, _) = run(&[], &["config", "show", "--config", file.to_str().unwrap()]);
    let (without, _, _) = run(&[], &["config", "show"]);
    assert_eq!(with, without);
}

#[test]
fn every_command_has_a_manual_page_and_completions() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    let (_, errors, code) = run(&[], &["man", pages.to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    let (help, _, _) = run(&[], &["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"serve") && commands.contains(&"completions"), "{help}");
    for command in &commands {
        let page = fs::read_to_string(pages.join(format!("crumbd-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("\\-\\-help"), "{page}");
    }
    let serve = fs::read_to_string(pages.join("crumbd-serve.1")).unwrap();
    assert!(serve.contains("keep\\-bytes") && serve.contains("kept breadcrumbs"), "{serve}");

    for shell in ["bash", "zsh", "fish"] {
        let (script, errors, code) = run(&[], &["completions", shell]);
        assert_eq!(code, 0, "{errors}");
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
        assert!(script.contains("keep-bytes"), "{shell}");
    }
    // bash reads its script, and completes a command.
    let (script, _, _) = run(&[], &["completions", "bash"]);
    let ask = "COMP_WORDS=(crumbd hea); COMP_CWORD=1; _crumbd crumbd hea crumbd; echo \"${COMPREPLY[@]}\"";
    let output =
        std::process::Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "health", "{output:?}");

    let (_, errors, code) = run(&[], &["man", "/proc/nowhere"]);
    assert!(code == 1 && errors.contains("cannot be written into /proc/nowhere"), "{errors}");
}
