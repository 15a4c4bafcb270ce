//! Places for connections: so many in all, and of one address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::who::Who;

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// None is left.
    All,
    /// The address has as many as it may.
    Address,
}

/// Who is in.
#[derive(Debug)]
pub(crate) struct Guests {
    most: usize,
    most_of_one: Option<usize>,
    inside: Mutex<Inside>,
}

#[derive(Default, Debug)]
struct Inside {
    all: usize,
    /// Only where that is bounded.
    each: HashMap<Who, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    who: Who,
}

impl Guests {
    pub(crate) fn new(most: usize, most_of_one: Option<usize>) -> Arc<Self> {
        let inside = Mutex::default();
        Arc::new(Self {
            most,
            most_of_one,
            inside,
        })
    }

    pub(crate) fn admit(self: &Arc<Self>, who: Who) -> Result<Guest, Full> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.all >= self.most {
            return Err(Full::All);
        }
        if let Some(most) = self.most_of_one {
            let own = inside.each.entry(who).or_default();
            // One that is refused has some, so nothing empty stays.
            if *own >= most {
                return Err(Full::Address);
            }
            *own += 1;
        }
        inside.all += 1;
        let guests = Arc::clone(self);
        Ok(Guest { guests, who })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let guests = &self.guests;
        let mut inside = guests.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        if let Some(own) = inside.each.get_mut(&self.who) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                inside.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_of_each_address() {
        let who = |address: &str| Who::at(address.parse().unwrap());
        let (a, b) = (who("192.0.2.1"), who("192.0.2.2"));
        let guests = Guests::new(3, Some(2));
        let first = guests.admit(a).unwrap();
        let second = guests.admit(a).unwrap();
        assert_eq!(guests.admit(a).unwrap_err(), Full::Address);
        let third = guests.admit(b).unwrap();
        assert_eq!(guests.admit(b).unwrap_err(), Full::All);
        drop(second);
        let fourth = guests.admit(a).unwrap();
        drop((first, third, fourth));
        let inside = guests.inside.lock().unwrap();
        assert_eq!((inside.all, inside.each.len()), (0, 0));
    }

    #[test]
    fn without_a_bound_one_address_may_have_all() {
        let who = Who::at("192.0.2.1".parse().unwrap());
        let guests = Guests::new(2, None);
        let held = [guests.admit(who).unwrap(), guests.admit(who).unwrap()];
        assert_eq!(guests.admit(who).unwrap_err(), Full::All);
        drop(held);
        assert!(guests.admit(who).is_ok());
    }
}
