//! What the adapters do when the network and the services fail.
