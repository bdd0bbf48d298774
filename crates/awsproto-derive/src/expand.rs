//! From a parsed structure to the generated code.

use crate::attributes::{Direction, FieldAttributes, Location, StructAttributes};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, GenericArgument, Ident, PathArguments, Result, Type};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "Shape is for structures; see string_enum!"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a shape has no type parameters"));
    }
    let members = match &data.fields {
        Fields::Named(fields) => fields.named.iter().map(Member::parse).collect::<Result<_>>()?,
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => {
            return Err(Error::new_spanned(fields, "a shape has named fields"));
        }
    };
    let attributes = StructAttributes::parse(&input.attrs)?;
    let name = &input.ident;
    let schema = schema(name, &members, &attributes);
    let direction = attributes.direction;
    let from = (direction != Direction::Output).then(|| from_wire(name, &members));
    let to = (direction != Direction::Input).then(|| to_wire(name, &members));
    Ok(quote! {
        #schema
        #from
        #to
    })
}

struct Member<'a> {
    field: &'a Ident,
    ty: &'a Type,
    name: String,
    attributes: FieldAttributes,
}

impl<'a> Member<'a> {
    fn parse(field: &'a syn::Field) -> Result<Self> {
        let attributes = FieldAttributes::parse(&field.attrs)?;
        let ident = field.ident.as_ref().ok_or_else(|| Error::new_spanned(field, "unnamed"))?;
        let written = ident.to_string();
        let name = attributes
            .name
            .as_ref()
            .map_or_else(|| pascal(written.trim_start_matches("r#")), syn::LitStr::value);
        if attributes.text {
            reject_unreadable_text_type(&field.ty)?;
        }
        Ok(Self { field: ident, ty: &field.ty, name, attributes })
    }

    fn schema(&self) -> Result<TokenStream> {
        let Self { ty, name, attributes, .. } = self;
        let kind =
            if attributes.text { text_kind(ty) } else { quote!(<#ty as ::awsproto::Wire>::KIND) };
        let (explicit, default) = (attributes.required, attributes.default);
        let required = if default {
            quote!(false)
        } else if explicit {
            quote!(true)
        } else if attributes.text {
            let required = !["Option", "Vec", "BTreeMap"].iter().any(|c| inner(ty, c).is_some());
            quote!(#required)
        } else {
            quote!(<#ty as ::awsproto::Wire>::REQUIRED)
        };
        let query = optional(attributes.query.as_ref());
        let xml = optional(attributes.xml.as_ref());
        let json = optional(attributes.json.as_ref());
        let list_item = optional(attributes.list_item.as_ref());
        let (flattened, sensitive) = (attributes.flattened, attributes.sensitive);
        let location = location(attributes.location.as_ref(), name);
        let timestamp = timestamp(attributes.timestamp.as_ref())?;
        Ok(quote! {
            ::awsproto::Member {
                name: #name,
                kind: #kind,
                required: #required,
                query: #query,
                xml: #xml,
                json: #json,
                list_item: #list_item,
                flattened: #flattened,
                location: #location,
                timestamp: #timestamp,
                sensitive: #sensitive,
            }
        })
    }

    fn read(&self) -> TokenStream {
        let Self { field, ty, name, attributes } = self;
        let outer = inner(ty, "Option");
        let read = match (attributes.text, outer) {
            (false, _) => quote!(<#ty as ::awsproto::FromWire>::from_wire),
            (true, None) => text_reader(ty),
            (true, Some(item)) => {
                let reader = text_reader(item);
                quote!(|value| #reader(value).map(::core::option::Option::Some))
            }
        };
        let absent = if attributes.required {
            quote!(|| ::core::option::Option::None)
        } else if attributes.default || (attributes.text && is_container(ty)) {
            quote!(|| ::core::option::Option::Some(::core::default::Default::default()))
        } else if attributes.text {
            quote!(|| ::core::option::Option::None)
        } else {
            quote!(<#ty as ::awsproto::FromWire>::absent)
        };
        quote! {
            #field: ::awsproto::wire::member_from(&mut fields, schema, #name, #read, #absent)?
        }
    }

    fn write(&self) -> TokenStream {
        let Self { field, ty, name, attributes } = self;
        let value = if attributes.text {
            match inner(ty, "Option") {
                Some(item) => {
                    let writer = text_writer(item);
                    quote!(self.#field.as_ref().map(#writer))
                }
                None => {
                    let writer = text_writer(ty);
                    quote!(::core::option::Option::Some((#writer)(&self.#field)))
                }
            }
        } else {
            quote!(::awsproto::ToWire::to_wire(&self.#field))
        };
        quote! {
            if let ::core::option::Option::Some(value) = #value {
                fields.push(#name, value);
            }
        }
    }
}

fn schema(name: &Ident, members: &[Member<'_>], attributes: &StructAttributes) -> TokenStream {
    let text = name.to_string();
    let (unsupported, omitted) = (&attributes.unsupported, &attributes.omitted);
    let members: Result<Vec<_>> = members.iter().map(Member::schema).collect();
    let members = match members {
        Ok(members) => members,
        Err(error) => return error.to_compile_error(),
    };
    let dry_run = attributes.dry_run.then(|| quote!(::awsproto::Member::DRY_RUN));
    quote! {
        impl ::awsproto::Shape for #name {
            const SCHEMA: &'static ::awsproto::Schema = &::awsproto::Schema {
                name: #text,
                members: &[#(#members,)* #dry_run],
                unsupported: &[#(#unsupported),*],
                omitted: &[#(#omitted),*],
            };
        }
        impl ::awsproto::Wire for #name {
            const KIND: ::awsproto::Kind =
                ::awsproto::Kind::Struct(<Self as ::awsproto::Shape>::SCHEMA);
        }
    }
}

fn from_wire(name: &Ident, members: &[Member<'_>]) -> TokenStream {
    let reads = members.iter().map(Member::read);
    quote! {
        impl ::awsproto::FromWire for #name {
            #[allow(unused_variables, unused_mut, reason = "a structure may have no members")]
            fn from_wire(
                value: ::awsproto::Value,
            ) -> ::core::result::Result<Self, ::awsproto::ParameterError> {
                let mut fields = ::awsproto::wire::fields_from(value)?;
                let schema = <Self as ::awsproto::Shape>::SCHEMA;
                ::core::result::Result::Ok(Self { #(#reads),* })
            }
        }
    }
}

fn to_wire(name: &Ident, members: &[Member<'_>]) -> TokenStream {
    let writes = members.iter().map(Member::write);
    quote! {
        impl ::awsproto::ToWire for #name {
            #[allow(unused_mut, reason = "a structure may have no members")]
            fn to_wire(&self) -> ::core::option::Option<::awsproto::Value> {
                let mut fields = ::awsproto::Fields::default();
                #(#writes)*
                ::core::option::Option::Some(::awsproto::Value::Struct(fields))
            }
        }
    }
}

/// `volume_id` -> `VolumeId`.
fn pascal(field: &str) -> String {
    field
        .split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

/// `VolumeId` -> `volumeId`.
fn camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

fn optional(text: Option<&syn::LitStr>) -> TokenStream {
    match text {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    }
}

fn location(location: Option<&Location>, name: &str) -> TokenStream {
    let or_camel =
        |text: &Option<syn::LitStr>| text.as_ref().map_or_else(|| camel(name), syn::LitStr::value);
    match location {
        None => quote!(::awsproto::Location::Body),
        Some(Location::Label(text)) => {
            let text = or_camel(text);
            quote!(::awsproto::Location::Label(#text))
        }
        Some(Location::QueryString(text)) => {
            let text = or_camel(text);
            quote!(::awsproto::Location::QueryString(#text))
        }
        Some(Location::Header(text)) => quote!(::awsproto::Location::Header(#text)),
        Some(Location::Payload) => quote!(::awsproto::Location::Payload),
        Some(Location::StatusCode) => quote!(::awsproto::Location::StatusCode),
    }
}

fn timestamp(format: Option<&syn::LitStr>) -> Result<TokenStream> {
    let Some(format) = format else { return Ok(quote!(::core::option::Option::None)) };
    let format = match format.value().as_str() {
        "iso8601" => quote!(Iso8601),
        "unix" => quote!(Unix),
        _ => return Err(Error::new_spanned(format, "expected iso8601 or unix")),
    };
    Ok(quote!(::core::option::Option::Some(::awsproto::TimestampFormat::#format)))
}

/// The last type argument of `Container<..>`.
fn inner<'a>(ty: &'a Type, container: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    if segment.ident != container {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.last()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

fn is_container(ty: &Type) -> bool {
    ["Option", "Vec", "BTreeMap"].iter().any(|container| inner(ty, container).is_some())
}

fn reject_unreadable_text_type(ty: &Type) -> Result<()> {
    match inner(ty, "Vec").or_else(|| inner(ty, "BTreeMap")) {
        Some(item) if inner(item, "Option").is_some() => {
            Err(Error::new_spanned(item, "items of a text list are not optional"))
        }
        _ => Ok(()),
    }
}

fn text_kind(ty: &Type) -> TokenStream {
    if let Some(item) = inner(ty, "Option") {
        return text_kind(item);
    }
    if let Some(item) = inner(ty, "Vec") {
        let kind = text_kind(item);
        return quote!(::awsproto::Kind::List(&#kind));
    }
    if let Some(item) = inner(ty, "BTreeMap") {
        let kind = text_kind(item);
        return quote!(::awsproto::Kind::Map(&#kind));
    }
    quote!(::awsproto::Kind::String)
}

fn text_reader(ty: &Type) -> TokenStream {
    if let Some(item) = inner(ty, "Vec") {
        let reader = text_reader(item);
        return quote!((|value| ::awsproto::wire::list_from(value, #reader)));
    }
    if let Some(item) = inner(ty, "BTreeMap") {
        let reader = text_reader(item);
        return quote!((|value| ::awsproto::wire::map_from(value, #reader)));
    }
    quote!(::awsproto::wire::text_from::<#ty>)
}

fn text_writer(ty: &Type) -> TokenStream {
    if let Some(item) = inner(ty, "Vec") {
        let writer = text_writer(item);
        return quote!(|list: &#ty| {
            ::awsproto::Value::List(list.iter().map(#writer).collect())
        });
    }
    if let Some(item) = inner(ty, "BTreeMap") {
        let writer = text_writer(item);
        return quote!(|map: &#ty| {
            ::awsproto::Value::Map(
                map.iter().map(|(key, item)| (key.clone(), (#writer)(item))).collect(),
            )
        });
    }
    quote!(|item: &#ty| {
        ::awsproto::Value::String(::std::string::ToString::to_string(item))
    })
}
