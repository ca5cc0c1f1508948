//! The facts of models that snapshots share. Their text and its reader are `llm-router-prices`'.

use std::sync::{Arc, OnceLock};

use llm_router_prices::{FactsTable, PriceError};

/// Returns the built-in facts. They are read once.
pub(crate) fn built_in() -> Arc<FactsTable> {
    static FACTS: OnceLock<Arc<FactsTable>> = OnceLock::new();
    Arc::clone(FACTS.get_or_init(|| {
        let table = llm_router_prices::built_in_facts().unwrap_or_else(|errors| {
            let first = errors.first().map(PriceError::to_string);
            tracing::error!(error = first, "failed to read the built-in facts of models");
            FactsTable::default()
        });
        Arc::new(table)
    }))
}
