//! End-to-end tests of moola and their fixtures.
