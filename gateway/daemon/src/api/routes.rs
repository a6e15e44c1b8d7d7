//! The table of what can be asked: each entry has a path, what it takes and gives, in words and as types, and the least role that may ask it. The OpenAPI
//! document is made of it ([`super::openapi`]).
//!
//! Always true: what is not said to be [open](Routes::open) is asked by nobody without a role, and what changes something is in the audit log.

use super::Control;
use super::guard::{self, Guard};
use super::openapi::{Schemas, Shape};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{HeaderMap, Method};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use headgate_admin::Role;
use schemars::JsonSchema;
use serde::Serialize;
use std::future::Future;

/// What all paths begin with.
pub(super) const PREFIX: &str = "/api/v1";

/// Bytes of a body that anybody may send.
const SMALL_BODY: usize = 8 << 10;

/// One entry.
pub(super) struct Operation {
    pub(super) method: Method,
    /// Below [`PREFIX`].
    pub(super) path: &'static str,
    /// What it is for, in a sentence.
    pub(super) summary: &'static str,
    /// `None`: anybody may ask.
    pub(super) role: Option<Role>,
    pub(super) describe: fn(&mut Shape, &mut Schemas),
}

/// All entries, and who answers them.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Control>,
    operations: Vec<Operation>,
}

impl Routes {
    pub(super) fn get<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(Method::GET, role, false, path, summary, handler)
    }

    /// Gives a file that is worth a line in the audit log.
    pub(super) fn fetch<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(Method::GET, role, true, path, summary, handler)
    }

    /// Asks with a body, and changes nothing that lasts.
    pub(super) fn ask<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.quiet(Method::POST, role, path, summary, handler)
    }

    /// By whatever method, and not worth a line in the audit log.
    pub(super) fn quiet<H, T, D>(
        self,
        method: Method,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(method, role, false, path, summary, handler)
    }

    pub(super) fn post<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(Method::POST, role, true, path, summary, handler)
    }

    pub(super) fn put<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(Method::PUT, role, true, path, summary, handler)
    }

    pub(super) fn delete<H, T, D>(
        self,
        role: Role,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        self.guarded(Method::DELETE, role, true, path, summary, handler)
    }

    /// For everybody who reaches the listener.
    pub(super) fn open<H, T, D>(
        mut self,
        method: Method,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        let filter = filter(&method);
        // Nobody is known yet who sends a body.
        let handler = on(filter, handler).layer(DefaultBodyLimit::max(SMALL_BODY));
        self.router = self.router.route(&format!("{PREFIX}{path}"), handler);
        self.note::<H, D>(method, path, summary, None)
    }

    fn guarded<H, T, D>(
        mut self,
        method: Method,
        role: Role,
        audited: bool,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Control> + Described<D>,
        T: 'static,
    {
        let guard = Guard {
            role,
            action: audited.then_some(summary),
        };
        let guarded = on(filter(&method), handler).route_layer(from_fn_with_state(guard, guard::pass));
        self.router = self.router.route(&format!("{PREFIX}{path}"), guarded);
        self.note::<H, D>(method, path, summary, Some(role))
    }

    fn note<H: Described<D>, D>(
        mut self,
        method: Method,
        path: &'static str,
        summary: &'static str,
        role: Option<Role>,
    ) -> Self {
        self.operations.push(Operation {
            method,
            path,
            summary,
            role,
            describe: H::describe,
        });
        self
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    pub(super) fn into_parts(self) -> (Router<Control>, Vec<Operation>) {
        (self.router, self.operations)
    }
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("a method that HTTP has")
}

/// A handler whose types say what it takes and gives.
pub(super) trait Described<Args> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas);
}

/// What a handler takes.
pub(super) trait Taken {
    fn describe(_: &mut Shape, _: &mut Schemas) {}
}

/// What a handler gives.
pub(super) trait Given {
    fn describe(shape: &mut Shape, schemas: &mut Schemas);
}

macro_rules! described {
    ($($arg:ident),*) => {
        impl<F, Fut, R, $($arg),*> Described<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut,
            Fut: Future<Output = R>,
            R: Given,
            $($arg: Taken,)*
        {
            #[allow(unused_variables)]
            fn describe(shape: &mut Shape, schemas: &mut Schemas) {
                $(<$arg as Taken>::describe(shape, schemas);)*
                R::describe(shape, schemas);
            }
        }
    };
}
described!();
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);

impl Taken for axum::extract::State<Control> {}
impl<T> Taken for axum::extract::Path<T> {}
impl<T> Taken for axum::extract::Extension<T> {}
impl Taken for HeaderMap {}

impl<T: JsonSchema> Taken for axum::extract::Query<T> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        shape.query.extend(schemas.fields_of::<T>());
    }
}

impl<T: JsonSchema> Taken for axum::extract::Json<T> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        shape.body = Some(("application/json", schemas.taken::<T>()));
    }
}

/// The bytes of the body as they come.
impl Taken for axum::body::Body {
    fn describe(shape: &mut Shape, _: &mut Schemas) {
        shape.body = Some(("application/octet-stream", serde_json::json!({})));
    }
}

impl<T: Given, E> Given for Result<T, E> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        T::describe(shape, schemas);
    }
}

impl<T: JsonSchema> Given for axum::Json<T> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        shape.answer = ("application/json", schemas.given::<T>());
    }
}

/// Bytes of a file.
impl Given for axum::response::Response {
    fn describe(shape: &mut Shape, _: &mut Schemas) {
        shape.answer = ("application/octet-stream", serde_json::json!({}));
    }
}

/// An answer that says what it has changed, for the audit log.
pub(super) struct Changed<T> {
    pub(super) answer: T,
    pub(super) before: Option<serde_json::Value>,
    pub(super) after: Option<serde_json::Value>,
}

impl<T> Changed<T> {
    /// What was there before, and is now.
    pub(super) fn new(answer: T, before: Option<impl Serialize>, after: Option<impl Serialize>) -> Self {
        let shown = |value: serde_json::Result<_>| value.ok();
        Self {
            answer,
            before: before.map(serde_json::to_value).and_then(shown),
            after: after.map(serde_json::to_value).and_then(shown),
        }
    }
}

impl<T: Given> Given for Changed<T> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        T::describe(shape, schemas);
    }
}

impl<T: axum::response::IntoResponse> axum::response::IntoResponse for Changed<T> {
    fn into_response(self) -> axum::response::Response {
        let mut response = self.answer.into_response();
        response.extensions_mut().insert(guard::Difference {
            before: self.before,
            after: self.after,
        });
        response
    }
}

/// One JSON value in each line, as they come.
pub(super) struct Lines<T> {
    body: axum::body::Body,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Lines<T> {
    /// Whole lines.
    pub(super) fn new(body: axum::body::Body) -> Self {
        Self {
            body,
            of: std::marker::PhantomData,
        }
    }
}

impl<T> axum::response::IntoResponse for Lines<T> {
    fn into_response(self) -> axum::response::Response {
        let kind = [(axum::http::header::CONTENT_TYPE, "application/x-ndjson")];
        (kind, self.body).into_response()
    }
}

impl<T: JsonSchema> Given for Lines<T> {
    fn describe(shape: &mut Shape, schemas: &mut Schemas) {
        shape.answer = ("application/x-ndjson", schemas.given::<T>());
    }
}
