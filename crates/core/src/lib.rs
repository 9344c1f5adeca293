//! Domain, ports, in-memory adapters and conformance kits of moola.
