//! XML as far as SAML needs it, and read more strictly than XML asks.
//!
//! What is hashed and what is believed are taken from one tree, which is made once. Whatever lets two
//! readers see two things in one text is refused before: a document type (and with it entities), and
//! in messages also comments, CDATA and processing instructions. Line ends are normalized in the text
//! itself (XML 1.0, 2.11), since the parser leaves some of them.

use roxmltree::{Document, Node, ParsingOptions};
use std::collections::HashSet;

/// Elements, attributes' owners and texts of a message.
const MESSAGE_NODES_MAX: u32 = 10_000;
/// The same of a metadata document, which may describe many parties' endpoints.
const METADATA_NODES_MAX: u32 = 200_000;
/// Namespaces in scope of one element. Every element's are gone through to write its canonical form,
/// before it is known who sent it.
const NAMESPACES_MAX: usize = 32;
/// How deep elements may lie within another.
pub(super) const DEPTH_MAX: usize = 32;

/// A text with one kind of line end.
pub(super) struct Text(String);

impl Text {
    pub(super) fn new(text: &str) -> Self {
        Self(text.replace("\r\n", "\n").replace('\r', "\n"))
    }

    /// Reads a message: an element with nothing but elements, attributes and texts.
    pub(super) fn message(&self) -> Result<Document<'_>, String> {
        let body = self.0.strip_prefix("<?xml ").unwrap_or(&self.0);
        for (mark, what) in [
            ("<!DOCTYPE", "a document type"),
            ("<![CDATA[", "a CDATA section"),
            ("<!", "a comment"),
            ("<?", "a processing instruction"),
        ] {
            if body.contains(mark) {
                return Err(format!("it has {what}"));
            }
        }
        let document = self.parse(MESSAGE_NODES_MAX)?;
        let many = |node: Node<'_, '_>| node.namespaces().count() > NAMESPACES_MAX;
        if document.descendants().any(many) {
            return Err(format!("more than {NAMESPACES_MAX} namespaces are in scope"));
        }
        unique_ids(&document)?;
        Ok(document)
    }

    /// Reads a metadata document: comments may stand between what is read.
    pub(super) fn metadata(&self) -> Result<Document<'_>, String> {
        self.parse(METADATA_NODES_MAX)
    }

    fn parse(&self, nodes_limit: u32) -> Result<Document<'_>, String> {
        let options = ParsingOptions { allow_dtd: false, nodes_limit, entity_resolver: None };
        let document = Document::parse_with_options(&self.0, options)
            .map_err(|error| format!("it is not well-formed: {error}"))?;
        let deepest =
            document.descendants().filter(Node::is_element).map(depth).max().unwrap_or_default();
        if deepest > DEPTH_MAX {
            return Err(format!("its elements lie more than {DEPTH_MAX} deep"));
        }
        Ok(document)
    }
}

/// How many elements and the document a node lies in; counts no further than needed.
fn depth(node: Node<'_, '_>) -> usize {
    node.ancestors().take(DEPTH_MAX + 3).count().saturating_sub(1)
}

/// A reference by id has to lead to one element, whoever follows it: every attribute that some reader
/// may take for an id counts.
fn unique_ids(document: &Document<'_>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for node in document.descendants() {
        for attribute in node.attributes() {
            if attribute.name().eq_ignore_ascii_case("id") && !seen.insert(attribute.value()) {
                return Err(format!("two ids are {:?}", attribute.value()));
            }
        }
    }
    Ok(())
}

/// The elements in an element. Texts beside them have to be white space.
pub(super) fn elements<'a, 'i>(of: Node<'a, 'i>) -> Result<Vec<Node<'a, 'i>>, String> {
    let stray = |node: &Node<'_, '_>| node.text().is_some_and(|text| !text.trim().is_empty());
    if of.children().any(|node| node.is_text() && stray(&node)) {
        return Err(format!("{} has text beside its elements", of.tag_name().name()));
    }
    Ok(of.children().filter(Node::is_element).collect())
}

/// The elements of a name in an element.
pub(super) fn named<'a, 'i>(of: Node<'a, 'i>, name: (&str, &str)) -> Vec<Node<'a, 'i>> {
    of.children().filter(|node| node.is_element() && node.has_tag_name(name)).collect()
}

/// The one element of a name in an element, if it is there.
pub(super) fn at_most_one<'a, 'i>(
    of: Node<'a, 'i>,
    name: (&str, &str),
) -> Result<Option<Node<'a, 'i>>, String> {
    match named(of, name)[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(format!("{} has more than one {}", of.tag_name().name(), name.1)),
    }
}

/// The one element of a name in an element.
pub(super) fn one<'a, 'i>(of: Node<'a, 'i>, name: (&str, &str)) -> Result<Node<'a, 'i>, String> {
    at_most_one(of, name)?.ok_or_else(|| format!("{} has no {}", of.tag_name().name(), name.1))
}

/// The text of an element that has nothing else, without white space around it.
pub(super) fn text_of<'a>(of: Node<'a, '_>) -> Result<&'a str, String> {
    let mut children = of.children();
    match (children.next(), children.next()) {
        (None, _) => Ok(""),
        (Some(only), None) if only.is_text() => Ok(only.text().unwrap_or_default().trim()),
        _ => Err(format!("{} has more than a text", of.tag_name().name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_may_see_differently_is_refused() {
        for (text, why) in [
            ("<!DOCTYPE a><a/>", "a document type"),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "a document type"),
            ("<a>b<!-- c -->d</a>", "a comment"),
            ("<a><![CDATA[b]]></a>", "a CDATA section"),
            ("<a><?b c?></a>", "a processing instruction"),
            ("<?xml-stylesheet b?><a/>", "a processing instruction"),
            ("<a ID='1'><b Id='1'/></a>", "two ids"),
            ("<a ID='1'><b xml:id='1'/></a>", "two ids"),
            ("<a>&b;</a>", "not well-formed"),
            ("<a><b></a></b>", "not well-formed"),
            ("<a b='1' b='2'/>", "not well-formed"),
            ("<a/><a/>", "not well-formed"),
        ] {
            let text = Text::new(text);
            let refused = text.message().err().unwrap_or_else(|| panic!("{why}"));
            assert!(refused.contains(why), "{refused}");
        }
        let good = Text::new("<?xml version='1.0' encoding='UTF-8'?>\r\n<a>b\rc</a>");
        assert_eq!(text_of(good.message().unwrap().root_element()), Ok("b\nc"));
        let named = |n: usize| {
            let names: String = (0..n).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect();
            Text::new(&format!("<a{names}/>"))
        };
        assert!(named(NAMESPACES_MAX).message().is_ok());
        assert!(named(NAMESPACES_MAX + 1).message().is_err());
        let deep = |n: usize| Text::new(&format!("{}{}", "<a>".repeat(n), "</a>".repeat(n)));
        assert!(deep(DEPTH_MAX).message().is_ok());
        assert!(deep(DEPTH_MAX + 1).message().is_err());
        assert!(deep(100_000).metadata().is_err());
    }
}
