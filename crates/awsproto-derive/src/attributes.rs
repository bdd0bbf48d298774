//! The words inside `#[shape(..)]`.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Ident, LitStr, Result, Token, parenthesized, punctuated::Punctuated};

/// Which conversions a structure gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Input,
    Output,
    Both,
}

/// `#[shape(..)]` on the structure.
pub(crate) struct StructAttributes {
    pub(crate) direction: Direction,
    /// Whether the schema has `DryRun` though the structure has no field for it.
    pub(crate) dry_run: bool,
    pub(crate) unsupported: Vec<String>,
    pub(crate) omitted: Vec<String>,
}

impl StructAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut this = Self {
            direction: Direction::Both,
            dry_run: false,
            unsupported: Vec::new(),
            omitted: Vec::new(),
        };
        for attribute in attributes.iter().filter(|a| a.path().is_ident("shape")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("input") {
                    this.direction = Direction::Input;
                } else if meta.path.is_ident("output") {
                    this.direction = Direction::Output;
                } else if meta.path.is_ident("dry_run") {
                    this.dry_run = true;
                } else if meta.path.is_ident("unsupported") {
                    this.unsupported.extend(names(&meta)?);
                } else if meta.path.is_ident("omitted") {
                    this.omitted.extend(names(&meta)?);
                } else {
                    return Err(meta
                        .error("expected input, output, dry_run, unsupported(..) or omitted(..)"));
                }
                Ok(())
            })?;
        }
        Ok(this)
    }
}

fn names(meta: &ParseNestedMeta<'_>) -> Result<Vec<String>> {
    let content;
    parenthesized!(content in meta.input);
    let names = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?;
    Ok(names.iter().map(ToString::to_string).collect())
}

/// `#[shape(..)]` on a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) query: Option<LitStr>,
    pub(crate) xml: Option<LitStr>,
    pub(crate) json: Option<LitStr>,
    pub(crate) list_item: Option<LitStr>,
    pub(crate) flattened: bool,
    pub(crate) location: Option<Location>,
    pub(crate) timestamp: Option<LitStr>,
    pub(crate) sensitive: bool,
    pub(crate) required: bool,
    pub(crate) default: bool,
    pub(crate) text: bool,
}

/// Where restJson1 carries the member.
pub(crate) enum Location {
    Label(Option<LitStr>),
    QueryString(Option<LitStr>),
    Header(LitStr),
    Payload,
    StatusCode,
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut this = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("shape")) {
            attribute.parse_nested_meta(|meta| this.word(&meta))?;
        }
        Ok(this)
    }

    fn word(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let word = meta.path.require_ident()?.to_string();
        match word.as_str() {
            "name" => self.name = Some(text(meta)?),
            "query" => self.query = Some(text(meta)?),
            "xml" => self.xml = Some(text(meta)?),
            "json" => self.json = Some(text(meta)?),
            "list_item" => self.list_item = Some(text(meta)?),
            "timestamp" => self.timestamp = Some(text(meta)?),
            "flattened" => self.flattened = true,
            "sensitive" => self.sensitive = true,
            "required" => self.required = true,
            "default" => self.default = true,
            "text" => self.text = true,
            "label" => self.place(meta, Location::Label(optional_text(meta)?))?,
            "querystring" => self.place(meta, Location::QueryString(optional_text(meta)?))?,
            "header" => self.place(meta, Location::Header(text(meta)?))?,
            "payload" => self.place(meta, Location::Payload)?,
            "status_code" => self.place(meta, Location::StatusCode)?,
            _ => return Err(meta.error("no such word in #[shape(..)] of a field")),
        }
        Ok(())
    }

    fn place(&mut self, meta: &ParseNestedMeta<'_>, location: Location) -> Result<()> {
        match self.location.replace(location) {
            None => Ok(()),
            Some(_) => Err(meta.error("a member is carried in one place")),
        }
    }
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    meta.value()?.parse()
}

fn optional_text(meta: &ParseNestedMeta<'_>) -> Result<Option<LitStr>> {
    if meta.input.peek(Token![=]) { text(meta).map(Some) } else { Ok(None) }
}
