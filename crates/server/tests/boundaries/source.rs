//! Reads one source file: the modules it declares, what it imports, and the paths it writes, all outside tests.
//!
//! It works on tokens, so it skips comments, doc links and strings, and sees paths inside macros.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A path as written, by segment.
pub(crate) type Path = Vec<String>;

/// One module's text.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) children: Vec<Child>,
    /// Names of the items defined here.
    pub(crate) items: Vec<String>,
    pub(crate) imports: Vec<Import>,
    /// Paths of two or more segments outside imports.
    pub(crate) paths: Vec<Path>,
}

/// A `mod`.
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) test: bool,
    /// The text of a `mod name { … }`.
    pub(crate) inline: Option<Source>,
}

/// One name of a `use`.
pub(crate) struct Import {
    pub(crate) path: Path,
    /// The name it has here; `None` for a glob.
    pub(crate) name: Option<String>,
}

impl Source {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        let mut source = Self::default();
        source.tokens(tokens, Place::Module);
        Ok(source)
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.children.append(&mut other.children);
        self.items.append(&mut other.items);
        self.imports.append(&mut other.imports);
        self.paths.append(&mut other.paths);
    }

    fn tokens(&mut self, tokens: TokenStream, place: Place) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        let mut test = false;
        while let Some(token) = rest.first() {
            if let Some((attribute, inner)) = attribute(rest) {
                test |= is_cfg_test(attribute);
                if test && inner {
                    return;
                }
                self.tokens(attribute.stream(), Place::Inside);
                rest = &rest[if inner { 3 } else { 2 }..];
            } else if is_word(token, "pub") {
                rest = after_visibility(rest);
            } else if is_word(token, "mod") && rest.len() > 2 {
                rest = self.module(rest, std::mem::take(&mut test));
            } else if std::mem::take(&mut test) {
                rest = after_item(rest, place);
            } else if is_import(rest) {
                let end = rest.iter().position(|token| is_punct(token, ';'));
                let (tree, after) = rest.split_at(end.unwrap_or(rest.len()));
                self.import(&tree[1..], &[]);
                rest = after;
            } else if let TokenTree::Group(group) = token {
                self.tokens(group.stream(), Place::Inside);
                rest = &rest[1..];
            } else {
                rest = self.path(rest, place);
            }
        }
    }

    /// `mod name;` or `mod name { … }`.
    fn module<'a>(&mut self, rest: &'a [TokenTree], test: bool) -> &'a [TokenTree] {
        let inline = match &rest[2] {
            TokenTree::Group(group) => {
                let mut inline = Self::default();
                inline.tokens(group.stream(), Place::Module);
                Some(inline)
            }
            _ => None,
        };
        let name = rest[1].to_string();
        self.children.push(Child { name, test, inline });
        &rest[3..]
    }

    /// Reads one branch of a `use` whose path begins with `prefix`.
    fn import(&mut self, tree: &[TokenTree], prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let mut glob = false;
        for (at, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Group(group) => {
                    let branches: Vec<_> = group.stream().into_iter().collect();
                    for branch in branches.split(|token| is_punct(token, ',')) {
                        self.import(branch, &path);
                    }
                    return;
                }
                TokenTree::Ident(word) if word == "as" => {
                    name = tree.get(at + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) => path.push(word.to_string()),
                // `use ::name` is another crate, even if a module here has that name.
                _ if path.is_empty() => return,
                token => glob |= is_punct(token, '*'),
            }
        }
        // A trailing comma in a group leaves an empty branch.
        if tree.is_empty() {
            return;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if !glob {
            name = name.or_else(|| path.last().cloned());
        }
        self.imports.push(Import { path, name });
    }

    /// Reads a path, a defined name, or any other token.
    fn path<'a>(&mut self, rest: &'a [TokenTree], place: Place) -> &'a [TokenTree] {
        let mut path = Vec::new();
        let mut after = rest;
        while let Some(TokenTree::Ident(word)) = after.first() {
            path.push(word.to_string());
            after = &after[1..];
            match after {
                [a, b, ..] if is_joint_colon(a) && is_punct(b, ':') => after = &after[2..],
                _ => break,
            }
        }
        match path.len() {
            0 => &rest[1..],
            1 => {
                if place == Place::Module && DEFINES.contains(&path[0].as_str()) {
                    self.items.extend(after.first().map(ToString::to_string));
                }
                after
            }
            _ => {
                self.paths.push(path);
                after
            }
        }
    }
}

/// Whether tokens are items of a module or inside one.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Module,
    Inside,
}

/// `#[…]`, or the inner form `#![…]`.
fn attribute(rest: &[TokenTree]) -> Option<(&Group, bool)> {
    match rest {
        [hash, TokenTree::Group(group), ..] if is_punct(hash, '#') => Some((group, false)),
        [hash, bang, TokenTree::Group(group), ..] if is_punct(hash, '#') && is_punct(bang, '!') => {
            Some((group, true))
        }
        _ => None,
    }
}

/// `cfg(test)` or `cfg(all(test, …))`; `any(test, …)` is not only for tests.
fn is_cfg_test(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// What follows `pub`, `pub(crate)` and the like.
fn after_visibility(rest: &[TokenTree]) -> &[TokenTree] {
    match rest {
        [_, TokenTree::Group(group), after @ ..]
            if (group.stream().into_iter().next())
                .is_some_and(|token| SCOPES.iter().any(|scope| is_word(&token, scope))) =>
        {
            after
        }
        _ => &rest[1..],
    }
}

/// What follows the item, field, arm or statement at the start of `rest`.
fn after_item(rest: &[TokenTree], place: Place) -> &[TokenTree] {
    let import = is_import(rest);
    let mut item = import || place == Place::Module;
    for (at, token) in rest.iter().enumerate() {
        item |= ITEMS.iter().any(|word| is_word(token, word));
        let ends = match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !import,
            token => is_punct(token, ';') || (is_punct(token, ',') && !item),
        };
        if ends {
            return &rest[at + 1..];
        }
    }
    &[]
}

/// A `use` item, not the `use<'a>` of `impl Trait + use<'a>`.
fn is_import(rest: &[TokenTree]) -> bool {
    matches!(rest, [word, next, ..] if is_word(word, "use") && !is_punct(next, '<'))
}

/// The first half of `::`.
fn is_joint_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// The first word in the parentheses of a visibility.
const SCOPES: [&str; 4] = ["crate", "in", "self", "super"];

/// Keywords before the name of an item.
const DEFINES: [&str; 8] = [
    "const", "enum", "fn", "static", "struct", "trait", "type", "union",
];

/// Keywords of items and statements that end with a semicolon or a brace, not a comma.
const ITEMS: [&str; 4] = ["const", "fn", "impl", "let"];
