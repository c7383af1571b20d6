//! Places of which there are so many in all and so many for one: connections, handshakes, streams.
//!
//! Both bounds are needed: the total bounds memory, the share keeps one client from having all of it. A place is given
//! back by its drop, so none is ever lost. No waiting: who gets no place is told so.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    Total,
    /// The asker has as many as one may have.
    Share,
}

/// The places and who has how many. Clones share them.
#[derive(Debug)]
pub struct Shares<K> {
    total: usize,
    share: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    // Nobody with none is in it, so it is as large as there are holders.
    by_key: HashMap<K, usize>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub struct Place<K: Hash + Eq> {
    key: K,
    taken: Arc<Mutex<Taken<K>>>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// `total` places, of which one key has at most `share`.
    pub fn new(total: usize, share: usize) -> Self {
        let taken = Taken { all: 0, by_key: HashMap::new() };
        Self { total, share, taken: Arc::new(Mutex::new(taken)) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn enter(&self, key: K) -> Result<Place<K>, Full> {
        let mut taken = lock(&self.taken);
        if taken.all >= self.total {
            return Err(Full::Total);
        }
        let of_key = taken.by_key.get(&key).copied().unwrap_or_default();
        if of_key >= self.share {
            return Err(Full::Share);
        }
        taken.all += 1;
        taken.by_key.insert(key.clone(), of_key + 1);
        Ok(Place { key, taken: Arc::clone(&self.taken) })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        lock(&self.taken).all
    }
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self { total: self.total, share: self.share, taken: Arc::clone(&self.taken) }
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_key) = taken.by_key.get_mut(&self.key) {
            *of_key = of_key.saturating_sub(1);
            if *of_key == 0 {
                taken.by_key.remove(&self.key);
            }
        }
    }
}

fn lock<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_gets_its_share_and_leaves_the_rest_to_others() {
        let shares = Shares::new(3, 2);
        let first = shares.enter("a").unwrap();
        let _second = shares.enter("a").unwrap();
        assert_eq!(shares.enter("a").unwrap_err(), Full::Share);
        let _other = shares.enter("b").unwrap();
        assert_eq!(shares.enter("c").unwrap_err(), Full::Total);
        drop(first);
        assert_eq!(shares.taken(), 2);
        shares.enter("a").unwrap();
    }

    #[test]
    fn nothing_is_remembered_of_who_has_left() {
        let shares = Shares::new(10, 10);
        for key in 0..1000 {
            shares.enter(key).unwrap();
        }
        assert!(lock(&shares.taken).by_key.is_empty());
    }
}
