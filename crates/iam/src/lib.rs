//! The policy language, its evaluator and request signatures. Pure functions: no I/O, no clock.
//!
//! A policy text becomes a [`Policy`] by [`Policy::parse`]; [`evaluate`] decides one [`Request`]
//! against all [`Layers`] that concern it and returns a [`Decision`] that carries the whole
//! [`Trace`] it was computed from; [`simulate`] decides one that nobody makes. Who has which policies is the business of crates above.
//!
//! Two invariants hold whatever the policies say: an explicit deny wins, and what is not allowed is
//! denied.

mod compare;
mod condition;
mod context;
mod evaluate;
mod json;
mod parse;
mod pattern;
mod policy;
mod principal;
mod principal_element;
mod span;
mod trace;

pub mod lint;
pub mod sigv4;

pub use context::{Context, ContextValue, after_prefix, is_multivalued};
pub use evaluate::{
    AttachedPolicy, Decision, GrantMatch, Layers, Reason, Request, ResourceLayer, context_value,
    evaluate, simulate,
};
pub use parse::{POLICY_BYTES_MAX, TEXT_BYTES_MAX};
pub use policy::{
    Bindings, Effect, Policy, PolicyError, PolicyKind, Statement, StatementPrincipal, Version,
    render,
};
pub use principal::{Maker, Principal, PrincipalKind, PrincipalType};
pub use principal_element::PrincipalMatch;
pub use span::{Position, Span};
pub use trace::{
    GrantTrace, Layer, Mismatch, Outcome, PolicyTrace, StatementRef, StatementTrace, Trace,
};
