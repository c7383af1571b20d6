//! What is read from where, and what is refused with which words.

use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    workers: usize,
    state_dir: String,
    form: Form,
    #[serde(deserialize_with = "optional_duration")]
    request: Option<Duration>,
    drain: Drain,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Drain {
    #[serde(deserialize_with = "duration")]
    deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10) }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Text,
    Json,
}

/// No variable begins so.
const PREFIX: &str = "WEFT_PROCESS_TEST_";

fn read(toml: &str, flags: &[&str]) -> Result<Settings, String> {
    let file = tempfile::Builder::new().suffix("settings.toml").tempfile().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    load(Some(file.path()), PREFIX, &flags).map_err(|error| error.to_string())
}

#[test]
fn without_any_source_the_defaults_hold() {
    assert_eq!(load::<Settings>(None, PREFIX, &[]).unwrap(), Settings::default());
}

#[test]
fn the_file_is_read_and_a_flag_wins_over_it() {
    let settings = read(
        "workers = 2\nstate_dir = \"/a\"\nrequest = \"1m 30s\"",
        &["workers=3", "drain.deadline=500ms", "form=json"],
    );
    let expected = Settings {
        workers: 3,
        state_dir: "/a".to_owned(),
        form: Form::Json,
        request: Some(Duration::from_secs(90)),
        drain: Drain { deadline: Duration::from_millis(500) },
    };
    assert_eq!(settings.unwrap(), expected);
}

/// A test can't set variables while others run; cargo sets this one.
#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: String,
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "name = \"file\"").unwrap();
    let name = |prefix, flags: &[String]| load::<Package>(Some(file.path()), prefix, flags).unwrap().name;
    assert_eq!(name(PREFIX, &[]), "file");
    assert_eq!(name("CARGO_PKG_", &[]), "weft-process");
    assert_eq!(name("CARGO_PKG_", &["name=flag".to_owned()]), "flag");
}

#[test]
fn a_variable_that_is_no_setting_is_left_alone() {
    let package: Package = Sources::default().environment("CARGO_PKG_", &["name"]).read().unwrap();
    assert_eq!(package.name, "");
}

#[test]
fn errors_name_where_which_key_and_what_was_expected() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("[drain]\ndeadlin = 'x'", &[], &["settings.toml", "drain.deadlin", "expected one of `deadline`"]),
        ("workers = 'many'", &[], &["settings.toml", "workers", "many"]),
        ("request = '1 parsec'", &[], &["settings.toml", "request", "\"1 parsec\"", "500ms"]),
        ("[drain]\ndeadline = 10", &[], &["settings.toml", "drain.deadline"]),
        ("", &["zz=1"], &["--set zz=1", "`zz`, expected one of `workers`, `state_dir`, `form`"]),
        ("", &["form=xml"], &["form: unknown value `xml`, expected one of `text`, `json`"]),
        ("", &["workers"], &["--set workers", "KEY=VALUE"]),
        ("", &["=3"], &["--set =3", "KEY=VALUE"]),
        ("workers = ", &[], &["settings.toml", "line 1"]),
    ];
    for (text, flags, expected) in cases {
        let error = read(text, flags).unwrap_err();
        for part in *expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
        assert!(error.starts_with("settings: "), "{error}");
        assert!(!error.contains("``") && !error.contains("default."), "{error}");
    }
}

#[test]
fn what_is_nested_without_an_end_is_refused_before_the_stack_is_used_up() {
    let lists = format!("state_dir={}", "[".repeat(100_000));
    let tables = format!("state_dir={{a={}", "[{b=".repeat(40_000));
    let key = format!("{}=1", "a.".repeat(50_000));
    for flag in [lists, tables, key] {
        let error = read("", &[&flag]).unwrap_err();
        assert!(error.starts_with("settings: ") && error.contains("more than 64"), "{:.200}", error);
    }
    assert!(flag::unreadable(&"A__".repeat(50_000), "__", "1").is_some(), "a variable's name");
    let brackets = format!("state_dir=x{}", "[".repeat(100));
    assert_eq!(
        read("", &[&brackets]).unwrap().state_dir,
        format!("x{}", "[".repeat(100)),
        "text is not nested"
    );
}

#[test]
fn a_settings_own_flag_is_text_and_named_as_it_was_written() {
    let flag = |value| Sources::default().flag("--state-dir", "state_dir", value);
    assert_eq!(flag("1").read::<Settings>().unwrap().state_dir, "1");
    let wrong = flag("a").flag("--deadline", "drain.deadline", "soon").read::<Settings>();
    let error = wrong.unwrap_err().to_string();
    assert!(error.contains("drain.deadline: ") && error.contains("(from flag --deadline soon)"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_and_not_the_defaults() {
    let missing = Path::new("/nonexistent/weft.toml");
    let error = load::<Settings>(Some(missing), PREFIX, &[]).unwrap_err();
    assert!(matches!(error, InvalidSettings::File { .. }), "{error:?}");
    assert!(error.to_string().contains("/nonexistent/weft.toml: No such file"), "{error}");
}

#[test]
fn a_value_that_figment_would_misread_is_refused_by_name() {
    for flag in ["state_dir=\"é\\\"x\"", "state_dir= [\"é\\t\"]"] {
        let error = read("", &[flag]).unwrap_err();
        assert!(error.starts_with("settings: state_dir: ") && error.contains("backslash"), "{error}");
    }
    for (flag, value) in
        [("state_dir=\"a\\tb\"", "a\tb"), ("state_dir=é\\x", "é\\x"), ("state_dir=\"é\"", "é")]
    {
        assert_eq!(read("", &[flag]).unwrap().state_dir, value);
    }
}
