//! Objects of the API: the providers, rules and keys of the configuration file and those created
//! through the API. Their endpoints are in `crud.rs`; what each kind means is in its own file.

use async_trait::async_trait;
use llm_router_store::StoreError;
use serde::Serialize;

use crate::page::ListPage;

/// The objects of one kind: those of the file, which are read-only, and those created through the
/// API.
#[async_trait]
pub trait Collection: Send + Sync {
    /// An object, as the API returns it.
    type Object: ApiObject;
    /// The content of an object, as a client sends it.
    type Spec: Send;

    /// Returns the first `limit` objects after the one with the id `after`.
    ///
    /// # Errors
    /// If no object has that id, or the store is unavailable.
    async fn list(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage<Self::Object>, ObjectError>;

    /// Returns an object by its id.
    ///
    /// # Errors
    /// If it doesn't exist, or the store is unavailable.
    async fn get(&self, id: &str) -> Result<Self::Object, ObjectError>;

    /// Creates an object. It is active in this process when the call returns.
    ///
    /// # Errors
    /// If the content is invalid, its id or name is taken, or the store is unavailable.
    async fn create(&self, spec: Self::Spec, actor: &str) -> Result<Self::Object, ObjectError>;

    /// Replaces the content of an object, if it has the expected version.
    ///
    /// # Errors
    /// If the content is invalid, the object is missing, read-only or has another version, or the
    /// store is unavailable.
    async fn replace(
        &self,
        id: &str,
        spec: Self::Spec,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<Self::Object, ObjectError>;

    /// Deletes an object, if it has the expected version.
    ///
    /// # Errors
    /// If the object is missing, read-only or has another version, or the store is unavailable.
    async fn delete(&self, id: &str, expected: Option<u64>, actor: &str)
    -> Result<(), ObjectError>;
}

/// An object, as the API returns it.
pub trait ApiObject: Serialize + Send {
    /// Name of the kind, such as `rule`.
    const NOUN: &'static str;
    /// The field whose value is unique among the objects of the kind.
    const UNIQUE: &'static str;

    /// Returns the id.
    fn id(&self) -> &str;

    /// Returns the version that `If-Match` is compared with; objects of the file have none.
    fn version(&self) -> Option<u64>;
}

/// Source of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectSource {
    /// The configuration file; read-only here.
    File,
    /// The admin API.
    Api,
}

/// Failure of an operation on an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A field has an invalid value.
    #[error("{message}")]
    Invalid {
        /// Path of the field, such as `timeouts.connect`.
        field: String,
        /// Reason and remedy, for the client.
        message: String,
    },
    /// Another object has the same id or name.
    #[error("another object has this id or name")]
    AlreadyExists,
    /// The object is defined in the configuration file.
    #[error("the object is defined in the configuration file")]
    ReadOnly,
    /// No object has the id.
    #[error("no object has this id")]
    NotFound,
    /// The object has another version than expected.
    #[error("the object was changed in the meantime")]
    Stale,
    /// An upstream failed to answer as expected.
    #[error("{0}")]
    UpstreamFailed(String),
    /// The router lacks a setting that the operation needs.
    #[error("{0}")]
    NotConfigured(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
