//! Prices by `provider/model`, and discounts of providers. Which names lead to an entry belongs to
//! [`crate::model_table`].

use std::collections::HashMap;
use std::sync::Arc;

use super::Price;
use super::amount::Factor;
use crate::inexact::{Reason, Reasons};
use crate::model_table::{ModelTable, SharedModels, TableRow, is_same_model};

/// The price of an attempt by the model that served it.
#[derive(Clone, Copy, Debug)]
pub struct ServedPrice<'t> {
    /// The price, if there is one.
    pub price: Option<&'t Arc<Price>>,
    /// Set if another model served, and the price is that of the model asked.
    pub inexact: Reasons,
}

/// Prices by `provider/model`.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    models: ModelTable<Price>,
    /// By provider id: prices of every entry with the factor of that provider.
    scaled: HashMap<String, HashMap<Arc<str>, Arc<Price>>>,
}

impl PriceTable {
    /// A table of these prices; of two for one name the later wins.
    #[must_use]
    pub fn new(prices: impl IntoIterator<Item = (String, Price)>) -> Self {
        let mut table = Self::default();
        for (name, price) in prices {
            table.insert(&name, price);
        }
        table
    }

    /// This table with every price of `other` put in, in place of one of the same name.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.models = self.models.merge(other.models);
        self.scaled.extend(other.scaled);
        self
    }

    /// Puts one price in, in place of one of the same name.
    pub fn insert(&mut self, name: &str, price: Price) {
        self.models.insert(name, price.named(name));
    }

    /// Gives an entry another name, without the provider; in it `*` stands for any characters.
    pub fn add_alias(&mut self, name: &str, alias: &str) {
        self.models.add_alias(name, alias);
    }

    /// Lets a provider's prices be found under another one.
    pub fn share(&mut self, shared: SharedModels) {
        self.models.share(shared);
    }

    /// Names the table's revision in every price, as a charge reports it.
    pub fn set_revision(&mut self, revision: &str) {
        let revision: Arc<str> = revision.into();
        let rows: Vec<TableRow<Price>> = self.models.iter().cloned().collect();
        for row in rows {
            let price = row.value.in_table(&revision);
            self.models.insert(&row.name, price);
        }
        for price in self.scaled.values_mut().flat_map(HashMap::values_mut) {
            *price = Arc::new(price.in_table(&revision));
        }
    }

    /// Multiplies all prices of a provider by a factor: a discount or an uplift of its contract. To
    /// be called once the table is complete.
    pub fn set_factor(&mut self, provider_id: &str, factor: Factor) {
        if factor.is_one() {
            return;
        }
        let rows = self.models.iter();
        let scaled = rows.map(|row| (Arc::clone(&row.name), Arc::new(row.value.scaled(factor))));
        self.scaled.insert(provider_id.to_owned(), scaled.collect());
    }

    /// Returns the number of names with a price.
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Returns true if no name has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|row| &*row.name)
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Price>)> {
        self.models.iter().map(|row| (&*row.name, &row.value))
    }

    /// The price of exactly `provider/model`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Price>> {
        self.models.get(name)
    }

    /// The price of a deployment; see [`ModelTable::find`].
    #[must_use]
    pub fn find(&self, id: &str, kind: &str, model: &str) -> Option<&Arc<Price>> {
        let row = self.models.find(id, kind, model)?;
        Some(self.with_factor(id, row))
    }

    /// The price of an attempt: that of the model which the provider says it served, else that of
    /// the deployment's model, marked if the two are different models. A price for this very
    /// provider comes before one for its type.
    #[must_use]
    pub fn find_served(
        &self,
        id: &str,
        kind: &str,
        model: &str,
        served: Option<&str>,
    ) -> ServedPrice<'_> {
        let asked = self.models.find(id, kind, model);
        let found = served.and_then(|served| self.models.find(id, kind, served));
        let is_own = |row: &TableRow<Price>| {
            let provider = row.name.split('/').next().unwrap_or_default();
            id != kind && provider.eq_ignore_ascii_case(id)
        };
        let row = match (asked, found) {
            (Some(asked), Some(found)) if is_own(asked) && !is_own(found) => Some(asked),
            (asked, found) => found.or(asked),
        };
        let differs = served.is_some_and(|served| !is_same_model(served, model));
        let mut inexact = Reasons::NONE;
        if found.is_none() && asked.is_some_and(|row| !is_own(row)) && differs {
            inexact.add(Reason::ServedModelDiffers);
        }
        ServedPrice {
            price: row.map(|row| self.with_factor(id, row)),
            inexact,
        }
    }

    fn with_factor<'t>(&'t self, id: &str, row: &'t TableRow<Price>) -> &'t Arc<Price> {
        let scaled = self.scaled.get(id).and_then(|prices| prices.get(&row.name));
        scaled.unwrap_or(&row.value)
    }
}
