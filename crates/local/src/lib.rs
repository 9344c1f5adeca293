//! Embedded adapters: directory, redb, child processes, in-process events and schedules.
