//! Finds import cycles between the modules of a crate, from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::source::{Import, Path, Source};

/// A crate's files: their paths below `src`, and their text.
pub(crate) type Sources = BTreeMap<String, String>;

/// The modules of one library or binary, and the imports between them.
pub(crate) struct Modules {
    modules: BTreeMap<Path, Source>,
    /// Imports from one module to another, with their paths as written.
    pub(crate) edges: BTreeMap<(Path, Path), BTreeSet<String>>,
    /// The files they were read from, including tests.
    pub(crate) files: BTreeSet<String>,
}

impl Modules {
    /// Follows the `mod` items, starting at the file `root`.
    pub(crate) fn read(sources: &Sources, root: &str) -> Result<Self, String> {
        let mut read = Self {
            modules: BTreeMap::new(),
            edges: BTreeMap::new(),
            files: BTreeSet::new(),
        };
        read.file(sources, root, "", Some(Vec::new()))?;
        read.add_edges();
        Ok(read)
    }

    /// Reads one file, whose modules are in `folder`. A test file has no `module`.
    fn file(
        &mut self,
        sources: &Sources,
        file: &str,
        folder: &str,
        module: Option<Path>,
    ) -> Result<(), String> {
        let source = Source::read(&sources[file]).map_err(|error| format!("{file}: {error}"))?;
        self.files.insert(file.to_owned());
        self.module(sources, source, folder, module)
    }

    fn module(
        &mut self,
        sources: &Sources,
        mut source: Source,
        folder: &str,
        module: Option<Path>,
    ) -> Result<(), String> {
        for child in &mut source.children {
            let path = module.as_ref().filter(|_| !child.test);
            let path = path.map(|module| join(module, &child.name));
            let stem = format!("{folder}{}", child.name);
            let folder = format!("{stem}/");
            if let Some(inline) = child.inline.take() {
                self.module(sources, inline, &folder, path)?;
                continue;
            }
            let file = [format!("{stem}.rs"), format!("{stem}/mod.rs")]
                .into_iter()
                .find(|file| sources.contains_key(file))
                .ok_or_else(|| format!("module {stem} has no file"))?;
            self.file(sources, &file, &folder, path)?;
        }
        source.children.retain(|child| !child.test);
        if let Some(module) = module {
            // A module may be declared once per platform.
            self.modules.entry(module).or_default().append(source);
        }
        Ok(())
    }

    /// Adds an edge for each path that leads to another module.
    fn add_edges(&mut self) {
        let mut edges = BTreeMap::new();
        for (from, source) in &self.modules {
            let imports = source.imports.iter().map(|import| &import.path);
            for path in imports.chain(&source.paths) {
                let Some((to, _)) = self.resolve(from, path, &mut BTreeSet::new()) else {
                    continue;
                };
                if is_nested(from, &to) {
                    continue;
                }
                let written: &mut BTreeSet<_> = edges.entry((from.clone(), to)).or_default();
                // A path through an imported name repeats what the import says.
                if written.is_empty() || ROOTS.contains(&path[0].as_str()) {
                    written.insert(path.join("::"));
                }
            }
        }
        self.edges = edges;
    }

    /// Resolves `path`, written in `from`, to a module and the rest of the path in it; `None` for a path into another
    /// crate. `met` ends the search when imports refer to each other.
    fn resolve(
        &self,
        from: &Path,
        path: &[String],
        met: &mut BTreeSet<(Path, String)>,
    ) -> Option<(Path, Path)> {
        let mut at = from.clone();
        let mut rest = path;
        match rest[0].as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" | "super" => {
                while let Some((first, after)) = rest.split_first()
                    && (first == "self" || first == "super")
                {
                    if first == "super" {
                        at.pop();
                    }
                    rest = after;
                }
            }
            name => {
                let (to, left) = self.step(&at, name, met)?;
                return self.walk(to, &[&left, &rest[1..]].concat(), met);
            }
        }
        self.walk(at, rest, met)
    }

    /// Resolves the rest of a path, as far as modules and their imports lead.
    fn walk(
        &self,
        at: Path,
        rest: &[String],
        met: &mut BTreeSet<(Path, String)>,
    ) -> Option<(Path, Path)> {
        let Some((name, after)) = rest.split_first() else {
            return Some((at, Vec::new()));
        };
        match self.step(&at, name, met) {
            Some((to, left)) if left.is_empty() => self.walk(to, after, met),
            Some((to, left)) => Some((to, [&left, after].concat())),
            None => Some((at, rest.to_vec())),
        }
    }

    /// Resolves one name in a module, if it is a child module or an import.
    fn step(
        &self,
        module: &Path,
        name: &str,
        met: &mut BTreeSet<(Path, String)>,
    ) -> Option<(Path, Path)> {
        let source = self.modules.get(module)?;
        if source.children.iter().any(|child| child.name == name) {
            return Some((join(module, name), Vec::new()));
        }
        let defined = source.items.iter().any(|item| item == name);
        if defined || !met.insert((module.clone(), name.to_owned())) {
            return None;
        }
        let named = |import: &&Import| import.name.as_deref() == Some(name);
        if let Some(import) = source.imports.iter().find(named) {
            return self.resolve(module, &import.path, met);
        }
        for glob in source.imports.iter().filter(|i| i.name.is_none()) {
            let Some((to, left)) = self.resolve(module, &glob.path, met) else {
                continue;
            };
            // What is left is an enum: the glob is for its variants.
            if to == *module || !left.is_empty() {
                continue;
            }
            match self.step(&to, name, met) {
                None if self.defines(&to, name) => return Some((to, vec![name.to_owned()])),
                None => {}
                found => return found,
            }
        }
        None
    }

    fn defines(&self, module: &Path, name: &str) -> bool {
        let source = self.modules.get(module);
        source.is_some_and(|source| source.items.iter().any(|item| item == name))
    }

    /// The cycles: sets of modules that each reach all the others.
    pub(crate) fn cycles(&self) -> Vec<Cycle> {
        let reached: BTreeMap<_, _> = (self.modules.keys())
            .map(|module| (module, self.reached(module)))
            .collect();
        let mut cycles = Vec::new();
        let mut done = BTreeSet::new();
        for (module, below) in &reached {
            let modules: BTreeSet<_> = below
                .iter()
                .filter(|other| reached[*other].contains(*module))
                .cloned()
                .collect();
            if !modules.is_empty() && done.insert(modules.clone()) {
                cycles.push(self.cycle(&modules));
            }
        }
        cycles
    }

    fn reached(&self, from: &Path) -> BTreeSet<Path> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            for (_, to) in self.edges.keys().filter(|(from, _)| from == module) {
                if reached.insert(to.clone()) {
                    open.push(to);
                }
            }
        }
        reached
    }

    fn cycle(&self, modules: &BTreeSet<Path>) -> Cycle {
        let within = |edge: &(Path, Path)| modules.contains(&edge.0) && modules.contains(&edge.1);
        let edges = self.edges.iter().filter(|(edge, _)| within(edge));
        Cycle {
            modules: modules.iter().map(|module| module.join("::")).collect(),
            edges: edges
                .map(|((from, to), paths)| {
                    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
                    let (from, to) = (from.join("::"), to.join("::"));
                    format!("{from} -> {to}: {}", paths.join(", "))
                })
                .collect(),
        }
    }
}

/// Modules that each reach all the others.
#[derive(Debug)]
pub(crate) struct Cycle {
    pub(crate) modules: Vec<String>,
    /// The imports between them, with their paths as written.
    pub(crate) edges: Vec<String>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, names) = (self.modules.len(), self.modules.join(", "));
        writeln!(f, "{count} modules: {names}")?;
        (self.edges.iter()).try_for_each(|edge| writeln!(f, "    {edge}"))
    }
}

/// The cycles in a crate's library and binary. A file that is part of neither is an error.
pub(crate) fn cycles(sources: &Sources) -> Result<Vec<Cycle>, String> {
    let mut cycles = Vec::new();
    let mut files = BTreeSet::new();
    for root in ["lib.rs", "main.rs"] {
        if sources.contains_key(root) {
            let modules = Modules::read(sources, root)?;
            cycles.extend(modules.cycles());
            files.extend(modules.files);
        }
    }
    match sources.keys().find(|file| !files.contains(*file)) {
        Some(file) => Err(format!("{file} is in no module that was read")),
        None => Ok(cycles),
    }
}

/// Whether one of two modules contains the other.
fn is_nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn join(module: &Path, name: &str) -> Path {
    let mut path = module.clone();
    path.push(name.to_owned());
    path
}

/// The first segment of a path within a crate, unless it is a name in scope.
const ROOTS: [&str; 3] = ["crate", "self", "super"];
