//! JSON from outside, read with the parser buffers of the current thread.
//!
//! simd-json's tape is a flat list of nodes, so no input can make us recurse.

use std::cell::RefCell;

use simd_json::{Buffers, Node, StaticNode, Tape};

use crate::limits::{JSON_DEPTH_MAX, MESSAGE_BYTES_MAX};

/// Nodes a thread keeps room for between messages (24 bytes each). A longer tape is freed, not kept.
const NODES_KEPT_MAX: usize = 1024;

struct Parser {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::new(Parser {
        buffers: Buffers::with_max_depth(MESSAGE_BYTES_MAX as usize, JSON_DEPTH_MAX),
        tape: None,
    });
}

/// A part of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'t, 'b> {
    Null,
    Bool(bool),
    Float(f64),
    Signed(i64),
    Unsigned(u64),
    String(&'b str),
    Object(Elements<'t, 'b>),
    Array(Elements<'t, 'b>),
}

/// What is inside of an object (keys and values in turn) or an array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Elements<'t, 'b> {
    len: usize,
    nodes: &'t [Node<'b>],
}

/// Parses `json`, which is overwritten, and passes the document to `read`; `None` if it is not JSON.
pub(crate) fn with_document<R>(
    json: &mut [u8],
    read: impl FnOnce(Value<'_, '_>) -> R,
) -> Option<R> {
    PARSER.with_borrow_mut(|parser| {
        let mut tape = parser.tape.take().unwrap_or_else(Tape::null).reset();
        let parsed = simd_json::fill_tape(json, &mut parser.buffers, &mut tape);
        let read = match parsed {
            Ok(()) => split_first(&tape.0).map(|(document, _)| read(document)),
            Err(_) => None,
        };
        if tape.0.capacity() <= NODES_KEPT_MAX {
            parser.tape = Some(tape.reset());
        }
        read
    })
}

impl<'t, 'b> Elements<'t, 'b> {
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The elements of an array.
    pub(crate) fn values(self) -> impl Iterator<Item = Value<'t, 'b>> {
        let mut nodes = self.nodes;
        std::iter::from_fn(move || {
            let (value, rest) = split_first(nodes)?;
            nodes = rest;
            Some(value)
        })
    }

    /// The members of an object.
    pub(crate) fn members(self) -> impl Iterator<Item = (&'b str, Value<'t, 'b>)> {
        let mut values = self.values();
        std::iter::from_fn(move || match (values.next()?, values.next()?) {
            (Value::String(key), value) => Some((key, value)),
            _ => None,
        })
    }
}

/// The value at the front, and the nodes behind it.
fn split_first<'t, 'b>(nodes: &'t [Node<'b>]) -> Option<(Value<'t, 'b>, &'t [Node<'b>])> {
    let (first, rest) = nodes.split_first()?;
    // `count` is the number of nodes inside, at all depths.
    let inside = |len: usize, count: usize| {
        let (nodes, rest) = rest.split_at_checked(count)?;
        Some((Elements { len, nodes }, rest))
    };
    Some(match *first {
        Node::Object { len, count } => {
            let (members, rest) = inside(len, count)?;
            (Value::Object(members), rest)
        }
        Node::Array { len, count } => {
            let (elements, rest) = inside(len, count)?;
            (Value::Array(elements), rest)
        }
        Node::String(text) => (Value::String(text), rest),
        Node::Static(StaticNode::Null) => (Value::Null, rest),
        Node::Static(StaticNode::Bool(value)) => (Value::Bool(value), rest),
        Node::Static(StaticNode::F64(value)) => (Value::Float(value), rest),
        Node::Static(StaticNode::I64(value)) => (Value::Signed(value), rest),
        Node::Static(StaticNode::U64(value)) => (Value::Unsigned(value), rest),
    })
}
