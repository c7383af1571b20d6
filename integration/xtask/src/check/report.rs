//! A report of form: sources without a header, the longest files and functions. It fails nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache;

/// One measured thing: its length in lines and where it is.
type Length = (usize, String);

/// Prints the report.
pub(super) fn print() -> Result<()> {
    let top = cache::checkout();
    let mut sources = Vec::new();
    collect(&top, &mut sources)?;
    let (mut headless, mut files, mut functions) = (Vec::new(), Vec::new(), Vec::new());
    for path in &sources {
        let text = std::fs::read_to_string(path)?;
        let name = path.strip_prefix(&top).unwrap_or(path).display().to_string();
        if !text.starts_with("//!") {
            headless.push(name.clone());
        }
        let production = production(&text);
        files.push((production.len(), name.clone()));
        functions
            .extend(lengths_of_functions(&production).into_iter().map(|(n, f)| (n, format!("{name}: {f}"))));
    }
    println!(
        "\n{} source files, {} production lines",
        files.len(),
        files.iter().map(|(n, _)| n).sum::<usize>()
    );
    println!(
        "without a header: {}",
        if headless.is_empty() { "none".to_owned() } else { headless.join(", ") }
    );
    longest("longest files", files);
    longest("longest functions", functions);
    println!();
    Ok(())
}

fn longest(what: &str, mut lengths: Vec<Length>) {
    lengths.sort_by(|a, b| b.cmp(a));
    println!("{what}:");
    for (lines, name) in lengths.iter().take(10) {
        println!("  {lines:>5}  {name}");
    }
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

/// The lines before the first inline test module.
fn production(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect()
}

/// Length and name of each function, from its `fn` line to the brace that closes it at the same indent.
fn lengths_of_functions(lines: &[&str]) -> Vec<Length> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(at) = code.find("fn ").filter(|at| {
            code[..*at].split_whitespace().all(|word| {
                matches!(word, "async" | "const" | "unsafe" | "extern") || word.starts_with("pub")
            })
        }) else {
            continue;
        };
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // A trait's method without a body ends with its head.
        let head = lines[start..].iter().find(|line| line.contains('{') || line.trim_end().ends_with(';'));
        if !head.is_some_and(|line| line.contains('{')) {
            continue;
        }
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        let end = match line.ends_with('}') {
            true => Some(0),
            false => lines[start..].iter().position(|line| *line == close),
        };
        if let Some(length) = end {
            found.push((length + 1, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_length_is_from_its_head_to_its_closing_brace() {
        let text = "impl X {\n    pub(crate) async fn a() {\n        1;\n    }\n}\n";
        let lines = production(text);
        assert_eq!(lengths_of_functions(&lines), [(3, "a".to_owned())]);
    }

    #[test]
    fn a_method_without_a_body_and_one_on_a_line_are_not_measured_to_the_next_brace() {
        let text = "trait X {\n    fn a(&self);\n    fn b(&self) {}\n}\n\nfn c() {\n}\n";
        assert_eq!(lengths_of_functions(&production(text)), [(1, "b".to_owned()), (2, "c".to_owned())]);
    }

    #[test]
    fn tests_do_not_count_as_production() {
        assert_eq!(production("a\n#[cfg(test)]\nmod tests {}\n"), ["a"]);
    }
}
