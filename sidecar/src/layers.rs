//! Guards the map: no file imports from a layer below its own, and the files of a layer form no
//! circle. Layers stand in `main.rs`, lowest first. Imports are `use` lines and paths written in
//! full; tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// A module by its segments; the root has none.
type Module = Vec<String>;

#[test]
fn arrows_run_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let main = read_to_string(root.join("main.rs")).unwrap();
    let layers: Vec<&str> = main.lines().filter_map(layer).collect();
    let mut files = Vec::new();
    find(&root, &mut files);
    let named = files.iter().map(|file| (module(&root, file), file));
    let modules: BTreeMap<Module, &PathBuf> = named.filter(|(it, _)| !it.is_empty()).collect();
    assert!(modules.len() > 80, "only {} files found", modules.len());
    let mut inside: BTreeSet<(&Module, Module)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for (from, file) in &modules {
        let text = code(&read_to_string(file).unwrap());
        for path in paths(&text, from, &modules) {
            let rank = |module: &Module| layers.iter().position(|layer| *layer == module[0]);
            match rank(&path).cmp(&rank(from)) {
                std::cmp::Ordering::Greater => wrong.push(format!("{from:?} imports {path:?}")),
                // A file may use what the modules around it hold.
                std::cmp::Ordering::Equal if !from.starts_with(&path) => {
                    inside.insert((from, path));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "from a layer below: {wrong:#?}");
    // What imports nothing that is left is in no circle.
    let mut count = usize::MAX;
    while inside.len() < count {
        count = inside.len();
        let importing: BTreeSet<Module> = inside.iter().map(|(from, _)| (*from).clone()).collect();
        inside.retain(|(_, to)| importing.contains(to));
    }
    assert!(inside.is_empty(), "circles lie within {inside:#?}");
}

/// `mod name;` → its name.
fn layer(line: &str) -> Option<&str> {
    line.strip_prefix("mod ")?.strip_suffix(';')
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.file_stem().unwrap().to_str().unwrap() {
            "tests" | "fixture" | "layers" => {}
            _ if path.is_dir() => find(&path, files),
            _ => files.push(path),
        }
    }
}

fn module(root: &Path, file: &Path) -> Module {
    let below = file.strip_prefix(root).unwrap().with_extension("");
    let parts = below.iter().map(|it| it.to_str().unwrap().to_owned());
    parts.filter(|it| it != "main").collect()
}

/// The text without comments and tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text.lines();
    lines
        .filter_map(|line| line.split("//").next())
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The modules that a file names.
fn paths(text: &str, from: &Module, modules: &BTreeMap<Module, &PathBuf>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in text.match_indices("::") {
        let start = text[..at].rfind(|c| !is_word(c)).map_or(0, |it| it + 1);
        let (before, word) = (&text[..start], &text[start..at]);
        let mut child = from.clone();
        child.push(word.to_owned());
        let mut names = Vec::new();
        if before.ends_with(':') {
            continue;
        } else if word == "crate" {
            expand(&text[at + 2..], Vec::new(), &mut names);
        } else if word == "super" || word == "self" || modules.contains_key(&child) {
            expand(&text[start..], from.clone(), &mut names);
        }
        for mut name in names {
            while !name.is_empty() && !modules.contains_key(&name) {
                name.pop();
            }
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

/// All paths of `a::{b, c::d}` below `base`; what follows them.
fn expand<'a>(text: &'a str, base: Module, into: &mut Vec<Module>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest.trim_start(), base.clone(), into).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let mut path = base;
    match word {
        "super" => drop(path.pop()),
        "self" | "" => {}
        word => path.push(word.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(below) => expand(below, path, into),
        None => {
            into.push(path);
            rest
        }
    }
}
