//! Conformance suites of the ports: every adapter runs them.
