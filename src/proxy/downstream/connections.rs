//! Counts the open connections of each client address. It does not decide what follows from too many.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use llm_router_domain::network::client_network;

/// Open connections by address. Addresses without any are forgotten.
#[derive(Debug)]
pub(crate) struct Connections {
    most: u32,
    open: DashMap<IpAddr, u32>,
}

/// A connection's place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// At most `most` of one address.
    pub(crate) fn new(most: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            most: most.get(),
            open: DashMap::new(),
        })
    }

    /// A place for one more of an address, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = client_network(address);
        let mut open = self.open.entry(address).or_default();
        if *open >= self.most {
            return None;
        }
        *open += 1;
        Some(Place {
            connections: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.connections.open.entry(self.address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_network_and_freed() {
        let connections = Connections::new(NonZeroU32::new(2).unwrap());
        let enter = |address: &str| connections.enter(address.parse().unwrap());
        let first = enter("10.0.0.1").unwrap();
        // The same, as a socket for both versions shows it.
        let second = enter("::ffff:10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
        let other = enter("10.0.0.2").unwrap();
        drop(first);
        let third = enter("10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_none());
        let six = [
            enter("2001:db8::1").unwrap(),
            enter("2001:db8::ffff:1").unwrap(),
        ];
        assert!(enter("2001:db8::2").is_none());
        assert!(enter("2001:db8:0:1::2").is_some());
        drop((second, other, third, six));
        assert!(connections.open.is_empty());
    }
}
