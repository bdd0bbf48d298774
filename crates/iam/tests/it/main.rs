//! Authorization tables: text in, decision out.

mod cases;
mod conditions;
mod differential;
mod elements;
mod layers;
mod messages;
mod operators;
mod parser;
mod principals;
mod properties;
mod reference;
mod sigv4;
mod table;
