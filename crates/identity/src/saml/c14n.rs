//! Exclusive XML Canonicalization 1.0 without comments (W3C, xml-exc-c14n) of an element.
//!
//! Comments and processing instructions are never in the trees this is given. The parser keeps the
//! names of namespaces and not the prefixes that were written, so prefixes come from the text itself.

use super::xml::DEPTH_MAX;
use roxmltree::{Attribute, Node};
use std::collections::{BTreeMap, BTreeSet};

/// Prefixes and the namespaces they stand for; the default namespace's prefix is empty.
type Scope<'a> = BTreeMap<&'a str, &'a str>;

/// The bytes that are hashed or signed for an element.
///
/// `kept_prefixes` is the `PrefixList` of `InclusiveNamespaces`: these are written wherever they are
/// in scope. `left_out` is not written: the signature that lies in what it signs.
pub(super) fn exclusive(
    apex: Node<'_, '_>,
    kept_prefixes: &[&str],
    left_out: Option<Node<'_, '_>>,
) -> Vec<u8> {
    let mut writer = Writer { kept_prefixes, left_out, out: String::new() };
    writer.element(apex, &Scope::new(), 0);
    writer.out.into_bytes()
}

struct Writer<'w> {
    kept_prefixes: &'w [&'w str],
    left_out: Option<Node<'w, 'w>>,
    out: String,
}

impl Writer<'_> {
    /// Writes an element in what its ancestors have written of namespaces.
    fn element<'a>(&mut self, node: Node<'a, '_>, written: &Scope<'a>, depth: usize) {
        assert!(depth <= DEPTH_MAX, "deeper documents are not read");
        let (name, attributes) = (element_name(node), sorted_attributes(node));
        let mut scope = written.clone();
        self.out.push('<');
        self.out.push_str(name);
        for (prefix, namespace) in self.declarations(node, name, &attributes, written) {
            self.out.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
            self.out.push_str(prefix);
            self.value(namespace);
            scope.insert(prefix, namespace);
        }
        for attribute in &attributes {
            self.out.push(' ');
            self.out.push_str(attribute_name(node, attribute));
            self.value(attribute.value());
        }
        self.out.push('>');
        for child in node.children() {
            let left_out = self.left_out.is_some_and(|left_out| is_same(left_out, child));
            if child.is_element() && !left_out {
                self.element(child, &scope, depth + 1);
            } else if child.is_text() {
                self.text(child.text().unwrap_or_default());
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// The namespaces that an element has to declare, by prefix: those it uses or that are kept, unless
    /// an ancestor's declaration that was written says the same.
    fn declarations<'a>(
        &self,
        node: Node<'a, '_>,
        name: &'a str,
        attributes: &[Attribute<'a, '_>],
        written: &Scope<'a>,
    ) -> Scope<'a> {
        let scope = in_scope(node);
        let mut prefixes = BTreeSet::from([prefix(name)]);
        prefixes.extend(attributes.iter().filter_map(|attribute| {
            // An attribute without a prefix is in no namespace.
            Some(prefix(attribute_name(node, attribute))).filter(|prefix| !prefix.is_empty())
        }));
        let kept = self.kept_prefixes.iter().copied();
        prefixes.extend(kept.map(|kept| if kept == "#default" { "" } else { kept }));
        let mut declared = Scope::new();
        for prefix in prefixes.into_iter().filter(|prefix| *prefix != "xml") {
            let found = scope.get_key_value(prefix);
            let (prefix, namespace) = match found {
                Some((prefix, namespace)) => (*prefix, *namespace),
                // No default namespace is one without a name; other prefixes are in scope when used.
                None if prefix.is_empty() => ("", ""),
                None => continue,
            };
            let before = written.get(prefix).copied();
            let said = if prefix.is_empty() { Some(before.unwrap_or_default()) } else { before };
            if said != Some(namespace) {
                declared.insert(prefix, namespace);
            }
        }
        declared
    }

    fn value(&mut self, value: &str) {
        self.out.push_str("=\"");
        for c in value.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
    }
}

fn is_same(one: Node<'_, '_>, other: Node<'_, '_>) -> bool {
    one.id() == other.id()
        && std::ptr::eq(one.document().input_text(), other.document().input_text())
}

fn in_scope<'a>(node: Node<'a, '_>) -> Scope<'a> {
    node.namespaces().map(|found| (found.name().unwrap_or_default(), found.uri())).collect()
}

/// By the name of the namespace, then by the local name; those in no namespace are first.
fn sorted_attributes<'a, 'i>(node: Node<'a, 'i>) -> Vec<Attribute<'a, 'i>> {
    let mut attributes: Vec<_> = node.attributes().collect();
    attributes
        .sort_by_key(|attribute| (attribute.namespace().unwrap_or_default(), attribute.name()));
    attributes
}

/// The name of an element as it is written.
fn element_name<'a>(node: Node<'a, '_>) -> &'a str {
    let written = &node.document().input_text()[node.range()][1..];
    let end = written.find([' ', '\t', '\n', '/', '>']).expect("a tag has an end");
    &written[..end]
}

fn attribute_name<'a>(of: Node<'a, '_>, attribute: &Attribute<'_, '_>) -> &'a str {
    &of.document().input_text()[attribute.range_qname()]
}

fn prefix(name: &str) -> &str {
    name.split_once(':').map_or("", |(prefix, _)| prefix)
}
