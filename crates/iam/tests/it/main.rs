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

/// A random case is some hundred small allocations, and twenty million cases are many.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
