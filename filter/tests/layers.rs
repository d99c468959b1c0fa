//! The map in `lib.rs` is true: no file imports from a module below its own, and inside a module no
//! two files need each other.

#![cfg(not(target_arch = "wasm32"))] // It reads the sources.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A file, as the path of its module.
type File = Vec<String>;

/// The code of every file, without comments and tests.
fn sources(folder: &Path, module: &[String], into: &mut BTreeMap<File, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = [module, std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            sources(&path, &module, into);
        } else if name != "lib" && name != "tests" && module.first().unwrap() != "testing" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            into.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// What stands behind `start` and `::`, each path of a group for itself: `a::{b, c::D}` is `a::b`
/// and `a::c::D`.
fn paths(code: &str, start: &str) -> Vec<Vec<String>> {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = code.match_indices(start).map(|(at, _)| code.split_at(at));
    starts
        .filter(|(before, _)| !before.ends_with(goes_on))
        .flat_map(|(_, path)| tree(path.trim_start_matches(start)).0)
        .collect()
}

/// The paths of one branch, and the rest of the text.
fn tree(text: &str) -> (Vec<Vec<String>>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut all = Vec::new();
        loop {
            let (paths, after) = tree(rest);
            all.extend(paths);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return (all, rest.strip_prefix('}').unwrap_or(rest)),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    let head = |tail: Vec<String>| [vec![name.to_owned()], tail].concat();
    match rest.strip_prefix("::") {
        Some(below) => {
            let (paths, rest) = tree(below);
            (paths.into_iter().map(head).collect(), rest)
        }
        None => (vec![vec![name.to_owned()]], rest),
    }
}

/// The files that each file imports from.
fn imports(files: &BTreeMap<File, String>) -> BTreeMap<&File, BTreeSet<&File>> {
    let longest = |path: &[String]| {
        let prefixes = (1..=path.len()).rev().filter_map(|len| path.get(..len));
        prefixes
            .filter_map(|prefix| files.get_key_value(prefix))
            .map(|(file, _)| file)
            .next()
    };
    let of = |file: &File, code: &str| {
        let above = file.split_last().unwrap().1;
        let full = paths(code, "crate::");
        let beside = paths(code, "super::")
            .into_iter()
            .map(|path| [above.to_vec(), path].concat());
        // What a module re-exports from its own files.
        let below = paths(code, "pub use ")
            .into_iter()
            .map(|path| [file.clone(), path].concat());
        let all = full.into_iter().chain(beside).chain(below);
        let found: BTreeSet<&File> = all.filter_map(|path| longest(&path)).collect();
        found.into_iter().filter(|other| *other != file).collect()
    };
    files
        .iter()
        .map(|(file, code)| (file, of(file, code)))
        .collect()
}

/// A way from a file back to itself.
fn circle<'a>(
    imports: &BTreeMap<&'a File, BTreeSet<&'a File>>,
    way: &mut Vec<&'a File>,
    done: &mut BTreeSet<&'a File>,
) -> bool {
    let last = *way.last().unwrap();
    for next in imports.get(last).into_iter().flatten() {
        if way.contains(next) {
            way.push(next);
            return true;
        }
        if done.insert(next) {
            way.push(next);
            if circle(imports, way, done) {
                return true;
            }
            way.pop();
        }
    }
    false
}

#[test]
fn files_import_from_their_own_module_and_from_those_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    sources(&src, &[], &mut files);
    let map = fs::read_to_string(src.join("lib.rs")).unwrap();
    let modules: Vec<&str> = map
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|line| line.trim_end_matches(';'))
        .collect();
    let layer = |file: &File| {
        let place = modules
            .iter()
            .position(|module| module == file.first().unwrap());
        place.unwrap_or_else(|| panic!("{file:?} is not on the map"))
    };
    let imports = imports(&files);
    assert!(
        imports.values().map(BTreeSet::len).sum::<usize>() > 100,
        "{imports:?}"
    );
    for (file, others) in &imports {
        for other in others {
            assert!(
                layer(other) <= layer(file),
                "{} imports from {}, which stands below it",
                file.join("::"),
                other.join("::")
            );
        }
    }
    let mut done = BTreeSet::new();
    for file in imports.keys() {
        let mut way = vec![*file];
        if circle(&imports, &mut way, &mut done) {
            let names: Vec<String> = way.iter().map(|file| file.join("::")).collect();
            panic!("a circle: {}", names.join(" -> "));
        }
    }
}
