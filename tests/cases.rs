//! The table of cases in the crate's documentation names tests. Each of these tests exists.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;

/// The functions in each file, by the file's path.
fn functions(dir: &Path, into: &mut BTreeMap<String, BTreeSet<String>>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<', ' ']).next());
            into.insert(path.display().to_string(), names.map(str::to_owned).collect());
        }
    }
    Ok(())
}

/// Whether the path of a module, as in a test's name, may be that of this file.
fn may_be_in(modules: &[&str], file: &str) -> bool {
    let file = file.trim_end_matches(".rs").trim_end_matches("/main").trim_end_matches("/mod");
    // Tests that stand in the file that they test are in its module `tests`.
    let ends_with = |modules: &[&str]| file.ends_with(&format!("/{}", modules.join("/")));
    ends_with(modules) || matches!(modules, [outer @ .., "tests"] if ends_with(outer))
}

#[test]
fn every_test_that_the_table_names_is_there() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    functions(&root.join("src"), &mut files)?;
    functions(&root.join("tests"), &mut files)?;
    let table = fs::read_to_string(root.join("src/cases.md"))?;

    let is_name = |text: &str| {
        text.contains("::") && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | ':'))
    };
    let named: BTreeSet<&str> = table.split('`').skip(1).step_by(2).filter(|text| is_name(text)).collect();
    assert!(named.len() > 100, "the table is read as it was written");
    let missing: Vec<_> = named
        .into_iter()
        .filter(|name| {
            let path: Vec<_> = name.split("::").collect();
            let [modules @ .., test] = &path[..] else { return true };
            !files.iter().any(|(file, tests)| may_be_in(modules, file) && tests.contains(*test))
        })
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    Ok(())
}
