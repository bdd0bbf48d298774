//! `#[derive(Shape)]`: the schema of a structure and its conversion to and from a value tree.
//!
//! The guide for users is in the documentation of `awsproto`. Everything wrong with an attribute is
//! a compile error at that attribute.

mod attributes;
mod expand;

use proc_macro::TokenStream;

/// Derives `Shape` with `FromWire` (input), `ToWire` (output), or both for parts of either.
#[proc_macro_derive(Shape, attributes(shape))]
pub fn derive_shape(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
