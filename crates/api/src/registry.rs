//! All operations, found by service and name, with their types erased.

use crate::call::Call;
use crate::error::Error;
use crate::pipeline::{self, Operation, Spec};
use crate::service::Service;
use awsproto::{OperationInfo, Schema, Shape, ToWire, Value};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An operation whose shapes are known only by schema.
pub trait AnyOperation: Send + Sync {
    /// Name and nature.
    fn spec(&self) -> &'static Spec;
    /// The request's schema.
    fn input(&self) -> &'static Schema;
    /// The reply's schema.
    fn output(&self) -> &'static Schema;
    /// Runs the whole pipeline on a parsed request.
    fn run<'a>(&self, call: &'a Call, input: Value) -> BoxFuture<'a, Result<Value, Error>>;
}

/// The erased form of `O`.
pub struct Erased<O>(PhantomData<O>);

impl<O> Erased<O> {
    /// The only value.
    pub const NEW: Self = Self(PhantomData);
}

impl<O: Operation> AnyOperation for Erased<O> {
    fn spec(&self) -> &'static Spec {
        const { &O::SPEC }
    }

    fn input(&self) -> &'static Schema {
        <O::Input as Shape>::SCHEMA
    }

    fn output(&self) -> &'static Schema {
        <O::Output as Shape>::SCHEMA
    }

    fn run<'a>(&self, call: &'a Call, input: Value) -> BoxFuture<'a, Result<Value, Error>> {
        Box::pin(async move {
            let output = pipeline::run::<O>(call, input).await?;
            Ok(output.to_wire().unwrap_or_else(Value::empty))
        })
    }
}

/// Every operation served.
pub fn all() -> &'static [&'static dyn AnyOperation] {
    crate::ops::OPERATIONS
}

/// Finds an operation.
pub fn find(service: Service, name: &str) -> Option<&'static dyn AnyOperation> {
    all().iter().copied().find(|op| op.spec().service == service && op.spec().name == name)
}

/// The operations as the codecs see them.
pub fn infos() -> Vec<OperationInfo> {
    all().iter().map(|op| info(*op)).collect()
}

fn info(op: &dyn AnyOperation) -> OperationInfo {
    let Spec { service, name, http, .. } = *op.spec();
    let service = service.info();
    OperationInfo {
        service: service.name,
        name,
        protocol: service.protocol,
        http: http.map(|http| (http.method, http.path)),
        success_status: http.map_or(200, |http| http.status),
        input: op.input(),
        output: op.output(),
    }
}
