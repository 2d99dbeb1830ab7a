//! Services that only the leader offers.

use shoal_coordination::Leader;
use shoal_wire::status::standby;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// A service while this coordinator leads, and a refusal while it does not. Clones share it.
#[derive(Debug)]
pub(crate) struct Seat<S> {
    taken: Arc<RwLock<Option<(Leader, S)>>>,
}

impl<S> Seat<S> {
    pub(crate) fn take(&self, leader: &Leader, service: S) {
        *self.taken.write().unwrap_or_else(PoisonError::into_inner) = Some((leader.clone(), service));
    }

    pub(crate) fn leave(&self) {
        *self.taken.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<S> Default for Seat<S> {
    fn default() -> Self {
        Self { taken: Arc::default() }
    }
}

impl<S> Clone for Seat<S> {
    fn clone(&self) -> Self {
        Self { taken: self.taken.clone() }
    }
}

impl<S: NamedService> NamedService for Seat<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Seat<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // A leader that was paused for longer than its lease is found out here, before it has noticed itself.
        let taken = self.taken.read().unwrap_or_else(PoisonError::into_inner);
        let service = taken.as_ref().filter(|(leader, _)| leader.leads()).map(|(_, service)| service.clone());
        match service {
            Some(mut service) => Box::pin(service.call(request)),
            None => Box::pin(std::future::ready(Ok(standby().into_http()))),
        }
    }
}
