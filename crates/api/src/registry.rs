//! All operations, found by service and name, with their types erased.

use crate::call::Call;
use crate::error::Error;
use crate::pipeline::{self, Operation, Spec};
use crate::service::Service;
use awsproto::{FromWire, OperationInfo, ParameterError, Router, Shape, ToWire, Value};
use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::OnceLock;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An operation whose shapes are known only by schema.
pub trait AnyOperation: Send + Sync {
    /// Name and nature.
    fn spec(&self) -> &'static Spec;
    /// The operation as the codecs see it.
    fn info(&self) -> &'static OperationInfo;
    /// Whether a parsed request is one the operation takes; what [`AnyOperation::run`] asks first.
    ///
    /// # Errors
    /// The first member that it does not take.
    fn check(&self, input: Value) -> Result<(), ParameterError>;
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

    fn info(&self) -> &'static OperationInfo {
        const {
            let service = O::SPEC.service.info();
            let (http, success_status) = match O::SPEC.http {
                Some(http) => (Some((http.method, http.path)), http.status),
                None => (None, 200),
            };
            &OperationInfo {
                service: service.name,
                name: O::SPEC.name,
                protocol: service.protocol,
                http,
                success_status,
                input: <O::Input as Shape>::SCHEMA,
                output: <O::Output as Shape>::SCHEMA,
            }
        }
    }

    fn check(&self, input: Value) -> Result<(), ParameterError> {
        O::Input::from_wire(input).map(drop)
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

/// Every operation that AWS has as well: those its clients and its service models know.
pub fn of_aws() -> impl Iterator<Item = &'static dyn AnyOperation> {
    all().iter().copied().filter(|operation| operation.spec().service != Service::Strongroom)
}

/// Finds an operation.
pub fn find(service: Service, name: &str) -> Option<&'static dyn AnyOperation> {
    type Named = HashMap<(&'static str, &'static str), &'static dyn AnyOperation>;
    static NAMED: OnceLock<Named> = OnceLock::new();
    let named = NAMED.get_or_init(|| {
        let name = |op: &&'static dyn AnyOperation| (op.info().service, op.info().name);
        all().iter().map(|op| (name(op), *op)).collect()
    });
    named.get(&(service.info().name, name)).copied()
}

/// Finds the operation a request asks for.
pub(crate) fn router() -> &'static Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| {
        Router::new(Service::ALL.iter().map(|s| s.info()), all().iter().map(|op| op.info()))
    })
}
