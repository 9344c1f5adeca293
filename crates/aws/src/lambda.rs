//! What the functions share: start, logs, metrics, events.
