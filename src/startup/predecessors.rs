//! Follows the processes before this one: recovers their journals once they have ended, and adds
//! what they spend meanwhile to the budgets.

use std::sync::Arc;
use std::time::Duration;

use crate::budgets::Budgets;
use crate::clock;
use crate::ledger::Ledger;

/// Polling interval: budgets lag that much behind what an ending process settles.
const LOOK: Duration = Duration::from_secs(1);

/// Factor of pauses where polling takes long, as with very many budgets: pauses are that much longer.
const PAUSE: u32 = 9;

/// Returns once every other process of the journal's folder has ended and its entries are in the
/// store.
pub(crate) async fn follow_others(ledger: Arc<Ledger>, budgets: Arc<Budgets>) {
    loop {
        let begun = clock::now();
        let left = match ledger.recover().await {
            Ok(running) => running,
            Err(error) => {
                tracing::warn!(%error, "cannot recover the previous process' journal yet");
                1
            }
        };
        // After it: so that the last look sees all they have spent.
        match budgets.refresh_others(&ledger).await {
            Ok(()) if left == 0 => return,
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "failed to read the spending of other processes");
            }
        }
        tokio::time::sleep(LOOK.max(begun.elapsed() * PAUSE)).await;
    }
}
