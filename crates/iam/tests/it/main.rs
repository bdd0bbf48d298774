//! Authorization tables: text in, decision out.

mod conditions;
mod elements;
mod layers;
mod messages;
mod parser;
mod principals;
mod properties;
mod sigv4;
mod table;
